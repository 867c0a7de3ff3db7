"""Colour augmentations: functions (image, rng) -> image, (h, w, C) uint8. Every pixel keeps its place.

Entries that need RGB refuse images with other channels: skipping such images would silently ignore a setting.
"""

from collections.abc import Callable
from typing import Annotated

import albumentations.augmentations.pixel.functional as pixel
import cv2
import numpy as np

from selftrain.data.bands import RGB
from selftrain.errors import ConfigError
from selftrain.tables import Bounds

Colour = Callable[..., np.ndarray]


def need_rgb(image: np.ndarray, name: str) -> None:
    """Raises ConfigError for an image (h, w, C) that is not RGB; `name`: the augmentation or its setting."""
    if image.shape[2] != RGB:
        raise ConfigError(
            f"{name} needs images of 3 channels (RGB), and these have {image.shape[2]}; "
            "switch it off (noise.colour, noise.colours, noise.rand_n, noise.policy, noise.style)"
        )


def jitter(
    image: np.ndarray,
    rng: np.random.Generator,
    *,
    strength: Annotated[float, Bounds(0, 1), "largest relative change"] = 0.5,
) -> np.ndarray:
    """Random brightness, contrast and, of RGB, saturation, by factors in 1 +- `strength`."""
    brightness, contrast, saturation = rng.uniform(1 - strength, 1 + strength, size=3)
    if image.shape[2] != RGB:
        return _relit(image, brightness, contrast)
    image = pixel.adjust_brightness_torchvision(image, brightness)
    image = pixel.adjust_contrast_torchvision(image, contrast)
    return pixel.adjust_saturation_torchvision(image, saturation)


def _relit(image: np.ndarray, brightness: float, contrast: float) -> np.ndarray:
    """Brightness, then contrast about the mean of all channels, which share both factors."""
    bright = np.clip(np.arange(256) * brightness, 0, 255)  # (256,), of each grey level
    mean = bright[image].mean()
    return np.clip(mean + contrast * (bright - mean), 0, 255).round().astype(np.uint8)[image]


def hue(
    image: np.ndarray,
    rng: np.random.Generator,
    *,
    shift: Annotated[float, Bounds(0, 0.5), "largest shift, as a share of the colour circle"] = 0.25,
) -> np.ndarray:
    """A random shift of the hue, the same for the whole image."""
    need_rgb(image, "hue")
    return pixel.adjust_hue_torchvision(image, rng.uniform(-shift, shift))


def greyscale(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Greyscale: the brightness in all three channels."""
    need_rgb(image, "greyscale")
    return pixel.adjust_saturation_torchvision(image, 0.0)


def blur(
    image: np.ndarray,
    rng: np.random.Generator,
    *,
    most: Annotated[float, Bounds(0.1), "largest standard deviation in pixels; the least is 0.1"] = 2.0,
) -> np.ndarray:
    """A Gaussian blur, for images with any number of channels."""
    return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.1, most)).reshape(image.shape)


def colour_noise(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Jitter and hue (0.8), greyscale (0.2), blur (0.5), as in ST++ and UniMatch (Yang et al.)."""
    need_rgb(image, "colour_noise")
    jittered, grey, blurred = rng.uniform(size=3) < (0.8, 0.2, 0.5)
    if jittered:
        image = hue(jitter(image, rng), rng)
    if grey:
        image = greyscale(image, rng)
    return blur(image, rng) if blurred else image


def brightness(
    image: np.ndarray,
    rng: np.random.Generator,
    *,
    strength: Annotated[float, Bounds(0, 1), "largest relative change"] = 0.5,
) -> np.ndarray:
    """All values times one factor in 1 +- `strength`, for images with any number of channels."""
    return pixel.adjust_brightness_torchvision(image, rng.uniform(1 - strength, 1 + strength))


def contrast(
    image: np.ndarray,
    rng: np.random.Generator,
    *,
    strength: Annotated[float, Bounds(0, 1), "largest relative change"] = 0.5,
) -> np.ndarray:
    """Distances from the mean brightness times a factor in 1 +- `strength`, for any number of channels."""
    factor = rng.uniform(1 - strength, 1 + strength)
    if image.shape[2] != RGB:
        return _relit(image, 1.0, factor)
    return pixel.adjust_contrast_torchvision(image, factor)


def saturation(
    image: np.ndarray,
    rng: np.random.Generator,
    *,
    strength: Annotated[float, Bounds(0, 1), "largest relative change"] = 0.5,
) -> np.ndarray:
    """Distances of the channels from grey times a factor in 1 +- `strength`."""
    need_rgb(image, "saturation")
    return pixel.adjust_saturation_torchvision(image, rng.uniform(1 - strength, 1 + strength))


def noise(
    image: np.ndarray,
    rng: np.random.Generator,
    *,
    most: Annotated[float, Bounds(0, 255), "largest standard deviation, in grey levels of 255"] = 25.0,
) -> np.ndarray:
    """Gaussian noise, drawn for each value, for images with any number of channels."""
    spread = rng.uniform(0, most)
    return pixel.add_noise(image, rng.normal(0, spread, image.shape).round())


def jpeg(
    image: np.ndarray,
    rng: np.random.Generator,
    *,
    worst: Annotated[int, Bounds(1, 100), "lowest quality of JPEG; the highest is 100"] = 30,
) -> np.ndarray:
    """The traces of compression as JPEG, for images with any number of channels."""
    return pixel.image_compression(image, int(rng.integers(worst, 101)), ".jpg")


COLOUR: dict[str, Colour] = {
    "jitter": jitter,
    "hue": hue,
    "greyscale": greyscale,
    "blur": blur,
    "colour_noise": colour_noise,
    "brightness": brightness,
    "contrast": contrast,
    "saturation": saturation,
    "noise": noise,
    "jpeg": jpeg,
}
OF_RGB = ("hue", "greyscale", "colour_noise", "saturation")  # entries that refuse other channels


def in_colours_of(image: np.ndarray, other: np.ndarray) -> np.ndarray:
    """`image` (H, W, 3) uint8 with the mean and standard deviation of each Lab channel of `other`.

    After Reinhard et al. 2001. Unchanged if the two images are of different modalities: stained tissue in the
    colours of fluorescence would show dark nuclei on a black background.
    """
    need_rgb(image, "noise.style")
    here, there = cv2.cvtColor(image, cv2.COLOR_RGB2LAB), cv2.cvtColor(other, cv2.COLOR_RGB2LAB)
    (mean, spread), (wanted_mean, wanted_spread) = cv2.meanStdDev(here), cv2.meanStdDev(there)
    if not _of_a_kind(mean[0], spread[0], wanted_mean[0], wanted_spread[0]):
        return image
    moved = (np.arange(256)[None] - mean) / np.maximum(spread, 1) * wanted_spread + wanted_mean  # (3, 256)
    table = np.clip(moved.round(), 0, 255).astype(np.uint8).T[None]  # (1, 256, 3)
    return cv2.cvtColor(cv2.LUT(here, table), cv2.COLOR_LAB2RGB)


def _of_a_kind(mean: float, spread: float, other_mean: float, other_spread: float) -> bool:
    """Whether two lightnesses (mean and standard deviation, 0..255) are of similar images in other light."""
    wide, narrow = max(spread, other_spread), min(spread, other_spread)
    return abs(mean - other_mean) < 2.5 * wide + 1 and wide + 1 < 2 * (narrow + 1)
