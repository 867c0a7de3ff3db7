"""labelme: one JSON for each picture, with `shapes` and `imagePath` (https://github.com/wkentaro/labelme)."""

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

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
)  # fmt: skip
from selftrain.errors import DataError


def parse(file: Path, raw: bytes) -> Parsed:
    """The picture of a labelme file: the file that it names, or a file of the JSON's own name.

    Raises DataError.
    """
    tree = json_of(file, raw)
    if not isinstance(tree, dict) or not {"shapes", "imagePath"} <= tree.keys():
        raise DataError(lacking(file, "a labelme file: it lacks shapes, imagePath"))
    parsed = Parsed()
    shapes = [_shape(file, one, parsed) for one in tree["shapes"]]
    height, width = tree.get("imageHeight"), tree.get("imageWidth")
    size = (int(height), int(width)) if height and width else None
    found = tuple(shape for shape in shapes if shape)
    parsed.described = [Described(str(tree["imagePath"]), found, size, also=(file.stem,))]
    return parsed


def write(pages: Sequence[Described], names: Sequence[str]) -> bytes:
    """The labelme file of one picture, which lies beside the picture. Every shape has one outline."""
    (page,) = pages
    assert page.size
    shapes = [
        {
            "label": shape.category,
            "points": shape.rings[0].points.tolist(),
            "group_id": None,
            "shape_type": "polygon",
            "flags": {},
        }
        for shape in page.shapes
    ]
    tree: dict[str, Any] = {
        "version": "5.0.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": PurePosixPath(page.image).name,
        "imageData": None,
        "imageHeight": page.size[0],
        "imageWidth": page.size[1],
    }
    return json.dumps(tree, ensure_ascii=False).encode()


def _shape(file: Path, one: dict[str, Any], parsed: Parsed) -> Shape | None:
    category = parsed.declare(str(one["label"]))
    points, kind = one["points"], one.get("shape_type") or "polygon"
    if kind == "mask":
        with Image.open(io.BytesIO(base64.b64decode(one["mask"])), formats=["PNG"]) as picture:
            bitmap = np.asarray(picture.convert("L")) > 0
        left, top = (int(number) for number in points[0])
        return Shape(category, runs=runs_of(bitmap, (top, left)))
    outline: Ring | None = None
    if kind == "polygon":
        outline = ring(points, file, f"a shape of {category!r}")
    elif kind == "rectangle" and len(points) == 2:
        outline = rectangle(*points[0], *points[1])
    elif kind == "circle":
        radius = float(np.hypot(*np.subtract(points[0], points[1])))
        outline = ellipse(points[0], (radius, radius))
    if outline is None:
        parsed.remarks[NO_AREA] += 1
        return None
    return Shape(category, (outline,))
