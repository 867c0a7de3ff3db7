"""Policies: which operations they draw, and how strong."""

from collections import Counter

import numpy as np
import pytest

from selftrain.data.augment.policies import BY_NAME, POLICIES, autoaugment, randaugment, trivial
from selftrain.data.augment.randaugment import OPERATIONS, RandAugment


def drawn(policy, count=3000, **settings):
    rng = np.random.default_rng(0)
    return [policy(rng, **settings) for _ in range(count)]


def test_randaugment_is_the_same_as_by_its_short_settings():
    rng = np.random.default_rng(3)
    how = RandAugment(3, 12.0)
    expected = list(zip(how.operations(rng), how.strengths(rng), strict=True))
    assert randaugment(np.random.default_rng(3), n=3, magnitude=12.0) == expected


def test_trivialaugment_draws_one_operation_of_any_strength():
    found = drawn(trivial, most=0.5)
    assert {len(one) for one in found} == {1}
    counts = Counter(operation.name for ((operation, _),) in found)
    assert len(counts) == len(OPERATIONS) and min(counts.values()) > 0.7 * 3000 / len(OPERATIONS)
    strengths = np.array([strength for ((_, strength),) in found])
    assert -0.5 <= strengths.min() < -0.48 and 0.48 < strengths.max() <= 0.5
    assert np.abs(strengths).mean() == pytest.approx(0.25, abs=0.02) and abs(strengths.mean()) < 0.02


def test_autoaugment_draws_the_pairs_of_the_paper():
    """Table 9: solarize stands alone first in `Solarize 0.6 5, AutoContrast 0.6` and is 5/9 strong there."""
    found = [[(operation.name, abs(strength)) for operation, strength in one] for one in drawn(autoaugment)]
    assert {len(one) for one in found} == {0, 1, 2}
    names = {name for one in found for name, _ in one}
    assert names == {
        "posterize", "rotate", "solarize", "autocontrast", "equalize", "colour", "contrast", "invert",
        "sharpness", "shear_x",
    }  # fmt: skip
    pairs = Counter(tuple(one) for one in found)
    assert pairs[("solarize", 5 / 9), ("autocontrast", 0.0)] / 3000 == pytest.approx(2 / 25 * 0.36, abs=0.01)
    assert pairs[("rotate", 8 / 9), ("colour", 2 / 9)] / 3000 == pytest.approx(1 / 25 * 0.8, abs=0.01)
    half = [abs(strength) for one in drawn(autoaugment, strength=0.5) for _, strength in one]
    assert max(half) == 0.5 * max(strength for one in found for _, strength in one) == 0.5


def test_autoaugment_inverts():
    assert (BY_NAME["invert"].colour(np.full((2, 2, 3), 55, np.uint8), 0.0) == 200).all()


@pytest.mark.parametrize("name", POLICIES)
def test_both_signs_come_equally_often(name):
    signs = [np.sign(strength) for one in drawn(POLICIES[name]) for _, strength in one if strength]
    assert abs(np.mean(signs)) < 0.06
