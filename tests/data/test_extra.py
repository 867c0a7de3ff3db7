"""External labelled data: its classes become others, its pixels get a weight, and it is never in val or test."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawn_folders import NAMED, ids, mask, picture, spec
from PIL import Image

from selftrain.config import DataConfig, ExtraConfig
from selftrain.data.cache import Cache
from selftrain.data.labels import MaskLabels, weighed
from selftrain.data.load import load, manifest
from selftrain.data.spec import Spec
from selftrain.data.verify import divide, verify
from selftrain.datasets import spec_of
from selftrain.errors import ConfigError, DataError

MAP = {"soil": "ground", "car": "thing", "van": "thing", "sky": None}


def other(root: Path, count: int = 3) -> Path:
    for number in range(count):
        picture(root / "images" / f"{number}.png", 100 + number)
        mask(root / "masks" / f"{number}.png")
        Image.fromarray(np.array([[0, 1, 2, 3, 255, 0]] * 4, np.uint8)).save(root / "masks" / f"{number}.png")
    return root


def make_different(root: Path) -> None:
    """Give no two images the same pixels."""
    for value, file in enumerate(sorted((root / "images").rglob("*.png"))):
        picture(file, 10 + value)


def with_extra(where: Path, **settings) -> Spec:
    """The settings of by_folders with other/ as extra data."""
    extra = ExtraConfig(**{"root": str(where / "other"), "classes": MAP, "weight": 0.25} | settings)
    made = spec_of(DataConfig(extra=[extra]))
    return replace(spec(where, splits=NAMED), extra=made.extra)


def test_classes_become_others_and_only_training_sees_them(by_folders: Path):
    other(by_folders / "other")
    plain, data = load(spec(by_folders, splits=NAMED)), load(with_extra(by_folders))
    added = [sample for sample in data.labelled if sample.extra]
    assert [sample.id for sample in added] == [f"extra0/images/{number}" for number in range(3)]
    assert added[0].read_mask()[0].tolist() == [0, 1, 1, 255, 255, 0]
    assert {sample.weight for sample in added} == {0.25}
    assert (ids(data)["val"], ids(data)["test"]) == (ids(plain)["val"], ids(plain)["test"])
    assert ids(data)["labelled"] == [*ids(plain)["labelled"], *(sample.id for sample in added)]
    assert manifest(data)["labelled"][-1]["weight"] == 0.25 and not data.sound


def test_every_pixel_of_an_external_mask_has_the_weight(by_folders: Path):
    other(by_folders / "other")
    samples, cache = load(with_extra(by_folders)).labelled, Cache(1)
    labels = MaskLabels(samples, cache.mask, lambda sample: weighed(sample, mask=cache.mask))
    index = np.array([[0, 1], [5, -1]])
    assert labels.target(0, index).weight.tolist() == [[1, 1], [1, 0]]
    target = labels.target(len(samples) - 1, index)
    assert target.weight.tolist() == [[0.25, 0.25], [0.25, 0]] and target.hard.tolist() == [[0, 1], [0, 255]]


def test_size_and_channels_are_those_of_the_data(by_folders: Path):
    other(by_folders / "other")
    cfg = DataConfig(
        extra=[ExtraConfig(root=str(by_folders / "other"), classes=MAP)], size=[8, 9], channels=1
    )
    settings = replace(spec(by_folders, splits=NAMED, size=[8, 9], channels=1), extra=spec_of(cfg).extra)
    assert load(settings).labelled[-1].read_image().shape == (8, 9, 1)


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"classes": {"a": "ground", "b": "tree"}}, ConfigError, r"data.extra.0.classes.b=tree must be one of ground, thing, or null"),
        ({"classes": {}}, ConfigError, r"data.extra.0.classes must name the classes.*\{car: thing, sky: null\}"),
        ({"classes": {"a": None, "b": None}}, ConfigError, "data.extra.0.classes must name"),
        ({"root": ""}, ConfigError, "data.extra.0: data=extra0 needs the folder"),
        ({"root": "/nowhere"}, DataError, "data.extra.0: data.root=/nowhere is not a folder"),
        ({"masks": "labels"}, DataError, "data.extra.0: no training image has a mask"),
        ({"format": "zip"}, ConfigError, "data.extra.0: data.format='zip' must be one of"),
        ({"values": [1]}, ConfigError, "data.extra.0: data.values has 1 entries for 4 classes"),
    ],
)  # fmt: skip
def test_wrong_settings_name_the_entry(by_folders: Path, settings: dict, error: type, said: str):
    other(by_folders / "other")
    with pytest.raises(error, match=said):
        load(with_extra(by_folders, **settings))


def test_two_data_sets_need_two_names(by_folders: Path):
    other(by_folders / "other")
    extra = ExtraConfig(name="x", root=str(by_folders / "other"), classes=MAP)
    twice = replace(spec(by_folders, splits=NAMED), extra=spec_of(DataConfig(extra=[extra, extra])).extra)
    with pytest.raises(ConfigError, match=r"data.extra.1.name=x is taken"):
        load(twice)


def test_verify_reports_external_masks_by_their_own_values_and_counts_them_by_ours(by_folders: Path):
    other(by_folders / "other")
    make_different(by_folders)
    settings = with_extra(by_folders)
    report = verify(load(settings), settings, workers=1)
    assert not report.faults
    assert report.rows()[0] == ("", "labelled", "unlabelled", "val", "test", "extra")
    assert report.pixels("extra").tolist() == [24, 24, 24]
    assert report.pixels("labelled").sum() == 4 * 24  # without external masks
    mask(by_folders / "other" / "masks" / "1.png", 9)
    faults = verify(load(settings), settings, workers=1).faults
    assert [one.file for one in faults] == ["data.extra.0: masks/1.png"] and "not declared: 9" in faults[
        0
    ].what


def test_a_copy_of_a_val_image_is_a_fault_or_dropped(by_folders: Path):
    other(by_folders / "other")
    make_different(by_folders)
    val = (by_folders / "images" / "val" / "c_1.png").read_bytes()
    (by_folders / "other" / "images" / "1.png").write_bytes(val)
    settings = with_extra(by_folders)
    _, report = divide(load(settings), settings, workers=1)
    (fault,) = report.faults
    assert "extra0/images/1" in str(fault) and "data.duplicates=drop" in str(fault)
    dropping = replace(settings, duplicates="drop")
    data, report = divide(load(dropping), dropping, workers=1)
    assert "extra0/images/1" not in ids(data)["labelled"] and "extra0/images/0" in ids(data)["labelled"]
    assert not report.faults
