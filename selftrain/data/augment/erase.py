"""Augmentations that erase pixels and their labels: functions (view, rng) -> view.

Erased pixels have the index OUTSIDE, that is, no label. With `keep_labels` they keep their index: the network
then learns to fill in what it cannot see, from its surroundings.
"""

from collections.abc import Callable
from typing import Annotated

import albumentations.augmentations.dropout.functional as dropout
import numpy as np

from selftrain.data.augment.view import GREY, OUTSIDE, View
from selftrain.tables import Bounds

Erase = Callable[..., View]
LEAST = 0.02  # share of the crop's area


def cutout(
    seen: View,
    rng: np.random.Generator,
    *,
    most: Annotated[float, Bounds(LEAST, 1), f"largest share of the crop; the least is {LEAST}"] = 0.4,
) -> View:
    """A box of random pixels without label (DeVries & Taylor 2017; sizes as in ST++)."""
    height, width = seen.index.shape
    area, ratio = rng.uniform(LEAST, most) * height * width, rng.uniform(0.3, 1 / 0.3)
    tall, wide = min(round(np.sqrt(area * ratio)), height), min(round(np.sqrt(area / ratio)), width)
    top, left = rng.integers(height - tall + 1), rng.integers(width - wide + 1)
    image, index = seen.image.copy(), seen.index.copy()
    noise = rng.integers(256, size=(tall, wide, image.shape[2]), dtype=np.uint8)
    image[top : top + tall, left : left + wide] = noise
    index[top : top + tall, left : left + wide] = OUTSIDE
    return View(image, index)


def coarse_dropout(
    seen: View,
    rng: np.random.Generator,
    *,
    number: Annotated[int, Bounds(1), "most holes; the least is 1"] = 8,
    size: Annotated[float, Bounds(LEAST, 1), f"largest side of a hole as a share; least {LEAST}"] = 0.2,
    keep_labels: Annotated[bool, "erased pixels keep their labels"] = False,
) -> View:
    """Several grey boxes (albumentations' CoarseDropout): cutout with a number and a size."""
    height, width = seen.index.shape
    count = int(rng.integers(1, number + 1))
    sides = np.ceil(rng.uniform(LEAST, size, size=(count, 2)) * (height, width)).astype(int)
    corners = (rng.uniform(size=(count, 2)) * ((height, width) - sides + 1)).astype(int)  # top, left
    return _without(seen, np.hstack([corners, corners + sides])[:, [1, 0, 3, 2]], keep_labels)


def gridmask(
    seen: View,
    rng: np.random.Generator,
    *,
    ratio: Annotated[float, Bounds(0.01, 0.99), "side of a hole as a share of its cell"] = 0.5,
    holes: Annotated[int, Bounds(1, 64), "holes along each side of the crop"] = 4,
    random_offset: Annotated[bool, "each hole lies anywhere in its cell; false: at its top left"] = True,
    keep_labels: Annotated[bool, "erased pixels keep their labels"] = False,
) -> View:
    """A grid of grey boxes (GridMask, Chen et al. 2020; albumentations' GridDropout)."""
    grid = tuple(min(holes, side // 2) for side in seen.index.shape)
    boxes = dropout.generate_grid_holes(seen.index.shape, grid, ratio, random_offset, (0, 0), rng)
    return _without(seen, boxes, keep_labels)


def _without(seen: View, boxes: np.ndarray, keep_labels: bool) -> View:
    """The view without `boxes` (n, 4), as left, top, right and bottom."""
    image = dropout.fill_holes_with_value(seen.image.copy(), boxes, np.array(GREY[:1], np.uint8))
    if keep_labels:
        return View(image, seen.index)
    return View(image, dropout.fill_holes_with_value(seen.index.copy(), boxes, np.array([OUTSIDE])))


ERASE: dict[str, Erase] = {"cutout": cutout, "coarse_dropout": coarse_dropout, "gridmask": gridmask}
