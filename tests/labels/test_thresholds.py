import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from selftrain.errors import ConfigError
from selftrain.labels.thresholds import (
    THRESHOLDS,
    accepted,
    adaptive,
    class_weights,
    distribution,
    fixed,
    floors,
    image_weights,
    kept,
    quantile,
)
from selftrain.tables import handed

Counts = NDArray[np.int64]


def histogram(*classes: dict[int, int]) -> Counts:
    """Each class as {confidence: pixels}."""
    counts = np.zeros((len(classes), 256), np.int64)
    for row, content in zip(counts, classes, strict=True):
        for confidence, pixels in content.items():
            row[confidence] = pixels
    return counts


def test_global_is_the_same_for_all() -> None:
    assert fixed(histogram({255: 1}, {}), confidence=0.8).tolist() == [0.8, 0.8]


def test_a_pixel_at_the_threshold_is_accepted() -> None:
    counts = histogram({203: 1, 204: 10, 205: 100})  # 204 / 255 = 0.8
    assert floors(np.array([0.8])).tolist() == [204]
    assert accepted(counts, np.array([0.8])).tolist() == [110]
    assert accepted(counts, np.array([0.8001])).tolist() == [100]


def test_quantile_keeps_a_share_of_each_class() -> None:
    counts = histogram({100: 40, 150: 30, 200: 30}, {50: 40, 60: 60})
    found = quantile(counts, keep=0.6, confidence=1.0)
    assert (found * 255).round().tolist() == [150, 60]
    assert kept(counts, found).tolist() == [0.6, 0.6]


def test_quantile_never_asks_for_more_than_the_ceiling() -> None:
    counts = histogram({200: 50, 255: 50}, {100: 50, 120: 50})
    found = quantile(counts, keep=0.5, confidence=0.7)
    assert found[0] == 0.7 and round(found[1] * 255) == 120
    assert kept(counts, found).tolist() == [1.0, 0.5]


def test_quantile_does_not_cut_what_ties() -> None:
    counts = histogram({255: 1000}, {10: 1, 254: 999})
    assert kept(counts, quantile(counts, keep=0.2, confidence=1.0)).tolist() == [1.0, 0.999]


def test_distribution_keeps_a_share_of_all_pixels_shared_out_as_the_masks_are() -> None:
    counts = histogram({200: 40, 220: 10, 240: 10}, {100: 10, 150: 20, 250: 10})  # 60 and 40 of 100 pixels
    found = distribution(counts, keep=0.4, known=np.array([1000, 3000]))  # 10 and 30 of them
    assert (found * 255).round().tolist() == [240, 150]
    assert accepted(counts, found).tolist() == [10, 30]


def test_distribution_keeps_all_of_a_class_that_is_given_to_fewer_pixels_than_its_share() -> None:
    counts = histogram({10: 5, 200: 5}, {240: 50, 250: 40})
    found = distribution(counts, keep=0.5, known=np.array([1, 1]))
    assert accepted(counts, found).tolist() == [10, 40]  # not 25: those of one confidence are not told apart


def test_quantile_of_everything_keeps_everything() -> None:
    counts = histogram({0: 3, 255: 7}, {17: 1})
    assert kept(counts, quantile(counts, keep=1.0, confidence=1.0)).tolist() == [1.0, 1.0]


def test_a_class_without_pixels_gets_the_threshold_of_all() -> None:
    counts = histogram({51: 2, 102: 2}, {})
    assert quantile(counts, keep=0.5, confidence=0.9)[1] == 0.9
    np.testing.assert_allclose(adaptive(counts), [0.3, 0.3])
    assert np.isnan(kept(counts, adaptive(counts))).tolist() == [False, True]


def test_adaptive_is_lower_for_unsure_classes() -> None:
    counts = histogram({204: 30}, {102: 10})  # means 0.8 and 0.4, over all 0.7
    np.testing.assert_allclose(adaptive(counts), [0.7, 0.35])


def test_adaptive_keeps_rare_classes_that_one_threshold_would_starve() -> None:
    counts = histogram({240: 900, 250: 100}, {100: 50, 140: 50})
    assert kept(counts, fixed(counts, confidence=0.8)).tolist() == [1.0, 0.0]
    assert kept(counts, adaptive(counts))[1] >= 0.5


def by_rule(name: str, counts: Counts, **shared: object) -> NDArray[np.float64]:
    """Thresholds of a rule, which gets of `shared` what it asks for."""
    return THRESHOLDS[name](counts, **handed(THRESHOLDS[name], name, **shared))


@pytest.mark.parametrize("name", THRESHOLDS)
def test_every_rule_takes_the_shared_settings_and_an_empty_store(name: str) -> None:
    found = by_rule(name, np.zeros((3, 256), np.int64), keep=0.6, confidence=0.8, known=np.zeros(3, np.int64))
    assert found.shape == (3,) and np.isfinite(found).all()


@given(
    rows=st.lists(st.lists(st.integers(0, 50), min_size=256, max_size=256), min_size=1, max_size=3),
    keep=st.floats(0, 1),
    confidence=st.floats(0, 1),
)
@settings(max_examples=40, deadline=None)
def test_rules_stay_in_bounds(rows: list[list[int]], keep: float, confidence: float) -> None:
    counts = np.array(rows, np.int64)
    for name in THRESHOLDS:
        found = by_rule(name, counts, keep=keep, confidence=confidence, known=np.arange(len(counts)))
        assert ((found >= 0) & (found <= 1)).all()
    shares = kept(counts, quantile(counts, keep=keep, confidence=confidence))
    assert (shares[~np.isnan(shares)] >= keep - 1e-9).all()


def test_class_weights_have_mean_one_over_accepted_pixels() -> None:
    counts, half = histogram({100: 500, 200: 90}, {200: 10}, {}), np.full(3, 0.5)
    assert class_weights(counts, half, 0.0).tolist() == [1, 1, 1]
    np.testing.assert_allclose(class_weights(counts, half, 1.0), [100 / 180, 100 / 20, 1])
    weights = class_weights(counts, half, 0.5)
    assert weights[1] > weights[0] and np.isclose((accepted(counts, half) * weights).sum(), 100)


def test_class_weights_without_an_accepted_pixel_are_one() -> None:
    assert class_weights(histogram({3: 5}, {}), np.ones(2), 0.5).tolist() == [1, 1]


def test_the_most_confident_images_are_kept() -> None:
    confidence = np.array([0.2, 0.8, 0.4, 0.8], np.float32)
    assert image_weights(confidence, 1.0, False).tolist() == [1, 1, 1, 1]
    assert image_weights(confidence, 0.5, False).tolist() == [0, 1, 0, 1]
    assert image_weights(confidence, 0.25, False).tolist() == [0, 1, 0, 0]
    assert image_weights(confidence, 0.01, False).tolist() == [0, 1, 0, 0]
    assert image_weights(confidence, 0.0, True).tolist() == [0, 0, 0, 0]


def test_images_weigh_by_their_confidence() -> None:
    weights = image_weights(np.array([0.2, 0.8, 0.4], np.float32), 0.6, True)
    np.testing.assert_allclose(weights, [0, 0.8 / 0.6, 0.4 / 0.6], rtol=1e-6)
    assert image_weights(np.zeros(0, np.float32), 1.0, True).shape == (0,)


@pytest.mark.parametrize(
    "given_settings", [{"keep": 1.2}, {"keep": -0.1}, {"confidence": 80}, {"keep": float("nan")}]
)
def test_settings_out_of_range_are_named(given_settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"select.{next(iter(given_settings))} must lie between 0 and 1"):
        quantile(histogram({3: 5}), **{"keep": 0.5, "confidence": 0.5} | given_settings)
