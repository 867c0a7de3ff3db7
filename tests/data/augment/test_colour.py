"""Changes of colour."""

from functools import partial

import cv2
import numpy as np
import pytest

from selftrain.data.augment import colour
from selftrain.data.augment.colour import (
    COLOUR,
    blur,
    brightness,
    colour_noise,
    contrast,
    greyscale,
    hue,
    in_colours_of,
    jitter,
    jpeg,
    noise,
    saturation,
)
from selftrain.errors import ConfigError

IMAGE = np.random.default_rng(0).integers(60, 200, (32, 32, 3), dtype=np.uint8)


def test_jitter_keeps_brightness_within_its_strength():
    flat = np.full((4, 4, 3), 100, np.uint8)
    values = [jitter(flat, np.random.default_rng(seed), strength=0.2).mean() for seed in range(300)]
    assert 79 <= min(values) < 85 and 115 < max(values) <= 121
    assert np.array_equal(jitter(IMAGE, np.random.default_rng(0), strength=0.0), IMAGE)


def test_a_third_of_the_colour_circle_makes_red_green_or_blue():
    red = np.zeros((2, 2, 3), np.uint8)
    red[..., 0] = 200
    hues = [hue(red, np.random.default_rng(seed), shift=0.5)[0, 0] for seed in range(200)]
    assert {int(one.argmax()) for one in hues} == {0, 1, 2} and all(one.max() == 200 for one in hues)
    assert np.array_equal(hue(red, np.random.default_rng(0), shift=0.0), red)


def test_greyscale_makes_three_equal_channels():
    grey = greyscale(IMAGE, np.random.default_rng(0))
    assert (grey[..., 0] == grey[..., 1]).all() and (grey[..., 1] == grey[..., 2]).all() and grey.std() > 5


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_jitter_of_other_channels_than_rgb_changes_brightness_and_contrast_alike(channels):
    image = np.random.default_rng(0).integers(60, 120, (32, 32, channels), dtype=np.uint8)
    rng = np.random.default_rng(3)
    brightness, contrast, _ = np.random.default_rng(3).uniform(0.7, 1.3, size=3)
    found = jitter(image, rng, strength=0.3)
    bright = image * brightness
    assert np.abs(found - ((bright - bright.mean()) * contrast + bright.mean())).max() <= 0.5
    assert rng.uniform() == np.random.default_rng(3).uniform(size=4)[3]  # as many draws as for RGB


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_blur_evens_out_images_of_any_channels(channels):
    image = np.random.default_rng(0).integers(0, 256, (32, 32, channels), dtype=np.uint8)
    spreads = [blur(image, np.random.default_rng(seed), most=3.0).std() for seed in range(50)]
    assert blur(image, np.random.default_rng(0)).shape == image.shape
    assert min(spreads) < 0.25 * image.std() and max(spreads) <= image.std()


def test_colour_noise_has_the_probabilities_of_its_papers(monkeypatch):
    """Jitter of a black image shows nothing, so the parts are counted as they are called."""
    called = dict.fromkeys(("jitter", "greyscale", "blur"), 0)

    def counted(name):
        def part(image, rng):
            called[name] += 1
            return image

        return part

    for name in called:
        monkeypatch.setattr(colour, name, counted(name))
    rng = np.random.default_rng(0)
    for _ in range(2000):
        colour_noise(np.zeros((4, 4, 3), np.uint8), rng)
    assert np.allclose([count / 2000 for count in called.values()], (0.8, 0.2, 0.5), atol=0.04)


@pytest.mark.parametrize("name", ["hue", "greyscale", "colour_noise", "saturation"])
def test_what_needs_rgb_refuses_other_channels_and_names_the_settings(name):
    with pytest.raises(
        ConfigError, match=rf"^{name} needs images of 3 channels \(RGB\), and these have 5; .*noise\.colours"
    ):
        COLOUR[name](np.zeros((8, 8, 5), np.uint8), np.random.default_rng(0))
    assert set(colour.OF_RGB) == {"hue", "greyscale", "colour_noise", "saturation"}


def drawn(entry, image=IMAGE, count=200, **settings):
    """The results of an entry over many seeds, (count, h, w, C) float."""
    return np.stack([entry(image, np.random.default_rng(seed), **settings) for seed in range(count)]) * 1.0


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_brightness_scales_all_values_and_contrast_their_distance_from_the_mean(channels):
    image = np.full((8, 8, channels), 100, np.uint8)
    image[:, 4:] = 120
    bright, hard = drawn(brightness, image, strength=0.4), drawn(contrast, image, strength=0.4)
    means, steps = bright.mean(axis=(1, 2, 3)) / 110, np.ptp(hard, axis=(1, 2, 3)) / 20
    assert np.allclose(bright[:, 0, 4] / bright[:, 0, 0], 1.2, atol=0.02)
    assert np.allclose(hard.mean(axis=(1, 2, 3)), 110, atol=1)
    for found in (means, steps):
        assert 0.58 <= found.min() < 0.67 and 1.33 < found.max() <= 1.42


def test_saturation_scales_the_distance_from_grey_and_keeps_the_brightness():
    image = np.full((4, 4, 3), (140, 100, 60), np.uint8)
    found = drawn(saturation, image, strength=0.5)
    factors = np.ptp(found, axis=3)[:, 0, 0] / 80
    assert 0.49 <= factors.min() < 0.55 and 1.45 < factors.max() <= 1.51
    brightness_of = found[:, 0, 0] @ (0.299, 0.587, 0.114)
    assert np.ptp(brightness_of) < 2


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_noise_is_gaussian_up_to_its_spread_and_of_its_own_in_each_value(channels):
    image = np.full((64, 64, channels), 128, np.uint8)
    found = drawn(noise, image, most=10) - 128
    spreads = found.std(axis=(1, 2, 3))
    assert spreads.min() < 0.5 and 9 < spreads.max() < 10.5 and abs(found.mean()) < 0.1
    loudest = found[spreads.argmax()]
    assert np.mean(np.abs(loudest) < loudest.std()) == pytest.approx(0.68, abs=0.05)
    if channels > 1:
        assert abs(np.corrcoef(loudest[..., 0].ravel(), loudest[..., 1].ravel())[0, 1]) < 0.1


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_jpeg_loses_more_the_worse_the_quality(channels):
    image = np.random.default_rng(0).integers(60, 200, (32, 32, channels), dtype=np.uint8)
    image = blur(image, np.random.default_rng(0), most=2.0)
    lost = [np.abs(drawn(jpeg, image, 30, worst=worst) - image).mean() for worst in (5, 40, 100)]
    assert lost[0] > 1.1 * lost[1] > 1.1 * lost[2]
    assert jpeg(image, np.random.default_rng(0)).shape == image.shape


@pytest.mark.parametrize("entry", [brightness, contrast, saturation, partial(noise, most=0)])
def test_no_strength_is_no_change(entry):
    settings = {} if isinstance(entry, partial) else {"strength": 0.0}
    assert np.array_equal(entry(IMAGE, np.random.default_rng(0), **settings), IMAGE)


def test_an_image_in_the_colours_of_another_one_has_its_mean_and_spread():
    rng = np.random.default_rng(0)
    image, other = (
        rng.integers(60, 140, (40, 60, 3), dtype=np.uint8),
        rng.integers(90, 200, (20, 30, 3), dtype=np.uint8),
    )
    lab = [
        cv2.cvtColor(one, cv2.COLOR_RGB2LAB).reshape(-1, 3) for one in (in_colours_of(image, other), other)
    ]
    assert np.allclose(lab[0].mean(axis=0), lab[1].mean(axis=0), atol=2)
    assert np.allclose(lab[0].std(axis=0), lab[1].std(axis=0), rtol=0.1)
    assert np.abs(in_colours_of(image, image).astype(int) - image).max() <= 8  # what Lab of 8 bits loses
