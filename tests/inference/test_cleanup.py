"""Label maps without small regions and small holes."""

import numpy as np
import pytest
import torch

from selftrain.errors import ConfigError
from selftrain.inference import cleanup, decide
from selftrain.inference.cleanup import CleanUp
from selftrain.inference.decide import argmax, at_size


def drawn(*rows: str) -> np.ndarray:
    """A label map from rows of digits; a dot has no class."""
    return np.array([[255 if mark == "." else int(mark) for mark in row] for row in rows], np.uint8)


def cleaned(labels: np.ndarray, min_area: tuple[int, ...], max_hole: tuple[int, ...]) -> np.ndarray:
    found = CleanUp(min_area, max_hole).cleaned(labels)
    assert found.dtype == np.uint8 and found.shape == labels.shape
    return found


def test_a_region_below_its_least_area_gets_the_class_of_the_nearest_pixel_that_stays() -> None:
    labels = drawn("00001", "01000", "00022", "11022")
    expected = drawn("00000", "00000", "00022", "11022")
    assert np.array_equal(cleaned(labels, (0, 2, 0), (0, 0, 0)), expected)
    # With 5 for the third class, its square goes too.
    assert (cleaned(labels, (0, 3, 5), (0, 0, 0)) == 0).all()


def test_pixels_that_touch_at_a_corner_are_one_region() -> None:
    labels = drawn("1000", "0100", "0010")
    assert np.array_equal(cleaned(labels, (0, 3), (0, 0)), labels)
    assert not cleaned(labels, (0, 4), (0, 0)).any()


def test_a_hole_up_to_its_size_gets_the_class_around_it() -> None:
    labels = drawn("1111111", "1011001", "1111001", "1111111", "0111111")
    filled = drawn("1111111", "1111001", "1111001", "1111111", "0111111")
    assert np.array_equal(cleaned(labels, (0, 0), (0, 3)), filled)  # the corner is not enclosed
    assert np.array_equal(cleaned(labels, (0, 0), (0, 4)), drawn(*["1111111"] * 4, "0111111"))


def test_other_classes_in_a_hole_are_filled_with_it() -> None:
    assert (cleaned(drawn("1111", "1021", "1111"), (0, 0, 0), (0, 2, 0)) == 1).all()


def test_pixels_without_a_class_are_kept_and_give_no_class() -> None:
    labels = drawn("0..1", "0..0")
    assert np.array_equal(cleaned(labels, (0, 2), (0, 0)), drawn("0..0", "0..0"))


def test_regions_stay_if_nothing_would_remain() -> None:
    labels = drawn("01", "10")
    assert np.array_equal(cleaned(labels, (9, 9), (0, 0)), labels)


def test_classes_are_named_and_rest_is_every_other_class() -> None:
    found = cleanup.of({"car": 5, "rest": 2}, {"road": 7}, ["road", "car", "tree"], "predict")
    assert found == CleanUp((2, 5, 2), (7, 0, 0))
    assert cleanup.of({}, {}, ["road"], "predict") is None
    with pytest.raises(
        ConfigError, match=r"select\.max_hole: there is no class 'cat'; there are road, car, and"
    ):
        cleanup.of({}, {"cat": 5}, ["road", "car"], "select")


def test_labels_are_cleaned_at_the_size_that_they_are_asked_for() -> None:
    """A single pixel becomes four pixels at twice the size: they are fewer than 5, and more than 1."""
    probs = torch.zeros(2, 4, 4)
    probs[1, 1, 1] = 1
    probs[0] = 0.3
    decision = decide.cleaned(argmax, CleanUp((0, 2), (0, 0)))
    assert not decision(probs[None]).any()
    plain = at_size(argmax, probs, (8, 8))
    assert plain.sum() >= 4 and torch.equal(at_size(decision, probs, (8, 8)), plain)
    larger = decide.cleaned(argmax, CleanUp((0, int(plain.sum()) + 1), (0, 0)))
    assert not at_size(larger, probs, (8, 8)).any()
    assert decide.cleaned(argmax, None) is argmax
