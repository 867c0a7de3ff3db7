from dataclasses import dataclass

import numpy as np

from selftrain.data.mixing import box, cutmix


@dataclass(frozen=True)
class Pair:
    image: np.ndarray
    label: np.ndarray


def test_the_box_comes_from_the_partner_in_every_plane_and_the_rest_stays():
    mine = Pair(np.zeros((6, 8, 3), np.uint8), np.zeros((6, 8), np.uint8))
    other = Pair(np.ones((6, 8, 3), np.uint8), np.full((6, 8), 9, np.uint8))
    mixed = cutmix(mine, other, (slice(1, 3), slice(2, 6)))
    assert mixed.label.sum() == 9 * 8 and mixed.image.sum() == 3 * 8
    assert (mixed.label[1:3, 2:6] == 9).all() and not mine.label.any()


def test_boxes_lie_inside_and_vary():
    areas = []
    for seed in range(200):
        rows, columns = box(np.random.default_rng(seed), 20, 30)
        assert 0 <= rows.start <= 20 and 0 <= columns.start <= 30
        areas.append(np.ones((20, 30))[rows, columns].sum() / 600)
    assert min(areas) < 0.1 and max(areas) > 0.5
