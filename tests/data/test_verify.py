import hashlib
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from selftrain.config import DataConfig, SplitConfig
from selftrain.data import verify as verification
from selftrain.data.dataset import DataSet, without
from selftrain.data.faults import Fault
from selftrain.data.findings import Report
from selftrain.data.load import load
from selftrain.data.printed import print_report
from selftrain.data.sample import Sample, Source
from selftrain.data.spec import Spec
from selftrain.data.verify import verify
from selftrain.datasets import spec_of
from selftrain.errors import DataError

pytestmark = pytest.mark.promise(
    "every fault of the data in one pass; unreadable unlabelled images set aside; the same picture in two splits found"
)

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"


def picture(path: Path, seed: int, size: tuple[int, int] = (4, 6)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    return path


def mask(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


HALVES = np.repeat([[0, 0, 0, 1, 1, 1]], 4, axis=0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """8 train, 2 val and 2 test images with masks, 4 without; nothing wrong."""
    names = [*(f"train/{i}" for i in range(8)), "val/8", "val/9", "test/10", "test/11"]
    for seed, name in enumerate(names):
        picture(tmp_path / "images" / f"{name}.png", seed)
        mask(tmp_path / "masks" / f"{name}.png", HALVES)
    for seed in range(4):
        picture(tmp_path / "unlabelled" / f"u{seed}.png", 100 + seed)
    return tmp_path


def spec(root: Path, **splits) -> Spec:
    named = {"train": "train", "val": "val", "test": "test"} | splits
    cfg = DataConfig(
        name="folder", format="folder", root=str(root), unlabelled="unlabelled", classes=["ground", "thing"],
        splits=SplitConfig(**named),
    )  # fmt: skip
    return spec_of(cfg)


def check(root: Path, **splits) -> Report:
    one = spec(root, **splits)
    return verify(load(one, strict=False), one, workers=2)


def test_a_sound_data_set_has_no_findings_and_counts_its_pixels(root: Path):
    report = check(root)
    assert report.faults == [] and report.warnings == [] and report.set_aside == []
    assert report.rows() == [
        ("", "labelled", "unlabelled", "val", "test"),
        ("images", "8", "4", "2", "2"),
        ("masks", "8", "0", "2", "2"),
        ("size", "4x6", "4x6", "4x6", "4x6"),
        ("ground", "50.00%", "-", "50.00%", "50.00%"),
        ("thing", "50.00%", "-", "50.00%", "50.00%"),
        ("(ignored)", "0.00%", "-", "0.00%", "0.00%"),
    ]


def test_every_fault_is_listed_in_one_pass_with_a_message_of_its_own(root: Path):
    images, masks = root / "images" / "train", root / "masks" / "train"
    (images / "0.png").write_bytes(b"")
    (images / "1.png").write_bytes((images / "1.png").read_bytes()[:60])
    (images / "2.png").write_text("<html>")
    mask(masks / "3.png", HALVES + 5)
    mask(masks / "4.png", HALVES.T)
    mask(masks / "5.png", np.stack([HALVES * 200, HALVES, HALVES], axis=2))
    (masks / "6.png").unlink()
    Image.fromarray(HALVES.astype(np.uint8)).save(masks / "7.png", format="JPEG")
    (root / "images" / "val" / "9.png").unlink()
    os.mkfifo(root / "images" / "val" / "9.png")
    picture(root / "images" / "test" / "10.bmp", 50)
    faults = {fault.file: fault.what for fault in check(root).faults}
    expected = {
        "images/train/0.png": "is empty",
        "images/train/1.png": "cannot be decoded",
        "images/train/2.png": "is not a PNG",
        "masks/train/3.png": "not declared: 5 (12 pixels), 6 (12 pixels)",
        "masks/train/4.png": "is 6x4 (height x width), but its image is 4x6",
        "masks/train/5.png": "is a colour mask",
        "images/train/6.png": "has no mask",
        "masks/train/7.png": "is a JPEG",
        "images/val/9.png": "is not a regular file",
        "images/test/10.png": "shares its name with images/test/10.bmp",
    }
    assert faults.keys() == expected.keys()
    for file, what in expected.items():
        assert what in faults[file]


def test_a_broken_mask_is_found_behind_a_broken_image(root: Path):
    (root / "images" / "train" / "0.png").write_bytes(b"")
    mask(root / "masks" / "train" / "0.png", HALVES + 9)
    assert {fault.file for fault in check(root).faults} == {"images/train/0.png", "masks/train/0.png"}


def test_few_unreadable_unlabelled_images_are_set_aside(root: Path):
    for seed in range(100):
        picture(root / "unlabelled" / f"more{seed}.png", 1000 + seed, size=(2, 2))
    sound = load(spec(root))
    (root / "unlabelled" / "broken.png").write_bytes(b"\x89PNG")
    report = check(root)
    assert report.faults == []
    assert [sample.id for sample in report.set_aside] == ["unlabelled/broken"]
    assert "set aside: unlabelled/broken.png" in report.warnings[0]
    assert without(load(spec(root)), {"unlabelled/broken"}) == sound  # as if it had never been there


def test_many_unreadable_unlabelled_images_are_faults(root: Path):
    (root / "unlabelled" / "u0.png").write_bytes(b"\x89PNG")
    files = [fault.file for fault in check(root).faults]
    assert files == ["unlabelled/u0.png", "data.unlabelled"]


def test_the_same_picture_on_both_sides_of_a_score_is_a_fault(root: Path):
    whole = (root / "images" / "train" / "0.png").read_bytes()
    (root / "images" / "val" / "8.png").write_bytes(whole)
    Image.open(root / "images" / "test" / "10.png").save(
        root / "unlabelled" / "copy.tif"
    )  # the same pixels, another file
    (root / "unlabelled" / "u0.png").write_bytes((root / "images" / "train" / "3.png").read_bytes())
    report = check(root)
    assert [str(fault).split(";")[0] for fault in report.faults] == [
        "images/val/8: is the same picture as images/train/0 (val and labelled)",
        "images/test/10: is the same picture as unlabelled/copy (test and unlabelled)",
    ]
    assert any(
        "unlabelled/u0: is the same picture as images/train/3" in warning for warning in report.warnings
    )


def test_orphans_absent_classes_and_empty_test_masks_are_warnings(root: Path):
    mask(root / "masks" / "train" / "orphan.png", HALVES)
    for name in ("8", "9"):
        mask(root / "masks" / "val" / f"{name}.png", HALVES * 0)
    mask(root / "masks" / "test" / "10.png", HALVES * 0 + 255)
    report = check(root)
    assert report.faults == []
    assert len(report.warnings) == 3
    told = "\n".join(report.warnings)
    assert "masks/train/orphan.png" in told
    assert "class 'thing' has no pixel in the val masks" in told
    assert "images/test/10: every pixel of its mask is ignored" in told


@pytest.mark.parametrize("name", ["train/0", "val/8"])
def test_a_mask_to_learn_from_or_to_choose_by_that_is_ignored_whole_is_a_fault(root: Path, name: str):
    mask(root / "masks" / f"{name}.png", HALVES * 0 + 255)
    (fault,) = check(root).faults
    assert str(fault) == f"masks/{name}.png: every pixel of its mask is ignored; label it, or remove the mask"


def test_all_copies_of_a_picture_are_named_at_once(root: Path):
    for name in ("train/5", "val/8", "val/9"):
        shutil.copy(root / "images" / "train" / "2.png", root / "images" / f"{name}.png")
    (fault,) = check(root).faults
    assert fault.file == "images/val/9"
    assert (
        fault.what == "is the same picture as images/train/2, images/train/5, images/val/8 (val and labelled)"
    )
    assert "data.duplicates=drop" in fault.remedy
    shutil.copy(root / "images" / "train" / "2.png", root / "images" / "test" / "10.png")
    (fault,) = check(root).faults
    assert (
        "(test and val and labelled)" in fault.what and "drop" not in fault.remedy
    )  # nothing to drop between val and test


def test_copies_that_do_no_harm_are_one_warning(root: Path):
    for name in ("u0", "u1", "u2"):
        shutil.copy(root / "images" / "train" / f"{name[1]}.png", root / "unlabelled" / f"{name}.png")
    (warning,) = check(root).warnings
    assert warning == (
        "unlabelled/u0: is the same picture as images/train/0 (unlabelled and labelled) (and 2 pictures more like this)"
    )


def test_pictures_of_one_colour_are_one_warning(root: Path):
    for shade, name in enumerate(("train/0", "train/3", "test/11")):
        Image.fromarray(np.full((4, 6, 3), shade, np.uint8)).save(root / "images" / f"{name}.png")
    for _ in range(2):  # from the cache, too
        (warning,) = check(root).warnings
        assert warning == (
            "3 images are of one colour (blank tiles?): images/train/0, images/train/3, images/test/11; "
            "a list file for data.splits.train and data.splits.test can leave them out"
        )


def test_absent_classes_are_not_said_while_masks_cannot_be_read(root: Path):
    for name in range(8):
        mask(root / "masks" / "train" / f"{name}.png", HALVES + 5)
    report = check(root)
    assert len(report.faults) == 8 and report.warnings == []


def test_masks_of_spared_labels_count_as_unlabelled(root: Path):
    report = check(root, labels=2)
    assert report.rows()[1:3] == [("images", "2", "10", "2", "2"), ("masks", "2", "6", "2", "2")]


def test_masks_that_stratifying_cannot_read_are_all_listed(root: Path):
    for name in ("1", "5"):
        mask(root / "masks" / "train" / f"{name}.png", HALVES + 7)
    assert len(check(root, labels=2, choose="stratified").faults) == 2


def test_nothing_is_written_to_the_users_files(root: Path):
    def state() -> dict[str, tuple[str, int]]:
        files = [path for path in root.rglob("*") if path.is_file()]
        return {str(p): (hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_mtime_ns) for p in files}

    before = state()
    check(root)
    assert state() == before


def test_the_report_is_printed_in_plain_lines(root: Path, capsys: pytest.CaptureFixture[str]):
    mask(root / "masks" / "train" / "3.png", HALVES + 5)
    (root / "masks" / "train" / "6.png").unlink()
    report = check(root)
    capsys.readouterr()  # its progress
    print_report(report)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["labelled", "unlabelled", "val", "test"]
    assert lines[1].split() == ["images", "7", "4", "2", "2"]
    assert sum(line.startswith("fault: ") for line in lines) == 2
    assert any("[" not in line and "images/train/6.png: has no mask" in line for line in lines)
    assert lines[-1] == "2 faults, 0 warnings"
    assert all("\x1b" not in line for line in lines)


def test_drawn_data_is_sound():
    drawn = spec_of(DataConfig(shapes={"labelled": 8, "unlabelled": 2, "val": 8, "test": 1}))
    report = verify(load(drawn), drawn, workers=1)
    assert report.faults == [] and report.rows()[3] == ("size", *["128x128"] * 4)


@pytest.mark.skipif(not (DATA / "camvid").is_dir(), reason="../shared/data/camvid is absent")
def test_camvid_val_is_sound():
    folder = DATA / "camvid"
    classes = [f"{i}" for i in range(11)]
    splits = SplitConfig(train="val", val_fraction=0.5, test_fraction=0.3)
    cfg = DataConfig(
        name="camvid", format="folder", root=str(folder), classes=classes, ignore=[11], splits=splits,
    )  # fmt: skip
    camvid = spec_of(cfg)
    report = verify(load(camvid, strict=False), camvid, workers=2)
    assert report.faults == [] and report.set_aside == []
    assert all(report.pixels("labelled") > 0)


def test_what_was_sound_is_not_decoded_again_until_its_bytes_change(
    root: Path, monkeypatch: pytest.MonkeyPatch
):
    first, decoded = check(root), []
    look = verification._look
    monkeypatch.setattr(
        verification,
        "_look",
        lambda sample, *args, **more: decoded.append(sample.id) or look(sample, *args, **more),
    )
    again = check(root)
    assert again.rows() == first.rows() and again.faults == [] and decoded == []
    mask(root / "masks" / "train" / "3.png", HALVES + 5)  # a fault is looked at each time
    for _ in range(2):
        assert len(check(root).faults) == 1
    assert decoded == ["images/train/3"] * 2


def test_without_a_place_for_the_cache_everything_is_decoded(root: Path, monkeypatch: pytest.MonkeyPatch):
    (root / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(root / "file"))
    assert check(root).faults == [] and check(root).faults == []
    assert (root / "file").read_text() == "no folder"


@dataclass(frozen=True)
class Plain(Source):
    """A picture of one value that is no file; `value` of a mask may be a class that it may not hold."""

    value: int
    shape: tuple[int, ...]
    looked_at: ClassVar[list[str]] = []

    @property
    def name(self) -> str:
        return f"plain {self.value}"

    def read(self) -> np.ndarray:
        self.looked_at.append(self.name)
        if self.value > 200:
            raise DataError(Fault(self.name, "is too bright", "make it darker"))
        return np.full(self.shape, self.value, np.uint8)

    def fingerprint(self) -> str:
        return f"{self.value} {self.shape}"


def test_samples_that_are_no_files_are_verified_and_remembered_alike(root: Path):
    samples = [Sample(f"s{i}", Plain(i, (4, 6, 2)), Plain(i % 2, (4, 6))) for i in range(4)]
    broken = Sample("broken", Plain(201, (4, 6, 2)), None)
    data = DataSet(["ground", "thing"], samples[:2], [], [*samples[2:], broken], [])
    for _ in range(2):
        Plain.looked_at.clear()
        report = verify(data, replace(spec(root), channels=2), workers=1)
        assert [str(fault) for fault in report.faults] == ["plain 201: is too bright; make it darker"]
        assert report.rows()[3:6] == [
            ("size", "4x6", "-", "4x6", "-"), ("ground", "50.00%", "-", "50.00%", "-"), ("thing", "50.00%", "-", "50.00%", "-"),
        ]  # fmt: skip
    assert Plain.looked_at == ["plain 201"]  # faults are not remembered


def test_without_data_remember_no_cache_is_read_or_written(root: Path, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    forgetful = replace(spec(root), remember=False)
    assert verify(load(forgetful, strict=False), forgetful, workers=1).faults == []
    assert not (tmp_path / "cache").exists()
    assert check(root).faults == [] and (tmp_path / "cache" / "selftrain" / "verified.sqlite").is_file()
