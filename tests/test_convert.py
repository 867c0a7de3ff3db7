"""`selftrain convert`: data sets and predictions in every format, with a data YAML that reads them exactly."""

import json
from pathlib import Path

import numpy as np
import pytest
from drawn_folders import NAMED, picture
from PIL import Image

from selftrain.conversion import TO
from selftrain.conversion.convert import convert
from selftrain.conversion.targets import TARGETS
from selftrain.data.dataset import SPLITS
from selftrain.errors import ConfigError, DataError
from selftrain.inspection.data_file import loaded, yaml_of
from selftrain.prediction.outputs import CLASSES
from selftrain.report.palette import save_palette_png

TWO = {"train": "train", "val": "val", "test_fraction": 0.0}
CLASSES_OF_MASKS = ["background", "car", "tree"]


def ids_of(seed: int, size: tuple[int, int] = (9, 12), *, ignored: bool = True) -> np.ndarray:
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 3, size).astype(np.uint8)
    ids[3:6, 2:9] = 1
    if ignored:
        ids[0, :3] = 255
    return ids


def drawn(root: Path, names: dict[str, list[str]], **settings) -> Path:
    """A data set of folders below `root`, and its YAML beside them."""
    for folder, inner in names.items():
        for number, name in enumerate(inner):
            image = picture(root / "images" / folder / name, 20 * number, (9, 12))
            mask = (root / "masks" / folder / name).with_suffix(".png")
            mask.parent.mkdir(parents=True, exist_ok=True)
            ids = ids_of(len(folder) * 10 + number)
            Image.fromarray(ids).save(mask)
            assert image.is_file()
    given = {
        "name": "drawn",
        "format": "folder",
        "root": str(root),
        "unlabelled": "",
        "classes": CLASSES_OF_MASKS,
    }
    file = root.with_suffix(".yaml")
    file.write_text(yaml_of(root, given | settings), encoding="utf-8")
    return file


def content(file: Path) -> dict[str, dict[str, np.ndarray]]:
    """The masks of each split by the names of their images."""
    data = loaded(file)
    assert not data.faults
    found = {split: getattr(data, split) for split in SPLITS}
    return {
        split: {Path(one.id).name: one.read_mask() for one in members if one.mask}
        for split, members in found.items()
    }


def same(one: dict[str, dict[str, np.ndarray]], other: dict[str, dict[str, np.ndarray]]) -> bool:
    return all(
        one[split].keys() == other[split].keys()
        and all(np.array_equal(mask, other[split][name]) for name, mask in one[split].items())
        for split in SPLITS
    )


def test_the_names_on_the_command_line_are_those_of_the_table():
    assert set(TO) == set(TARGETS)


@pytest.mark.parametrize("target", TO)
def test_splits_and_masks_are_read_again_exactly(tmp_path: Path, target: str):
    names = {
        "train": ["a.png", "b c.jpg", "deep/x.png"],
        "val": ["a.png"],
        "test": ["u,v.png" if target != "voc" else "u.v.png"],
    }
    file = drawn(tmp_path / "data", names, splits=NAMED)
    convert(file, tmp_path / "out", target)
    assert same(content(tmp_path / "out" / "selftrain.yaml"), content(file))
    folder = tmp_path / "out" / ("JPEGImages" if target == "voc" else "images")
    copied = folder / "train" / "b c.jpg"
    assert copied.read_bytes() == (tmp_path / "data" / "images" / "train" / "b c.jpg").read_bytes()


def test_images_of_object_storage_are_converted_whole(tmp_path: Path):
    import fsspec

    file = drawn(tmp_path / "data", {"train": ["a.png", "b.jpg"], "val": ["c.png"]}, splits=TWO)
    fsspec.filesystem("memory").put(f"{tmp_path / 'data'}/", "/converted/", recursive=True)
    there = tmp_path / "there.yaml"
    there.write_text(file.read_text().replace(str(tmp_path / "data"), "memory://converted"))
    for one, out in ((file, "here"), (there, "away")):
        convert(one, tmp_path / out, "png")
    images = [path.relative_to(tmp_path / "here") for path in (tmp_path / "here").rglob("*.*g")]
    assert len(images) == 6
    assert all(
        (tmp_path / "away" / path).read_bytes() == (tmp_path / "here" / path).read_bytes() for path in images
    )


@pytest.mark.parametrize("target", ["voc", "coco", "yolo"])
def test_without_a_background_every_class_is_drawn_and_made_splits_are_not_written(
    tmp_path: Path, target: str
):
    names = {"": [f"{number}.png" for number in range(5)]}
    file = drawn(tmp_path / "data", names, classes=["road", "car", "tree"], splits={"test_fraction": 0.0})
    convert(file, tmp_path / "out", target)
    found, wanted = content(tmp_path / "out" / "selftrain.yaml"), content(file)
    masks = [{name: mask for part in one.values() for name, mask in part.items()} for one in (found, wanted)]
    assert masks[0].keys() == masks[1].keys() == {str(number) for number in range(5)}
    assert all(np.array_equal(mask, masks[1][name]) for name, mask in masks[0].items())
    assert not found["test"] and {one.name for one in (tmp_path / "out").rglob("0.png")}


def test_what_a_format_cannot_express_is_printed(tmp_path: Path, capsys):
    file = drawn(tmp_path / "data", {"train": ["a.png"], "val": ["b.png"]}, splits=TWO)
    ids = np.zeros((9, 12), np.uint8)
    ids[1:6, 1:6], ids[3, 3], ids[8, 9:] = 1, 2, 1
    for split, name in (("train", "a"), ("val", "b")):
        Image.fromarray(ids).save(tmp_path / "data" / "masks" / split / f"{name}.png")
    said = {}
    for target in ("coco", "yolo", "coco-rle"):
        convert(file, tmp_path / target, target)
        said[target] = capsys.readouterr().out
    assert (
        "2 holes: the outline of a region has none" in said["coco"]
        and "shapes of their own" not in said["coco"]
    )
    assert "2 holes" in said["yolo"] and "4 regions are shapes of their own" in said["yolo"]
    assert "hole" not in said["coco-rle"]


def test_a_turned_photo_is_written_upright(tmp_path: Path):
    file = drawn(
        tmp_path / "data",
        {"train": ["a.png", "b.png"], "val": ["a.png"]},
        splits=TWO,
    )
    for folder in ("images", "masks"):
        path = tmp_path / "data" / folder / "train" / "b.png"
        with Image.open(path) as stored:
            exif = stored.getexif()
            exif[274] = 3
            stored.copy().save(path, exif=exif)
    convert(file, tmp_path / "out", "png")
    found = content(tmp_path / "out" / "selftrain.yaml")
    assert same(found, content(file))
    assert np.array_equal(found["labelled"]["b"], ids_of(51)[::-1, ::-1])
    with Image.open(tmp_path / "out" / "images" / "train" / "b.png") as upright:
        assert upright.getexif().get(274, 1) == 1


def predictions(folder: Path, names: list[str], *, form: str = "palette") -> dict[str, np.ndarray]:
    found = {name: ids_of(number, ignored=form == "palette") for number, name in enumerate(names)}
    for name, ids in found.items():
        values = ids if form == "palette" else np.array([0, 7, 9], np.uint8)[ids]
        save_palette_png(folder / f"{name}.png", values)
    rows = [{"id": number, "name": name} for number, name in enumerate(CLASSES_OF_MASKS)]
    described = {"form": form, "ignore_index": 255, "classes": rows, "masks": {"values": [0, [7, 8], 9]}}
    (folder / CLASSES).write_text(json.dumps(described))
    return found


@pytest.mark.parametrize("form", ["palette", "values"])
def test_predictions_are_converted_with_their_images(tmp_path: Path, form: str):
    for name in ("a.jpg", "b.png", "c/d.png"):
        picture(tmp_path / "photos" / name, 9, (9, 12))
    masks = predictions(tmp_path / "masks", ["a", "b", "c/d"], form=form)
    convert(tmp_path / "masks", tmp_path / "out", "labelme", images=tmp_path / "photos")
    assert (tmp_path / "out" / "images" / "c" / "d.json").is_file()
    found = content(tmp_path / "out" / "selftrain.yaml")
    got = {name: mask for part in found.values() for name, mask in part.items()}
    assert got.keys() == {"a", "b", "d"}
    assert all(np.array_equal(got[name[-1]], mask) for name, mask in masks.items())


def test_predictions_without_images_name_them_by_the_masks(tmp_path: Path, capsys):
    predictions(tmp_path / "masks", ["a", "c/d"])
    convert(tmp_path / "masks", tmp_path / "out", "coco")
    tree = json.loads((tmp_path / "out" / "annotations" / "default.json").read_text())
    assert [one["file_name"] for one in tree["images"]] == ["a.png", "c/d.png"]
    assert not (tmp_path / "out" / "selftrain.yaml").exists() and "--images DIR" in capsys.readouterr().out


def test_predictions_of_other_images_are_refused_and_leave_nothing(tmp_path: Path):
    predictions(tmp_path / "masks", ["a", "b"])
    picture(tmp_path / "photos" / "a.png", 9, (9, 12))
    with pytest.raises(DataError, match=r"1 mask without an image in .*: b; name the folder"):
        convert(tmp_path / "masks", tmp_path / "out", "coco", images=tmp_path / "photos")
    picture(tmp_path / "photos" / "b.png", 9, (9, 11))
    with pytest.raises(DataError, match="has a mask of 9x12, but is 9x11"):
        convert(tmp_path / "masks", tmp_path / "out", "coco", images=tmp_path / "photos")
    assert {path.name for path in tmp_path.iterdir()} == {"masks", "photos"}


def test_a_folder_is_converted_if_init_has_no_question(tmp_path: Path):
    rng = np.random.default_rng(0)
    for number in range(4):
        for folder, pixels in (
            ("images", rng.integers(0, 256, (36, 48, 3), np.uint8)),
            ("masks", np.kron(ids_of(number, ignored=False), np.ones((4, 4), np.uint8))),
        ):
            (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / "data" / folder / f"{number}.png")
    convert(tmp_path / "data", tmp_path / "out", "png")
    assert sum(len(part) for part in content(tmp_path / "out" / "selftrain.yaml").values()) == 4
    for number in range(4):
        second = tmp_path / "data" / "masks2" / f"{number}.png"
        second.parent.mkdir(exist_ok=True)
        Image.fromarray(np.kron(ids_of(number + 9, ignored=False), np.ones((4, 4), np.uint8))).save(second)
    with pytest.raises(ConfigError, match="can be read in several ways; run selftrain init"):
        convert(tmp_path / "data", tmp_path / "again", "png")


def test_places_that_hold_something_are_refused(tmp_path: Path):
    file = drawn(tmp_path / "data", {"": ["a.png", "b.png", "c.png"]})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(ConfigError, match="is a file, or not empty"):
        convert(file, tmp_path / "full", "coco")
    with pytest.raises(ConfigError, match="lies in the other"):
        convert(file, tmp_path / "data" / "out", "coco")
    with pytest.raises(DataError, match="does not exist"):
        convert(tmp_path / "none", tmp_path / "out", "coco")


def test_names_that_lists_of_voc_cannot_hold_are_refused(tmp_path: Path):
    file = drawn(tmp_path / "data", {"train": ["a,b.png"], "val": ["a.png"]}, splits=TWO)
    with pytest.raises(DataError, match="train/a,b: has a comma or a tab in its name"):
        convert(file, tmp_path / "out", "voc")
    assert not (tmp_path / "out").exists()
