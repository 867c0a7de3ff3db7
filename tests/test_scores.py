"""What a network is scored by, on counts small enough to check by hand."""

import numpy as np
import pytest

from selftrain import scores

NAMES = ["sky", "road", "car"]
# Of 10 pixels of sky 6 are predicted right, 2 as road and 2 as car; of 4 pixels of road, 3 right; no mask has a car.
COUNTS = np.array([[6, 2, 2], [1, 3, 0], [0, 0, 0]])


def test_pixels_are_counted_by_truth_and_prediction_where_the_mask_knows_them():
    mask = np.array([[0, 0, 1], [1, 255, 255]], np.uint8)
    predicted = np.array([[0, 1, 1], [1, 1, 0]], np.uint8)
    assert scores.confusion(predicted, mask, 3).tolist() == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]


def test_pixels_of_classes_are_counted_without_those_that_are_ignored():
    assert scores.class_pixels(np.array([[0, 2, 2], [255, 255, 0]], np.uint8), 4).tolist() == [2, 0, 2, 0]
    assert scores.class_pixels(np.full((2, 2), 255, np.uint8), 2).tolist() == [0, 0]


def test_a_class_that_only_the_prediction_has_counts_where_two_networks_are_compared():
    assert scores.per_class(COUNTS)[:2].tolist() == [6 / 11, 3 / 6] and np.isnan(scores.per_class(COUNTS)[2])
    assert scores.ious(COUNTS).tolist() == [6 / 11, 3 / 6, 0]
    assert scores.miou(COUNTS) == pytest.approx((6 / 11 + 3 / 6) / 2)
    assert scores.mean_iou(COUNTS) == pytest.approx((6 / 11 + 3 / 6) / 3)


def test_dice_weighs_hits_twice():
    # sky: 12 of 10 + 7 pixels; road: 6 of 4 + 5
    assert scores.dice(COUNTS) == pytest.approx((12 / 17 + 6 / 9) / 2)
    assert scores.dice(np.zeros((2, 2))) is None


def test_a_report_has_every_score_and_null_for_an_absent_class():
    report = scores.report(COUNTS, NAMES)
    assert report.keys() == scores.SCORES.keys()
    assert {name: report[name] for name in ("miou", "per_class", "pixel_accuracy", "drift")} == {
        "miou": pytest.approx((6 / 11 + 3 / 6) / 2),
        "per_class": {"sky": 6 / 11, "road": 3 / 6, "car": None},
        "pixel_accuracy": 9 / 14,
        "drift": pytest.approx((3 + 1 + 2) / 14 / 2),  # predicted 7, 5, 2; true 10, 4, 0
    }


def test_an_empty_set_has_no_scores():
    nothing = {**dict.fromkeys(scores.SCORES), "per_class": dict.fromkeys(NAMES)}
    assert scores.report(np.zeros((3, 3)), NAMES) == nothing


def test_the_distance_of_two_histograms_is_the_share_that_would_have_to_move():
    assert scores.distance(np.array([50, 50]), np.array([1, 1])) == 0
    assert scores.distance(np.array([100, 0]), np.array([1, 3])) == 0.75
    assert scores.distance(np.array([0, 0]), np.array([1, 1])) == 0.5  # nothing is predicted


def test_the_calibration_error_weighs_each_bin_by_its_pixels():
    pixels, right = np.array([10, 30]), np.array([5, 30])
    confidence = np.array([7.0, 27.0])  # on average 0.7 and 0.9, where 0.5 and 1.0 are right
    assert scores.expected_calibration_error(np.stack([pixels, confidence, right])) == pytest.approx(
        (2 + 3) / 40
    )
    assert scores.expected_calibration_error(np.zeros((3, 15))) == 0
