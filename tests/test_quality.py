"""The line from confidence to IoU."""

import numpy as np
import pytest

from selftrain import quality


def drawn(count: int, slope: float, noise: float) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    sure = random.uniform(0.6, 0.99, count)
    ious = 1 / (1 + np.exp(-(slope * np.log(sure / (1 - sure)) - 1)))
    return sure, np.clip(ious + random.normal(0, noise, count), 0, 1)


def test_the_line_is_found_where_confidence_tells_good_from_bad_predictions():
    line = quality.fitted(*drawn(200, slope=0.8, noise=0.03))
    assert line["slope"] == pytest.approx(0.8, abs=0.08) and line["images"] == 200
    assert line["error"] < 0.05 < line["error_of_mean"]
    scores = [quality.expected(line, sure) for sure in (0.0, 0.7, 0.9, 1.0)]
    assert scores == sorted(scores) and scores[0] >= 0 and scores[-1] <= 1


def test_the_score_is_the_mean_where_confidence_tells_nothing():
    sure, _ = drawn(100, 1, 0)
    ious = np.random.default_rng(1).uniform(0.2, 0.6, 100)
    line = quality.fitted(sure, ious)
    assert line["slope"] == 0 and line["error"] == line["error_of_mean"]
    assert quality.expected(line, 0.99) == pytest.approx(ious.mean(), abs=1e-4)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_images_that_are_all_alike_are_no_trouble(value):
    line = quality.fitted(np.full(20, 1.0), np.full(20, value))
    assert quality.expected(line, 1.0) == pytest.approx(value, abs=0.02)


def test_few_images_give_no_score():
    assert quality.fitted(*drawn(9, 1, 0)) is None and quality.expected(None, 0.9) is None
