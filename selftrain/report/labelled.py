"""Pseudo-labels as a page shows them before anyone trains on them: shares, drift, confidence, galleries."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from selftrain.report.embedded import Gallery
from selftrain.scores import distance

BARS = 20  # of a histogram of confidences, from 0 to 1


@dataclass(frozen=True)
class Bar:
    """A bar of a histogram: its rejected and its accepted pixels; the tallest bar has the height 1."""

    rejected: float
    accepted: float


@dataclass(frozen=True)
class Shares:
    """A class's shares of the pixels: in the masks, in the labels and in the accepted part of the labels."""

    name: str
    masks: float
    labels: float
    accepted: float


@dataclass(frozen=True)
class LabelFacts:
    """A teacher's labels: what selection.json does not contain.

    `histogram` (C, 256) counts pixels by hard label and confidence, `masks` (C,) the pixels of each class in
    the masks of the labelled images. `floors` (C,) are the least accepted confidences, 0 to 255.
    """

    classes: Sequence[str]
    histogram: np.ndarray
    masks: np.ndarray
    floors: np.ndarray
    galleries: Sequence[Gallery] = ()

    @property
    def _accepted(self) -> np.ndarray:
        """The accepted pixels (C, 256) of the histogram."""
        return self.histogram * (np.arange(256) >= self.floors[:, None])

    @property
    def shares(self) -> list[Shares]:
        """A row for each class; [] if no mask has a labelled pixel or nothing is labelled."""
        if not self.masks.any() or not self.histogram.any():
            return []
        counts = (self.masks, self.histogram.sum(axis=1), self._accepted.sum(axis=1))
        parts = [row / max(row.sum(), 1) for row in counts]
        return [Shares(name, *map(float, row)) for name, *row in zip(self.classes, *parts, strict=True)]

    @property
    def drift(self) -> tuple[float, float]:
        """The distance from the masks' class shares: of all labels, and of the accepted ones."""
        labels, accepted = self.histogram.sum(axis=1), self._accepted.sum(axis=1)
        return distance(labels, self.masks), distance(accepted, self.masks)

    def bars(self, name: str) -> list[Bar]:
        """The histogram of the confidences of a class's pixels; [] without pixels."""
        c = list(self.classes).index(name)
        every, kept = (_binned(counts) for counts in (self.histogram[c], self._accepted[c]))
        highest = every.max()
        if not highest:
            return []
        return [
            Bar(float(all_ - accepted) / highest, float(accepted) / highest)
            for all_, accepted in zip(every, kept, strict=True)
        ]


def _binned(counts: np.ndarray) -> np.ndarray:
    """Counts (256,) by confidence in BARS bins."""
    places = np.minimum(np.arange(256) * BARS // 255, BARS - 1)
    return np.bincount(places, weights=counts, minlength=BARS)
