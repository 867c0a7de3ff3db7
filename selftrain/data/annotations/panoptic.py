"""COCO panoptic: a JSON, and for each picture a PNG with a number for each segment, R + 256 G + 256^2 B.

Source: https://cocodataset.org/#format-data. A class is one segment of each picture that contains it. The
segment has the number of its category. Ignored pixels have the number 0, which means void.
"""

import io
import json
from typing import Any

import numpy as np
from PIL import Image

from selftrain.ids import IGNORE

FIRST = 1  # the category of class 0


def colours(classes: int) -> list[list[int]]:
    """The colour of each class in the PNGs."""
    return [[number % 256, number // 256, 0] for number in range(FIRST, FIRST + classes)]


def png(ids: np.ndarray) -> bytes:
    """The PNG of class ids (H, W) uint8."""
    table = np.zeros((256, 3), np.uint8)
    table[:IGNORE] = colours(IGNORE)
    content = io.BytesIO()
    Image.fromarray(table[ids]).save(content, format="PNG")
    return content.getvalue()


def segments(ids: np.ndarray) -> list[dict[str, Any]]:
    """The segments of class ids (H, W) uint8."""
    found = []
    for number in np.unique(ids[ids != IGNORE]).tolist():
        bitmap = ids == number
        rows, columns = (np.flatnonzero(bitmap.any(axis=axis)) for axis in (1, 0))
        left, top, right, bottom = map(int, (columns[0], rows[0], columns[-1], rows[-1]))
        box = [left, top, right - left + 1, bottom - top + 1]
        area = int(bitmap.sum())
        one = {"id": number + FIRST, "category_id": number + FIRST, "area": area, "bbox": box, "iscrowd": 0}
        found.append(one)
    return found


def document(pictures: list[dict[str, Any]], classes: list[str]) -> bytes:
    """The JSON of pictures with the members image, png, size (height, width) and segments."""
    images = [
        {"id": number, "file_name": one["image"], "height": one["size"][0], "width": one["size"][1]}
        for number, one in enumerate(pictures, start=1)
    ]
    annotations = [
        {"image_id": number, "file_name": one["png"], "segments_info": one["segments"]}
        for number, one in enumerate(pictures, start=1)
    ]
    categories = [
        {"id": number + FIRST, "name": name, "isthing": 0, "color": colour}
        for number, (name, colour) in enumerate(zip(classes, colours(len(classes)), strict=True))
    ]
    return json.dumps({"images": images, "annotations": annotations, "categories": categories}).encode()
