import cv2
import numpy as np
import pytest

from selftrain.data import augment
from selftrain.data.augment import OUTSIDE, view


def gradient(height=40, width=60):
    """An image whose first two channels are its coordinates."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([4 * rows, 4 * columns, np.full_like(rows, 7)], axis=-1).astype(np.uint8)


def test_a_plain_crop_is_a_window_of_the_image():
    image = gradient()
    seen = view(image, np.random.default_rng(0), crop=(16, 32))
    top, left = divmod(int(seen.index[0, 0]), 60)
    assert np.array_equal(seen.image, image[top : top + 16, left : left + 32])
    assert np.array_equal(seen.take(image[..., 0], 255), seen.image[..., 0])


@pytest.mark.parametrize("seed", range(8))
def test_labels_move_with_the_pixels_whatever_the_geometry(seed, monkeypatch):
    geometric = tuple(operation for operation in augment.OPERATIONS if operation.geometry)
    monkeypatch.setattr(augment, "OPERATIONS", geometric)
    image = gradient()
    seen = view(image, np.random.default_rng(seed), crop=(32, 32), scale=(0.8, 1.4), flip=True, rand_n=2, rand_m=20)
    inside = seen.index != OUTSIDE
    rows, columns = np.divmod(seen.index, 60)
    # away from the border, bilinear values of a linear image tell where a pixel came from to a fraction of a pixel
    deep = inside & (rows > 1) & (rows < 38) & (columns > 1) & (columns < 58)
    assert deep.sum() > 50
    assert np.abs(seen.image[..., 0][deep] / 4 - rows[deep]).max() <= 0.8
    assert np.abs(seen.image[..., 1][deep] / 4 - columns[deep]).max() <= 0.8


def test_outside_of_the_image_is_grey_and_ignored():
    seen = view(gradient(10, 10), np.random.default_rng(0), crop=(32, 32))
    outside = seen.index == OUTSIDE
    assert outside.sum() == 32 * 32 - 100
    assert (seen.take(np.zeros((10, 10), np.uint8), 255) == 255).sum() == outside.sum()
    assert (seen.image[outside] == 128).all() and (seen.image[~outside][:, 2] == 7).all()


def test_colour_noise_has_the_probabilities_of_its_papers(monkeypatch):
    """Jitter of a black image shows nothing, so the parts are counted as they are called."""
    called = dict.fromkeys(("jitter", "grey", "blur"), 0)

    def counted(name):
        def part(image, *_):
            called[name] += 1
            return image

        return part

    monkeypatch.setattr(augment, "_jitter", counted("jitter"))
    monkeypatch.setattr(augment.pixel, "adjust_saturation_torchvision", counted("grey"))
    monkeypatch.setattr(augment.cv2, "GaussianBlur", counted("blur"))
    rng = np.random.default_rng(0)
    for _ in range(2000):
        augment.colour_noise(np.zeros((4, 4, 3), np.uint8), rng)
    assert np.allclose([count / 2000 for count in called.values()], (0.8, 0.2, 0.5), atol=0.04)


def test_noise_of_a_view_comes_as_often_as_asked_for():
    rng, image = np.random.default_rng(0), gradient()
    seen = [view(image, rng, crop=(40, 60), colour=0.7, cutout=0.3) for _ in range(600)]
    assert abs(np.mean([(one.index == OUTSIDE).any() for one in seen]) - 0.3) < 0.06
    unknown = np.stack([one.index == OUTSIDE for one in seen])
    changed = [(one.image[~none] != image[~none]).any() for one, none in zip(seen, unknown, strict=True)]
    # of noise by the three parts at 0.8, 0.2 and 0.5 a share of 0.08 is none, that of a weak blur next to none
    assert abs(np.mean(changed) - 0.7 * 0.92) < 0.08


@pytest.mark.parametrize("seed", range(4))
def test_cutout_is_a_box_of_random_pixels_without_label(seed):
    image = gradient()
    seen = view(image, np.random.default_rng(seed), crop=(40, 60), cutout=1.0)
    rows, columns = np.nonzero(seen.index == OUTSIDE)
    tall, wide = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert len(rows) == tall * wide and 0.015 < tall * wide / 2400 < 0.42
    assert seen.image[rows, columns].std() > 50 and np.array_equal(seen.image[seen.index >= 0], image[seen.index >= 0])


def test_colour_operations_leave_the_geometry_alone(monkeypatch):
    monkeypatch.setattr(augment, "OPERATIONS", tuple(o for o in augment.OPERATIONS if o.colour))
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    seen = view(image, np.random.default_rng(1), crop=(32, 32), rand_n=2, rand_m=15)
    assert np.array_equal(seen.index, np.arange(1024).reshape(32, 32))
    assert seen.image.dtype == np.uint8 and not np.array_equal(seen.image, image)


@pytest.mark.parametrize("operation", augment.OPERATIONS, ids=lambda operation: operation.name)
def test_strength_zero_changes_nothing_but_what_has_no_strength(operation):
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    if operation.colour and operation.name not in ("autocontrast", "equalize"):
        assert np.array_equal(operation.colour(image, 0.0), image)
    if operation.geometry:
        assert np.allclose(operation.geometry(0.0, (32, 32)), np.eye(3))


def test_magnitudes_are_those_of_the_paper():
    by_name = {operation.name: operation for operation in augment.OPERATIONS}
    assert len(by_name) == 14
    grey = np.full((4, 4, 3), 100, np.uint8)
    assert (by_name["brightness"].colour(grey, 1.0) == 190).all()
    assert (by_name["solarize"].colour(np.array([[[0, 127, 128]]], np.uint8), 0.5) == [0, 127, 127]).all()
    assert (by_name["posterize"].colour(np.full((1, 1, 3), 0b10111111, np.uint8), 1.0) == 0b10110000).all()
    rotation = by_name["rotate"].geometry(1.0, (32, 32))
    assert np.isclose(np.arccos(rotation[0, 0]), np.deg2rad(30))


def test_the_generator_decides_everything():
    image = gradient()
    settings = {"crop": (16, 16), "scale": (0.5, 2.0), "flip": True, "jitter": 0.4, "rand_n": 3, "rand_m": 12}
    first, again, other = (view(image, np.random.default_rng(seed), **settings) for seed in (5, 5, 6))
    assert np.array_equal(first.image, again.image) and np.array_equal(first.index, again.index)
    assert not np.array_equal(first.image, other.image)


def test_an_image_in_the_colours_of_another_one_has_its_mean_and_spread():
    rng = np.random.default_rng(0)
    image, other = rng.integers(60, 140, (40, 60, 3), dtype=np.uint8), rng.integers(90, 200, (20, 30, 3), dtype=np.uint8)
    lab = [cv2.cvtColor(one, cv2.COLOR_RGB2LAB).reshape(-1, 3) for one in (augment.in_colours_of(image, other), other)]
    assert np.allclose(lab[0].mean(axis=0), lab[1].mean(axis=0), atol=2)
    assert np.allclose(lab[0].std(axis=0), lab[1].std(axis=0), rtol=0.1)
    assert np.abs(augment.in_colours_of(image, image).astype(int) - image).max() <= 8  # what Lab of 8 bits loses
