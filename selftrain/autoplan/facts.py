"""The fingerprint of a data set: the sizes of its images and objects, and the numbers of masks and images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from selftrain.autoplan.division import masks_in
from selftrain.data.dataset import DataSet
from selftrain.data.many import Both
from selftrain.data.sample import Sample
from selftrain.scores import class_pixels

LOOKED_AT = 48  # masks and image sizes that are read, spread over the set
SPECK = 4  # pixels; smaller parts of a mask are annotation noise
BACKGROUND = 0.5  # a class with a larger share of the pixels has no object size


@dataclass(frozen=True)
class Facts:
    """What the rules of a plan know of the data.

    `object_side` is the typical side in pixels of the objects of the class with the smallest objects: the
    square root of the median area of its connected components. It is 0 if no mask has an object.
    """

    masks: int  # images with a mask, in all splits, without data.extra
    labelled: int  # of them in train
    external: int  # images of data.extra
    unlabelled: int
    height: int  # median
    width: int
    longest: int  # the longest side of any image looked at
    channels: int
    classes: int
    object_side: float
    object_class: str
    rarest_share: float  # of the labelled pixels, of the rarest class that occurs


def facts_of(data: DataSet) -> Facts:
    """Read up to LOOKED_AT masks and image sizes. Raises DataError for files that cannot be read."""
    own = [sample for sample in data.labelled if not sample.extra]
    masked = own or data.labelled
    labelled, seen = _spread(masked), _spread(Both(masked, data.unlabelled))
    sizes = np.array([sample.read_size() for sample in seen])
    masks = [mask for sample in labelled if (mask := sample.read_mask()) is not None]
    pixels = np.sum([class_pixels(mask, len(data.classes)) for mask in masks], axis=0)
    shares = pixels / max(pixels.sum(), 1)
    sides = {name: side for name, side in _object_sides(masks, data.classes, shares)}
    smallest = min(sides, key=lambda name: sides[name], default="")
    height, width = (int(side) for side in np.median(sizes, axis=0))
    return Facts(
        masks=masks_in(data),
        labelled=len(own),
        external=len(data.labelled) - len(own),
        unlabelled=len(data.unlabelled),
        height=height,
        width=width,
        longest=int(sizes.max()),
        channels=data.labelled[0].read_image().shape[2],
        classes=len(data.classes),
        object_side=round(sides.get(smallest, 0.0), 1),
        object_class=smallest,
        rarest_share=float(min((share for share in shares if share), default=0.0)),
    )


def _object_sides(
    masks: Sequence[np.ndarray], classes: Sequence[str], shares: np.ndarray
) -> Iterator[tuple[str, float]]:
    """The typical side of the objects of each class that is not a background."""
    for number, name in enumerate(classes):
        if not 0 < shares[number] <= BACKGROUND:
            continue
        areas = np.concatenate([_areas(mask == number) for mask in masks])
        if len(areas):
            yield name, float(np.sqrt(np.median(areas)))


def _areas(where: np.ndarray) -> np.ndarray:
    """The areas in pixels of the connected parts of a mask (H, W) bool, without specks."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(where.astype(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    return areas[areas >= SPECK]


def _spread(samples: Sequence[Sample]) -> list[Sample]:
    """Up to LOOKED_AT samples, evenly spaced."""
    count = min(LOOKED_AT, len(samples))
    return [samples[i * len(samples) // count] for i in range(count)]
