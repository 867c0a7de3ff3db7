"""What verify warns about although every file is sound: one line each, with the setting and examples."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from selftrain.config import DataConfig, ExtraConfig, SplitConfig
from selftrain.data.dataset import SPLITS
from selftrain.data.load import load
from selftrain.data.sources.shapes import draw
from selftrain.data.verify import divide
from selftrain.datasets import spec_of

NAMED = {"train": "train", "val": "val", "test": "test"}
SIDE = 128


def put(root: Path, name: str, image: np.ndarray, *, quality: int = 95, masked: bool = True) -> None:
    """An image, as JPEG, and a mask of two classes."""
    path = root / f"{name}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, quality=quality)
    if masked:
        halves = np.zeros(image.shape[:2], np.uint8)
        halves[:, image.shape[1] // 2 :] = 1
        mask = root / "masks" / path.relative_to(root / "images").with_suffix(".png")
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(halves).save(mask)


def scene(number: int, split: str = "labelled") -> np.ndarray:
    return draw(0, split, number)[0]


def again(number: int) -> np.ndarray:
    """The scene once more, as another program would have stored it."""
    image = cv2.resize(scene(number), (96, 96), interpolation=cv2.INTER_AREA)
    return np.clip(image * 1.05, 0, 255).astype(np.uint8)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Twelve images with masks and eight without, all different."""
    for i in range(12):
        put(tmp_path, f"images/{i:02}", scene(i))
    for i in range(8):
        put(tmp_path, f"unlabelled/u{i}", scene(i, "unlabelled"), masked=False)
    return tmp_path


@pytest.fixture
def named(tmp_path: Path) -> Path:
    """The same with folders for the splits: eight images of train, two of val and two of test."""
    for i in range(12):
        put(tmp_path, f"images/{'train' if i < 8 else 'val' if i < 10 else 'test'}/{i:02}", scene(i))
    for i in range(8):
        put(tmp_path, f"unlabelled/u{i}", scene(i, "unlabelled"), masked=False)
    return tmp_path


def check(root: Path, *, crop: tuple = (64, 64), splits: dict | None = None, **settings):
    """The data set as divided, and the warnings of the pictures."""
    settings = {"unlabelled": "unlabelled", "classes": ["left", "right"]} | settings
    spec = spec_of(
        DataConfig(format="folder", root=str(root), splits=SplitConfig(**(splits or {})), **settings)
    )
    data, report = divide(load(spec, strict=False), spec, workers=1, crop=crop)
    assert report.faults == []
    return data, report.warnings


def split_of(data) -> dict[str, str]:
    return {one.id.rsplit("/")[-1]: split for split in SPLITS for one in getattr(data, split)}


def test_sound_pictures_cause_no_warning(root: Path):
    assert check(root)[1] == []


def test_near_copies_across_named_splits_are_one_warning_with_examples(named: Path):
    for number, folder in ((0, "images/test"), (1, "images/val"), (8, "images/train"), (10, "unlabelled")):
        put(named, f"{folder}/copy{number}", again(number), quality=60, masked=folder != "unlabelled")
    put(named, "images/train/copy2", again(2))  # within a split it does no harm
    for duplicates in ("group", "near"):
        for _ in range(2):  # from the cache, too
            (warning,) = check(named, splits=NAMED, duplicates=duplicates)[1]
            assert warning.startswith("nearly the same picture in two splits: 4 images of val and test (")
            assert warning.endswith("and 1 more), so scores are too good; "
                                    "move images to or from data.splits.val and data.splits.test")  # fmt: skip
            assert "images/val/08 (val) ~ images/train/copy8 (labelled)" in warning


def test_near_copies_in_external_data_are_named_with_its_setting(root: Path, tmp_path: Path):
    others = tmp_path / "other"
    for number in range(12):  # whatever the split, some are near copies of val and test images
        put(others, f"images/{number}", again(number), quality=60)
    extra = ExtraConfig(root=str(others), classes={"left": "left", "right": "right"})
    (warning,) = check(root, duplicates="near", extra=[extra])[1]
    assert " (val) ~ extra0/images/" in warning
    assert warning.endswith("so scores are too good; leave them out of data.extra")


@pytest.mark.parametrize("seed", range(4))
def test_near_keeps_such_pictures_in_one_made_split(root: Path, seed: int):
    for number in (0, 1, 2):
        put(root, f"images/copy{number}", again(number), quality=60)
    put(root, "images/copy0b", again(0), quality=80)
    put(root, "unlabelled/copy3", again(3), masked=False)
    data, warnings = check(root, splits={"seed": seed}, duplicates="near")
    where = split_of(data)
    assert where["00"] == where["copy0"] == where["copy0b"]
    assert where["01"] == where["copy1"] and where["02"] == where["copy2"]
    assert ("copy3" not in where) == (where["03"] in ("val", "test"))  # it would be learnt from
    assert warnings[0].startswith(
        "nearly identical pictures stay in one split: images/00 ~ images/copy0 ~ images/copy0b (and 2 more such groups)"
    )
    assert not any("scores are too good" in line for line in warnings)


def test_otherwise_near_copies_in_made_splits_are_a_warning_that_names_near(root: Path):
    for number in range(6):
        put(root, f"images/copy{number}", again(number), quality=60)
    (warning,) = check(root)[1]
    assert warning.startswith("nearly the same picture in two splits: ")
    assert warning.endswith("so scores are too good; data.duplicates=near keeps them in one made split")


def test_near_joins_groups_and_equal_pictures(root: Path):
    put(root, "images/copy0", again(0))
    shutil.copy(root / "images/copy0.jpg", root / "images/same.jpg")
    shutil.copy(root / "masks/copy0.png", root / "masks/same.png")
    for seed in range(4):
        where = split_of(check(root, splits={"seed": seed, "group": "^(..)"}, duplicates="near")[0])
        assert where["00"] == where["copy0"] == where["same"]


def test_images_far_larger_than_the_crop_are_one_warning(root: Path):
    assert check(root, crop=(48, 48))[1] == []  # 14 % of an image
    (warning,) = check(root, crop=(32, 32))[1]
    assert warning.startswith("a training step sees less than 10% of ") and warning.endswith(
        ", 128x128): raise train.crop=[32,32], shrink images (data.size=[longest,64]), or draw from tiles (data.tile)"
    )
    assert "(such as 6.2% of " in warning
    assert check(root, crop=(32, 32), size=["longest", 64])[1] == []
    assert check(root, crop=())[1] == []  # not known before the plan is made


def test_a_few_images_larger_than_the_crop_are_usual(root: Path):
    put(root, "unlabelled/wide", cv2.resize(scene(0, "val"), (SIDE * 3, SIDE * 3)), masked=False)
    assert not any("training step" in line for line in check(root, crop=(48, 48))[1])


def test_wildly_different_sizes_are_one_warning(root: Path):
    put(root, "images/large", cv2.resize(scene(0, "val"), (SIDE * 5, SIDE * 4)))
    (warning,) = [line for line in check(root)[1] if "sizes" in line]
    assert warning == (
        "image sizes differ by a factor of 4.5, from 128x128 (images/00) to 512x640 (images/large): "
        "if objects differ as much, data.size=[longest,128] brings images to one scale"
    ).replace("images/00", warning.split("(")[1].split(")")[0])
    assert check(root, size=["longest", 128])[1] == check(root, size=[128, 128])[1] == []
    put(root, "images/large", cv2.resize(scene(0, "val"), (SIDE * 3, SIDE * 3)))
    assert not any("sizes" in line for line in check(root)[1])


def test_blank_pictures_are_one_warning_by_the_settings_that_list_them(root: Path):
    rng = np.random.default_rng(0)
    for i in range(5):
        blank = 240 + rng.normal(0, 1, (SIDE, SIDE, 3))
        put(root, f"unlabelled/b{i}", blank.astype(np.uint8), masked=False)
    faint = np.full((SIDE, SIDE, 3), 240, np.uint8)
    faint[40:60, 40:60] = 215  # a pale object
    put(root, "unlabelled/faint", faint, masked=False)
    (warning,) = [line for line in check(root)[1] if "blank" in line]
    assert warning == (
        "5 images are of one colour (blank tiles?): unlabelled/b0, unlabelled/b1, unlabelled/b2 and 2 more; "
        "a list file for data.unlabelled can leave them out"
    )


def test_raw_images_of_another_kind_are_one_warning_with_the_worst_first(root: Path):
    for i in range(12):
        grey = np.clip(40 + 0.3 * scene(i), 0, 255).astype(np.uint8)
        put(root, f"images/{i:02}", grey)
    for i in range(8):
        put(
            root,
            f"unlabelled/u{i}",
            np.clip(40 + 0.3 * scene(i, "unlabelled"), 0, 255).astype(np.uint8),
            masked=False,
        )
    assert check(root)[1] == []
    for i in range(6):
        red = np.clip(scene(i, "val") * 0.2 + np.array([200, 20 + 10 * i, 60]), 0, 255).astype(np.uint8)
        put(root, f"unlabelled/red{i}", red, masked=False)
    (warning,) = check(root)[1]
    assert warning.startswith(
        "6 of 14 unlabelled images are unlike every labelled one in colour, brightness or size, most of all "
    )
    assert warning.count("unlabelled/red") == 5 and "unlabelled/u" not in warning
    assert warning.endswith("and 1 more: label some of them, or leave them out of data.unlabelled")


def test_selftrain_verify_prints_them_and_a_run_before_its_first_step(
    root: Path, run, selftrain, tmp_path: Path
):
    for number in range(6):
        put(root, f"images/copy{number}", again(number), quality=60)
    put(root, "unlabelled/blank", np.full((SIDE, SIDE, 3), 9, np.uint8), masked=False)
    settings = ["data=folder", f"data.root={root}", "data.classes=[left,right]", "data.unlabelled=unlabelled"]
    code, said, err = selftrain("verify", *settings, "train.crop=[32,32]")
    assert code == 0, err
    lines = [line for line in said.splitlines() if line.startswith("warning: ")]
    assert len(lines) == 3 and "data.duplicates=near" in lines[0] and "train.crop=[32,32]" in lines[1]
    assert "unlabelled/blank" in lines[2]
    small = [
        "train.crop=[64,64]",
        "train.threads=1",
        "train.steps=2",
        "train.statistics=0",
        "export.onnx=false",
    ]
    out = tmp_path / "run"
    shared = ["recipe=smoke", *settings, *small, "generations=[{}]", f"out={out}", "data.duplicates=near"]
    code, said, err = run(*shared)
    assert code == 0 and "data: nearly identical pictures stay in one split: images/00 ~ " in said, err
    assert "blank tiles" in said and said.index("blank tiles") < said.index("train")
    written = json.loads((out / "data.json").read_text())
    assert ["images/00", "images/copy0"] in written["copies"]
    (out / "report.json").unlink()
    assert run(*shared)[0] == 0 and json.loads((out / "data.json").read_text()) == written
