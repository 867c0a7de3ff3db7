"""Augmentation of one image and of everything that is known about its pixels.

All geometry (zoom, crop, flip, RandAugment's rotations, shears and shifts) is one affine map, applied once: to the image
bilinearly, and with nearest to a map of flat source indices. Whatever belongs to the pixels (masks, soft labels, weights)
is gathered by that map, so it moves exactly alike, at the cost of the crop and not of the image.
"""

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # before the import: it asks a server for news

from collections.abc import Callable
from dataclasses import dataclass

import albumentations.augmentations.pixel.functional as pixel
import cv2
import numpy as np

cv2.setNumThreads(0)  # loader processes share the cores already

GREY = (128, 128, 128)  # fills what lies outside of the image, as in RandAugment
OUTSIDE = -1  # index of such pixels
MAX_MAGNITUDE = 30.0


@dataclass(frozen=True)
class View:
    """An augmented crop: `image` (h, w, 3) uint8 and, per pixel, the flat `index` (h, w) into the source or OUTSIDE."""

    image: np.ndarray
    index: np.ndarray

    def take(self, plane: np.ndarray, fill: int) -> np.ndarray:
        """What `plane` (H, W) of the source says about each pixel of the crop; `fill` outside. (h, w)"""
        return np.where(self.index == OUTSIDE, plane.dtype.type(fill), plane.reshape(-1)[self.index])


def view(
    image: np.ndarray,
    rng: np.random.Generator,
    *,
    crop: tuple[int, int],
    scale: tuple[float, float] = (1.0, 1.0),
    flip: bool = False,
    jitter: float = 0.0,
    rand_n: int = 0,
    rand_m: float = 0.0,
    colour: float = 0.0,
    cutout: float = 0.0,
) -> View:
    """A random crop of `image` (H, W, 3) uint8: zoom, place, flip and jitter, then RandAugment (N operations of magnitude M).

    `colour` and `cutout` are the probabilities of `colour_noise` and of a box of noise without label.

    RandAugment's geometry is composed with the crop's and its colour operations follow in their order, so the operations
    of one image commute only approximately with the paper's strict sequence; nothing is resampled twice.
    """
    operations = [OPERATIONS[i] for i in rng.integers(len(OPERATIONS), size=rand_n)]
    matrix = _crop_matrix(image.shape[:2], rng, crop=crop, scale=scale, flip=flip)
    signs = rng.choice([-1.0, 1.0], size=rand_n)
    for operation, sign in zip(operations, signs, strict=True):
        if operation.geometry:
            matrix = _about_centre(operation.geometry(sign * rand_m / MAX_MAGNITUDE, crop), crop) @ matrix
    warped = _warp(image, matrix, crop)
    pixels = _jitter(warped.image, rng, jitter) if jitter else warped.image
    for operation, sign in zip(operations, signs, strict=True):
        if operation.colour:
            pixels = operation.colour(pixels, sign * rand_m / MAX_MAGNITUDE)
    if colour and rng.uniform() < colour:
        pixels = colour_noise(pixels, rng)
    if cutout and rng.uniform() < cutout:
        return _cut_out(View(pixels, warped.index), rng)
    return View(pixels, warped.index)


def views(
    image: np.ndarray,
    rng: np.random.Generator,
    *,
    strong: int,
    crop: tuple[int, int],
    scale: tuple[float, float] = (1.0, 1.0),
    flip: bool = False,
    jitter: float = 0.0,
    colour: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """One random crop seen several times: (1 + strong, h, w, 3) uint8, the first without noise, and its `index` (h, w)."""
    weak = view(image, rng, crop=crop, scale=scale, flip=flip, jitter=jitter)
    noisy = [colour_noise(weak.image, rng) if rng.uniform() < colour else weak.image for _ in range(strong)]
    return np.stack([weak.image, *noisy]), weak.index


def colour_noise(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Strong noise without geometry: jitter (0.8), greyscale (0.2), blur (0.5), as in ST++ and UniMatch (Yang et al.)."""
    jitter, grey, blur = rng.uniform(size=3) < (0.8, 0.2, 0.5)
    if jitter:
        image = pixel.adjust_hue_torchvision(_jitter(image, rng, 0.5), rng.uniform(-0.25, 0.25))
    if grey:
        image = pixel.adjust_saturation_torchvision(image, 0.0)
    if blur:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.1, 2.0))
    return image


def in_colours_of(image: np.ndarray, other: np.ndarray) -> np.ndarray:
    """`image` with the mean and standard deviation of each Lab channel of `other` (Reinhard et al. 2001); (H, W, 3) uint8.

    As it is where they are of two kinds: stained tissue in the colours of fluorescence shows dark nuclei on black ground.
    """
    here, there = cv2.cvtColor(image, cv2.COLOR_RGB2LAB), cv2.cvtColor(other, cv2.COLOR_RGB2LAB)
    (mean, spread), (wanted_mean, wanted_spread) = cv2.meanStdDev(here), cv2.meanStdDev(there)
    if not _of_a_kind(mean[0], spread[0], wanted_mean[0], wanted_spread[0]):
        return image
    moved = (np.arange(256)[None] - mean) / np.maximum(spread, 1) * wanted_spread + wanted_mean  # (3, 256)
    table = np.clip(moved.round(), 0, 255).astype(np.uint8).T[None]  # (1, 256, 3)
    return cv2.cvtColor(cv2.LUT(here, table), cv2.COLOR_LAB2RGB)


def _of_a_kind(mean: float, spread: float, other_mean: float, other_spread: float) -> bool:
    """Whether two lightnesses (mean and standard deviation, of 255) are those of like images in other light."""
    wide, narrow = max(spread, other_spread), min(spread, other_spread)
    return abs(mean - other_mean) < 2.5 * wide + 1 and wide + 1 < 2 * (narrow + 1)


def _cut_out(seen: View, rng: np.random.Generator) -> View:
    """A box of random pixels, of which nothing is known (DeVries & Taylor 2017; sizes as in ST++)."""
    height, width = seen.index.shape
    area, ratio = rng.uniform(0.02, 0.4) * height * width, rng.uniform(0.3, 1 / 0.3)
    tall, wide = min(round(np.sqrt(area * ratio)), height), min(round(np.sqrt(area / ratio)), width)
    top, left = rng.integers(height - tall + 1), rng.integers(width - wide + 1)
    image, index = seen.image.copy(), seen.index.copy()
    image[top : top + tall, left : left + wide] = rng.integers(256, size=(tall, wide, 3), dtype=np.uint8)
    index[top : top + tall, left : left + wide] = OUTSIDE
    return View(image, index)


def _crop_matrix(
    size: tuple[int, int], rng: np.random.Generator, *, crop: tuple[int, int], scale: tuple[float, float], flip: bool
) -> np.ndarray:
    """Source pixel -> crop pixel, homogeneous (3, 3). An image smaller than the crop lies somewhere inside of it."""
    zoom = float(np.exp(rng.uniform(np.log(scale[0]), np.log(scale[1]))))
    top, left = (rng.uniform() * (side * zoom - target) for side, target in zip(size, crop, strict=True))
    # Pixel centres: x -> zoom * (x + 0.5) - 0.5 - left. Whole shifts at zoom 1 keep pixels sharp.
    if zoom == 1.0:
        top, left = round(top), round(left)
    matrix = np.array([[zoom, 0, 0.5 * zoom - 0.5 - left], [0, zoom, 0.5 * zoom - 0.5 - top], [0, 0, 1]])
    if flip and rng.uniform() < 0.5:
        matrix = np.array([[-1, 0, crop[1] - 1], [0, 1, 0], [0, 0, 1]]) @ matrix
    return matrix


def _about_centre(matrix: np.ndarray, crop: tuple[int, int]) -> np.ndarray:
    there = np.array([[1, 0, (crop[1] - 1) / 2], [0, 1, (crop[0] - 1) / 2], [0, 0, 1]])
    return there @ matrix @ np.linalg.inv(there)


def _warp(image: np.ndarray, matrix: np.ndarray, crop: tuple[int, int]) -> View:
    height, width = image.shape[:2]
    pixels = cv2.warpAffine(image, matrix[:2], crop[::-1], flags=cv2.INTER_LINEAR, borderValue=GREY)
    inverse = np.linalg.inv(matrix)
    xs, ys = np.arange(crop[1]), np.arange(crop[0])[:, None]
    column = np.rint(inverse[0, 0] * xs + inverse[0, 1] * ys + inverse[0, 2]).astype(np.int64)  # (h, w)
    row = np.rint(inverse[1, 0] * xs + inverse[1, 1] * ys + inverse[1, 2]).astype(np.int64)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return View(pixels, np.where(inside, row * width + column, OUTSIDE))


def _jitter(image: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Brightness, contrast and saturation by factors in 1 +- strength."""
    brightness, contrast, saturation = rng.uniform(1 - strength, 1 + strength, size=3)
    image = pixel.adjust_brightness_torchvision(image, brightness)
    image = pixel.adjust_contrast_torchvision(image, contrast)
    return pixel.adjust_saturation_torchvision(image, saturation)


Geometry = Callable[[float, tuple[int, int]], np.ndarray]
Colour = Callable[[np.ndarray, float], np.ndarray]


@dataclass(frozen=True)
class Operation:
    """One of RandAugment's: either an affine map of the crop or a change of colours, at a signed strength in [-1, 1]."""

    name: str
    geometry: Geometry | None = None
    colour: Colour | None = None


def _affine(a: float = 1, b: float = 0, tx: float = 0, c: float = 0, d: float = 1, ty: float = 0) -> np.ndarray:
    return np.array([[a, b, tx], [c, d, ty], [0, 0, 1]], dtype=float)


def _rotation(strength: float, crop: tuple[int, int]) -> np.ndarray:
    angle = np.deg2rad(30 * strength)
    return _affine(a=np.cos(angle), b=np.sin(angle), c=-np.sin(angle), d=np.cos(angle))


def _sharpness(image: np.ndarray, strength: float) -> np.ndarray:
    blurred = cv2.filter2D(image, -1, np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13)
    return cv2.addWeighted(image, 1 + 0.9 * strength, blurred, -0.9 * strength, 0)


def _posterize(image: np.ndarray, strength: float) -> np.ndarray:
    return image & np.uint8(0xFF << round(4 * abs(strength)) & 0xFF)  # 8 to 4 bits


def _solarize(image: np.ndarray, strength: float) -> np.ndarray:
    return np.where(image >= 256 * (1 - abs(strength)), 255 - image, image)


SHIFT = 150 / 331  # largest translation as a share of the side: 150 pixels of 331 (Cubuk et al. 2020)
OPERATIONS = (  # the 14 and their ranges as in Cubuk et al. 2020, table 6, and torchvision.transforms.RandAugment
    Operation("identity"),
    Operation("shear_x", geometry=lambda s, crop: _affine(b=0.3 * s)),
    Operation("shear_y", geometry=lambda s, crop: _affine(c=0.3 * s)),
    Operation("translate_x", geometry=lambda s, crop: _affine(tx=SHIFT * s * crop[1])),
    Operation("translate_y", geometry=lambda s, crop: _affine(ty=SHIFT * s * crop[0])),
    Operation("rotate", geometry=_rotation),
    Operation("brightness", colour=lambda image, s: pixel.adjust_brightness_torchvision(image, 1 + 0.9 * s)),
    Operation("colour", colour=lambda image, s: pixel.adjust_saturation_torchvision(image, 1 + 0.9 * s)),
    Operation("contrast", colour=lambda image, s: pixel.adjust_contrast_torchvision(image, 1 + 0.9 * s)),
    Operation("sharpness", colour=_sharpness),
    Operation("posterize", colour=_posterize),
    Operation("solarize", colour=_solarize),
    Operation("autocontrast", colour=lambda image, s: pixel.auto_contrast(image, cutoff=0, ignore=None, method="cdf")),
    Operation("equalize", colour=lambda image, s: pixel.equalize(image, mode="cv")),
)
