"""Draws shapes as class ids.

A corner lies in the pixel that contains it. The pixels on an outline belong to the shape. labelme and the
scripts of Cityscapes draw in the same way, with the same routine of PIL.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw

from selftrain.data.annotations.shape import Shape

FAR = 1 << 20  # pixels; corners beyond lie outside of every picture
ORDERS = {
    "large": "large shapes first, so that small ones are on top",
    "file": "in the order of the file",
}  # data.order
# How the pixels of a file are turned upright, by the EXIF orientation.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def draw(
    shapes: Sequence[tuple[Shape, int]],
    size: tuple[int, int],
    *,
    frame: tuple[int, int],
    background: int,
    order: str,
    orientation: int = 1,
) -> np.ndarray:
    """Class ids (H, W) uint8 of shapes with their ids, on `background`.

    `frame` (height, width) is the picture that the coordinates belong to; they are scaled to `size`. Then the
    result is turned by an EXIF orientation. Ignored shapes are drawn first, lower layers before higher ones.
    """
    canvas = Image.new("L", size[::-1], background)
    pen = ImageDraw.Draw(canvas)
    scale = np.array([size[1] / frame[1], size[0] / frame[0]])
    large = order == "large"
    for shape, number in sorted(
        shapes, key=lambda one: (not one[0].ignored, one[0].layer, -one[0].area if large else 0)
    ):
        if shape.runs is None and not any(ring.hole for ring in shape.rings):
            for ring in shape.rings:
                pen.polygon(_corners(ring.points, scale), fill=number)
        else:
            canvas.paste(number, mask=_stencil(shape, size, frame, scale))
    return np.asarray(canvas.transpose(TURNS[orientation]) if orientation in TURNS else canvas)


def _corners(points: np.ndarray, scale: np.ndarray) -> list[tuple[int, int]]:
    whole = np.floor(np.clip(points * scale, -FAR, FAR)).astype(int)
    return [(x, y) for x, y in whole.tolist()]


def _stencil(shape: Shape, size: tuple[int, int], frame: tuple[int, int], scale: np.ndarray) -> Image.Image:
    """The pixels of one shape, as a bilevel picture."""
    if shape.runs is not None:
        return Image.fromarray(_bitmap(shape, size, frame).astype(np.uint8) * 255).convert("1")
    stencil = Image.new("1", size[::-1])
    pen = ImageDraw.Draw(stencil)
    for ring in shape.rings:
        pen.polygon(_corners(ring.points, scale), fill=0 if ring.hole else 1)
    return stencil


def _bitmap(shape: Shape, size: tuple[int, int], frame: tuple[int, int]) -> np.ndarray:
    """The bitmap of a shape's runs, placed in the frame and scaled to `size` by the nearest pixel."""
    assert shape.runs is not None
    whole = shape.runs.bitmap().astype(np.uint8)
    if shape.runs.corner is not None:
        (top, left), bitmap, whole = shape.runs.corner, whole, np.zeros(frame, np.uint8)
        part = whole[
            max(top, 0) : max(top + bitmap.shape[0], 0), max(left, 0) : max(left + bitmap.shape[1], 0)
        ]
        part[:] = bitmap[max(-top, 0) :, max(-left, 0) :][: part.shape[0], : part.shape[1]]
    if whole.shape == size:
        return whole
    return cv2.resize(whole, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
