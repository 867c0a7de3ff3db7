"""Pixels that are taken away with their labels."""

import numpy as np
import pytest

from selftrain.data.augment.erase import cutout
from selftrain.data.augment.view import OUTSIDE, View


def whole(channels=3):
    image = np.full((40, 60, channels), 7, np.uint8)
    return View(image, np.arange(2400).reshape(40, 60))


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("seed", range(4))
def test_cutout_is_a_box_of_random_pixels_without_label(seed, channels):
    before = whole(channels)
    seen = cutout(before, np.random.default_rng(seed))
    rows, columns = np.nonzero(seen.index == OUTSIDE)
    tall, wide = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert len(rows) == tall * wide and 0.015 < tall * wide / 2400 < 0.42
    assert (seen.image[rows, columns].std(axis=0) > 50).all() and (seen.image[seen.index >= 0] == 7).all()
    assert (before.image == 7).all() and (before.index >= 0).all()


def test_the_largest_share_is_a_setting():
    shares = [
        (cutout(whole(), np.random.default_rng(seed), most=0.1).index == OUTSIDE).mean()
        for seed in range(100)
    ]
    assert min(shares) > 0.015 and 0.09 < max(shares) < 0.11
