"""What a network is scored by: counts of pixels, and the figures computed from them.

A score is a function of confusion counts (C, C), rows are the truth. It returns a number, None where the counts do not
define it, or an array (C,) of one number per class, NaN where a class has none. Its entry in SCORES puts it into every
report and onto the page.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selftrain.ids import IGNORE

Counts = NDArray[Any]  # pixels; float64 where a GPU has counted them
Floats = NDArray[np.float64]
Score = Callable[[Counts], float | Floats | None]


def confusion(predicted: NDArray[np.integer], mask: NDArray[np.integer], classes: int) -> NDArray[np.int64]:
    """Counts (C, C), rows are the truth, of class ids `predicted` against a mask of the same shape with 255 ignored."""
    known = mask != IGNORE
    pairs = mask[known].astype(np.int64) * classes + predicted[known]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def class_pixels(mask: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    """Pixels (C,) of each class in a mask; 255 and whatever else is not a class are left out."""
    return np.bincount(mask.ravel(), minlength=IGNORE + 1)[:classes]


def ious(confusion: Counts) -> Floats:
    """Intersection over union (C,); NaN for a class that neither the truth nor the prediction has."""
    hit, truth, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    union = truth + predicted - hit
    return np.divide(hit, union, out=np.full(len(hit), np.nan), where=union > 0)


def mean_iou(confusion: Counts) -> float:
    """The mean IoU over the classes that either side has: both count alike, as where two networks are compared."""
    found = ious(confusion)
    return float(found[~np.isnan(found)].mean())


def per_class(confusion: Counts) -> Floats:
    """IoU (C,) of the classes that the truth has; NaN for the others."""
    return np.where(confusion.sum(axis=1) > 0, ious(confusion), np.nan)


def miou(confusion: Counts) -> float | None:
    """The mean IoU over the classes that the truth has."""
    found = per_class(confusion)
    known = found[~np.isnan(found)]
    return float(known.mean()) if len(known) else None


def pixel_accuracy(confusion: Counts) -> float | None:
    """The share of the known pixels that are predicted right."""
    return float(np.diag(confusion).sum() / confusion.sum()) if confusion.sum() else None


def drift(confusion: Counts) -> float | None:
    """How far the predicted shares of the classes are from the true ones (`distance`)."""
    return distance(confusion.sum(axis=0), confusion.sum(axis=1)) if confusion.sum() else None


SCORES: dict[str, Score] = {
    "miou": miou,
    "per_class": per_class,
    "pixel_accuracy": pixel_accuracy,
    "drift": drift,
}


def report(confusion: Counts, classes: Sequence[str]) -> dict[str, Any]:
    """Every entry of SCORES: {"miou": 0.5, "per_class": {class: IoU or None}, ...}."""
    return {name: _named(score(confusion), classes) for name, score in SCORES.items()}


def distance(predicted: Counts, truth: Counts) -> float:
    """Total variation distance between two histograms of classes (C,): 0 if alike, near 1 if one has collapsed."""
    shares = (counts / max(counts.sum(), 1) for counts in (predicted, truth))
    return float(np.abs(next(shares) - next(shares)).sum() / 2)


def expected_calibration_error(bins: Counts) -> float:
    """ECE (Guo et al. 2017, eq. 3) from (pixels, sum of confidence, correct pixels) per bin, shape (3, bins)."""
    pixels, confidence, correct = bins
    return float(np.abs(confidence - correct).sum() / max(pixels.sum(), 1))


def _named(score: float | Floats | None, classes: Sequence[str]) -> Any:
    """A score as JSON holds it: numbers per class by the names of the classes, None where there is no number."""
    if isinstance(score, np.ndarray):
        return {name: _named(float(value), classes) for name, value in zip(classes, score, strict=True)}
    return None if score is None or np.isnan(score) else float(score)
