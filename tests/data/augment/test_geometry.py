"""Affine maps of crops, seen on small images worked by hand."""

import numpy as np
import pytest

from selftrain.data.augment.geometry import GEOMETRY, flip, rotate, rotate90, shear_shift_scale, vflip
from selftrain.data.augment.view import OUTSIDE, warp

IMAGE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def seen(entry, seed=0, image=IMAGE, **settings):
    """`image` as the entry maps it, and its indices."""
    matrix = entry(np.random.default_rng(seed), image.shape[:2], **settings)
    return warp(image, matrix, image.shape[:2])


@pytest.mark.parametrize(("entry", "expected"), [(flip, IMAGE[:, ::-1]), (vflip, IMAGE[::-1])])
def test_flips_are_exact_in_images_and_labels(entry, expected):
    assert np.array_equal(seen(entry).image, expected)
    assert np.array_equal(seen(entry).take(IMAGE[..., 0], 255), expected[..., 0])


def test_flips_of_wide_crops_use_the_right_side():
    wide = IMAGE[:16]
    assert np.array_equal(seen(flip, image=wide).image, wide[:, ::-1])
    assert np.array_equal(seen(vflip, image=wide).image, wide[::-1])


def test_quarter_turns_are_exact_and_come_equally_often():
    turns = [np.rot90(IMAGE, k) for k in (1, 2, 3)]
    counts = np.zeros(3)
    for seed in range(300):
        one = seen(rotate90, seed)
        assert np.array_equal(one.take(IMAGE[..., 1], 255), one.image[..., 1])
        counts += [np.array_equal(one.image, turned) for turned in turns]
    assert counts.sum() == 300 and (counts > 70).all()


def test_a_quarter_turn_of_a_wide_crop_leaves_its_ends_without_label():
    wide = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    views = [seen(rotate90, seed, wide) for seed in range(20)]
    ends = np.array(
        [(one.index[:, :16] == OUTSIDE).all() and (one.index[:, 48:] == OUTSIDE).all() for one in views]
    )
    whole = np.array([np.array_equal(one.image, wide[::-1, ::-1]) for one in views])
    assert ends.any() and whole.any() and (ends | whole).all()
    assert all((one.index[:, 16:48] != OUTSIDE).all() for one in views)


def test_rotations_are_about_the_centre_by_uniform_angles():
    angles = []
    for seed in range(500):
        matrix = rotate(np.random.default_rng(seed), (32, 64), degrees=40)
        assert np.allclose(matrix @ [31.5, 15.5, 1], [31.5, 15.5, 1])
        assert np.allclose(matrix[:2, :2] @ matrix[:2, :2].T, np.eye(2))
        angles.append(np.rad2deg(np.arctan2(matrix[0, 1], matrix[0, 0])))
    assert -40 <= min(angles) < -38 and 38 < max(angles) <= 40 and abs(np.mean(angles)) < 3


def test_labels_turn_with_the_image():
    rows, columns = np.mgrid[:48, :48]
    image = np.stack([4 * rows, 4 * columns, rows], axis=-1).astype(np.uint8)
    one = seen(rotate, 3, image, degrees=90)
    inside = np.zeros((48, 48), bool)
    inside[16:32, 16:32] = True
    assert np.abs(one.image[..., 0][inside] / 4 - one.index[inside] // 48).max() <= 0.8
    assert np.abs(one.image[..., 1][inside] / 4 - one.index[inside] % 48).max() <= 0.8
    assert (one.index == OUTSIDE).any()


def affine_of(seed, **settings):
    off = {"shear": 0.0, "shift": 0.0, "scale": 1.0}
    return shear_shift_scale(np.random.default_rng(seed), (32, 64), **{**off, **settings})


def test_each_part_of_an_affine_change_acts_on_its_own():
    centre = np.array([31.5, 15.5, 1])
    shears = np.stack([affine_of(seed, shear=0.4) for seed in range(300)])
    assert np.allclose(shears @ centre, centre) and np.allclose(shears[:, [0, 1], [0, 1]], 1)
    shifts = np.stack([affine_of(seed, shift=0.25) for seed in range(300)])
    assert np.allclose(shifts[:, :2, :2], np.eye(2))
    scales = np.stack([affine_of(seed, scale=2.0) for seed in range(300)])
    assert np.allclose(scales @ centre, centre) and np.allclose(scales[:, 0, 0], scales[:, 1, 1])
    for found, most in (
        (shears[:, 0, 1], 0.4),
        (shears[:, 1, 0], 0.4),
        (shifts[:, 0, 2], 16),
        (shifts[:, 1, 2], 8),
        (np.log2(scales[:, 0, 0]), 1),
    ):
        assert 0.95 * most < found.max() <= most and -most <= found.min() < -0.95 * most
        assert abs(found.mean()) < 0.15 * most
    assert np.allclose(affine_of(0), np.eye(3))


def test_the_largest_shear_can_still_be_inverted():
    for seed in range(300):
        matrix = shear_shift_scale(np.random.default_rng(seed), (32, 64), shear=0.9, shift=1, scale=10)
        assert np.linalg.det(matrix) > 1e-4


def test_no_angle_is_no_change():
    assert np.allclose(rotate(np.random.default_rng(0), (32, 32), degrees=0), np.eye(3))


def test_flip_comes_first_in_the_table():
    """Runs of earlier versions draw their flip before everything that came later."""
    assert next(iter(GEOMETRY)) == "flip"
