"""Scores at boundaries and by size of objects, on pictures small enough to count by hand."""

import numpy as np
import pytest

from selftrain.regions import LIMITS, boundary_f1, by_size, ious_by_size


def line(text):
    """Class ids (1, W) of digits; `-` is ignored."""
    return np.array([[255 if letter == "-" else int(letter) for letter in text]], np.uint8)


@pytest.mark.parametrize(
    ("predicted", "mask", "f1"),
    [
        ("000000111111", "000000111111", [1, 1]),
        ("000001111111", "000000111111", [1, 1]),  # off by one pixel, the tolerance of a small image
        ("000111111111", "000000111111", [0, 0]),
        ("000000111100", "000000111111", [2 / 3, 2 / 3]),  # precision 1/2, recall 1
        ("000000000000", "000000111111", [0, 0]),  # the boundary is not found
        ("000000111111", "000000000000", [np.nan, np.nan]),  # no boundary to find
        ("000000111111", "00000--11111", [np.nan, np.nan]),  # it is somewhere in the unknown pixels
        ("000000111111", "000000111---", [1, 1]),
        ("000000111101", "000000111---", [1, 1]),  # beside unknown pixels nothing is wrong
    ],
)
def test_boundary_f1_by_hand(predicted, mask, f1):
    assert boundary_f1(line(predicted), line(mask), 2) == pytest.approx(f1, nan_ok=True)


def test_the_tolerance_of_a_boundary_grows_with_the_image():
    mask, predicted = np.zeros((300, 400), np.uint8), np.zeros((300, 400), np.uint8)
    mask[:, 200:] = 1
    for shift, right in ((3, 1.0), (5, 0.0)):  # 0.75 % of the diagonal of 500 pixels are 3.75
        predicted[:] = 0
        predicted[:, 200 + shift :] = 1
        assert boundary_f1(predicted, mask, 2).tolist() == [right, right]


def test_pixels_count_for_the_size_of_their_object():
    """In 100 x 100 pixels, an object is small below 34 pixels and large from 300 on."""
    assert [limit * 10_000 for limit in LIMITS] == pytest.approx([33.3, 300], abs=0.1)
    mask, predicted = np.zeros((100, 100), np.uint8), np.zeros((100, 100), np.uint8)
    mask[0:4, 0:4] = predicted[0:2, 0:4] = 1  # a small object, half of it found
    mask[20:40, 20:40] = predicted[20:40, 20:45] = 1  # a large one, and 100 false pixels that touch it
    predicted[80:90, 80:90] = 1  # 100 false pixels alone: as large as a medium object
    mask[99] = 255
    predicted[99] = 1  # not known
    counts = by_size(predicted, mask, 3)
    assert counts[:, 1].tolist() == [[8, 0, 400], [16, 0, 400], [0, 100, 100]]
    assert counts[:, 2].sum() == 0 and counts[1].sum() == 9900
    ious = ious_by_size(counts)
    assert ious[1] == pytest.approx([8 / 16, np.nan, 400 / 500], nan_ok=True) and np.isnan(ious[2]).all()


def test_objects_that_touch_at_a_corner_are_one():
    mask = np.zeros((10, 10), np.uint8)
    mask[0, 0] = mask[1, 1] = 1  # 2 pixels of 100 are between the limits, one is not even small
    assert by_size(mask, mask, 2)[1, 1].tolist() == [0, 2, 0]
