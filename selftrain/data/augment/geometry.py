"""Geometric augmentations: functions (rng, crop) -> affine map (3, 3) of pixels of a crop (height, width).

The maps are composed with the crop's own, so nothing is resampled twice and labels move with the pixels.
"""

from collections.abc import Callable
from typing import Annotated

import numpy as np

from selftrain.data.augment.view import about_centre, affine
from selftrain.tables import Bounds

Geometry = Callable[..., np.ndarray]
COSINES, SINES = (1, 0, -1, 0), (0, 1, 0, -1)  # of quarter turns


def flip(rng: np.random.Generator, crop: tuple[int, int]) -> np.ndarray:
    """Swap left and right."""
    return affine(a=-1, tx=crop[1] - 1)


def vflip(rng: np.random.Generator, crop: tuple[int, int]) -> np.ndarray:
    """Swap top and bottom."""
    return affine(d=-1, ty=crop[0] - 1)


def rotate90(rng: np.random.Generator, crop: tuple[int, int]) -> np.ndarray:
    """One, two or three quarter turns about the centre. If the crop is not square, its ends are grey."""
    turns = int(rng.integers(1, 4))
    cosine, sine = COSINES[turns], SINES[turns]
    return about_centre(affine(a=cosine, b=sine, c=-sine, d=cosine), crop)


def rotate(
    rng: np.random.Generator,
    crop: tuple[int, int],
    *,
    degrees: Annotated[float, Bounds(0, 180), "largest angle, either way"] = 30.0,
) -> np.ndarray:
    """A turn about the centre by a uniform random angle. Empty corners are grey and have no label."""
    angle = np.deg2rad(rng.uniform(-degrees, degrees))
    cosine, sine = np.cos(angle), np.sin(angle)
    return about_centre(affine(a=cosine, b=sine, c=-sine, d=cosine), crop)


def shear_shift_scale(
    rng: np.random.Generator,
    crop: tuple[int, int],
    *,
    shear: Annotated[float, Bounds(0, 0.9), "largest shift per pixel from the centre, along each axis"] = 0.1,
    shift: Annotated[float, Bounds(0, 1), "largest shift along each axis, as a share of the crop"] = 0.1,
    scale: Annotated[float, Bounds(1, 10), "largest factor of the size; the least is 1 / scale"] = 1.2,
) -> np.ndarray:
    """A random shear, shift and size about the centre. Empty parts are grey and have no label."""
    across, down = rng.uniform(-shear, shear, size=2)
    right, below = rng.uniform(-shift, shift, size=2) * crop[::-1]
    factor = np.exp(rng.uniform(-np.log(scale), np.log(scale)))
    return about_centre(
        affine(factor, factor * across, right, factor * down, factor, below),
        crop,
    )


GEOMETRY: dict[str, Geometry] = {
    "flip": flip,
    "vflip": vflip,
    "rotate90": rotate90,
    "rotate": rotate,
    "affine": shear_shift_scale,
}
