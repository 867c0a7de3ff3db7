"""Rules that select pseudo-labels.

They work on the counts in a label store, so nothing is read or labelled again.

A rule gets the store's histogram (C, 256): pixels by hard label and confidence in steps of 1/255. It returns
thresholds (C,) in 0..1. A pixel of class c is accepted if confidence / 255 >= thresholds[c]. Classes without
pixels also get a threshold.

A rule's own settings are keywords with a default. Keywords without a default receive shared values: `keep`
and `confidence` from `select`, and `known`, the pixels (C,) of each class in the masks of the labelled
images.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from selftrain.errors import ConfigError
from selftrain.tables import Table

STEPS = np.arange(256)
Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


def fixed(histogram: Counts, *, confidence: float) -> Floats:
    """`confidence` for every class (FixMatch, Sohn et al. 2020). One value for all starves rare classes."""
    return np.full(len(histogram), _share("confidence", confidence))


def quantile(histogram: Counts, *, keep: float, confidence: float) -> Floats:
    """The highest threshold that keeps at least `keep` of each class's pixels, capped at `confidence`.

    Class-balanced self-training (Zou et al. 2018, CBST). Pixels that tie with the last one kept are also
    kept.
    """
    pixels = histogram.sum(axis=1)  # (C,)
    highest = _highest(histogram, _share("keep", keep) * pixels)
    return np.where(pixels > 0, np.minimum(highest, _share("confidence", confidence)), confidence)


def distribution(histogram: Counts, *, keep: float, known: Counts) -> Floats:
    """The highest thresholds that keep `keep` of all pixels, with the class shares of the masks.

    DARS (He et al. 2021), but without its random choice among ties: all pixels that tie with the last one
    kept are kept. A class that is predicted for fewer pixels than its share keeps all of them. A class that
    occurs in no mask keeps its most confident pixels.
    """
    shares = known / max(known.sum(), 1)  # (C,)
    wanted = _share("keep", keep) * histogram.sum() * shares
    return _highest(histogram, np.minimum(wanted, histogram.sum(axis=1)))


def _highest(histogram: Counts, wanted: Floats) -> Floats:
    """The highest thresholds (C,) that at least `wanted` (C,) pixels of each class reach."""
    above = histogram[:, ::-1].cumsum(axis=1)[:, ::-1]  # (C, 256) pixels of at least this confidence
    return np.where(above >= wanted[:, None] * (1 - 1e-12), STEPS, 0).max(axis=1) / 255


def adaptive(histogram: Counts) -> Floats:
    """Mean confidence, lowered for classes that the teacher is less sure of (Wang et al. 2023, FreeMatch).

    tau_c = tau * m_c / max m: tau is the mean confidence of all pixels, m_c of the pixels labelled c.
    FreeMatch estimates both by moving averages; a store contains all pixels. FreeMatch's m_c is the mean
    probability of c over all samples. Over pixels, that would measure the area of a class rather than how
    well it is known.
    """
    pixels = histogram.sum(axis=1)  # (C,)
    sums = histogram @ (STEPS / 255)  # (C,)
    tau = sums.sum() / max(pixels.sum(), 1)
    mean = np.where(pixels > 0, sums / np.maximum(pixels, 1), 0)
    return np.where(pixels > 0, mean / max(mean.max(), 1e-12), 1) * tau


THRESHOLDS: dict[str, Callable[..., Floats]] = {
    "global": fixed,
    "quantile": quantile,
    "distribution": distribution,
    "adaptive": adaptive,
}
TABLE = Table(THRESHOLDS)


def floors(thresholds: Floats) -> NDArray[np.int64]:
    """The lowest stored confidence (C,), 0 to 255, that each threshold accepts."""
    return np.ceil(thresholds * 255 - 1e-6).astype(np.int64)


def accepted(histogram: Counts, thresholds: Floats) -> Counts:
    """Accepted pixels (C,) of each class."""
    return np.where(floors(thresholds)[:, None] <= STEPS, histogram, 0).sum(axis=1)


def kept(histogram: Counts, thresholds: Floats) -> Floats:
    """Accepted share (C,) of each class's pixels; NaN for a class without pixels."""
    pixels = histogram.sum(axis=1)
    return np.where(pixels > 0, accepted(histogram, thresholds) / np.maximum(pixels, 1), np.nan)


def class_weights(histogram: Counts, thresholds: Floats, balance: float) -> Floats:
    """Pixel weights (C,) by each class's share of the accepted pixels.

    With `balance` 0, all pixels weigh the same. With 1, all classes have the same total weight.
    """
    return balanced(accepted(histogram, thresholds), balance)


def balanced(pixels: Counts, balance: float) -> Floats:
    """Class weights (C,): the class's share of `pixels` (C,), to the power of -balance.

    The mean weight over the pixels is 1. A class without pixels gets 1.
    """
    present = pixels > 0
    share = np.where(present, pixels / max(pixels.sum(), 1), 1)
    weights = share**-balance
    return np.where(present, weights / max((share * weights)[present].sum(), 1e-12), 1)


def image_weights(reliability: NDArray[np.float32], share: float, weight: bool) -> NDArray[np.float32]:
    """Image weights (N,): 0 for all but the most reliable `share` (Yang et al. 2022, ST++).

    `reliability` is (N,). The kept images weigh 1; with `weight`, they weigh in proportion to their
    reliability, with mean 1. Of equally reliable images, the first is kept. A share above 0 keeps at least
    one image.
    """
    count = int(np.ceil(_share("image_share", share) * len(reliability) - 1e-9))
    chosen = np.argsort(-reliability, kind="stable")[:count]
    weights = np.zeros(len(reliability), np.float32)
    weights[chosen] = reliability[chosen] / max(reliability[chosen].mean(), 1e-12) if weight and count else 1
    return weights


def _share(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise ConfigError(f"select.{name} must lie between 0 and 1, not {value}")
    return value
