"""Data sets of annotation files: places, splits, classes, sizes, and what is said of them."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from annotation_files import (
    BOX,
    SMALL,
    coco,
    data,
    everything,
    fault,
    grid,
    images,
    masks,
    notes,
    pictures,
    thing,
    two,
    write,
)
from drawn_folders import ids, mask, picture, spec
from PIL import Image

from selftrain.data.load import load, manifest
from selftrain.data.verify import verify
from selftrain.errors import ConfigError, DataError

CAR = grid((1, 3, 1, 4, 1))
RARE = {"test_fraction": 0.0, "train": "train", "val": "val"}


def refusal(root: Path, form: str = "coco", **settings) -> str:
    with pytest.raises(ConfigError) as caught:
        data(root, form, **settings)
    return str(caught.value)


def said(root: Path, form: str = "coco", **settings) -> str:
    return "\n".join(data(root, form, **settings).warnings)


# --- where images and annotations are


def test_one_file_of_a_name_in_each_split_folder(tmp_path: Path):
    for split in ("train", "val", "test"):
        pictures(tmp_path / split, "a.png", "b.png")
        content = coco(images("a.png", "b.png"), [thing(0, 1, BOX), thing(1, 2, BOX)])
        write(tmp_path / split / "_annotations.coco.json", content)
    write(tmp_path / "README.json", {})
    splits = {"train": "train", "val": "val", "test": "test"}
    found = data(tmp_path, "coco", images=".", annotations="_annotations.coco.json", splits=splits)
    assert ids(found) == {
        "labelled": ["train/a", "train/b"], "unlabelled": [], "val": ["val/a", "val/b"], "test": ["test/a", "test/b"],
    }  # fmt: skip
    assert all(
        np.array_equal(one.read_mask(), CAR) for one in (found.labelled[0], found.val[0], found.test[0])
    )
    assert fault(tmp_path, "coco", images=".", splits=splits).startswith("README.json: is not a COCO file")


def test_splits_by_annotation_files_as_coco_is_published(tmp_path: Path):
    pictures(tmp_path / "train2017", "1.png", "2.png", "5.png")
    pictures(tmp_path / "val2017", "3.png")
    pictures(tmp_path / "unlabeled2017", "4.png")
    write(
        tmp_path / "annotations" / "instances_train2017.json",
        coco(images("1.png", "2.png"), [thing(0, 1, BOX)]),
    )
    write(tmp_path / "annotations" / "instances_val2017.json", coco(images("3.png"), [thing(0, 2, BOX)]))
    write(tmp_path / "annotations" / "captions_val2017.json", {"annotations": []})
    splits = {"train": "annotations/instances_train2017.json", "val": "annotations/instances_val2017.json"}
    found = data(
        tmp_path, "coco", images=".", unlabelled="unlabeled2017", splits=splits | {"test_fraction": 0.0}
    )
    assert ids(found) == {
        "labelled": ["train2017/1", "train2017/2"], "unlabelled": ["unlabeled2017/4"], "val": ["val2017/3"], "test": [],
    }  # fmt: skip
    assert np.array_equal(found.val[0].read_mask(), 2 * CAR)


def test_lists_and_folders_divide_annotated_images(tmp_path: Path):
    pictures(tmp_path / "images", *(f"{i}.png" for i in range(6)))
    write(
        tmp_path / "all.json",
        coco(images(*(f"{i}.png" for i in range(5))), [thing(i, 1, BOX) for i in range(5)]),
    )
    write(tmp_path / "val.txt", "3\n1.png\n")
    found = data(tmp_path, "coco", splits={"val": "val.txt", "test_fraction": 0.0, "labels": 2})
    assert [len(one) for one in ids(found).values()] == [2, 2, 2, 0]
    assert "images/5" in ids(found)["unlabelled"]
    assert "1 image that no annotation file describes: taken as unlabelled" in said(tmp_path)
    write(tmp_path / "val.txt", "images/3.png\timages/1.png\n")
    assert "names masks, but data.format=coco draws them" in refusal(tmp_path, splits={"val": "val.txt"})


@pytest.mark.parametrize(
    "name",
    ["a.png", "C:\\Users\\me\\photos\\a.png", "images\\sub\\a.png", "./a.png", "/mnt/x/a.png", "a.jpg"],
)
def test_images_in_other_folders_than_the_file_says_are_found_and_counted(tmp_path: Path, name: str):
    pictures(tmp_path / "images" / "sub", "a.png", "z.png")
    write(tmp_path / "all.json", coco(images(name, "sub/z.png"), [thing(0, 1, BOX)]))
    assert np.array_equal(masks(tmp_path, "coco")["a"], CAR)
    elsewhere = "1 image found elsewhere than the annotations say, such as"
    assert (elsewhere in said(tmp_path)) == ("images" not in name or name[0] == "C")


def test_a_name_that_two_images_have_is_a_fault_and_a_longer_ending_decides(tmp_path: Path):
    for folder in ("x", "y"):
        pictures(tmp_path / "images" / folder, "a.png")
    write(tmp_path / "all.json", coco(images("a.png", "other/y/a.png"), [thing(0, 1, BOX)]))
    assert fault(tmp_path, "coco").startswith(
        "all.json: names 'a.png', which may be images/x/a.png, images/y/a.png; write its path below data.images"
    )
    write(tmp_path / "all.json", coco(images("other/x/a.png", "other/y/a.png"), [thing(0, 1, BOX)]))
    found = {sample.id: sample.read_mask().any() for sample in everything(data(tmp_path, "coco")).values()}
    assert len(found) == 1 and set(ids(data(tmp_path, "coco"))["labelled"]) <= {"images/x/a", "images/y/a"}


def test_described_images_outside_of_the_splits_are_told(tmp_path: Path):
    pictures(tmp_path / "images", "a.png", "z.png")
    pictures(tmp_path / "new", "b.png")
    write(tmp_path / "x.json", coco(images("images/a.png", "images/z.png", "new/b.png"), [thing(0, 1, BOX)]))
    assert "1 described image in no split, and not used, such as new/b.png" in said(tmp_path)


def test_missing_images_are_counted_and_if_all_are_missing_it_is_an_error(tmp_path: Path):
    two(tmp_path, [thing(0, 1, BOX)])
    write(tmp_path / "more.json", coco(images("gone.png", "lost.png"), []))
    assert "2 images described but missing, and not used, such as gone.png" in said(tmp_path)
    with pytest.raises(
        DataError, match=r"more\.json, and none of the images .* is below data\.root, such as gone"
    ):
        data(tmp_path, "coco", annotations="more.json")


def test_places_without_annotations_are_named(tmp_path: Path):
    pictures(tmp_path / "images", "a.png", "z.png")
    assert "no .json file is *.json below" in fault(tmp_path, "coco")
    assert "no .txt file is labels below" in fault(tmp_path, "yolo")
    assert "no .xml file is a.xml below" in fault(tmp_path, "cvat", annotations="a.xml")
    assert "must be a path below data.root" in refusal(tmp_path, annotations="../a.json")
    write(tmp_path / "x.json", "")
    assert "x.json: is empty" in fault(tmp_path, "coco", annotations="x.json")


def test_an_image_that_two_files_describe_is_a_fault(tmp_path: Path):
    two(tmp_path, [thing(0, 1, BOX)])
    write(tmp_path / "images" / "second.json", coco(images("a.png"), []))
    assert "describes images/a.png, which images/_annotations.coco.json describes as well; keep one" in fault(
        tmp_path, "coco"
    )


def test_undescribed_images_are_faults_where_masks_are_expected(tmp_path: Path):
    for split in ("train", "val"):
        pictures(tmp_path / "images" / split, "a.png", "b.png")
        write(tmp_path / "images" / split / "x.json", coco(images("a.png"), [thing(0, 1, BOX)]))
    assert fault(tmp_path, "coco", splits=RARE) == (
        "images/val/b.png: is described by no annotation file; annotate it, or move it to data.unlabelled"
    )
    (tmp_path / "images" / "val" / "b.png").unlink()
    assert ids(data(tmp_path, "coco", splits=RARE))["unlabelled"] == ["images/train/b"]
    pictures(tmp_path / "raw", "c.png")
    assert "images/train/b.png: is described by no" in fault(tmp_path, "coco", splits=RARE, unlabelled="raw")


def test_images_without_a_shape_are_background_or_unlabelled(tmp_path: Path):
    two(tmp_path, [thing(0, 1, BOX)])
    pictures(tmp_path / "images", "b.png")
    write(tmp_path / "images" / "x.json", coco(images("b.png"), [thing(0, 1, BOX)]))
    assert not masks(tmp_path, "coco")["z"].any()
    assert "1 image described without any shape: taken as background (data.empty=unlabelled" in said(tmp_path)
    assert ids(data(tmp_path, "coco", empty="unlabelled"))["unlabelled"] == ["images/z"]
    assert "taken as unlabelled" in said(tmp_path, empty="unlabelled")


# --- which class


def test_the_background_needs_no_category_but_a_class_or_no_name(tmp_path: Path):
    two(tmp_path, [thing(0, 1, BOX), thing(1, 2, SMALL)])
    assert "data.background=background is not in data.classes=['car', 'person']: add it" in refusal(
        tmp_path, classes=["car", "person"]
    )
    found = masks(tmp_path, "coco", classes=["car", "person"], background="")
    assert np.array_equal(found["a"], np.where(CAR, 0, 255))
    found = masks(tmp_path, "coco", classes=["car", "person", "ground"], background="ground")
    assert np.array_equal(found["a"], np.where(CAR, 0, 2))


def test_categories_that_are_not_declared_are_named_with_three_ways_out(tmp_path: Path):
    two(tmp_path, [thing(0, 1, BOX), thing(0, 2, SMALL), thing(1, 2, BOX)])
    classes = ["background", "car"]
    assert (
        "are not declared: person (2 shapes); add them to data.classes, give them to a class by data.values, "
        "or ignore them by data.ignore=[person] (all: data.ignore=rest)"
        in fault(tmp_path, "coco", classes=classes)
    )
    for ignore in (["person"], ["rest"], [255, "rest"]):
        found = masks(tmp_path, "coco", classes=classes, ignore=ignore)
        assert np.array_equal(found["a"], grid((1, 3, 1, 4, 1), (2, 3, 2, 3, 255)))
    assert "shapes of person are ignored (data.ignore=[rest]) (2)" in said(
        tmp_path, classes=classes, ignore=["rest"]
    )
    for values in (["", ["car", "person"]], [[], ["person", "car"]]):
        assert np.array_equal(
            masks(tmp_path, "coco", classes=["background", "mover"], values=values)["a"], CAR
        )
    found = masks(tmp_path, "coco", classes=classes, values=[["background", "person"], ""])
    assert np.array_equal(found["a"], grid((1, 3, 1, 4, 1), (2, 3, 2, 3, 0)))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"classes": []}, r"must name .*; the annotations have car, person"),
        ({"values": ["", "car"]}, "data.values has 2 entries for 3 classes"),
        ({"values": ["", "car", ["person", "car"]]}, "name the category 'car' twice"),
        ({"ignore": ["car"]}, "name the category 'car' twice"),
        ({"colours": [[0, 0, 0]]}, r"data\.colours=.* is about mask files"),
        ({"threshold": 4}, r"data\.threshold=4 is about mask files"),
        ({"nearest": True}, r"data\.nearest=True is about mask files"),
        ({"masks": "m"}, r"data\.masks=m is about mask files"),
    ],
)  # fmt: skip
def test_wrong_settings_say_what_is_right(tmp_path: Path, settings: dict, says: str):
    two(tmp_path, [thing(0, 1, BOX), thing(1, 2, BOX)])
    with pytest.raises(ConfigError, match=says):
        data(tmp_path, "coco", **settings)


@pytest.mark.parametrize(
    "settings", [{"annotations": "a"}, {"background": ""}, {"order": "file"}, {"empty": "unlabelled"}]
)
def test_mask_files_refuse_settings_of_annotations(tmp_path: Path, settings: dict):
    with pytest.raises(ConfigError, match=rf"data\.{next(iter(settings))}=.*reads mask files"):
        load(spec(tmp_path, **settings))


def test_the_order_is_a_setting_and_is_told(tmp_path: Path):
    two(tmp_path, [thing(0, 2, SMALL), thing(0, 1, BOX)])
    assert np.array_equal(masks(tmp_path, "coco")["a"], grid((1, 3, 1, 4, 1), (2, 3, 2, 3, 2)))
    assert np.array_equal(masks(tmp_path, "coco", order="file")["a"], CAR)
    assert "2 shapes: where two overlap, the smaller one is on top (data.order=large)" in said(tmp_path)
    assert "the later one is on top (data.order=file)" in said(tmp_path, order="file")


# --- sizes and orientation


def test_shapes_that_were_drawn_at_another_size_are_scaled_and_told(tmp_path: Path):
    half = [[x / 2, y / 2] for x, y in BOX]
    two(tmp_path, [thing(0, 1, half)], height=3, width=4)
    assert np.array_equal(masks(tmp_path, "coco")["a"], CAR)
    assert "another size" in notes(tmp_path, "coco")[0] and notes(tmp_path, "coco", "z") == ()
    two(tmp_path, [thing(0, 1, BOX)])
    assert notes(tmp_path, "coco") == ()


def test_a_size_of_another_shape_is_a_fault_that_verify_lists(tmp_path: Path):
    two(tmp_path, [thing(0, 1, BOX)], height=6, width=7)
    one = spec(tmp_path, format="coco", classes=["background", "car"], splits={"test_fraction": 0.0})
    report = verify(load(one, strict=False), one, workers=1)
    what = "describes a.png as 6x7, but it is 6x8 (height x width); restore the image that was annotated"
    assert any(what in str(one) for one in report.faults) and len(report.faults) == 2


def turned(path: Path, orientation: int, size: tuple[int, int] = (8, 6)) -> None:
    """A photo of (height, width) as stored, with an EXIF orientation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.zeros((*size, 3), np.uint8))
    exif = picture.getexif()
    exif[274] = orientation
    picture.save(path, exif=exif)


def test_shapes_on_a_photo_with_an_exif_turn(tmp_path: Path):
    two(tmp_path, [thing(0, 1, BOX)])
    turned(tmp_path / "images" / "a.png", 6)  # 6 rows and 8 columns upright, as the file says
    assert np.array_equal(masks(tmp_path, "coco")["a"], CAR) and notes(tmp_path, "coco") == ()
    two(tmp_path, [thing(0, 1, BOX)], height=8, width=6)
    turned(tmp_path / "images" / "a.png", 6)
    shutil.copy(tmp_path / "images" / "a.png", tmp_path / "images" / "z.png")
    stored = grid((1, 3, 1, 4, 1), size=(8, 6))
    assert np.array_equal(masks(tmp_path, "coco")["a"], np.rot90(stored, -1))
    assert "without its EXIF turn and are turned" in notes(tmp_path, "coco")[0]


def test_where_sizes_cannot_tell_shapes_are_taken_as_upright_and_this_is_told(tmp_path: Path):
    two(tmp_path, [thing(0, 1, BOX)])
    turned(tmp_path / "images" / "a.png", 3, (6, 8))
    assert np.array_equal(masks(tmp_path, "coco")["a"], CAR)
    assert "taken as drawn upright" in notes(tmp_path, "coco")[0]


# --- as any other data set


def test_masks_are_resized_pickled_and_fingerprinted(tmp_path: Path):
    two(tmp_path, [thing(0, 1, BOX)])
    found = everything(data(tmp_path, "coco", size=[12, 16]))["a"]
    assert np.array_equal(found.read_mask(), np.kron(CAR, np.ones((2, 2), np.uint8)))
    again = pickle.loads(pickle.dumps(found))
    assert np.array_equal(again.read_mask(), found.read_mask())
    before = manifest(data(tmp_path, "coco"))
    assert manifest(data(tmp_path, "coco")) == before
    two(tmp_path, [thing(0, 1, SMALL)])
    after = manifest(data(tmp_path, "coco"))
    assert str(before) != str(after)
    changed = [(one, other) for one, other in zip(_rows(before), _rows(after), strict=True) if one != other]
    assert len(changed) == 1 and changed[0][0]["image"] == changed[0][1]["image"]


def _rows(content: dict) -> list[dict]:
    return sorted(content["labelled"] + content["val"], key=lambda row: row["id"])


def test_verify_tells_of_scaled_shapes_also_when_it_remembers(tmp_path: Path):
    rng = np.random.default_rng(0)
    names = [f"{i}.png" for i in range(6)]
    for name in names:
        path = picture(tmp_path / "images" / name, size=(6, 8))
        Image.fromarray(rng.integers(0, 255, (6, 8, 3), np.uint8)).save(path)
    half = [[x / 2, y / 2] for x, y in BOX]
    write(
        tmp_path / "x.json",
        coco(images(*names, height=3, width=4), [thing(i, 1 + i % 2, half) for i in range(6)]),
    )
    one = spec(tmp_path, format="coco", classes=["background", "car", "person"])
    for _ in range(2):
        report = verify(load(one, strict=False), one, workers=1)
        assert report.faults == []
        told = [line for line in report.warnings if "another size" in line]
        assert len(told) == 1 and told[0].startswith("6 images: shapes were drawn at another size")


def test_stratified_masks_are_drawn(tmp_path: Path):
    names = [f"{i}.png" for i in range(8)]
    pictures(tmp_path / "images", *names)
    write(tmp_path / "x.json", coco(images(*names), [thing(i, 1 + i % 2, BOX) for i in range(8)]))
    found = data(tmp_path, "coco", splits={"choose": "stratified", "labels": 2, "test_fraction": 0.0})
    assert sorted({int(one.read_mask().max()) for one in found.labelled}) == [1, 2]


def test_an_image_that_cannot_be_read_is_one_fault(tmp_path: Path):
    two(tmp_path, [thing(0, 1, BOX)])
    pictures(tmp_path / "images", "y.png", "x.png")
    write(
        tmp_path / "images" / "x.json", coco(images("x.png", "y.png"), [thing(0, 2, BOX), thing(1, 2, BOX)])
    )
    (tmp_path / "images" / "a.png").write_bytes(b"<html>")
    one = spec(
        tmp_path, format="coco", classes=["background", "car", "person"], splits={"test_fraction": 0.0}
    )
    faults = verify(load(one, strict=False), one, workers=1).faults
    assert [fault.file for fault in faults] == ["images/a.png"]


def test_masks_beside_annotated_images_are_noted(tmp_path: Path):
    two(tmp_path, [thing(0, 1, BOX)])
    mask(tmp_path / "images" / "a_mask.png", size=(6, 8))
    assert "images/a_mask.png: lies among the images" in fault(tmp_path, "coco")
