"""YOLO polygons as Ultralytics and Roboflow lay them out."""

from pathlib import Path

import numpy as np
import pytest
from annotation_files import BOX, HEIGHT, SMALL, WIDTH, data, fault, flat, grid, masks, notes, pictures, write
from PIL import Image

from selftrain.data.annotations import yolo
from selftrain.errors import DataError

BOXED = grid((1, 3, 1, 4, 1), (2, 3, 2, 3, 2))  # a person on a car


def line(number: int, points: list[list[float]]) -> str:
    return " ".join(map(str, [number, *flat([[x / WIDTH, y / HEIGHT] for x, y in points])]))


def yolo_set(root: Path) -> None:
    pictures(root / "images" / "train", "a.png", "z.png")
    inside = [[x + 0.5, y + 0.5] for x, y in BOX]  # corners within pixels: a share of 1/6 has no exact float
    small = [[x + 0.5, y + 0.5] for x, y in SMALL]
    write(root / "labels" / "train" / "a.txt", f"{line(1, small)}\n{line(0, inside)}\n\n")
    write(root / "labels" / "train" / "z.txt", "")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("data.yaml", "path: .\ntrain: images/train\nnames:\n  0: car\n  1: person\n"),
        ("coco8-seg.yaml", "train: images/train\nnc: 2\nnames: [car, person]\n"),
        ("classes.txt", "car\nperson\n"),
        ("labels/train/classes.txt", "car\nperson\n"),
    ],
)
def test_yolo_polygons(tmp_path: Path, file: str, content: str):
    yolo_set(tmp_path)
    write(tmp_path / file, content)
    found = masks(tmp_path, "yolo")
    assert np.array_equal(found["a"], BOXED) and not found["z"].any()


def test_rounded_shares_of_whole_pixels_lose_none(tmp_path: Path):
    yolo_set(tmp_path)
    shares = [f"{x / WIDTH:.6f} {y / HEIGHT:.6f}" for x, y in SMALL]
    assert "0.333333" in " ".join(shares)  # less than the share of the second row
    write(tmp_path / "labels" / "train" / "z.txt", " ".join(["0", *shares]))
    assert np.array_equal(masks(tmp_path, "yolo", values=["", "0", "1"])["z"], grid((2, 3, 2, 3, 1)))


def test_yolo_without_names_takes_numbers_from_the_values(tmp_path: Path):
    yolo_set(tmp_path)
    assert "categories that are not declared: 1 (1 shape), 0 (1 shape)" in fault(tmp_path, "yolo")
    for values in (["", "0", "1"], ["", 0, [1]]):
        assert np.array_equal(masks(tmp_path, "yolo", values=values)["a"], BOXED)


def test_yolo_with_split_folders_above_images_and_labels(tmp_path: Path):
    for split in ("train", "valid"):
        pictures(tmp_path / split / "images", "a.png", "b.png")
        for name in "ab":
            write(tmp_path / split / "labels" / f"{name}.txt", line(0, [[x + 0.5, y + 0.5] for x, y in BOX]))
    write(tmp_path / "data.yaml", "names: [car]\nroboflow: {license: CC BY 4.0}\n")
    found = data(
        tmp_path, "yolo", images=".", splits={"train": "train", "val": "valid", "test_fraction": 0.0}
    )
    assert [one.id for one in found.val] == ["valid/images/a", "valid/images/b"]
    assert all((one.read_mask() == grid((1, 3, 1, 4, 1))).all() for one in found.labelled + found.val)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0 0.1 0.1 0.5\n", "outline"),
        ("0 0.1 0.1 0.5 0.5 x 1\n", "damaged, or no yolo file"),
        ("0 10 10 50 10 50 40\n", "line 1 is not an outline of three or more corners as shares"),
        ("hello 1 2\n", "line 1 is not a class number"),
        ("7 0.1 0.1 0.5 0.5 0.2 0.4\n", "class 7, but the list of names ends before it; complete"),
    ],
)
def test_yolo_faults(tmp_path: Path, text: str, says: str):
    yolo_set(tmp_path)
    write(tmp_path / "data.yaml", "names: [car, person]")
    write(tmp_path / "labels" / "train" / "a.txt", text)
    said = fault(tmp_path, "yolo")
    assert said.startswith("labels/train/a.txt: ") and says in said


def test_yolo_boxes_are_ignored(tmp_path: Path):
    yolo_set(tmp_path)
    write(tmp_path / "data.yaml", "names: [car, person]")
    write(tmp_path / "labels" / "train" / "a.txt", f"0 {3 / 8} {2.5 / 6} {3 / 8} {2 / 6}\n")
    assert np.array_equal(masks(tmp_path, "yolo")["a"], grid((1, 3, 1, 4, 255)))


def test_shares_belong_to_the_upright_photo_and_this_is_told(tmp_path: Path):
    yolo_set(tmp_path)
    write(tmp_path / "data.yaml", "names: [car, person]")
    photo = Image.fromarray(np.zeros((WIDTH, HEIGHT, 3), np.uint8))  # as stored: a quarter turn
    exif = photo.getexif()
    exif[274] = 8
    photo.save(tmp_path / "images" / "train" / "a.png", exif=exif)
    assert np.array_equal(masks(tmp_path, "yolo")["a"], BOXED)
    assert "taken as drawn upright" in notes(tmp_path, "yolo")[0]


def test_names_in_a_damaged_yaml_are_a_fault(tmp_path: Path):
    write(tmp_path / "data.yaml", "names: !!python/object:os.system [x]")
    with pytest.raises(DataError, match=r"data\.yaml: cannot be read .*mend the YAML"):
        yolo.names([tmp_path])
    assert yolo.names([tmp_path / "none"]) == {}
