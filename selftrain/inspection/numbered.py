"""Masks in which each object has a number, rather than each class."""

from collections.abc import Sequence
from statistics import median

import cv2
import numpy as np

from selftrain.data.images import decode
from selftrain.data.masks import stored_values
from selftrain.errors import DataError
from selftrain.inspection.coding import Survey
from selftrain.inspection.pictures import Picture, some

FEWEST = 6  # values above 0; with fewer, one region each is no surprise
READ = 8  # masks
TRIED = 32  # values of a mask
ONE_REGION = 0.8  # least share of values whose pixels are connected
USUAL = 0.5  # a class occurs in more masks than this; most numbers of objects occur in fewer


def number_objects(masks: Sequence[Picture], found: Survey) -> bool:
    """Whether nearly every value above 0 marks one connected region: an object, or an organ."""
    plain = not (found.by_colour or found.palette or found.soft or found.jpeg)
    if not plain or 0 not in found.counts or len(found.counts) <= FEWEST:
        return False
    regions = [count for mask in some(masks, READ) for count in _regions(mask)]
    return bool(regions) and sum(count == 1 for count in regions) >= ONE_REGION * len(regions)


def vary(found: Survey) -> bool:
    """Whether values occur in masks as numbers of objects do, rather than as classes do.

    Numbers are in few masks each; or they begin with 1 in each mask, so a higher one is never more frequent.
    """
    often = [found.masks[value] for value in found.values if value]
    falling = often == sorted(often, reverse=True) and often[-1] <= USUAL * often[0]
    return falling or median(often) <= USUAL * found.read


def _regions(mask: Picture) -> list[int]:
    """The number of connected regions of each value above 0, of at most TRIED values."""
    try:
        values = stored_values(mask.path, decode(mask.path))
    except DataError:
        return []
    used = [value for value in np.unique(values).tolist() if value]
    return [cv2.connectedComponents((values == value).astype(np.uint8))[0] - 1 for value in some(used, TRIED)]
