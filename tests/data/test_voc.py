"""The layout of VOCdevkit: places, lists, palettes, and the labelmap.txt of CVAT and Datumaro."""

from pathlib import Path

import numpy as np
import pytest
from drawn_folders import ids, picture, put, spec
from PIL import Image

from selftrain.data.dataset import DataSet
from selftrain.data.load import load
from selftrain.data.verify import verify
from selftrain.errors import ConfigError, DataError

IDS = np.array([[0, 0, 0, 0], [0, 255, 255, 0], [0, 2, 1, 0]], np.uint8)
CLASSES = ["background", "aeroplane", "bicycle"]
PALETTE = [0, 0, 0, 128, 0, 0, 0, 128, 0, *[0] * (252 * 3), 224, 224, 192]  # VOC's first colours, and void
LABELMAP = "# label:color_rgb:parts:actions\nbackground:0,0,0::\naeroplane:128,0,0::\nbicycle:0,128,0::\n"


def lists(root: Path, **names: list[str]) -> None:
    folder = root / "ImageSets" / "Segmentation"
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in names.items():
        (folder / f"{split}.txt").write_text("".join(f"{row}\n" for row in rows))


def voc(root: Path, *names: str) -> None:
    """Pictures, and palette masks for the names that do not begin with x."""
    for value, name in enumerate(names):
        picture(root / "JPEGImages" / f"{name}.jpg", 40 * value, (3, 4))
        if name[0] == "x":
            continue
        mask = Image.fromarray(IDS).convert("P")
        mask.putdata(IDS.ravel())
        mask.putpalette(PALETTE)
        path = root / "SegmentationClass" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        mask.save(path)


def data(root: Path, *, splits: dict | None = None, **settings) -> DataSet:
    return load(spec(root, splits=splits, **({"format": "voc", "classes": CLASSES} | settings)))


def test_lists_and_palette_masks_of_the_development_kit(tmp_path: Path):
    voc(tmp_path, "2007_1", "2007_2", "2007_3", "x4", "x5")
    lists(tmp_path, train=["2007_1", "2007_2"], val=["2007_3"], trainval=["2007_1"], test=["x4"])
    put(tmp_path / "Annotations" / "2007_1.xml", tmp_path / "SegmentationObject" / "2007_1.txt")
    found = data(tmp_path, splits={"test_fraction": 0.0})
    assert ids(found) == {
        "labelled": ["JPEGImages/2007_1", "JPEGImages/2007_2"],
        "unlabelled": [], "val": ["JPEGImages/2007_3"], "test": [],
    }  # fmt: skip
    assert np.array_equal(found.labelled[0].read_mask(), IDS)
    more = data(tmp_path, splits={"test_fraction": 0.0}, unlabelled="JPEGImages")
    assert ids(more)["unlabelled"] == ["JPEGImages/x4", "JPEGImages/x5"]
    report = verify(found, spec(tmp_path, format="voc", classes=CLASSES), workers=1)
    assert report.faults == []


def test_a_test_list_with_masks_is_the_test_split_and_settings_come_first(tmp_path: Path):
    voc(tmp_path, "a", "b", "c", "d")
    lists(tmp_path, train=["a", "b"], val=["c"], test=["d"])
    assert ids(data(tmp_path))["test"] == ["JPEGImages/d"]
    (tmp_path / "few.txt").write_text("b\n")
    assert ids(data(tmp_path, splits={"train": "few.txt"}))["labelled"] == ["JPEGImages/b"]
    (tmp_path / "SegmentationClass").rename(tmp_path / "SegmentationClassAug")
    assert np.array_equal(data(tmp_path, masks="SegmentationClassAug").labelled[0].read_mask(), IDS)


@pytest.mark.parametrize("as_colours", [True, False])
def test_labelmap_names_the_classes_and_colours(tmp_path: Path, as_colours: bool):
    voc(tmp_path, "a", "b", "c")
    if as_colours:  # CVAT and Datumaro write RGB
        for path in (tmp_path / "SegmentationClass").iterdir():
            Image.open(path).convert("RGB").save(path)
    lists(tmp_path, default=["a", "b", "c"])
    (tmp_path / "labelmap.txt").write_text(LABELMAP)
    found = data(tmp_path, classes=[], splits={"test_fraction": 0.0})
    assert found.classes == CLASSES and len(found.labelled) == 2
    assert np.array_equal(found.labelled[0].read_mask(), IDS)
    two = data(tmp_path, classes=["bicycle", "background"], ignore=["rest"], splits={"test_fraction": 0.0})
    assert np.array_equal(two.labelled[0].read_mask(), np.array([1, 255, 0, *[255] * 253])[IDS])


def test_faults_of_a_labelmap_name_it(tmp_path: Path):
    voc(tmp_path, "a", "b", "c")
    (tmp_path / "labelmap.txt").write_text(LABELMAP)
    with pytest.raises(
        ConfigError, match=r"names 'car', but .*labelmap\.txt has background, aeroplane, bicycle"
    ):
        data(tmp_path, classes=["background", "car"])
    (tmp_path / "labelmap.txt").write_text("background 0 0 0\n")
    with pytest.raises(
        DataError, match=r"labelmap\.txt: has the line 'background 0 0 0', which is not name:red"
    ):
        data(tmp_path, classes=[])
    assert len(data(tmp_path, values=[0, 1, 2], splits={"test_fraction": 0.0}).labelled) == 2
