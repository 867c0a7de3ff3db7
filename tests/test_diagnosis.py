"""What a closer look at predictions finds, on images of a few pixels."""

import numpy as np
import pytest

from selftrain import quality
from selftrain.diagnosis import Diagnosis, brief, quality_of

NAMES, IDS = ["road", "car", "tree"], ["a", "b", "c"]
# predicted, mask
IMAGES = [
    ([0, 0, 0, 0, 0, 1], [0, 0, 1, 1, 1, 1]),  # three of four car pixels are called road
    ([0, 0, 2, 2], [0, 0, 2, 2]),  # all right
    ([2, 2, 2, 0, 255], [0, 0, 2, 0, 255]),  # two road pixels are called tree; the last one is unknown
]


def diagnosed(numbers=range(3)):
    diagnosis = Diagnosis(3, 3)
    for number in numbers:
        predicted, mask = (np.array([row], np.uint8) for row in IMAGES[number])
        diagnosis.add(number, predicted, mask, np.full(mask.shape, 0.7, np.float32))
    return diagnosis


def test_the_worst_image_names_its_weakest_class_and_the_confusion():
    details = diagnosed().report(NAMES, IDS)["details"]
    (worst,), (best,) = details["worst"], details["best"]
    failed = {"truth": "car", "predicted": "road", "share": 3 / 4}
    assert worst == {
        "id": "a",
        "miou": pytest.approx((2 / 5 + 1 / 4) / 2),
        "class": "car",
        "iou": 1 / 4,
        **failed,
    }
    assert best == {"id": "b", "miou": 1.0, "class": "road", "iou": 1.0}


def test_the_worst_image_of_each_class():
    lowest = diagnosed().report(NAMES, IDS)["details"]["worst_of_class"]
    assert {name: row["id"] for name, row in lowest.items()} == {"road": "c", "car": "a", "tree": "c"}
    assert (lowest["car"]["predicted"], lowest["car"]["share"]) == ("road", 3 / 4)
    # two of the three pixels that are predicted as tree are road
    assert (lowest["tree"]["truth"], lowest["tree"]["share"]) == ("road", pytest.approx(2 / 3))


def test_a_missed_pixel_without_a_class_is_a_confusion_with_none():
    diagnosis = Diagnosis(1, 2)
    mask = np.ones((1, 4), np.uint8)
    diagnosis.add(0, np.array([[1, 255, 255, 255]], np.uint8), mask, np.ones((1, 4), np.float32))
    (worst,) = diagnosis.report(["a", "b"], ["x"])["details"]["worst"]
    assert (worst["class"], worst["predicted"], worst["share"]) == ("b", "no class", 3 / 4)


def test_confusion_and_calibration_are_sums_over_the_images():
    details = diagnosed().report(NAMES, IDS)["details"]
    assert details["confusion"] == [[5, 0, 2, 0], [3, 1, 0, 0], [0, 0, 3, 0]]
    pixels, sure, right = (np.sum(part) for part in details["calibration"]["road"])
    assert (pixels, right) == (8, 5) and sure == pytest.approx(8 * 0.7)
    assert details["ece"]["road"] == pytest.approx(0.7 - 5 / 8) and details["ece"]["car"] == pytest.approx(
        0.3
    )


def test_parts_of_ranks_add_up_to_the_whole():
    first, rest, whole = diagnosed([0]), diagnosed([1, 2]), diagnosed()
    parts = iter([rest.confusion, rest.boundaries, rest.sizes, rest.sureness, rest.images, rest.sure])
    first.reduce(lambda mine: mine + next(parts))
    assert first.report(NAMES, IDS) == whole.report(NAMES, IDS)


def test_the_line_to_iou_is_fitted_to_the_mean_confidence_of_each_image():
    diagnosis, mask = Diagnosis(12, 2), np.zeros((8, 8), np.uint8)
    right = np.arange(12) / 12  # the share of right pixels, and the confidence
    for number, share in enumerate(right):
        predicted = (np.arange(64).reshape(8, 8) >= share * 64).astype(np.uint8)
        diagnosis.add(number, predicted, mask, np.full((8, 8), share, np.float32))
    found = diagnosis.report(["a", "b"], [str(number) for number in range(12)])
    line = quality_of(found)
    assert line["images"] == 12 and line["error"] < 0.05 < line["error_of_mean"]
    assert [quality.expected(line, sure) for sure in (0.25, 0.75)] == pytest.approx([0.25, 0.75], abs=0.05)
    assert quality_of(None) is quality_of({"miou": 0.5}) is None


def test_a_card_has_scores_but_no_details():
    assert brief({"miou": 0.5, "details": {}}) == {"miou": 0.5} and brief(None) is None
