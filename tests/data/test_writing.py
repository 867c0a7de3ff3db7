"""What is written in a format is read again pixel by pixel, by selftrain and by the format's own library."""

import io
import json
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from annotation_files import BOX, SMALL, coco, data, grid, images, masks, pictures, thing, write
from PIL import Image

from selftrain.data.annotations import FORMATS, panoptic, read
from selftrain.data.annotations.coco import counts_of, text_of
from selftrain.data.annotations.draw import draw
from selftrain.data.annotations.labelstudio import brush, packed
from selftrain.data.annotations.shape import Described
from selftrain.data.annotations.trace import shapes_of
from selftrain.ids import IGNORE

NAMES = {0: "background", 1: "a car", 2: "Straße & <Weg>", IGNORE: "ignore"}
BOTH = [(name, bitmaps) for name, form in FORMATS.items() for bitmaps in sorted({False, form.bitmaps})]


def scenes(count: int = 12) -> list[np.ndarray]:
    """Class ids (H, W) with small parts, holes and ignored pixels; the first one shows the background only."""
    rng = np.random.default_rng(1)
    found = [np.zeros((5, 7), np.uint8)]
    for height, width in rng.integers(1, 9, (count, 2)):
        ids = np.kron(rng.integers(0, 3, (height, width)), np.ones((2, 3))).astype(np.uint8)
        ids[rng.random(ids.shape) < 0.1] = IGNORE
        ids[rng.random(ids.shape) < 0.1] = 1
        found.append(ids)
    return found


def written(name: str, ids: np.ndarray, *, bitmaps: bool) -> bytes:
    form, drawn = FORMATS[name], {number: text for number, text in NAMES.items() if number}
    shapes = shapes_of(ids, drawn, bitmaps=bitmaps, several=form.several, remarks=Counter())
    return form.write([Described("x/a b.png", tuple(shapes), ids.shape)], list(drawn.values()))


@pytest.mark.parametrize(("name", "bitmaps"), BOTH)
def test_every_format_is_read_exactly_as_it_was_written(tmp_path: Path, name: str, bitmaps: bool):
    number_of = {text: number for number, text in NAMES.items()}
    if name == "yolo":
        number_of = {"0": 1, "1": 2, "2": IGNORE}
    for ids in scenes():
        file = tmp_path / "labels" / f"a b{FORMATS[name].suffix}"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(written(name, ids, bitmaps=bitmaps))
        (page,) = read(name, file).described
        shapes = [(shape, number_of[shape.category]) for shape in page.shapes]
        frame = (1, 1) if page.relative else ids.shape
        for order in ("large", "file"):
            drawn = draw(shapes, ids.shape, frame=frame, background=0, order=order)
            assert np.array_equal(drawn, ids)


def test_an_island_in_a_hole_is_read_as_part_of_its_class(tmp_path: Path):
    ids = grid((0, 8, 0, 8, 1), (2, 6, 2, 6, 0), (4, 4, 4, 4, 1), size=(9, 9))
    pictures(tmp_path / "images", "a.png", "z.png", size=(9, 9))
    shapes = shapes_of(ids, {1: "car"}, bitmaps=False, several=True, remarks=Counter())
    pages = [Described("a.png", tuple(shapes), (9, 9)), Described("z.png", (), (9, 9))]
    write(tmp_path / "all.json", FORMATS["coco"].write(pages, ["car"]).decode())
    assert np.array_equal(masks(tmp_path, "coco", classes=["background", "car"])["a"], ids)


def test_a_ring_is_a_hole_only_if_all_of_it_lies_within_another(tmp_path: Path):
    pictures(tmp_path / "images", "a.png", "z.png")
    across, large = [[2, 1], [7, 1], [7, 3], [2, 3]], [[0, 0], [6, 0], [6, 5], [0, 5]]
    write(
        tmp_path / "all.json",
        coco(images("a.png", "z.png"), [thing(0, 1, BOX, across), thing(1, 1, large, SMALL)]),
    )
    found = data(tmp_path, "coco")
    drawn = masks(tmp_path, "coco")
    assert np.array_equal(drawn["a"], grid((1, 3, 1, 7, 1)))
    assert np.array_equal(drawn["z"], grid((0, 5, 0, 6, 1), (2, 3, 2, 3, 0)))
    assert any("they are holes (1)" in line for line in found.warnings)


@pytest.mark.parametrize("counts", [[48], [0, 48], [7, 3, 3, 3, 3, 29], [0, 1, 40000, 7, 31, 32, 1, 16, 15]])
def test_run_lengths_are_compressed_as_they_are_read(counts):
    assert counts_of(text_of(np.array(counts)), Path("x")).tolist() == counts


def test_compressed_run_lengths_are_those_of_pycocotools_2_0_11():
    assert text_of(np.array([7, 3, 3, 3, 3, 3, 3, 3, 20])) == "73300000a0"


def test_long_runs_of_brush_masks_are_split():
    bitmap = np.zeros((200, 170), bool)
    bitmap[10:190, :] = True  # 122,400 values in one run, of at most 65,536 each
    found = packed(bitmap)
    assert np.array_equal(brush(found, 200, 170, Path("x"), "") > 0, bitmap) and len(found) < 60


def test_coco_states_area_and_box_of_the_pixels():
    ids = grid((1, 3, 1, 4, 1), (2, 2, 2, 3, 0), (5, 5, 7, 7, 1))
    for bitmaps in (False, True):
        (one,) = json.loads(written("coco", ids, bitmaps=bitmaps))["annotations"]
        assert (one["area"], one["bbox"]) == (11, [1, 1, 7, 5])


def test_cvat_names_each_label_once_and_escapes_them():
    tree = ElementTree.fromstring(written("cvat", scenes()[1], bitmaps=False))
    assert [one.text for one in tree.iterfind("meta/job/labels/label/name")] == list(NAMES.values())[1:]


def test_panoptic_segments_partition_a_picture():
    ids = scenes()[3]
    with Image.open(io.BytesIO(panoptic.png(ids))) as picture:
        numbers = np.asarray(picture).astype(int) @ [1, 256, 65536]
    assert np.array_equal(numbers, np.where(ids == IGNORE, 0, ids.astype(int) + 1))
    row = {"image": "a.jpg", "png": "a.png", "size": ids.shape, "segments": panoptic.segments(ids)}
    tree = json.loads(panoptic.document([row], ["x", "y", "z"]))
    for segment in tree["annotations"][0]["segments_info"]:
        assert segment["area"] == (numbers == segment["id"]).sum() > 0
    assert [one["name"] for one in tree["categories"]] == ["x", "y", "z"]


# --- by the libraries of other programs, where they are installed


@pytest.mark.parametrize("bitmaps", [False, True])
def test_pycocotools_reads_the_same_pixels(bitmaps: bool):
    mask = pytest.importorskip("pycocotools.mask")
    for ids in scenes():
        height, width = ids.shape
        for one in json.loads(written("coco", ids, bitmaps=bitmaps))["annotations"]:
            drawn = one["segmentation"]
            runs = drawn if bitmaps else mask.merge(mask.frPyObjects(drawn, height, width))
            wanted = ids == list(NAMES)[one["category_id"]]
            assert np.array_equal(mask.decode(runs), wanted)
            assert mask.area(runs) == one["area"] and mask.toBbox(runs).tolist() == one["bbox"]


def test_labelme_draws_the_same_pixels():
    shape = pytest.importorskip("labelme.utils.shape")
    for ids in scenes():
        tree, drawn = json.loads(written("labelme", ids, bitmaps=False)), np.zeros_like(ids)
        for one in tree["shapes"]:
            number = next(number for number, name in NAMES.items() if name == one["label"])
            drawn[shape.shape_to_mask(ids.shape, one["points"], one["shape_type"])] = number
        assert np.array_equal(drawn, ids)


def test_label_studio_converter_decodes_the_same_pixels():
    converter = pytest.importorskip("label_studio_converter.brush")
    for ids in scenes():
        for task in json.loads(written("labelstudio", ids, bitmaps=True)):
            for one in task["annotations"][0]["result"]:
                decoded = converter.decode_rle(one["value"]["rle"]).reshape(*ids.shape, 4)[..., 3] > 0
                wanted = NAMES[int(ids[decoded][0])], one["value"]["brushlabels"]
                assert wanted[1] == [wanted[0]] and np.array_equal(decoded, ids == ids[decoded][0])
