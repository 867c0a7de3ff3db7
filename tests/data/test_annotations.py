"""Each format as its program writes it: pixel-exact masks, and faults that name file and fix."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from annotation_files import (
    BOX,
    HEIGHT,
    SIZE,
    SMALL,
    WIDTH,
    coco,
    data,
    everything,
    fault,
    grid,
    images,
    masks,
    pictures,
    thing,
    two,
    write,
)
from PIL import Image

from selftrain.data.annotations.labelstudio import brush
from selftrain.errors import DataError

BOXED = grid((1, 3, 1, 4, 1), (2, 3, 2, 3, 2))  # a person on a car


# --- COCO


def test_coco_polygons(tmp_path: Path):
    two(tmp_path, [thing(0, 1, BOX, area=6, bbox=[1, 1, 3, 2]), thing(0, 2, SMALL)])
    found = masks(tmp_path, "coco")
    assert np.array_equal(found["a"], BOXED) and not found["z"].any()


def test_coco_runs_are_read_compressed_and_not(tmp_path: Path):
    mask = grid((1, 3, 1, 4, 1))
    runs = [7, 3, 3, 3, 3, 3, 3, 3, 20]  # down the columns
    compressed = "73300000a0"  # by pycocotools 2.0.11
    for counts in (runs, compressed):
        two(
            tmp_path,
            [{"image_id": 0, "category_id": 1, "segmentation": {"size": list(SIZE), "counts": counts}}],
        )
        assert np.array_equal(masks(tmp_path, "coco")["a"], mask), counts


def test_coco_crowds_and_boxes_without_outline_are_ignored_below_other_shapes(tmp_path: Path):
    crowd = {"segmentation": {"size": list(SIZE), "counts": [0, 48]}, "iscrowd": 1}
    two(
        tmp_path,
        [{"image_id": 0, "category_id": 1, **crowd}, thing(0, 2, SMALL), thing(1, 1, bbox=[1, 1, 3, 2])],
    )
    found = data(tmp_path, "coco")
    of = everything(found)
    assert np.array_equal(of["a"].read_mask(), np.where(grid((2, 3, 2, 3, 2)) == 2, 2, 255))
    assert np.array_equal(of["z"].read_mask(), grid((1, 3, 1, 4, 255)))
    assert any("a box but no outline" in line and "(1)" in line for line in found.warnings)


def test_coco_categories_of_one_name_are_merged_and_unused_ones_need_no_class(tmp_path: Path):
    pictures(tmp_path / "images", "a.png", "z.png")
    content = coco(images("a.png", "z.png"), [thing(0, 3, BOX), thing(0, 2, SMALL), thing(1, 0, SMALL)],
                   [(0, "car"), (3, "car"), (2, "person"), (9, "objects")])  # fmt: skip
    write(tmp_path / "anything.json", content)
    found = data(tmp_path, "coco")
    of = everything(found)
    assert np.array_equal(of["a"].read_mask(), BOXED)
    assert np.array_equal(of["z"].read_mask(), grid((2, 3, 2, 3, 1)))
    said = "\n".join(found.warnings)
    assert "several categories have the name car: they are merged" in said
    assert "no shape and are not used: objects" in said


def test_coco_holes_and_several_outlines_of_an_object(tmp_path: Path):
    ring = [[0, 0], [6, 0], [6, 5], [0, 5]]
    two(tmp_path, [thing(0, 1, ring, SMALL), thing(1, 1, SMALL, [[6, 0], [7, 0], [7, 1], [6, 1]])])
    found = data(tmp_path, "coco")
    of = everything(found)
    assert np.array_equal(of["a"].read_mask(), grid((0, 5, 0, 6, 1), (2, 3, 2, 3, 0)))
    assert np.array_equal(of["z"].read_mask(), grid((2, 3, 2, 3, 1), (0, 1, 6, 7, 1)))
    assert any("they are holes (1)" in line for line in found.warnings)


def test_coco_objects_without_area_and_without_image_are_counted(tmp_path: Path):
    line = {"image_id": 0, "category_id": 1, "segmentation": [[1, 1, 2, 2]]}
    two(tmp_path, [line, {**line, "segmentation": []}, thing(77, 1, BOX), thing(0, 1, BOX)])
    found = data(tmp_path, "coco")
    assert any("without an area were left out (2)" in text for text in found.warnings)
    assert any("belong to no image of the file: they were left out (1)" in text for text in found.warnings)
    assert np.array_equal(everything(found)["a"].read_mask(), grid((1, 3, 1, 4, 1)))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"annotations": [thing(0, 5, BOX)]}, r"category 5, which is not in `categories`; add the category"),
        ({"annotations": [{**thing(0, 1), "segmentation": [[1, 2, 3]]}]}, "outline that is not pairs of numbers"),
        ({"annotations": [{"image_id": 0}]}, r"damaged, or no coco file \(KeyError: 'category_id'\); export"),
        ({"images": None}, "damaged, or no coco file"),
        ({"categories": [["car"]]}, "damaged, or no coco file"),
    ],
)  # fmt: skip
def test_a_damaged_coco_file_is_named(tmp_path: Path, change: dict, says: str):
    two(tmp_path, [])
    write(tmp_path / "images" / "_annotations.coco.json", coco(images("a.png", "z.png"), []) | change)
    with pytest.raises(DataError, match=r"^images/_annotations\.coco\.json.*" + says):
        data(tmp_path, "coco")


# --- labelme


def labelme(root: Path, name: str, shapes: list[dict], path: str = "", **more) -> Path:
    """A labelme file beside its image; `imageData` is the picture itself, as labelme stores it."""
    content = {"version": "5.4.1", "flags": {}, "shapes": [{"group_id": None, "flags": {}, **one} for one in shapes],
               "imagePath": path or f"{name}.png", "imageData": "aGFsbG8=",
               "imageHeight": HEIGHT, "imageWidth": WIDTH, **more}  # fmt: skip
    return write(root / f"{name}.json", content)


def test_labelme_shapes(tmp_path: Path):
    pictures(tmp_path, "a.png", "b.png", "c.png")
    labelme(tmp_path, "a", [{"label": "car", "points": BOX, "shape_type": "polygon"},
                            {"label": "person", "points": [[2, 2], [3, 3]], "shape_type": "rectangle"},
                            {"label": "car", "points": [[0, 0]], "shape_type": "point"},
                            {"label": "car", "points": [[0, 0], [5, 5]], "shape_type": "line"}])  # fmt: skip
    buffer = io.BytesIO()
    Image.fromarray(np.array([[True, False], [True, True]])).save(buffer, "PNG")
    bitmap = base64.b64encode(buffer.getvalue()).decode()
    labelme(
        tmp_path, "b", [{"label": "car", "points": [[3, 1], [4, 2]], "shape_type": "mask", "mask": bitmap}]
    )
    labelme(tmp_path, "c", [{"label": "car", "points": [[4, 3], [4, 1]], "shape_type": "circle"}])
    found = data(tmp_path, "labelme", images=".")
    of = {name: sample.read_mask() for name, sample in everything(found).items()}
    assert np.array_equal(of["a"], BOXED)
    assert np.array_equal(of["b"], grid((1, 2, 3, 3, 1), (2, 2, 3, 4, 1)))
    assert of["c"][3, 2:7].all() and of["c"][1:6, 4].all() and not of["c"][3, [0, 1, 7]].any()
    assert any("without an area were left out (2)" in line for line in found.warnings)


def test_labelme_finds_a_renamed_picture_by_the_name_of_the_json(tmp_path: Path):
    pictures(tmp_path / "x", "a.png", "b.png")
    pictures(tmp_path / "y", "a.png")
    for folder, name in (("x", "a"), ("x", "b"), ("y", "a")):
        labelme(tmp_path / folder, name, [{"label": "car", "points": BOX}], path="..\\photos\\DSC_1.JPG")
    assert len(data(tmp_path, "labelme", images=".").labelled) == 2
    labelme(tmp_path / "x", "a", [{"label": "car", "points": BOX}], path="..\\y\\a.png")
    assert "describes y/a.png, which x/a.json describes as well; keep one" in fault(
        tmp_path, "labelme", images="."
    )


def test_labelme_in_a_folder_of_its_own(tmp_path: Path):
    pictures(tmp_path / "images", "a.png", "b.png")
    for name in "ab":
        labelme(tmp_path / "json", name, [{"label": "car", "points": BOX}], path=f"..\\images\\{name}.png")
    write(tmp_path / "package.json", {"version": 1})
    found = data(tmp_path, "labelme", annotations="json")
    assert np.array_equal(everything(found)["a"].read_mask(), grid((1, 3, 1, 4, 1)))
    said = fault(tmp_path, "labelme")
    assert said.startswith(
        "package.json: is not a labelme file: it lacks shapes, imagePath; name the annotation"
    )


# --- CVAT

CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version>
  <meta><task><labels><label><name>car</name></label><label><name>person</name></label></labels></task></meta>
  <image id="0" name="sub/a.png" subset="default" width="8" height="6">{shapes}</image>
  <image id="1" name="sub\\z.png" width="8" height="6"></image>
</annotations>"""
ABOVE = '<polygon label="car" source="manual" occluded="0" points="1.00,1.00;4.00,1.00;4.00,3.00;1.00,3.00" z_order="{}"/>'
PERSON = '<box label="person" occluded="0" xtl="2.0" ytl="2.0" xbr="3.0" ybr="3.0" z_order="0"></box>'


@pytest.mark.parametrize(
    ("shapes", "mask"),
    [
        (PERSON + ABOVE.format(0), BOXED),
        (PERSON + ABOVE.format(1), grid((1, 3, 1, 4, 1))),
        ('<mask label="car" rle="1, 2, 3" left="3" top="2" width="3" height="2" z_order="0"/>', grid((2, 2, 4, 5, 1))),
        ('<ellipse label="car" cx="3.5" cy="2.5" rx="1.2" ry="1.2"/>', None),
    ],
)  # fmt: skip
def test_cvat_shapes(tmp_path: Path, shapes: str, mask: np.ndarray | None):
    pictures(tmp_path / "images" / "sub", "a.png", "z.png")
    write(tmp_path / "annotations.xml", CVAT.format(shapes=shapes))
    found = masks(tmp_path, "cvat", annotations="annotations.xml")
    if mask is None:
        mask = found["a"].copy()
        assert mask[1:4, 3].all() and mask[2, 2:5].all() and mask.sum() < 16
    assert np.array_equal(found["a"], mask) and not found["z"].any()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("<annotations><track/></annotations>", "CVAT for video; export the task as CVAT for images 1.1"),
        ("<annotation><folder/></annotation>", "not a CVAT file: it begins with <annotation>"),
        ("<annotations>", "is not XML"),
        (CVAT.format(shapes='<mask label="car" rle="1, 2" left="0" top="0" width="3" height="2"/>'), "run lengths of 3"),
        (CVAT.format(shapes='<polygon label="car" points="1,2;3"/>'), "outline"),
        (CVAT.format(shapes="<polygon/>"), r"damaged, or no cvat file \(KeyError: 'label'\)"),
    ],
)  # fmt: skip
def test_another_xml_is_named(tmp_path: Path, content: str, says: str):
    pictures(tmp_path / "images" / "sub", "a.png", "z.png")
    write(tmp_path / "a.xml", content)
    with pytest.raises(DataError, match=r"^a\.xml.*" + says):
        data(tmp_path, "cvat")


# --- Label Studio


def region(kind: str, label: str, **value) -> dict:
    return {"id": "r1", "type": kind, "from_name": "label", "to_name": "image", "origin": "manual",
            "original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0,
            "value": {**value, kind: [label]}}  # fmt: skip


def task(number: int, image: str, *results: list[dict]) -> dict:
    done = [{"id": number, "was_cancelled": False, "result": result} for result in results]
    return {"id": number, "data": {"image": image}, "annotations": done, "predictions": []}


def percent(points: list[list[float]]) -> list[list[float]]:
    return [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in points]


def packed(bits: str) -> list[int]:
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def brushed(mask: np.ndarray) -> list[int]:
    """A mask (H, W) as Label Studio stores it: RGBA, all words of 8 bits, runs of 4 words or of single ones."""
    values = np.repeat(mask.reshape(-1), 4) * 255
    head = f"{values.size:032b}" + f"{7:05b}" + "".join(f"{size - 1:04b}" for size in (2, 3, 4, 8))
    rows = [values[i : i + 4] for i in range(0, values.size, 4)]
    return packed(head + "".join(_run(row, place) for place, row in enumerate(rows)))


def _run(row: np.ndarray, place: int) -> str:
    """Four equal words: repeated, or one by one in every third run."""
    if place % 3:
        return "1" + "00" + "11" + f"{row[0]:08b}"
    return "0" + "01" + "011" + "".join(f"{word:08b}" for word in row)


def test_label_studio_regions(tmp_path: Path):
    pictures(tmp_path / "images", "a.png", "b c.png", "z.png", "not yet.png")
    box, small = (percent(points) for points in (BOX, SMALL))
    mask = grid((0, 2, 5, 6, 1), (4, 5, 0, 7, 1))
    tasks = [
        task(1, "/data/upload/3/1a2b3c4d-a.png", [region("polygonlabels", "car", points=box, closed=True),
             region("rectanglelabels", "person", x=25, y=small[0][1], width=12.5, height=100 / 6, rotation=0)]),
        task(2, "/data/local-files/?d=images/b%20c.png", [region("brushlabels", "car", format="rle", rle=brushed(mask))], []),
        task(3, "s3://bucket/images/z.png", []),
        task(4, "http://host/data/not%20yet.png"),
    ]  # fmt: skip
    write(tmp_path / "project-1.json", tasks)
    found = data(tmp_path, "labelstudio", annotations="project-1.json")
    of = everything(found)
    assert np.array_equal(of["a"].read_mask(), BOXED) and np.array_equal(of["b c"].read_mask(), mask)
    assert not of["z"].read_mask().any()
    assert [one.id for one in found.unlabelled] == ["images/not yet"], "nobody has annotated it"
    assert any("several annotations: the first is used (1)" in line for line in found.warnings)


def test_label_studio_min_export(tmp_path: Path):
    pictures(tmp_path / "images", "a.png", "z.png")
    plain = {"original_width": WIDTH, "original_height": HEIGHT}
    labels = [{"points": percent(BOX), "closed": True, "polygonlabels": ["car"], **plain}]
    tasks = [{"id": 1, "image": "/data/upload/1/1a2b3c4d-a.png", "label": labels, "annotator": 1},
             {"id": 2, "image": "/data/upload/1/1a2b3c4d-z.png", "annotator": 1}]  # fmt: skip
    write(tmp_path / "min.json", tasks)
    found = masks(tmp_path, "labelstudio")
    assert np.array_equal(found["a"], grid((1, 3, 1, 4, 1))) and not found["z"].any()


def test_label_studio_faults(tmp_path: Path):
    pictures(tmp_path / "images", "a.png", "z.png")
    turned = region("polygonlabels", "car", points=percent(BOX)) | {"image_rotation": 90}
    for content, says in (
        ([task(1, "a.png", [turned])], "task 1 was rotated while it was annotated; turn the picture itself"),
        ([task(1, "text", [])], "task 1 names no image file"),
        ({"images": []}, "is not a Label Studio export: it is not a list of tasks"),
        ([task(1, "a.png", [region("brushlabels", "car", rle=[0, 0, 0, 9])])], "task 1 has a brush mask"),
    ):
        write(tmp_path / "p.json", content)
        assert fault(tmp_path, "labelstudio").startswith("p.json: ") and says in fault(
            tmp_path, "labelstudio"
        )


def test_a_brush_mask_that_ends_early_is_refused():
    whole = brushed(np.ones((2, 2), np.uint8))
    assert brush(whole, 2, 2, Path("f"), "t").all()
    for end in range(len(whole)):
        with pytest.raises(DataError, match="does not fill 2x2"):
            brush(whole[:end], 2, 2, Path("f"), "t")


def test_text_that_is_no_json_is_named(tmp_path: Path):
    two(tmp_path, [])
    for raw in (b"{", b"\xff\xfe", b"[" * 100_000):
        (tmp_path / "images" / "_annotations.coco.json").write_bytes(raw)
        assert "is not JSON" in fault(tmp_path, "coco")
