"""A closer look at predictions: where they are wrong, in which images, and with which confidence."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selftrain import quality
from selftrain.ids import IGNORE
from selftrain.regions import SIZES, Ids, boundary_f1, by_size, ious_by_size
from selftrain.scores import BINS, Counts, dice, expected_calibration_error

DETAILS = "details"  # the key in a report of all that is more than a few numbers
SHOWN = 4  # images with the lowest scores, and with the highest
# Numbers of each image and class: pixels in the mask, hits, union; the class that it is most confused with,
# and the pixels of that confusion, which are negative if the other class is predicted as this one.
TRUE, HIT, UNION, OTHER, WRONG = range(5)


def brief(scores: dict[str, Any] | None) -> dict[str, Any] | None:
    """Scores without their details, for a card."""
    return scores and {name: value for name, value in scores.items() if name != DETAILS}


def quality_of(scores: dict[str, Any] | None) -> dict[str, Any] | None:
    """The line from confidence to IoU that `quality.fitted` found for scores; None if it is not there."""
    found: dict[str, Any] | None = ((scores or {}).get(DETAILS) or {}).get("quality")
    return found


class Diagnosis:
    """Sums over a set of images, from which the details of a report follow."""

    def __init__(self, images: int, classes: int):
        self.confusion = np.zeros((classes, classes + 1))  # rows are the truth; the last column: no class
        self.boundaries = np.zeros((2, classes))  # sums of boundary F1, and images that have it
        self.sizes = np.zeros((3, classes, len(SIZES)))
        # by predicted class and bin of confidence: pixels, sum of confidence, correct pixels
        self.sureness = np.zeros((3, classes, BINS))
        self.images = np.zeros((images, classes, 5))
        self.sure = np.zeros(images)  # mean confidence of each image

    def add(self, number: int, predicted: Ids, mask: Ids, confidence: NDArray[np.float32]) -> None:
        """Add image `number`: predicted ids, mask and confidence of the predicted class, each (H, W)."""
        classes = len(self.confusion)
        known, said = mask != IGNORE, np.minimum(predicted, classes)
        pairs = mask[known].astype(np.int64) * (classes + 1) + said[known]
        confusion = np.bincount(pairs, minlength=classes * (classes + 1)).reshape(classes, classes + 1)
        self.confusion += confusion
        self.images[number] = _of_image(confusion)
        self.sure[number] = confidence.mean()
        f1 = boundary_f1(predicted, mask, classes)
        self.boundaries += np.stack([np.nan_to_num(f1), ~np.isnan(f1)])
        self.sizes += by_size(predicted, mask, classes)
        self.sureness += _sureness(predicted, mask, confidence, classes)

    def reduce(self, added: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
        """Add up what the ranks have; `added` is the sum of an array over the ranks."""
        names = ("confusion", "boundaries", "sizes", "sureness", "images", "sure")
        for name in names:
            setattr(self, name, added(getattr(self, name)))

    def report(self, classes: Sequence[str], ids: Sequence[str]) -> dict[str, Any]:
        """Further scores, and "details": counts by class and bin, and the worst and best images.

        "boundary_f1" is a mean over the images with a boundary of the class, then over the classes.
        "miou_small" and so on are the mean IoU over the classes with objects of that size. "quality" in the
        details is the line of `quality.fitted`.
        """
        sums, images = self.boundaries
        f1 = np.divide(sums, images, out=np.full(len(sums), np.nan), where=images > 0)
        sizes = _means(ious_by_size(self.sizes).T)
        calibration = {name: self.sureness[:, c].tolist() for c, name in enumerate(classes)}
        errors = {
            name: expected_calibration_error(self.sureness[:, c]) if self.sureness[0, c].any() else None
            for c, name in enumerate(classes)
        }
        return {
            "dice": dice(self.confusion),
            "boundary_f1": _means(f1[None])[0],
            **{f"miou_{size}": iou for size, iou in zip(SIZES, sizes, strict=True)},
            DETAILS: {
                "boundary_f1": _named(f1, classes),
                "ece": errors,
                "calibration": calibration,
                "confusion": self.confusion.astype(int).tolist(),
                **self._extremes(classes, ids),
            },
        }

    def _extremes(self, classes: Sequence[str], ids: Sequence[str]) -> dict[str, Any]:
        """The images with the lowest and highest mIoU, the worst image of each class, and "quality"."""
        true, hit, union = np.moveaxis(self.images, 2, 0)[[TRUE, HIT, UNION]]
        ious = np.divide(hit, union, out=np.full(hit.shape, np.nan), where=true > 0)
        known = np.flatnonzero(~np.isnan(ious).all(axis=1))
        means = np.array([np.nanmean(ious[i]) for i in known])
        order = known[np.argsort(means, kind="stable")]
        half = min(SHOWN, len(order) // 2)  # no image is among the worst and the best

        def told(i: int, c: int | None = None) -> dict[str, Any]:
            """Image `i`, and how its worst class, or class `c`, fails."""
            worst = int(np.nanargmin(ious[i])) if c is None else c
            row = {"id": ids[i], "miou": float(np.nanmean(ious[i]))}
            row |= {"class": classes[worst], "iou": float(ious[i, worst])}
            return row | _confused(self.images[i], worst, classes)

        lowest = {
            classes[c]: told(int(np.nanargmin(ious[:, c])), c)
            for c in range(len(classes))
            if not np.isnan(ious[:, c]).all()
        }
        # the only image of a set is its worst one
        worst, best = order[: max(half, 1)], order[::-1][:half]
        return {
            "worst": [told(int(i)) for i in worst],
            "best": [told(int(i)) for i in best],
            "worst_of_class": lowest,
            "quality": quality.fitted(self.sure[known], means),
        }


def _of_image(confusion: Counts) -> NDArray[np.float64]:
    """The numbers (C, 5) of an image from its confusion counts (C, C + 1)."""
    square = confusion[:, :-1]
    hit, true, said = np.diag(square), confusion.sum(axis=1), square.sum(axis=0)
    missed, taken = confusion.copy(), square.copy()
    np.fill_diagonal(missed, 0)
    np.fill_diagonal(taken, 0)
    most_missed, most_taken = missed.max(axis=1), taken.max(axis=0)
    misses = most_missed >= most_taken
    other = np.where(misses, missed.argmax(axis=1), taken.argmax(axis=0))
    wrong = np.where(misses, most_missed, -most_taken)
    return np.stack([true, hit, true + said - hit, other, wrong], axis=1)


def _confused(image: NDArray[np.float64], c: int, classes: Sequence[str]) -> dict[str, Any]:
    """The most frequent confusion of class `c` in an image: {"truth", "predicted", "share"}, or {}.

    "share" is its part of the pixels of class `c` in the mask, or in the prediction if another class is
    taken for it.
    """
    true, hit, union, other, wrong = image[c]
    if not wrong:
        return {}
    name = classes[int(other)] if other < len(classes) else "no class"
    if wrong > 0:
        return {"truth": classes[c], "predicted": name, "share": float(wrong / true)}
    return {"truth": name, "predicted": classes[c], "share": float(-wrong / (union - true + hit))}


def _sureness(
    predicted: Ids, mask: Ids, confidence: NDArray[np.float32], classes: int
) -> NDArray[np.float64]:
    """Pixels, sum of confidence and correct pixels (3, C, BINS) of an image, by predicted class and bin."""
    counted = (mask != IGNORE) & (predicted != IGNORE)
    said, sure = predicted[counted].astype(np.int64), confidence[counted].astype(np.float64)
    place = said * BINS + np.minimum((sure * BINS).astype(np.int64), BINS - 1)
    right, size = said == mask[counted], classes * BINS
    sums = [np.bincount(place, weights=weights, minlength=size) for weights in (None, sure, right)]
    return np.stack(sums).reshape(3, classes, BINS).astype(np.float64)


def _means(rows: NDArray[np.float64]) -> list[float | None]:
    """The mean of each row without NaN; None for a row of nothing else."""
    return [float(row[~np.isnan(row)].mean()) if (~np.isnan(row)).any() else None for row in rows]


def _named(values: NDArray[np.float64], classes: Sequence[str]) -> dict[str, float | None]:
    return {
        name: None if np.isnan(value) else float(value) for name, value in zip(classes, values, strict=True)
    }
