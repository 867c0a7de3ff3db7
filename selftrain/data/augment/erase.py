"""Augmentations that erase pixels and their labels: functions (view, rng) -> view.

Erased pixels have the index OUTSIDE, that is, no label.
"""

from collections.abc import Callable
from typing import Annotated

import numpy as np

from selftrain.data.augment.view import OUTSIDE, View
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


ERASE: dict[str, Erase] = {"cutout": cutout}
