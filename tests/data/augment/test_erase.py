"""Pixels that are taken away with their labels."""

import numpy as np
import pytest

from selftrain.data.augment.erase import ERASE, coarse_dropout, cutout, gridmask
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


def test_coarse_dropout_erases_up_to_a_number_of_boxes_up_to_a_size():
    lone = [coarse_dropout(whole(), np.random.default_rng(seed), number=1, size=0.3) for seed in range(200)]
    boxes = [np.nonzero(one.index == OUTSIDE) for one in lone]
    tall, wide = (np.array([np.ptp(box[axis]) + 1 for box in boxes]) for axis in (0, 1))
    assert all(len(box[0]) == t * w for box, t, w in zip(boxes, tall, wide, strict=True))
    assert tall.min() <= 2 and tall.max() in (11, 12) and wide.min() <= 3 and wide.max() in (17, 18)
    many = [coarse_dropout(whole(), np.random.default_rng(seed), number=9, size=0.3) for seed in range(200)]
    one, nine = (np.mean([(seen.index == OUTSIDE).mean() for seen in found]) for found in (lone, many))
    assert 3 * one < nine < 5 * one  # five boxes on average, which may overlap


@pytest.mark.parametrize("seed", range(3))
def test_gridmask_erases_the_ratio_of_each_cell(seed):
    seen = gridmask(whole(), np.random.default_rng(seed), ratio=0.5, holes=2)
    gone = seen.index == OUTSIDE  # cells of 20 x 30 pixels
    for rows in (slice(0, 20), slice(20, 40)):
        for columns in (slice(0, 30), slice(30, 60)):
            assert gone[rows, columns].sum() == 10 * 15
    fixed = gridmask(whole(), np.random.default_rng(seed), ratio=0.5, holes=2, random_offset=False)
    assert (fixed.index[:10, :15] == OUTSIDE).all() and not np.array_equal(fixed.index == OUTSIDE, gone)


def test_more_holes_than_a_small_crop_has_room_for_are_as_many_as_fit():
    tiny = View(np.zeros((8, 8, 3), np.uint8), np.arange(64).reshape(8, 8))
    assert (gridmask(tiny, np.random.default_rng(0), holes=64).index == OUTSIDE).sum() == 16


@pytest.mark.parametrize("entry", [coarse_dropout, gridmask])
def test_erased_pixels_are_grey_and_keep_their_labels_only_if_asked(entry):
    before = whole(5)
    without, kept = (entry(before, np.random.default_rng(1), keep_labels=keep) for keep in (False, True))
    assert np.array_equal(without.image, kept.image) and np.array_equal(kept.index, before.index)
    gone = without.index == OUTSIDE
    assert gone.any() and (without.image[gone] == 128).all() and (without.image[~gone] == 7).all()
    assert (without.index[~gone] == before.index[~gone]).all()


@pytest.mark.parametrize("name", ERASE)
def test_nothing_that_is_received_is_changed(name):
    before = whole()
    ERASE[name](before, np.random.default_rng(0))
    assert (before.image == 7).all() and (before.index >= 0).all()
