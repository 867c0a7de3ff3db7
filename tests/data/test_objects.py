"""One mask file for each object: data.format=objects."""

from pathlib import Path

import numpy as np
import pytest
from annotation_files import fault, grid
from drawn_folders import picture, spec
from PIL import Image

from selftrain.data.load import load
from selftrain.errors import ConfigError, DataError

ONE, TWO = grid((1, 2, 1, 3, 255)), grid((2, 4, 3, 5, 255))
SETTINGS = {"format": "objects", "classes": ["background", "cell"], "splits": {"test_fraction": 0.0}}


def case(root: Path, name: str, *masks: np.ndarray) -> None:
    picture(root / name / "images" / f"{Path(name).name}.png", 20 + len(name), (6, 8))
    for k, mask in enumerate(masks):
        file = root / name / "masks" / f"{k}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(mask).save(file)


def cases(root: Path) -> None:
    for name in ("train/a", "train/b", "train/c"):
        case(root, name, ONE, TWO)
    case(root, "train/bare")
    case(root, "test/d", ONE)


def test_the_mask_of_an_image_is_the_union_of_its_objects(tmp_path):
    cases(tmp_path)
    data = load(spec(tmp_path, **SETTINGS))
    found = {sample.id: sample.read_mask() for sample in [*data.labelled, *data.val]}
    assert found.keys() == {"train/a", "train/b", "train/c", "test/d"}
    assert np.array_equal(found["train/a"], grid((1, 2, 1, 3, 1), (2, 4, 3, 5, 1)))
    assert np.array_equal(found["test/d"], ONE > 0)
    assert [sample.id for sample in data.unlabelled] == ["train/bare"]
    assert any("without a mask file" in line for line in data.warnings)


def test_splits_name_the_folders_of_the_cases(tmp_path):
    cases(tmp_path)
    data = load(spec(tmp_path, **SETTINGS | {"splits": {"train": "train", "test": "test"}}))
    assert [sample.id for sample in data.test] == ["test/d"] and len(data.labelled + data.val) == 3


def test_a_changed_object_changes_the_fingerprint(tmp_path):
    cases(tmp_path)
    before = load(spec(tmp_path, **SETTINGS)).labelled[0]
    known = before.mask.fingerprint()
    Image.fromarray(TWO).save(before.mask.masks[0])
    assert load(spec(tmp_path, **SETTINGS)).labelled[0].mask.fingerprint() != known


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"values": [0, 255]}, ConfigError, "data.values"),
        ({"classes": ["a", "b", "c"]}, ConfigError, "has two classes"),
        ({"splits": {"val": "nowhere"}}, DataError, "data.splits.val=nowhere is not a folder"),
        ({"images": "pictures"}, DataError, "no folder that contains pictures/ and masks/"),
    ],
)
def test_other_settings_are_refused(tmp_path, change, error, said):
    cases(tmp_path)
    with pytest.raises(error, match=said):
        load(spec(tmp_path, **SETTINGS | change))


def test_two_images_in_one_folder_are_a_fault(tmp_path):
    cases(tmp_path)
    picture(tmp_path / "train" / "a" / "images" / "second.png", 9, (6, 8))
    assert "has 2 images, such as a.png and second.png" in fault(tmp_path, "objects", classes=["x", "y"])


def test_an_object_of_another_size_is_a_fault_that_names_the_file(tmp_path):
    cases(tmp_path)
    Image.fromarray(np.zeros((6, 9), np.uint8)).save(tmp_path / "train/a/masks/1.png")
    sample = next(one for one in load(spec(tmp_path, **SETTINGS)).labelled if one.id == "train/a")
    with pytest.raises(DataError, match=r"train/a/masks/1.png"):
        sample.read_mask()
