from pathlib import Path

import numpy as np
import pytest
from drawn_folders import everyone, fault, ids, mask, pairs, picture, put, spec
from PIL import Image

from selftrain.data.load import load

pytestmark = pytest.mark.promise(
    "layouts and names of files (doubles, case, Unicode, links, missing masks): handled, or a fault that names them"
)


SYSTEMS = ["@eaDir", "__MACOSX", "System Volume Information", "$RECYCLE.BIN", ".Trash-1000", ".thumbnails"]


@pytest.mark.parametrize("name", [*SYSTEMS, ".ipynb_checkpoints"])
@pytest.mark.parametrize("below", ["images", "images/deep"])
def test_folders_that_systems_make_are_left_out_and_it_is_said(tmp_path: Path, name: str, below: str):
    pairs(tmp_path, ["1", "2", "3"])
    picture(tmp_path / below / name / "9.png")
    data = load(spec(tmp_path))
    assert set(everyone(data)) == {"images/1", "images/2", "images/3"}
    assert data.warnings == [f"folders of thumbnails or of a system were left out: {below}/{name}"]


@pytest.mark.parametrize("name", ["thumbs", "Thumbnails"])
def test_thumbnails_are_left_out_and_it_is_said(tmp_path: Path, name: str):
    pairs(tmp_path, ["1", "2", "3"])
    for thumb in "13":
        picture(tmp_path / "images" / name / f"{thumb}.jpg")
    put(tmp_path / "images" / name / "Thumbs.db", tmp_path / "images" / "._1.jpg")
    data = load(spec(tmp_path))
    assert set(everyone(data)) == {"images/1", "images/2", "images/3"}
    assert data.warnings == [f"folders of thumbnails or of a system were left out: images/{name}"]


def test_a_folder_called_thumbs_counts_where_it_repeats_nothing_or_is_large(tmp_path: Path):
    pairs(tmp_path, ["1", "2", "3"])
    pairs(tmp_path, ["1", "4"], "thumbs")  # photographs of thumbs
    assert {"images/thumbs/1", "images/thumbs/4"} <= set(everyone(load(spec(tmp_path))))
    for kind, save in (("images", picture), ("masks", mask)):
        (tmp_path / kind / "thumbs" / "4.png").unlink()
        save(tmp_path / kind / "thumbs" / "1.png", size=(8, 513))
    assert "images/thumbs/1" in everyone(load(spec(tmp_path)))


def photo(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(values).save(path)
    return path


ENDS = [
    "_mask",
    "_gt",
    "_label",
    "_labels",
    "_seg",
    "_segmentation",
    "-mask",
    ".mask",
    "_L",
    "_MASK",
    ".jpg",
    "",
]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("below", ["images", "unlabelled"])
def test_masks_beside_images_are_a_fault_that_says_where_to_put_them(tmp_path: Path, end: str, below: str):
    pairs(tmp_path, ["1", "2", "3"])
    for number in range(4):
        photo(tmp_path / below / f"u{number}.jpg", number)
        mask(tmp_path / below / f"u{number}{end}.png", number % 2, (16, 16))
    message = fault(tmp_path, unlabelled="unlabelled" if below == "unlabelled" else "")
    assert f"{below}/u0{end}.png: lies among the images and looks like the mask of {below}/u0.jpg" in message
    assert f"(and 3 more faults alike: {below}/u1{end}.png, {below}/u2{end}.png and 1 more)" in message
    assert "move the masks to masks/" in message and "two columns" in message


@pytest.mark.parametrize(("image", "of_mask"), [("bmp", "png"), ("tif", "gif"), ("png", "bmp")])
def test_of_two_files_of_one_name_the_one_of_few_colours_is_the_mask(
    tmp_path: Path, image: str, of_mask: str
):
    for number in range(4):
        photo(tmp_path / "images" / f"{number}.{image}", number)
        mask(tmp_path / "images" / f"{number}.{of_mask}", 1, (16, 16))
    message = fault(tmp_path)
    assert (
        message.startswith(f"images/0.{of_mask}: lies among the images") and f"of images/0.{image}" in message
    )


def test_images_called_like_masks_are_images_where_they_look_like_it(tmp_path: Path):
    pairs(tmp_path, ["1", "2", "3"])
    for name in ("a.jpg", "a_L.jpg", "b.jpg", "b_seg.png", "c_mask.png"):
        photo(tmp_path / "unlabelled" / name)
    data = load(spec(tmp_path, unlabelled="unlabelled"))
    assert ids(data)["unlabelled"] == [f"unlabelled/{name}" for name in ("a", "a_L", "b", "b_seg", "c_mask")]


def test_masks_beside_images_that_a_list_names_are_no_images(tmp_path: Path):
    for name in ("1", "2", "3"):
        photo(tmp_path / "images" / f"{name}.jpg")
        mask(tmp_path / "images" / f"{name}_mask.png", size=(16, 16))
    photo(tmp_path / "images" / "4.jpg")
    (tmp_path / "few.csv").write_text("".join(f"{name}.jpg,images/{name}_mask.png\n" for name in "123"))
    data = load(spec(tmp_path, splits={"train": "few.csv"}, unlabelled="images"))
    assert ids(data)["unlabelled"] == ["images/4"] and len(everyone(data)) == 4
