"""Which pseudo-labels are good enough: rules over what a label store counts, so that nothing is read or labelled again.

A rule gets the store's histogram (C, 256), pixels by hard label and confidence in steps of 1/255, and gives thresholds
(C,) in 0..1. A pixel of class c is accepted if confidence / 255 >= thresholds[c]. A class without pixels gets the
threshold that does not depend on classes.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from selftrain.errors import ConfigError

STEPS = np.arange(256)
Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


def fixed(histogram: Counts, *, confidence: float, **_: float) -> Floats:
    """`confidence` for every class (FixMatch, Sohn et al. 2020). One number for all starves the rare classes."""
    return np.full(len(histogram), _share("confidence", confidence))


def quantile(histogram: Counts, *, keep: float, confidence: float, **_: float) -> Floats:
    """The highest threshold that leaves each class at least `keep` of its pixels, but none above `confidence`.

    Class-balanced self-training (Zou et al. 2018, CBST; He et al. 2021, DARS). Pixels that tie with the last one kept are
    kept too.
    """
    above = histogram[:, ::-1].cumsum(axis=1)[:, ::-1]  # (C, 256) pixels at least so confident
    enough = above >= _share("keep", keep) * above[:, :1] * (1 - 1e-12)
    highest = np.where(enough, STEPS, 0).max(axis=1) / 255  # (C,)
    return np.where(above[:, 0] > 0, np.minimum(highest, _share("confidence", confidence)), confidence)


def adaptive(histogram: Counts, **_: float) -> Floats:
    """Mean confidence, lowered for classes that the teacher is less sure of (Wang et al. 2023, FreeMatch).

    tau_c = tau * m_c / max m, with the mean confidence tau of all pixels and m_c of those labelled c. FreeMatch follows
    both by moving averages; a store has all pixels. Its m_c is the mean probability of c over all samples; over pixels
    that would measure the area of a class rather than how well it is known.
    """
    pixels = histogram.sum(axis=1)  # (C,)
    sums = histogram @ (STEPS / 255)  # (C,)
    tau = sums.sum() / max(pixels.sum(), 1)
    mean = np.where(pixels > 0, sums / np.maximum(pixels, 1), 0)
    return np.where(pixels > 0, mean / max(mean.max(), 1e-12), 1) * tau


THRESHOLDS: dict[str, Callable[..., Floats]] = {"global": fixed, "quantile": quantile, "adaptive": adaptive}


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
    """Pixel weights (C,), a class's share of the accepted pixels ^ -balance, with mean 1 over these pixels.

    0: all alike; 1: all classes together weigh the same. A class without accepted pixels gets 1.
    """
    pixels = accepted(histogram, thresholds)
    present = pixels > 0
    share = np.where(present, pixels / max(pixels.sum(), 1), 1)
    weights = share**-balance
    return np.where(present, weights / max((share * weights)[present].sum(), 1e-12), 1)


def image_weights(reliability: NDArray[np.float32], share: float, weight: bool) -> NDArray[np.float32]:
    """Weights (N,) of images with reliabilities (N,): 0 for all but the most reliable `share` (Yang et al. 2022, ST++).

    Those weigh 1, or, with `weight`, in proportion to their reliability with mean 1.
    Of equals the first is kept; a share above 0 keeps at least one image.
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
