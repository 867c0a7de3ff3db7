"""Places: where a crop lies in its zoomed image.

A place is a function (rng, size, crop, mask) -> (top, left), in pixels of the zoomed image, whose `size` is
(height, width). `mask` (H, W) uint8 belongs to the image before the zoom; it is None for images without a
mask. A place whose setting `stored` is on also gets stored pseudo-labels as masks, IGNORE where they are
rejected. If the crop is larger than the image, top and left are negative.
"""

import math
from collections.abc import Callable
from typing import Annotated

import numpy as np

from selftrain.data.augment.view import OUTSIDE, crop_matrix, source_index
from selftrain.ids import IGNORE
from selftrain.tables import Bounds

Size = tuple[float, float]
Place = Callable[..., tuple[float, float]]


def uniform(rng: np.random.Generator, size: Size, crop: tuple[int, int], mask: np.ndarray | None) -> Size:
    """Anywhere in the image. An image smaller than the crop is placed anywhere inside the crop."""
    top, left = (rng.uniform() * (side - target) for side, target in zip(size, crop, strict=True))
    return top, left


def non_empty(
    rng: np.random.Generator,
    size: Size,
    crop: tuple[int, int],
    mask: np.ndarray | None,
    *,
    background: Annotated[int, Bounds(0, 255), "id of the class that does not count"] = 0,
    tries: Annotated[
        int, Bounds(1), "uniform places that are looked at before a pixel of another class is chosen"
    ] = 10,
    stored: Annotated[bool, "stored pseudo-labels count as masks, where they are accepted"] = False,
) -> Size:
    """A crop with a labelled pixel that is not `background`, if the mask contains one.

    Like albumentations' CropNonEmptyMaskIfExists, but uniform places are tried first. Without a mask, or with
    background only, the place is uniform. Later geometry may move that pixel out again.
    """
    place = uniform(rng, size, crop, mask)
    if mask is None:
        return place
    wanted = (mask != background) & (mask != IGNORE)  # (H, W)
    for _ in range(tries - 1):
        if _holds(wanted, place, size, crop):
            return place
        place = uniform(rng, size, crop, mask)
    return place if _holds(wanted, place, size, crop) else _around(rng, wanted, place, size, crop)


def _holds(wanted: np.ndarray, place: Size, size: Size, crop: tuple[int, int]) -> bool:
    """Whether the crop contains a pixel of `wanted` (H, W)."""
    height, width = wanted.shape
    index = source_index((height, width), crop_matrix(size[0] / height, place), crop)
    return bool((wanted.reshape(-1)[index] & (index != OUTSIDE)).any())


def _around(
    rng: np.random.Generator, wanted: np.ndarray, place: Size, size: Size, crop: tuple[int, int]
) -> Size:
    """A place whose crop contains a random pixel of `wanted` (H, W), or `place` if no pixel is wanted."""
    pixels = np.flatnonzero(wanted)
    if not len(pixels):
        return place
    zoom = size[0] / wanted.shape[0]
    centre = ((at + 0.5) * zoom - 0.5 for at in divmod(int(rng.choice(pixels)), wanted.shape[1]))
    top, left = (_start(rng, *one) for one in zip(centre, size, crop, strict=True))
    return top, left


def _start(rng: np.random.Generator, at: float, side: float, target: int) -> float:
    """Random start of a crop of `target` pixels along a `side`; one of its pixels lies exactly on `at`."""
    first, last = sorted((0.0, side - target))
    least = min(max(math.ceil(at - last), 0), target - 1)
    most = max(min(math.floor(at - first), target - 1), least)
    return at - float(rng.integers(least, most + 1))


PLACES: dict[str, Place] = {"uniform": uniform, "non_empty": non_empty}
