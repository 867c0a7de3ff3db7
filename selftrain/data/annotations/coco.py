"""COCO: one JSON with `images`, `annotations` and `categories` (https://cocodataset.org/#format-data).

Objects are polygons or run lengths, compressed or not. Several polygons of an object are united, unless one
lies within another.
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from selftrain.data.annotations.document import json_of, lacking
from selftrain.data.annotations.shape import (
    HOLES,
    NO_AREA,
    ONLY_BOXES,
    Described,
    Parsed,
    Runs,
    Shape,
    checked,
    nested,
    rectangle,
    ring,
    runs_of,
)  # fmt: skip
from selftrain.data.annotations.trace import pixels
from selftrain.data.faults import Fault
from selftrain.errors import DataError

KEYS = ("images", "annotations", "categories")


def parse(file: Path, raw: bytes) -> Parsed:
    """The pictures of a COCO file. Categories of one name are merged. Raises DataError."""
    tree = json_of(file, raw)
    if not isinstance(tree, dict) or not set(KEYS) <= tree.keys():
        raise DataError(lacking(file, "a COCO file: it lacks " + ", ".join(KEYS)))
    names = {one["id"]: str(one["name"]) for one in tree["categories"]}
    parsed = Parsed(categories=list(dict.fromkeys(names.values())))
    parsed.merged = [name for name, count in Counter(names.values()).items() if count > 1]
    shapes: dict[Any, list[Shape]] = {one["id"]: [] for one in tree["images"]}
    for one in tree["annotations"]:
        if one["image_id"] not in shapes:
            parsed.remarks["objects belong to no image of the file: they were left out"] += 1
            continue
        if one["category_id"] not in names:
            what = (
                f"object {one.get('id')} has the category {one['category_id']}, which is not in `categories`"
            )
            raise DataError(Fault(str(file), what, "add the category, or remove the object"))
        shape = _shape(file, one, names[one["category_id"]], parsed)
        shapes[one["image_id"]] += [shape] if shape else []
    parsed.described = [
        Described(str(one["file_name"]), tuple(shapes[one["id"]]), _size(one)) for one in tree["images"]
    ]
    return parsed


def write(pages: Sequence[Described], names: Sequence[str]) -> bytes:
    """The COCO file of pictures: one object for each shape, with all of its outlines or as run lengths."""
    numbers = {name: place for place, name in enumerate(names, start=1)}
    shapes = [(number, shape) for number, page in enumerate(pages, start=1) for shape in page.shapes]
    objects = [
        {
            "id": place,
            "image_id": number,
            "category_id": numbers[shape.category],
            "iscrowd": 0,
            **_drawn(shape),
        }
        for place, (number, shape) in enumerate(shapes, start=1)
    ]
    tree = {
        "info": {"description": "written by selftrain"},
        "images": [_image(number, page) for number, page in enumerate(pages, start=1)],
        "annotations": objects,
        "categories": [{"id": numbers[name], "name": name, "supercategory": ""} for name in names],
    }
    return json.dumps(tree).encode()


def _image(number: int, page: Described) -> dict[str, Any]:
    assert page.size
    return {"id": number, "file_name": page.image, "height": page.size[0], "width": page.size[1]}


def _drawn(shape: Shape) -> dict[str, Any]:
    """The members of an object that say which pixels it has."""
    if shape.runs:
        columns = runs_of(shape.runs.bitmap().T)
        drawn: Any = {"size": list(shape.runs.size), "counts": text_of(columns.counts)}
    else:
        drawn = [one.points.reshape(-1).tolist() for one in shape.rings]
    return {"segmentation": drawn, "area": pixels(shape), "bbox": _box(shape)}


def _box(shape: Shape) -> list[int]:
    """Left, top, width and height of a shape."""
    if shape.runs:
        rows, columns = (np.flatnonzero(shape.runs.bitmap().any(axis=axis)) for axis in (1, 0))
        left, top, right, bottom = columns[0], rows[0], columns[-1], rows[-1]
    else:
        points = np.floor(np.concatenate([one.points for one in shape.rings])).astype(int)
        (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    return [int(left), int(top), int(right - left + 1), int(bottom - top + 1)]


def _size(image: dict[str, Any]) -> tuple[int, int] | None:
    height, width = image.get("height"), image.get("width")
    return (int(height), int(width)) if height and width else None


def _shape(file: Path, one: dict[str, Any], category: str, parsed: Parsed) -> Shape | None:
    """An object's shape; None if it has no area."""
    drawn, where = one.get("segmentation"), f"object {one.get('id')}"
    crowd = bool(one.get("iscrowd"))
    if isinstance(drawn, dict):
        height, width = drawn["size"]
        counts = drawn["counts"]
        lengths = counts_of(counts, file) if isinstance(counts, str) else np.array(counts, np.int64)
        runs = Runs(lengths, (int(height), int(width)), by_column=True)
        return Shape(category, runs=checked(runs, file, where), ignored=crowd)
    if not drawn:
        if len(one.get("bbox") or ()) != 4:
            parsed.remarks[NO_AREA] += 1
            return None
        parsed.remarks[ONLY_BOXES] += 1
        left, top, width, height = one["bbox"]
        return Shape(category, (rectangle(left, top, left + width, top + height),), ignored=True)
    outlines = [drawn] if isinstance(drawn[0], int | float) else drawn
    rings, holes = nested([found for one in outlines if (found := ring(one, file, where))])
    if not rings:
        parsed.remarks[NO_AREA] += 1
        return None
    parsed.remarks.update({HOLES: holes} if holes else {})
    return Shape(category, tuple(rings), ignored=crowd)


def counts_of(text: str, file: Path) -> np.ndarray:
    """The run lengths of a compressed mask (rleFrString of cocoapi's maskApi.c).

    A character carries 5 bits and a flag for more; from the third length on, the difference to the length
    before the last one is stored.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text.encode():
        bits = character - 48
        if not 0 <= bits < 64:
            raise DataError(
                Fault(str(file), "has a mask that is not in COCO's compressed form", "export it again")
            )
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    return np.array(counts, np.int64)


def text_of(counts: np.ndarray) -> str:
    """Run lengths (N,) in the compressed form (rleToString of cocoapi's maskApi.c)."""
    text = bytearray()
    for place, count in enumerate(counts.tolist()):
        value = count - int(counts[place - 2]) if place > 2 else count
        more = True
        while more:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text.append(48 + bits + (32 if more else 0))
    return text.decode()
