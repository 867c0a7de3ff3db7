"""Shapes as class ids: outlines, holes, runs, layers, sizes."""

from pathlib import Path

import numpy as np
import pytest
from annotation_files import BOX, SIZE, SMALL, grid
from PIL import Image, ImageDraw, ImageOps

from selftrain.data.annotations.coco import counts_of
from selftrain.data.annotations.draw import draw
from selftrain.data.annotations.shape import (
    Ring,
    Runs,
    Shape,
    checked,
    ellipse,
    nested,
    rectangle,
    ring,
    runs_of,
)
from selftrain.errors import DataError

FILE = Path("file.json")


def polygon(points, **more) -> Shape:
    return Shape("x", (ring(points, FILE, "object"),), **more)


def drawn(*shapes: Shape, order: str = "large", size=SIZE, frame=SIZE, **more) -> np.ndarray:
    numbered = list(zip(shapes, range(1, len(shapes) + 1), strict=True))
    return draw(numbered, size, frame=frame, background=0, order=order, **more)


def test_the_pixels_of_an_outline_belong_to_the_shape_and_corners_to_their_pixel():
    assert np.array_equal(drawn(polygon(BOX)), grid((1, 3, 1, 4, 1)))
    within = [[1.9, 1.9], [4.0, 1.5], [4.99, 3.99], [1.2, 3.2]]
    assert np.array_equal(drawn(polygon(within)), grid((1, 3, 1, 4, 1)))
    beyond = [[-3, -0.5], [9.5, -0.5], [9.5, 0.5], [-3, 0.5]]
    assert np.array_equal(drawn(polygon(beyond)), grid((0, 0, 0, 7, 1)))
    far = [[-1e9, -1e9], [1e9, -1e9], [1e9, 1e9], [-1e9, 1e9]]
    assert drawn(polygon(far)).all()


def test_a_shape_is_what_pil_draws_of_its_corners():
    rng = np.random.default_rng(3)
    for _ in range(200):
        points = rng.uniform(0, 30, (rng.integers(3, 9), 2))
        expected = Image.new("L", (30, 30))
        ImageDraw.Draw(expected).polygon([tuple(map(float, point)) for point in points], fill=1)
        assert np.array_equal(drawn(polygon(points.tolist()), size=(30, 30), frame=(30, 30)), expected)


def test_the_smaller_shape_is_on_top_or_the_later_one():
    small, large = polygon(SMALL), polygon(BOX)
    assert np.array_equal(drawn(small, large), grid((1, 3, 1, 4, 2), (2, 3, 2, 3, 1)))
    assert np.array_equal(drawn(large, small), grid((1, 3, 1, 4, 1), (2, 3, 2, 3, 2)))
    assert np.array_equal(drawn(small, large, order="file"), grid((1, 3, 1, 4, 2)))
    assert np.array_equal(drawn(large, small, order="file"), grid((1, 3, 1, 4, 1), (2, 3, 2, 3, 2)))


def test_layers_come_before_size_and_ignored_shapes_lie_below_all():
    assert np.array_equal(drawn(polygon(SMALL), polygon(BOX, layer=1)), grid((1, 3, 1, 4, 2)))
    crowd = polygon(SMALL, ignored=True)
    assert np.array_equal(drawn(polygon(BOX), crowd), grid((1, 3, 1, 4, 1)))
    assert np.array_equal(drawn(polygon(BOX), crowd, order="file"), grid((1, 3, 1, 4, 1)))


def test_an_outline_within_another_is_a_hole_and_one_within_the_hole_is_filled():
    outer, hole, island = ([[c, c], [9 - c, c], [9 - c, 9 - c], [c, 9 - c]] for c in (0, 2, 4))
    rings, holes = nested([ring(one, FILE, "object") for one in (island, hole, outer)])
    assert holes == 1 and [one.hole for one in rings] == [False, True, False]
    shape = Shape("x", tuple(rings))
    expected = grid((0, 9, 0, 9, 1), (2, 7, 2, 7, 0), (4, 5, 4, 5, 1), size=(10, 10))
    assert np.array_equal(drawn(shape, size=(10, 10), frame=(10, 10)), expected)
    below = polygon([[0, 0], [9, 0], [9, 9], [0, 9]])
    both = draw([(below, 7), (shape, 1)], (10, 10), frame=(10, 10), background=0, order="file")
    assert both[3, 3] == 7 and both[0, 0] == 1 and both[4, 4] == 1, "a hole shows what lies below"
    assert shape.area == 81 - 25 + 1


def test_outlines_side_by_side_or_overlapping_are_united():
    apart, over = [[6, 1], [7, 1], [7, 3], [6, 3]], [[3, 2], [6, 2], [6, 5], [3, 5]]
    for other in (apart, over):
        rings, holes = nested([ring(one, FILE, "object") for one in (BOX, other)])
        assert holes == 0
        assert np.array_equal(
            drawn(Shape("x", tuple(rings))), np.maximum(drawn(polygon(BOX)), drawn(polygon(other)))
        )


def test_shapes_of_another_size_are_scaled_and_turned():
    half = [[x / 2, y / 2] for x, y in BOX]
    assert np.array_equal(drawn(polygon(half), frame=(3, 4)), drawn(polygon(BOX)))
    bitmap = runs_of(np.array([[0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]], bool))
    expected = grid((0, 1, 2, 3, 1), (4, 5, 6, 7, 1))
    assert np.array_equal(drawn(Shape("x", runs=bitmap), frame=(3, 4)), expected)
    for orientation in range(1, 9):
        picture = Image.fromarray(drawn(polygon(BOX)))
        picture.getexif()[274] = orientation
        upright = ImageOps.exif_transpose(picture)
        assert np.array_equal(drawn(polygon(BOX), orientation=orientation), upright)


# What pycocotools 2.0.11 encodes: a mask of 5x7 with a hole, and of 40x300 with gaps of several characters.
ENCODED = {
    ";32NO012004": grid((1, 3, 2, 5, 1), (2, 2, 3, 3, 0), size=(5, 7)),
    "]11ek3j0hTL" + "0" * 297 + "mh0eT1": grid(
        (3, 29, 100, 249, 1), (5, 5, 1, 1, 1), (0, 39, 270, 299, 1), size=(40, 300)
    ),
}


@pytest.mark.parametrize("text", ENCODED, ids=len)
def test_compressed_runs_of_coco(text: str):
    mask = ENCODED[text]
    runs = Runs(counts_of(text, FILE), mask.shape, by_column=True)
    assert np.array_equal(checked(runs, FILE, "object").bitmap(), mask)
    assert np.array_equal(drawn(Shape("x", runs=runs), size=mask.shape, frame=mask.shape), mask)


def test_runs_and_bitmaps_are_inverses():
    rng = np.random.default_rng(0)
    for bitmap in [rng.random((5, 7)) > 0.5 for _ in range(20)] + [
        np.zeros((2, 3), bool),
        np.ones((2, 3), bool),
    ]:
        runs = checked(runs_of(bitmap), FILE, "object")
        assert np.array_equal(runs.bitmap(), bitmap)
        assert Shape("x", runs=runs).area == bitmap.sum()


def test_damaged_runs_are_refused():
    for counts in ([5, -1, 2], [5, 2], [], [10**12]):
        with pytest.raises(DataError, match=r"file\.json: object 3 has run lengths .* mask of 2x3"):
            checked(Runs(np.array(counts, np.int64), (2, 3)), FILE, "object 3")
    with pytest.raises(DataError, match="compressed form"):
        counts_of("\x10\x11", FILE)


def test_a_bitmap_at_a_corner_is_cut_at_the_borders():
    ones = np.ones((3, 3), bool)
    for corner, box in (((4, 6), (4, 5, 6, 7)), ((-1, -2), (0, 1, 0, 0)), ((-5, 0), None), ((6, 8), None)):
        mask = drawn(Shape("x", runs=runs_of(ones, corner)))
        assert np.array_equal(mask, grid(*([(*box, 1)] if box else []))), corner


def test_boxes_turn_clockwise_around_their_centre():
    assert np.allclose(rectangle(0, 0, 4, 2, 90).points, [[3, -1], [3, 3], [1, 3], [1, -1]])
    points = ellipse((5, 5), (4, 2)).points
    assert np.allclose(((points - 5) / [4, 2]) ** 2 @ [1, 1], 1)
    assert np.allclose(ellipse((5, 5), (4, 2), 90).points.max(axis=0), [7, 9], atol=0.01)


@pytest.mark.parametrize(
    "points", [[1, 2, 3], [[1, 2], [3, "x"]], [[1, 2], [3]], [1, 2, 3, float("nan")], None]
)
def test_outlines_that_are_no_pairs_of_numbers_are_refused(points):
    with pytest.raises(DataError, match=r"file\.json: object 3 has an outline"):
        ring(points, FILE, "object 3")


def test_outlines_of_two_corners_have_no_area():
    assert ring([1, 2, 3, 4], FILE, "object") is None and isinstance(ring(BOX, FILE, "object"), Ring)
