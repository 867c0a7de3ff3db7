"""How images are read if they are not RGB of 8 bits: their range, their bands, and the scale of each band."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from selftrain.data.bands import GREY, RGB, bands_of
from selftrain.data.dataset import DataSet, with_levels
from selftrain.data.load import levels_of
from selftrain.errors import DataError
from selftrain.inspection.pictures import BANDED, Picture, look, some

DEEP = 0x8000  # 16-bit images whose values stay below are nearly black unless they are scaled
COUNTED = 16  # images that are opened
MEASURED = 48  # images whose pixels are measured


def reading(images: Sequence[Picture]) -> dict[str, object]:
    """data.range and data.channels, where the images need other values than the defaults."""
    return _range(images) | _channels(images)


def _range(images: Sequence[Picture]) -> dict[str, object]:
    """data.range for 16-bit images that use less than half of their range."""
    largest = [one.largest for one in (look(image.path) for image in some(images, COUNTED)) if one]
    deep = [value for value in largest if value]
    return {"range": ["percentile"]} if deep and max(deep) < DEEP else {}


def _channels(images: Sequence[Picture]) -> dict[str, object]:
    """data.channels, if all images have the same number of bands, and are neither RGB nor grey."""
    if any(one.suffix not in BANDED for one in images):
        return {}
    counts = {_count(one) for one in some(images, COUNTED)}
    return {"channels": counts.pop()} if len(counts) == 1 and counts.isdisjoint((GREY, RGB, 0)) else {}


def _count(picture: Picture) -> int:
    try:
        return bands_of(picture.path)
    except DataError:
        return 0


def pixel_scale(data: DataSet, range_: Any) -> dict[str, object]:
    """data.mean and data.std, per band, in 0..1: over all pixels of up to MEASURED training images.

    `range_` is data.range. Raises DataError for images that cannot be read.
    """
    data = with_levels(data, levels_of(data, range_))
    sums = [_sums(sample.read_image()) for sample in some([*data.labelled, *data.unlabelled], MEASURED)]
    pixels = sum(count for count, _, _ in sums)
    total, squares = sum(one for _, one, _ in sums), sum(one for _, _, one in sums)
    mean = np.asarray(total / pixels)
    deviation = np.sqrt(np.maximum(squares / pixels - mean**2, 0))
    deviation[deviation < 1e-4] = 1.0  # a band that says nothing is not scaled
    return {
        "mean": [round(float(value), 4) for value in mean],
        "std": [round(float(value), 4) for value in deviation],
    }


def _sums(image: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
    """The number of pixels of (H, W, C) uint8, and the sums and sums of squares of each band in 0..1."""
    flat = image.reshape(-1, image.shape[2]) / 255.0
    return len(flat), flat.sum(axis=0), (flat**2).sum(axis=0)
