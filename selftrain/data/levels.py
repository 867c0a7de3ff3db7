"""The range of 16-bit images: the two values that become 0 and 255 (data.range).

* dtype: 0 and 65,535, so that a sample keeps its high byte;
* percentile: the values below which 0.1 % and 99.9 % of all samples lie, measured once, before training;
* [lowest, highest]: these two values.

All channels and all images have the same range, so colours and brightness stay comparable.
"""

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import numpy as np

from selftrain.data.images import Levels
from selftrain.errors import ConfigError, DataError

DTYPE, PERCENTILE = ["dtype"], ["percentile"]
LOWEST, HIGHEST = 0.001, 0.999  # shares of the samples below the range, and up to its end
LOOKED_AT = 256  # most images that are measured
Thing = TypeVar("Thing")


def fixed(setting: Sequence[Any]) -> Levels | None:
    """The two values of data.range; None for dtype and percentile. Raises ConfigError for any other form."""
    if list(setting) in (DTYPE, PERCENTILE):
        return None
    whole = len(setting) == 2 and all(type(value) is int for value in setting)
    if not whole or not 0 <= setting[0] < setting[1] <= 0xFFFF:
        raise ConfigError(
            f"data.range={list(setting)} must be dtype, percentile, "
            "or the lowest and highest value of 16-bit images, such as data.range=[0,4095]"
        )
    return setting[0], setting[1]


def shown(setting: Sequence[Any]) -> str:
    """The setting in the form of the command line."""
    return str(setting[0]) if len(setting) == 1 else f"[{','.join(map(str, setting))}]"


def some(things: Sequence[Thing]) -> list[Thing]:
    """At most LOOKED_AT of the images, evenly spread over their order."""
    count = min(LOOKED_AT, len(things))
    return [things[place * len(things) // count] for place in range(count)]


def measure(pictures: Iterable[np.ndarray]) -> Levels:
    """The range for data.range=percentile, measured over the uint16 pictures (H, W, C).

    Raises DataError if no picture has 16 bits, and if almost all samples have one value.
    """
    counts = np.zeros(1 << 16, np.int64)
    for picture in pictures:
        if picture.dtype == np.uint16:
            counts += np.bincount(picture.ravel(), minlength=1 << 16)
    if not counts.any():
        raise DataError("data.range=percentile is for 16-bit images, but none was found; remove the setting")
    below = np.cumsum(counts) / counts.sum()
    low, high = (int(np.searchsorted(below, share)) for share in (LOWEST, HIGHEST))
    if low == high:
        what = f"almost all 16-bit samples are {low}"
        raise DataError(f"data.range=percentile: {what}; give data.range=[lowest,highest]")
    return low, high
