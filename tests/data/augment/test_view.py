"""Crops as index maps: what an image, its mask and whatever lies outside of it become."""

import numpy as np
import pytest

from selftrain.data.augment.view import OUTSIDE, affine, crop_matrix, source_index, warp


def gradient(height=40, width=60, channels=3):
    """An image whose first two channels are its coordinates, times 4."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([4 * rows, 4 * columns, *[np.full_like(rows, 7)] * (channels - 2)], axis=-1).astype(
        np.uint8
    )


def test_a_crop_without_zoom_is_a_window_of_the_image():
    seen = warp(gradient(), crop_matrix(1.0, (3, 5)), (16, 32))
    assert np.array_equal(seen.image, gradient()[3:19, 5:37])
    assert np.array_equal(seen.take(gradient()[..., 0], 255), seen.image[..., 0])


def test_outside_of_the_image_is_grey_and_has_no_label():
    seen = warp(gradient(10, 10), crop_matrix(1.0, (-4, -6)), (32, 32))
    outside = seen.index == OUTSIDE
    assert outside.sum() == 32 * 32 - 100 and not outside[4:14, 6:16].any()
    assert (seen.take(np.zeros((10, 10), np.uint8), 255) == 255).sum() == outside.sum()
    assert (seen.image[outside] == 128).all() and (seen.image[~outside][:, 2] == 7).all()


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 9])
def test_images_of_any_channels_are_cropped_alike(channels):
    image = np.random.default_rng(0).integers(0, 256, (20, 30, channels), dtype=np.uint8)
    matrix = affine(a=1.3, b=0.2, c=-0.1, d=0.9) @ crop_matrix(1.2, (-2.0, 4.0))
    seen = warp(image, matrix, (32, 32))
    assert (
        seen.image.shape == (32, 32, channels)
        and (seen.image[seen.index == OUTSIDE].min(axis=0) <= 128).all()
    )
    for channel in range(channels):
        alone = np.repeat(image[..., channel : channel + 1], 3, axis=-1)
        assert np.array_equal(warp(alone, matrix, (32, 32)).image[..., 0], seen.image[..., channel])


def test_the_index_of_a_zoomed_crop_is_the_nearest_source_pixel():
    index = source_index((4, 4), crop_matrix(2.0, (0.0, 0.0)), (4, 8))
    assert index[0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3] and index[:, 0].tolist() == [0, 0, 4, 4]
