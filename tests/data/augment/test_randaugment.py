"""RandAugment's operations and their strengths."""

import numpy as np
import pytest

from selftrain.data.augment import randaugment
from selftrain.data.augment.randaugment import OPERATIONS, RandAugment, moved, recoloured
from selftrain.errors import ConfigError


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_strength_zero_changes_nothing_but_what_has_no_strength(operation):
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    if operation.colour and operation.name not in ("autocontrast", "equalize"):
        assert np.array_equal(operation.colour(image, 0.0), image)
    if operation.geometry:
        assert np.allclose(operation.geometry(0.0, (32, 32)), np.eye(3))


def test_magnitudes_are_those_of_the_paper():
    by_name = {operation.name: operation for operation in OPERATIONS}
    assert len(by_name) == 14
    grey = np.full((4, 4, 3), 100, np.uint8)
    assert (by_name["brightness"].colour(grey, 1.0) == 190).all()
    assert (by_name["solarize"].colour(np.array([[[0, 127, 128]]], np.uint8), 0.5) == [0, 127, 127]).all()
    assert (by_name["posterize"].colour(np.full((1, 1, 3), 0b10111111, np.uint8), 1.0) == 0b10110000).all()
    rotation = by_name["rotate"].geometry(1.0, (32, 32))
    assert np.isclose(np.arccos(rotation[0, 0]), np.deg2rad(30))


def test_strengths_are_the_magnitude_over_thirty_with_either_sign():
    strengths = RandAugment(1000, 12.0).strengths(np.random.default_rng(0))
    assert set(strengths) == {0.4, -0.4} and 400 < strengths.count(0.4) < 600


def test_each_operation_acts_at_its_own_strength_in_its_order():
    by_name = {operation.name: operation for operation in OPERATIONS}
    shear, shift = by_name["shear_x"], by_name["translate_y"]
    matrix = moved(np.eye(3), [(shear, 1.0), (shift, 0.5)], (32, 64))
    assert np.allclose(matrix @ [31.5, 15.5, 1], [31.5, 15.5 + 0.5 * 32 * 150 / 331, 1])
    assert np.isclose(matrix[0, 1], 0.3)
    grey = np.full((2, 2, 3), 100, np.uint8)
    assert (
        recoloured(grey, [(by_name["brightness"], 1.0), (by_name["posterize"], 1.0)]) == 176
    ).all()  # 190 & 0xF0


def test_images_of_other_channels_are_refused_whatever_is_drawn():
    with pytest.raises(ConfigError, match=r"noise\.rand_n or noise\.policy needs images of 3 channels"):
        recoloured(np.zeros((4, 4, 2), np.uint8), [(randaugment.Operation("identity"), 0.0)])
    assert recoloured(np.zeros((4, 4, 2), np.uint8), []).shape == (4, 4, 2)
