"""Copies of one picture in a data set: kept on one side of made splits, left out of training, or refused."""

import json
import shutil

import numpy as np
import pytest
import yaml
from PIL import Image

from selftrain.config import DataConfig, SplitConfig
from selftrain.data.dataset import SPLITS
from selftrain.data.load import load
from selftrain.data.verify import divide
from selftrain.datasets import spec_of
from selftrain.errors import ConfigError

pytestmark = pytest.mark.promise("copies of one picture: kept in one made split, or named")


def draw(path, seed, *, flat=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels * 0 if flat else pixels).save(path)


@pytest.fixture
def root(tmp_path):
    """12 labelled images, of which 2, 5 and 7 are blank, and 4 unlabelled ones, of which u1 is blank."""
    root = tmp_path / "data"
    for i in range(12):
        draw(root / "images" / f"{i:02}.png", i, flat=i in (2, 5, 7))
        (root / "masks").mkdir(exist_ok=True)
        Image.fromarray(np.repeat([0, 1], 16)[None].repeat(32, 0).astype(np.uint8)).save(
            root / "masks" / f"{i:02}.png"
        )
    for i in range(4):
        draw(root / "unlabelled" / f"u{i}.png", 100 + i, flat=i == 1)
    return root


def spec(root, duplicates="group", **splits):
    cfg = DataConfig(
        name="folder", format="folder", root=str(root), unlabelled="unlabelled", classes=["ground", "thing"],
        duplicates=duplicates, splits=SplitConfig(**splits),
    )  # fmt: skip
    return spec_of(cfg)


def divided(root, *arguments, **splits):
    one = spec(root, *arguments, **splits)
    return divide(load(one, strict=False), one, workers=1)


def split_of(data):
    return {sample.id.rsplit("/")[-1]: split for split in SPLITS for sample in getattr(data, split)}


@pytest.mark.parametrize("seed", range(6))
def test_made_splits_hold_a_picture_once_whatever_the_seed(root, seed):
    data, report = divided(root, seed=seed)
    where = split_of(data)
    assert where["02"] == where["05"] == where["07"]
    assert report.faults == []
    assert any(
        "equal pictures stay in one split: images/02 = images/05 = images/07" in line
        for line in report.warnings
    )
    held_out = where["02"] in ("val", "test")
    assert ("u1" not in where) == held_out  # an unlabelled copy of a val or test image would be learnt from
    assert any("1 copies of val or test images are left out" in line for line in report.warnings) == held_out


def test_asked_for_they_are_faults_as_a_user_may_want_to_know(root):
    faults = [str(fault) for seed in range(6) for fault in divided(root, "fault", seed=seed)[1].faults]
    assert any(
        "is the same picture as images/" in fault and "data.duplicates=drop" in fault for fault in faults
    )


def test_between_named_splits_a_copy_is_a_fault_or_is_left_out_of_training(root):
    for name, part in (
        ("val", ["00", "02"]),
        ("test", ["01", "03"]),
        ("train", ["04", "05", "06", "07", "08"]),
    ):
        for stem in part:
            for folder in ("images", "masks"):
                (root / folder / name).mkdir(exist_ok=True)
                shutil.move(root / folder / f"{stem}.png", root / folder / name / f"{stem}.png")
    named = {"train": "train", "val": "val", "test": "test"}
    _, report = divided(root, "group", **named)
    assert [fault.file for fault in report.faults] == [
        "images/val/02"
    ]  # 05 comes first; 07 and u1 are its copies in training
    data, report = divided(root, "drop", **named)
    where = split_of(data)
    assert report.faults == [] and "02" in where and not {"05", "07", "u1"} & set(where)
    assert any("3 copies of val or test images are left out of training, such as images/train/05 = images/val/02" in line
               for line in report.warnings)  # fmt: skip


def test_an_unknown_way_is_refused_by_name(root):
    with pytest.raises(ConfigError, match=r"data\.duplicates='keep' must be one of group, near, fault, drop"):
        load(spec(root, "keep"))


@pytest.fixture
def command(root):
    settings = [
        "recipe=smoke",
        "data=folder",
        f"data.root={root}",
        "data.classes=[ground,thing]",
        "data.unlabelled=unlabelled",
    ]
    return [
        *settings,
        "train.threads=1",
        "train.steps=2",
        "train.statistics=0",
        "export.onnx=false",
        "generations=[{}]",
    ]


def test_a_run_divides_by_what_it_read_and_a_resume_by_what_it_wrote_down(run, command, tmp_path):
    out = tmp_path / "run"
    code, said, err = run(*command, f"out={out}")
    assert code == 0 and "equal pictures stay in one split" in said, err
    written = json.loads((out / "data.json").read_text())
    assert written["copies"] == [["images/02", "images/05", "images/07", "unlabelled/u1"]]
    (out / "report.json").unlink()
    code, _, err = run(*command, f"out={out}")
    assert code == 0, err
    assert json.loads((out / "data.json").read_text()) == written


@pytest.mark.slow
def test_a_run_that_began_before_copies_were_looked_for_keeps_its_splits(run, command, tmp_path):
    out, seed = tmp_path / "run", 0
    while (code := run(*command, f"out={out}", "data.duplicates=fault", f"data.splits.seed={seed}")[0]) == 3:
        seed += 1  # this one tears the copies apart
    assert code == 0
    settings = yaml.safe_load((out / "config.yaml").read_text())
    del settings["data"]["duplicates"]  # as an older version wrote it
    (out / "config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    (out / "report.json").unlink()
    before = json.loads((out / "data.json").read_text())
    code, _, err = run(*command, f"out={out}", f"data.splits.seed={seed}")
    assert code == 0, err
    assert json.loads((out / "data.json").read_text()) == before and "copies" not in before
