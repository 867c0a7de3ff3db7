"""Label Studio: the JSON and JSON-MIN exports, a list of tasks (https://labelstud.io/guide/export).

Coordinates are percent of the picture. An uploaded picture has a prefix of eight characters in its name. A
task without an annotation is no labelled picture; an annotation without regions is.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from selftrain.data.annotations.document import json_of, lacking
from selftrain.data.annotations.shape import (
    NO_AREA,
    Described,
    Parsed,
    Ring,
    Shape,
    ellipse,
    rectangle,
    ring,
    runs_of,
    turned,
)  # fmt: skip
from selftrain.data.faults import Fault
from selftrain.data.images import IMAGE_SUFFIXES
from selftrain.errors import DataError

PREFIX = 8  # characters, and a dash
SEVERAL = "tasks have several annotations: the first is used"
ROUNDING = 1e-6  # pixels: percents are rounded; a corner must not fall into the pixel before its own

WORD, RUN_SIZES = 8, (3, 4, 8, 16)  # bits of a value, and of lengths, in brush masks that are written


def parse(file: Path, raw: bytes) -> Parsed:
    """The annotated pictures of an export. Raises DataError."""
    tasks = json_of(file, raw)
    if not isinstance(tasks, list) or not all(isinstance(task, dict) and "id" in task for task in tasks):
        raise DataError(lacking(file, "a Label Studio export: it is not a list of tasks"))
    parsed = Parsed()
    for task in tasks:
        regions = _regions(task, parsed)
        if regions is None:
            continue
        where = f"task {task['id']}"
        size = _size(file, regions, where)
        shapes = [shape for region in regions for shape in _shapes(file, region, where, parsed)]
        names = _names(file, task)
        parsed.described.append(Described(names[0], tuple(shapes), size, also=tuple(names[1:])))
    return parsed


def write(pages: Sequence[Described], names: Sequence[str]) -> bytes:
    """The tasks of pictures, as Label Studio imports them. Every shape has one outline, or is a brush mask.

    Pictures are local files below images/ of the folder that LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT names.
    """
    tasks = [
        {
            "id": number,
            "data": {"image": f"/data/local-files/?d={quote(f'images/{page.image}')}"},
            "annotations": [{"result": [_region(page, *one) for one in enumerate(page.shapes, start=1)]}],
        }
        for number, page in enumerate(pages, start=1)
    ]
    return json.dumps(tasks, ensure_ascii=False).encode()


def _region(page: Described, number: int, shape: Shape) -> dict[str, Any]:
    assert page.size
    height, width = page.size
    if shape.runs:
        kind = "brush"
        value: dict[str, Any] = {"format": "rle", "rle": packed(shape.runs.bitmap())}
    else:
        percents = shape.rings[0].points * 100 / [width, height]
        kind, value = "polygon", {"points": percents.tolist(), "closed": True}
    return {
        "id": f"{number}",
        "type": f"{kind}labels",
        "from_name": kind,
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {**value, f"{kind}labels": [shape.category]},
    }


def interface(names: Sequence[str], splits: Sequence[str]) -> bytes:
    """The labelling interface of a project that takes the tasks of `write`."""
    view = Element("View")
    SubElement(view, "Image", name="image", value="$image")
    for kind in ("Polygon", "Brush"):
        labels = SubElement(view, f"{kind}Labels", name=kind.lower(), toName="image")
        for name in names:
            SubElement(labels, "Label", value=name)
    return ElementTree.tostring(view, encoding="utf-8")


def _regions(task: dict[str, Any], parsed: Parsed) -> list[dict[str, Any]] | None:
    """The regions of a task; None if nobody has annotated it."""
    if "annotations" not in task:  # JSON-MIN
        lists = [value for value in task.values() if isinstance(value, list)]
        regions = [
            one for value in lists for one in value if isinstance(one, dict) and "original_width" in one
        ]
        return regions if regions or "annotator" in task else None
    done = [one for one in task["annotations"] if not one.get("was_cancelled")]
    if len(done) > 1:
        parsed.remarks[SEVERAL] += 1
    return [one for one in done[0]["result"] if "original_width" in one] if done else None


def _size(file: Path, regions: list[dict[str, Any]], where: str) -> tuple[int, int] | None:
    if any(one.get("image_rotation") for one in regions):
        what = f"{where} was rotated while it was annotated"
        raise DataError(Fault(str(file), what, "turn the picture itself, and annotate it again"))
    one = regions[0] if regions else None
    return (int(one["original_height"]), int(one["original_width"])) if one else None


def _names(file: Path, task: dict[str, Any]) -> list[str]:
    """The names that a task's picture may have."""
    data = task.get("data", task)
    texts = [value for value in data.values() if isinstance(value, str)]
    plain = [_path(text) for text in texts]
    images = [path for path in plain if Path(path).suffix.lower() in IMAGE_SUFFIXES]
    if not images:
        raise DataError(
            Fault(str(file), f"task {task['id']} names no image file", "export it with image paths")
        )
    name = images[0]
    bare = name.rpartition("/")[2]
    return [name, bare, *([bare[PREFIX + 1 :]] if bare[PREFIX : PREFIX + 1] == "-" else [])]


def _path(text: str) -> str:
    """The path in a URL: of a local file (`?d=folder/name.jpg`), of an upload, of a bucket."""
    parts = urlsplit(text)
    local = parse_qs(parts.query).get("d")
    return local[0] if local else unquote(parts.path if parts.scheme else text)


def _shapes(file: Path, region: dict[str, Any], where: str, parsed: Parsed) -> Iterator[Shape]:
    """A region once for each of its labels."""
    value = region.get("value", region)
    height, width = int(region["original_height"]), int(region["original_width"])
    labels: list[object] = next((labels for name, labels in value.items() if name.endswith("labels")), [])
    if not labels:
        parsed.remarks["regions have no label: they were left out"] += 1
    for label in labels:
        category = parsed.declare(str(label))
        if "rle" in value:
            yield Shape(category, runs=runs_of(brush(value["rle"], height, width, file, where)))
            continue
        outline = _outline(file, value, np.array([width, height]) / 100, where)
        if outline:
            yield Shape(category, (outline,))
        else:
            parsed.remarks[NO_AREA] += 1


def _outline(file: Path, value: dict[str, Any], scale: np.ndarray, where: str) -> Ring | None:
    """The outline in pixels; `scale` (2,) is the width and the height of a percent."""
    if "points" in value:
        outline = ring(value["points"], file, where)
        return outline and Ring(outline.points * scale + ROUNDING)
    degrees = float(value.get("rotation") or 0)
    if "radiusX" in value:
        radii = np.array([value["radiusX"], value["radiusY"]]) * scale
        return ellipse(np.array([value["x"], value["y"]]) * scale, radii.tolist(), degrees)
    if {"x", "y", "width", "height"} <= value.keys() and value["width"]:
        x, y, width, height = np.array([value[name] for name in ("x", "y", "width", "height")]) * [
            *scale,
            *scale,
        ]
        return _about_corner(x, y, width, height, degrees)
    return None


def _about_corner(x: float, y: float, width: float, height: float, degrees: float) -> Ring:
    """A rectangle; Label Studio turns it around its upper left corner."""
    plain = rectangle(x, y, x + width, y + height)
    return Ring(turned(plain.points, np.array([x, y]), degrees))


def brush(rle: list[int], height: int, width: int, file: Path, where: str) -> np.ndarray:
    """A brush mask (H, W) bool: the alpha of RGBA pixels, packed by thi.ng's rle-pack.

    32 bits of length, 5 bits of word size, four run sizes of 4 bits. Then runs: a bit that says whether one
    word is repeated, 2 bits that choose the size of the length, the length, and the words.
    """
    bits = np.unpackbits(np.array(rle, np.uint8))
    place = 0

    def number(count: int) -> int:
        nonlocal place
        taken = bits[place : place + count]
        place += count
        return int(taken @ (1 << np.arange(len(taken))[::-1])) if len(taken) == count else -1

    length, word = number(32), number(5) + 1
    sizes = [number(4) + 1 for _ in range(4)]
    damaged = Fault(
        str(file), f"{where} has a brush mask that does not fill {height}x{width}", "export it again"
    )
    if length != 4 * height * width:
        raise DataError(damaged)
    values = np.zeros(length, np.uint8)
    start = 0
    while start < length:
        repeated, end = number(1), 1 + start + number(sizes[number(2)])
        words = bits[place : place + word * (1 if repeated else end - start)]
        place += word * (1 if repeated else end - start)
        if place > len(bits) or end > length:
            raise DataError(damaged)
        values[start:end] = words.reshape(-1, word) @ (1 << np.arange(word)[::-1])
        start = end
    return values.reshape(height, width, 4)[..., 3] > 0


def packed(bitmap: np.ndarray) -> list[int]:
    """The bytes of a brush mask (H, W) bool, as `brush` reads them: runs of one word only."""
    text = [f"{4 * bitmap.size:032b}{WORD - 1:05b}", *(f"{size - 1:04b}" for size in RUN_SIZES)]
    for place, count in enumerate(runs_of(bitmap).counts.tolist()):
        word = f"{255 * (place % 2):0{WORD}b}"
        whole, rest = divmod(4 * count, 1 << RUN_SIZES[-1])
        for length in [1 << RUN_SIZES[-1]] * whole + [rest] * (rest > 0):
            choice = next(choice for choice, size in enumerate(RUN_SIZES) if length <= 1 << size)
            text.append(f"1{choice:02b}{length - 1:0{RUN_SIZES[choice]}b}{word}")
    bits = np.frombuffer("".join(text).encode(), np.uint8) - ord("0")
    return np.packbits(bits).tolist()
