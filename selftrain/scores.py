"""Scores of a network: pixel counts, and the figures computed from them.

A score is a function of confusion counts (C, C) or (C, C + 1); rows are the truth. Column C counts pixels
that a decision left without a class. A score returns one of three things: a number, None if the counts do not
define it, or an array (C,) with one number per class (NaN if undefined for a class). An entry in SCORES
appears in every report and on the page.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selftrain.ids import IGNORE

Counts = NDArray[Any]  # pixels; float64 if a GPU counted them
Floats = NDArray[np.float64]
Score = Callable[[Counts], float | Floats | None]
BINS = 15  # bins of the calibration error, as in Guo et al. 2017
# blocks of neighbouring images (perhaps frames of one video); leaving each out estimates the error of a score
BLOCKS = 20


def blocks(count: int) -> list[int]:
    """The block of each of `count` images: 0, 0, ..., up to BLOCKS of nearly equal size."""
    return [place * min(BLOCKS, count) // count for place in range(count)]


def confusion(predicted: NDArray[np.integer], mask: NDArray[np.integer], classes: int) -> NDArray[np.int64]:
    """Confusion counts (C, C) of `predicted` class ids against a mask of the same shape; rows are the truth.

    Mask pixels of 255 are ignored.
    """
    known = mask != IGNORE
    pairs = mask[known].astype(np.int64) * classes + predicted[known]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def class_pixels(mask: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    """Pixels (C,) of each class in a mask; 255 and other values that are not classes are not counted."""
    return np.bincount(mask.ravel(), minlength=IGNORE + 1)[:classes]


def predictions(confusion: Counts) -> Counts:
    """Pixels (C,) that are predicted as each class."""
    return confusion.sum(axis=0)[: len(confusion)]


def ious(confusion: Counts) -> Floats:
    """Intersection over union (C,); NaN for a class that occurs in neither truth nor prediction."""
    hit, truth, predicted = np.diag(confusion), confusion.sum(axis=1), predictions(confusion)
    union = truth + predicted - hit
    return np.divide(hit, union, out=np.full(len(hit), np.nan), where=union > 0)


def mean_iou(confusion: Counts) -> float:
    """Mean IoU over the classes that occur on either side, for example to compare two networks."""
    found = ious(confusion)
    return float(found[~np.isnan(found)].mean())


def per_class(confusion: Counts) -> Floats:
    """IoU (C,) of the classes that occur in the truth; NaN for the others."""
    return np.where(confusion.sum(axis=1) > 0, ious(confusion), np.nan)


def miou(confusion: Counts) -> float | None:
    """Mean IoU over the classes that occur in the truth."""
    found = per_class(confusion)
    known = found[~np.isnan(found)]
    return float(known.mean()) if len(known) else None


def pixel_accuracy(confusion: Counts) -> float | None:
    """Share of the labelled pixels whose class is predicted correctly."""
    return float(np.diag(confusion).sum() / confusion.sum()) if confusion.sum() else None


def drift(confusion: Counts) -> float | None:
    """Distance between predicted and true class shares (`distance`)."""
    return distance(predictions(confusion), confusion.sum(axis=1)) if confusion.sum() else None


def dice(confusion: Counts) -> float | None:
    """Mean Dice coefficient (2 hits over pixels in truth and prediction) of the classes in the truth."""
    found = per_class(confusion)
    known = found[~np.isnan(found)]
    return float((2 * known / (1 + known)).mean()) if len(known) else None


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
    """Total variation distance of two class histograms (C,): 0 if equal, near 1 if one has collapsed."""
    shares = (counts / max(counts.sum(), 1) for counts in (predicted, truth))
    return float(np.abs(next(shares) - next(shares)).sum() / 2)


def expected_calibration_error(bins: Counts) -> float:
    """ECE (Guo et al. 2017, eq. 3). `bins` (3, B): pixels, sum of confidence, correct pixels per bin."""
    pixels, confidence, correct = bins
    return float(np.abs(confidence - correct).sum() / max(pixels.sum(), 1))


def paired(scores: Mapping[str, Any], others: Mapping[str, Any]) -> tuple[float, float]:
    """The difference of two mIoUs on the same images, `scores` minus `others`, and its standard error.

    The standard error is a paired jackknife over blocks of neighbouring images (Miller 1974). Reports of
    older versions have no "miou_without"; the error is 0 then.
    """
    without = scores.get("miou_without", [])
    pairs = zip(without, others.get("miou_without", without), strict=True)
    differences = np.array([(mine or 0.0) - (other or 0.0) for mine, other in pairs])
    count = len(differences)
    error = float(np.sqrt((count - 1) * differences.var())) if count else 0.0
    return (scores["miou"] or 0.0) - (others["miou"] or 0.0), error


def gain(scores: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, float]:
    """`paired` by name: {"miou", "error"}."""
    return dict(zip(("miou", "error"), paired(scores, others), strict=True))


def is_worse(scores: Mapping[str, Any], best: Mapping[str, Any]) -> bool:
    """Whether `scores` is more than one standard error below `best`: the one-standard-error rule.

    Breiman et al. 1984. Both measure the same images; see `paired`.
    """
    _, error = paired(scores, best)
    return bool((scores["miou"] or 0.0) < (best["miou"] or 0.0) - error)


def level(report: Mapping[str, Any]) -> Mapping[str, Any]:
    """The scores by which a generation is compared with others: "miou" and "miou_without".

    Of several networks it is the mean of their own scores. Their joint score would be beyond the reach of a
    single student. What tuning adds to the joint score is added to this mean, since single networks are
    tuned as well.
    """
    each = [member["val"] for member in report.get("members") or []]
    if not each:
        val: Mapping[str, Any] = report["val"]
        return val
    mean, plain = np.mean([_mious(one) for one in each], axis=0), (report.get("tuned") or {}).get("plain")
    if plain:
        mean += _mious(report["val"]) - _mious(plain)
    return {"miou": float(mean[0]), "miou_without": mean[1:].tolist()}


def _mious(scores: Mapping[str, Any]) -> Floats:
    """The mIoU of all images, and the mIoU without each block; 0 where it is undefined."""
    return np.array([value or 0.0 for value in (scores["miou"], *scores["miou_without"])])


def _named(score: float | Floats | None, classes: Sequence[str]) -> Any:
    """A score as JSON: per-class numbers become a dict by class name, NaN becomes None."""
    if isinstance(score, np.ndarray):
        return {name: _named(float(value), classes) for name, value in zip(classes, score, strict=True)}
    return None if score is None or np.isnan(score) else float(score)
