"""Outlines are exact, whether the pixels on an outline belong to it or only the pixels whose centre is inside."""

from collections import Counter

import cv2
import numpy as np
import pytest
from annotation_files import grid
from PIL import Image, ImageDraw

from selftrain.data.annotations.shape import Ring
from selftrain.data.annotations.trace import CUT_HOLES, PARTS, outlines, pixels, shapes_of


def by_pil(rings: list[Ring], size: tuple[int, int]) -> np.ndarray:
    """As labelme draws a polygon: PIL, with the coordinates as they are."""
    canvas = Image.new("L", size[::-1])
    for ring in rings:
        ImageDraw.Draw(canvas).polygon([(x, y) for x, y in ring.points.tolist()], fill=1, outline=1)
    return np.asarray(canvas) > 0


def by_opencv(rings: list[Ring], size: tuple[int, int]) -> np.ndarray:
    """As Ultralytics draws a polygon."""
    canvas = np.zeros(size, np.uint8)
    for ring in rings:
        one = np.zeros(size, np.uint8)
        canvas |= cv2.fillPoly(one, [ring.points.astype(np.int32)], 1)
    return canvas > 0


def by_centres(rings: list[Ring], size: tuple[int, int]) -> np.ndarray:
    """The pixels whose centre is inside an odd number of times, on the way to the right."""
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    found = np.zeros(size, bool)
    for ring in rings:
        inside = np.zeros(size, bool)
        for (x1, y1), (x2, y2) in zip(ring.points, np.roll(ring.points, -1, axis=0), strict=True):
            if y1 != y2:
                inside ^= ((y1 > y) != (y2 > y)) & (x < x1 + (y - y1) * (x2 - x1) / (y2 - y1))
        found |= inside
    return found


def random_bitmaps(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 14, (count, 2))
    return [rng.random((height, width)) < rng.choice([0.3, 0.5, 0.7, 0.85]) for height, width in sizes]


@pytest.mark.parametrize("drawn", [by_pil, by_opencv, by_centres])
def test_outlines_of_random_bitmaps_are_exact(drawn):
    for bitmap in random_bitmaps(150):
        rings, _ = outlines(bitmap)
        assert np.array_equal(drawn(rings, bitmap.shape), bitmap)
        regions, _ = cv2.connectedComponents(bitmap.astype(np.uint8), connectivity=4)
        assert len(rings) == regions - 1


def test_corners_lie_within_their_pixels():
    (ring,), holes = outlines(grid((1, 2, 3, 4, 1)) == 1)
    assert sorted(ring.points.tolist()) == [
        [3.0625, 1.0625], [3.0625, 2.9375], [4.9375, 1.0625], [4.9375, 2.9375],
    ]  # fmt: skip
    assert holes == 0


def test_a_hole_is_reached_by_a_cut_and_counted():
    bitmap = grid((0, 5, 0, 7, 1), (2, 3, 2, 3, 0), (2, 3, 5, 6, 0)) == 1
    (ring,), holes = outlines(bitmap)
    assert holes == 2 and len(ring.points) == 4 + 2 * (5 + 2)
    assert np.array_equal(by_pil([ring], bitmap.shape), bitmap)


def test_a_column_of_holes_hangs_together():
    bitmap = np.ones((2201, 3), bool)
    bitmap[1::2, 1] = False  # 1,100 holes, each below the one before
    (ring,), holes = outlines(bitmap)
    assert holes == 1100
    assert np.array_equal(by_pil([ring], bitmap.shape), bitmap)


def test_parts_are_one_shape_or_counted():
    ids = grid((0, 1, 0, 1, 1), (4, 5, 4, 5, 1), (0, 0, 7, 7, 2))
    names, remarks = {1: "car", 2: "person"}, Counter[str]()
    (car, person) = shapes_of(ids, names, bitmaps=False, several=True, remarks=remarks)
    assert [len(one.rings) for one in (car, person)] == [2, 1] and pixels(car) == 8 and not remarks
    shapes = shapes_of(ids, names, bitmaps=False, several=False, remarks=remarks)
    assert [one.category for one in shapes] == ["car", "car", "person"] and remarks == {PARTS: 2}
    shapes_of(grid((0, 2, 0, 2, 1), (1, 1, 1, 1, 0)), names, bitmaps=False, several=True, remarks=remarks)
    assert remarks == {PARTS: 2, CUT_HOLES: 1}
