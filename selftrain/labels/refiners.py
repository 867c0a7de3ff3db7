"""Refiners: functions that improve the averaged probabilities of an image before they are stored.

A refiner gets an image (H, W, 3) uint8 and probs (C, H, W) float32. It returns probabilities of the same
shape. Its own settings are keywords with a default. The keyword `crf` has no default: it receives
`labels.crf`.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from selftrain.labels.crf import marginals
from selftrain.tables import Table

Planes = NDArray[np.float32]
Refiner = Callable[[NDArray[np.uint8], Planes], Planes]


def unrefined(image: NDArray[np.uint8], probs: Planes) -> Planes:
    """The averaged probabilities, unchanged."""
    return probs


REFINERS: dict[str, Callable[..., Planes]] = {"none": unrefined, "crf": marginals}
TABLE = Table(REFINERS)
