"""What kind of error a suspicious mask seems to have: shifted, swapped classes, a missing object, ..."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np

from selftrain.data.masks import resize_mask
from selftrain.ids import IGNORE
from selftrain.scores import confusion, mean_iou
from selftrain.suspects.confident import Floats

GAIN = 0.1  # of the mean IoU with the prediction, from which a shift or a swap explains a mask
REACH = 0.35  # longest shift, as a share of the sides
MOSTLY = 0.5  # share of an area that has another class
SIDE = 256  # pixels; larger masks are made smaller
DIFFERENT = "different"


@dataclass(frozen=True)
class Kind:
    """A kind of error, and the classes that it concerns, the most concerned one first."""

    name: str
    classes: tuple[int, ...]
    shift: tuple[int, int] = (0, 0)  # pixels (down, right) from where the prediction sees the objects

    def told(self, names: list[str]) -> str:
        """The kind in words."""
        classes = [names[c] for c in self.classes]
        if self.name == "shifted":
            down, right = self.shift
            ways = [(down, "down", "up"), (right, "right", "left")]
            moved = " and ".join(
                f"{abs(by)} px {plus if by > 0 else minus}" for by, plus, minus in ways if by
            )
            return f"shifted, about {moved}"
        if self.name == "swapped":
            return f"{classes[0]} and {classes[1]} are swapped"
        if self.name == "instead":
            return f"{classes[0]} instead of {classes[1]}"
        return f"{classes[0]} {'is missing' if self.name == 'missing' else WORDS[self.name]}"


WORDS = {"extra": "where none is seen", DIFFERENT: "differs"}


def kind_of(mask: np.ndarray, probs: np.ndarray, suspicion: Floats) -> Kind:
    """The kind of error that explains best how a mask (H, W) differs from a prediction (C, H, W).

    `suspicion` (C,) is the suspicion of each class; NaN: absent.
    """
    height, width = mask.shape
    ratio = min(1.0, SIDE / max(height, width))
    mask, probs = _small(mask, probs, (max(1, round(height * ratio)), max(1, round(width * ratio))))
    found = _kind_of(mask, probs, suspicion)
    return replace(found, shift=(round(found.shift[0] / ratio), round(found.shift[1] / ratio)))


def _small(mask: np.ndarray, probs: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A mask and probabilities, resized to `size`."""
    if mask.shape == size:
        return mask, probs
    planes = [cv2.resize(plane, size[::-1], interpolation=cv2.INTER_AREA) for plane in probs]
    return resize_mask(mask, size), np.stack(planes)


def _kind_of(mask: np.ndarray, probs: np.ndarray, suspicion: Floats) -> Kind:
    predicted = probs.argmax(axis=0).astype(np.uint8)
    most = int(np.nan_to_num(suspicion, nan=-np.inf).argmax())
    counts = confusion(predicted, mask, len(probs))
    explained = [*_shifts(mask, probs, predicted, most), *_swaps(counts)]
    if explained:
        gain, kind = max(explained, key=lambda one: one[0])
        if gain - mean_iou(counts) >= GAIN:
            return kind
    objects = [*_objects(mask, predicted)]
    return max(objects, key=lambda one: one[0])[1] if objects else Kind(DIFFERENT, (most,))


def _shifts(
    mask: np.ndarray, probs: np.ndarray, predicted: np.ndarray, most: int
) -> Iterator[tuple[float, Kind]]:
    """The mean IoU of a mask that is moved back to where the prediction sees its objects, if it moved."""
    down, right = _best_shift(mask, probs)
    if (down, right) == (0, 0):
        return
    back = np.array([[1, 0, -right], [0, 1, -down]], np.float32)
    size = mask.shape[::-1]
    moved = cv2.warpAffine(mask, back, size, flags=cv2.INTER_NEAREST, borderValue=IGNORE)
    yield (
        mean_iou(confusion(predicted, moved.astype(np.uint8), len(probs))),
        Kind("shifted", (most,), (down, right)),
    )


def _best_shift(mask: np.ndarray, probs: np.ndarray) -> tuple[int, int]:
    """The shift (down, right) of a mask at which it correlates most with the probabilities.

    All shifts are tried at once, by the cross-correlation theorem. Each class counts alike. The mean of its
    pixels is subtracted, so that a class that covers the image says nothing.
    """
    height, width = mask.shape
    total = np.zeros((2 * height, 2 * width))
    for c in np.unique(mask[mask != IGNORE]):
        own = (mask == c).astype(np.float64)
        own, seen = own - own.mean(), probs[c] - probs[c].mean(dtype=np.float64)
        norm = np.sqrt((own**2).sum() * (seen**2).sum())
        if norm > 0:
            spectra = (np.fft.rfft2(plane, total.shape) for plane in (own, seen))
            first, second = spectra
            total += np.fft.irfft2(first * second.conj(), total.shape) / norm
    ways = [np.fft.fftfreq(side, 1 / side).round() for side in total.shape]
    near = (np.abs(ways[0]) <= REACH * height)[:, None] & (np.abs(ways[1]) <= REACH * width)
    place = np.unravel_index(np.where(near, total, -np.inf).argmax(), total.shape)
    return int(ways[0][place[0]]), int(ways[1][place[1]])


def _swaps(counts: np.ndarray) -> Iterator[tuple[float, Kind]]:
    """The mean IoU after two classes of a mask change places, for each pair that the prediction swaps."""
    known = counts.sum(axis=1)
    for first in range(len(counts)):
        for second in range(first + 1, len(counts)):
            if (
                counts[first, second] > MOSTLY * known[first]
                and counts[second, first] > MOSTLY * known[second]
            ):
                swapped = counts.copy()
                swapped[[first, second]] = counts[[second, first]]
                yield mean_iou(swapped), Kind("swapped", (first, second))


def _objects(mask: np.ndarray, predicted: np.ndarray) -> Iterator[tuple[int, Kind]]:
    """Objects that only one of the two shows, and objects of another class, with their pixels.

    An object is a connected area of one class. It is missing from the mask if the mask shows there what lies
    around it, and it is extra if the prediction does. If both show an object at the same place, it has
    another class.
    """
    for own, area in _areas(mask):
        other, share = _most(predicted[area])
        if other != own and share > MOSTLY:
            extra = _around(predicted, other, area) >= MOSTLY
            yield int(area.sum()), Kind("extra", (own,)) if extra else Kind("instead", (own, other))
    for seen, area in _areas(predicted):
        own, share = _most(mask[area])
        if own not in (seen, IGNORE) and share > MOSTLY and _around(mask, own, area) >= MOSTLY:
            yield int(area.sum()), Kind("missing", (seen,))


def _areas(ids: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """The connected areas of each class, as (H, W) bool, without ignored pixels."""
    for c in np.unique(ids[ids != IGNORE]):
        number, parts = cv2.connectedComponents((ids == c).astype(np.uint8))
        yield from ((int(c), parts == part) for part in range(1, number))


def _most(ids: np.ndarray) -> tuple[int, float]:
    found, counts = np.unique(ids, return_counts=True)
    return int(found[counts.argmax()]), float(counts.max() / counts.sum())


def _around(ids: np.ndarray, c: int, area: np.ndarray) -> float:
    """The share of the pixels around an area that have class `c`."""
    ring = (cv2.dilate(area.astype(np.uint8), np.ones((5, 5))) > 0) & ~area
    return float((ids[ring] == c).mean()) if ring.any() else 0.0
