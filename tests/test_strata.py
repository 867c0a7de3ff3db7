"""Divisions of images into parts that have whole groups and like classes."""

import numpy as np
import pytest

from selftrain.data.splits import hold_out
from selftrain.errors import ConfigError
from selftrain.rng import generator
from selftrain.strata import folds, stratified


def masks(seed, images=60):
    """Class shares (N, 5): a background, and classes that occur in a half, a third, a sixth and a tenth of images."""
    rng = generator("masks", seed)
    area = rng.lognormal(-3, 1, size=(images, 4)) * (rng.random((images, 4)) < [1 / 2, 1 / 3, 1 / 6, 1 / 10])
    area = area / np.maximum(1, area.sum(axis=1, keepdims=True) / 0.9)
    return np.concatenate([1 - area.sum(axis=1, keepdims=True), area], axis=1)


def unlike(content, parts):
    """How far the parts are from equal in presence and area of classes, as mean relative deviations."""
    traits = np.concatenate([content > 0, content], axis=1)
    sums = np.stack([traits[np.array(parts) == part].sum(axis=0) for part in sorted(set(parts))])
    return float((sums.std(axis=0) / sums.mean(axis=0)).mean())


def test_stratified_folds_are_far_more_alike_than_random_ones():
    plain, like = [], []
    for seed in range(10):
        content = masks(seed)
        plain.append(unlike(content, folds([""] * 60, 5, (seed,))))
        fold_of = folds([""] * 60, 5, (seed,), content)
        assert np.bincount(fold_of).tolist() == [12] * 5
        like.append(unlike(content, fold_of))
    assert np.mean(like) < 0.6 * np.mean(plain) and all(a < b for a, b in zip(like, plain, strict=True))


def test_a_class_of_as_many_images_as_folds_is_in_every_fold():
    content = np.zeros((20, 2))
    content[:, 0], content[[1, 5, 6, 13], :] = 1, [0.75, 0.25]
    for seed in range(20):
        fold_of = folds([""] * 20, 4, (seed,), content)
        assert sorted(fold_of[i] for i in (1, 5, 6, 13)) == [0, 1, 2, 3]
        assert np.bincount(fold_of).tolist() == [5] * 4
    assert folds([""] * 20, 4, (0,), content) == folds([""] * 20, 4, (0,), content)
    assert folds([""] * 20, 4, (0,), content) != folds([""] * 20, 4, (1,), content)


def test_areas_are_alike_too():
    """Every image has both classes: four of them half of it, eight a hundredth."""
    content = np.array([[0.5, 0.5]] * 4 + [[0.99, 0.01]] * 8)
    for seed in range(10):
        fold_of = folds([""] * 12, 4, (seed,), content)
        assert sorted(fold_of[:4]) == [0, 1, 2, 3]


def test_stratified_folds_divide_no_group_and_none_is_empty():
    groups = [f"scene {i % 11}" for i in range(54)] + [""] * 6
    plain, like = [], []
    for seed in range(10):
        content = masks(seed)
        fold_of = folds(groups, 4, (seed,), content)
        for group in set(groups) - {""}:
            assert len({fold for fold, own in zip(fold_of, groups, strict=True) if own == group}) == 1
        sizes = np.bincount(fold_of, minlength=4)
        assert sizes.sum() == 60 and sizes.min() >= 10 and sizes.max() <= 20
        plain.append(unlike(content, folds(groups, 4, (seed,))))
        like.append(unlike(content, fold_of))
    assert np.mean(like) < np.mean(plain)


def test_every_part_gets_a_group_however_large_the_groups_are():
    content = np.ones((9, 1))
    parts = stratified(list("aaabbbccc"), [0.1, 0.1, 0.8], content, (0,))
    assert sorted(parts) == [0] * 3 + [1] * 3 + [2] * 3
    with pytest.raises(ConfigError, match=r"members.folds=4.*only 3 groups"):
        folds(list("aaabbbccc"), 4, (0,), content)


def test_held_out_images_are_stratified_if_masks_are_read():
    content = np.zeros((40, 3))
    content[:, 0], content[:5] = 1, [0.9, 0.1, 0]
    content[5:10] = [0.8, 0, 0.2]
    for seed in range(10):
        test, val = hold_out([""] * 40, [0.2, 0.2], seed=seed, content=lambda: content)
        assert len(test) == len(val) == 8 and not {*test} & {*val}
        for part in (test, val):
            assert sum(i < 5 for i in part) == 1 and sum(5 <= i < 10 for i in part) == 1
        none, only = hold_out([""] * 40, [0.0, 0.25], seed=seed, content=lambda: content)
        assert none == [] and len(only) == 10
