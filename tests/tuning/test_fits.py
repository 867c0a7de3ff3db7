"""What is fitted to pixels whose class is known."""

import numpy as np
import pytest

from selftrain.scores import confusion, miou
from selftrain.tuning import fits


def scored(probs, truth, thresholds):
    return miou(confusion((probs / thresholds).argmax(axis=1), truth, probs.shape[1]))


def drawn(classes, count=4000, seed=0):
    """Probabilities of `count` pixels, and classes drawn from them after the last class was made rarer."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(count, classes))
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    true = probs * np.array([1.0] * (classes - 1) + [0.2])
    true /= true.sum(axis=1, keepdims=True)
    return probs, (true.cumsum(axis=1) < rng.random((count, 1))).sum(axis=1)


def test_weights_have_the_highest_likelihood_of_all():
    rng = np.random.default_rng(0)
    given = rng.random((2, 500)) ** [[1], [3]]
    found = fits.weights(given)
    shares = np.linspace(0, 1, 1001)
    mean = np.log(shares[:, None] * given[0] + (1 - shares[:, None]) * given[1]).mean(axis=1)
    assert found.sum() == pytest.approx(1) and found[0] == pytest.approx(shares[mean.argmax()], abs=2e-3)


def test_a_useless_prediction_gets_hardly_any_weight_and_equal_ones_weigh_alike():
    good = np.full(50, 0.9)
    assert fits.weights(np.stack([good, good])).tolist() == [0.5, 0.5]
    assert 0 < fits.weights(np.stack([good, good / 9]))[1] < 1e-3
    assert fits.weights(np.zeros((3, 0))).tolist() == pytest.approx([1 / 3] * 3)


def test_of_two_classes_the_threshold_is_the_best_of_all():
    probs, truth = drawn(2)
    found = fits.thresholds(probs, truth)
    best = max(scored(probs, truth, np.array([1 - t, t])) for t in np.linspace(0.01, 0.99, 393))
    assert found.sum() == pytest.approx(1) and found[1] > 0.6  # class 1 is rarer than its probability says
    assert scored(probs, truth, found) == pytest.approx(best, abs=2e-3)
    assert scored(probs, truth, found) > scored(probs, truth, np.array([0.5, 0.5])) + 0.02


def test_of_many_classes_no_single_change_of_a_threshold_gains():
    probs, truth = drawn(4)
    found = fits.thresholds(probs, truth)
    here = scored(probs, truth, found)
    assert here > scored(probs, truth, np.ones(4)) + 0.01
    for c in range(4):
        for factor in np.exp([-1, -0.25, 0.25, 1]):
            assert scored(probs, truth, found * np.where(np.arange(4) == c, factor, 1)) <= here + 1e-9


def test_a_class_without_pixels_keeps_its_threshold():
    probs, truth = drawn(3)
    some = truth != 1
    found = fits.thresholds(probs[some], truth[some])
    others = np.exp(fits.OFFSETS)[:, None] * found[[0, 2]]
    assert np.isclose(others, found[1]).any(axis=0).all()  # on the grid of offsets around its own 0
    assert scored(probs[some], truth[some], found) >= scored(probs[some], truth[some], np.ones(3))


def test_certain_and_right_probabilities_need_no_thresholds():
    truth = np.array([0, 1, 2, 1])
    assert fits.thresholds(np.eye(3)[truth], truth).tolist() == pytest.approx([1 / 3] * 3)
