"""Confident learning for masks: which images have a label that their out-of-fold prediction contradicts.

Northcutt, Jiang & Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels", count the
examples of label i that are confidently j. Here the examples are pixels, and the counts belong to an image. A
network that learnt from few masks is wrong about many pixels, mostly of hard classes. So the numbers of an
image are compared with the numbers of the same class in all images.
"""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selftrain.ids import IGNORE
from selftrain.scores import confusion, ious

LEAST = (
    0.05  # smallest spread of a measure that counts: networks differ by this much from one seed to the next
)
SPREAD = 1.4826  # standard deviations of a normal distribution in its median absolute deviation

Floats = NDArray[np.float64]
Labelled = tuple[
    np.ndarray, np.ndarray
]  # a mask (H, W) uint8, and probabilities (C, H, W) of another network


def thresholds(images: Iterable[Labelled], classes: int) -> Floats:
    """The mean probability (C,) of a class among the pixels that are labelled so (equation 2).

    A class without labelled pixels has the threshold 1.
    """
    total, count = np.zeros(classes), np.zeros(classes)
    for mask, probs in images:
        for c in np.unique(mask[mask != IGNORE]):
            total[c] += probs[c][mask == c].sum(dtype=np.float64)
            count[c] += (mask == c).sum()
    return np.divide(total, count, out=np.ones(classes), where=count > 0)


def confident(probs: np.ndarray, least: Floats) -> NDArray[np.uint8]:
    """The most probable class (H, W) among those whose probability reaches `least` (C,); 255: none does."""
    reaching = np.where(probs >= least[:, None, None], probs, -1)
    return np.where(reaching.max(axis=0) >= 0, reaching.argmax(axis=0), IGNORE).astype(np.uint8)


@dataclass(frozen=True)
class Measured:
    """How far a mask and an out-of-fold prediction differ, by class.

    `faults` are one minus the IoU, one minus the mean probability of the label (its self-confidence), and one
    minus the IoU over the pixels that are confidently of some class. NaN: the class is absent.
    """

    faults: Floats  # (3, C)
    pixels: NDArray[np.int64]  # (C,): of the mask or of the prediction
    joint: NDArray[np.int64]  # (C, C): pixels labelled i that are confidently j


def measured(mask: np.ndarray, probs: np.ndarray, least: Floats) -> Measured:
    """Compare a mask (H, W) with the probabilities (C, H, W) of a network that did not train on it."""
    classes = len(probs)
    counts = confusion(probs.argmax(axis=0).astype(np.uint8), mask, classes)
    sure = confident(probs, least)
    joint = confusion(np.where(sure == IGNORE, mask, sure), np.where(sure == IGNORE, IGNORE, mask), classes)
    own = np.full(classes, np.nan)
    for c in np.unique(mask[mask != IGNORE]):
        own[c] = 1 - probs[c][mask == c].mean(dtype=np.float64)
    united = counts.sum(axis=0) + counts.sum(axis=1) - np.diag(counts)
    return Measured(np.stack([1 - ious(counts), own, 1 - ious(joint)]), united, joint)


def suspicions(images: Sequence[Measured]) -> Floats:
    """How unusual each class of each image is, (N, C): spreads above the class's median; NaN: absent.

    The spread is the median absolute deviation over the images, at least LEAST. The three faults are
    averaged. The IoU of few pixels varies more, so a class with fewer pixels than the median weighs less, by
    the square root of their share.
    """
    faults = np.stack([one.faults for one in images])  # (N, 3, C)
    pixels = np.stack([one.pixels for one in images]).astype(np.float64)  # (N, C)
    centre = _median(faults)
    away = faults - centre
    spread = np.maximum(SPREAD * _median(np.abs(away)), LEAST)
    beyond = away / spread
    known = ~np.isnan(beyond)
    mean = np.where(known, beyond, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    mean[~known.any(axis=1)] = np.nan
    usual = np.median(pixels[pixels > 0])
    return mean * np.sqrt(np.minimum(pixels / usual, 1))


def of_images(of_classes: Floats) -> Floats:
    """The suspicion (N,) of each image: what its classes (N, C) add up to, in spreads above the median image.

    Only classes beyond their median add. The spread is at least 1: the sum counts spreads of a class already.
    """
    total = np.nansum(np.maximum(of_classes, 0), axis=1)
    away = total - np.median(total)
    return away / max(SPREAD * float(np.median(np.abs(away))), 1.0)


def _median(values: Floats) -> Floats:
    """The median over the images of values (N, ...) without NaN; 0 where all are NaN."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # "All-NaN slice encountered"
        return np.nan_to_num(np.nanmedian(values, axis=0))
