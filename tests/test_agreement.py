"""Correlations of scores, and the halves of val that they compare."""

import numpy as np
import pytest
import torch

from selftrain.agreement import correlation, of_halves, of_val_and_test
from selftrain.stages.evaluate import Scores


def test_a_correlation_is_pearsons_and_needs_three_pairs_that_vary():
    assert correlation([(0.1, 0.2), (0.2, 0.4), (0.3, 0.6)]) == {"correlation": pytest.approx(1), "count": 3}
    # deviations (-1, 0, 1) and (-1, 1, 0): 1 / sqrt(2 * 2)
    assert correlation([(1, 1), (2, 3), (3, 2)])["correlation"] == pytest.approx(0.5)
    assert correlation([(0.1, 0.2), (0.2, 0.4)]) is None and correlation([(1, 1), (1, 2), (1, 3)]) is None


def test_halves_are_compared_over_evaluation_rows_only():
    rows = [
        {"stage": "gen0", "step": step, "val_miou_first": step, "val_miou_second": -step} for step in range(4)
    ]
    rows.insert(1, {"stage": "gen0", "step": 0, "loss": 1.0})
    assert of_halves(rows) == {"correlation": pytest.approx(-1), "count": 4}


def test_val_and_test_are_compared_over_runs_that_read_test_by_their_leaders():
    def report(val, test):
        return {
            "best": 1,
            "generations": [{"val": {"miou": 9.0}}, {"val": {"miou": val}}],
            "test": test and {"miou": test},
        }

    runs = [report(0.1, 0.3), report(0.2, 0.2), report(0.3, 0.1), report(0.9, None)]
    assert of_val_and_test(runs) == {"correlation": pytest.approx(-1), "count": 3}


def test_the_halves_of_val_are_the_first_and_the_last_blocks():
    scores = Scores(2, torch.device("cpu"))
    probs = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(3, 2, 1, 2)
    label = torch.zeros(3, 1, 2, dtype=torch.uint8)
    target = torch.tensor([[[0, 0]], [[0, 1]], [[1, 1]]], dtype=torch.uint8)
    scores.add(probs, label, target, [0, 1, 2])
    found = scores.report(["a", "b"])
    # image 0 alone: all right; images 1 and 2: class a has 1 of 4 pixels, class b none
    assert found["miou_halves"] == pytest.approx([1.0, np.mean([1 / 4, 0])])
    one = Scores(2, torch.device("cpu"))
    one.add(probs[:1], label[:1], target[:1], [0])
    assert one.report(["a", "b"])["miou_halves"] == []
