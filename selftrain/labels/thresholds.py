"""Which pseudo-labels are good enough: rules over what a label store counts, so that nothing is read or labelled again.

A rule gets the store's histogram (C, 256): pixels by hard label and confidence in steps of 1/255. It returns thresholds
(C,) in 0..1: a pixel of class c is accepted if confidence / 255 >= thresholds[c]. A class without pixels gets one, too.

A rule's own settings are keywords with a default. Without one it may ask for what the rules share: `keep` and `confidence`
of `select`, and as `known` the pixels (C,) of each class in the masks of the labelled images.
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
    """`confidence` for every class (FixMatch, Sohn et al. 2020). One number for all starves the rare classes."""
    return np.full(len(histogram), _share("confidence", confidence))


def quantile(histogram: Counts, *, keep: float, confidence: float) -> Floats:
    """The highest threshold that leaves each class at least `keep` of its pixels, but none above `confidence`.

    Class-balanced self-training (Zou et al. 2018, CBST). Pixels that tie with the last one kept are kept too.
    """
    pixels = histogram.sum(axis=1)  # (C,)
    highest = _highest(histogram, _share("keep", keep) * pixels)
    return np.where(pixels > 0, np.minimum(highest, _share("confidence", confidence)), confidence)


def distribution(histogram: Counts, *, keep: float, known: Counts) -> Floats:
    """The highest thresholds that leave `keep` of all pixels, shared out among the classes as the masks' pixels are.

    DARS (He et al. 2021), whose random choice among pixels that tie with the last one kept is left out: all of them are
    kept. So are all pixels of a class that is given to fewer than its share; of one that no mask has, the surest ones.
    """
    shares = known / max(known.sum(), 1)  # (C,)
    wanted = _share("keep", keep) * histogram.sum() * shares
    return _highest(histogram, np.minimum(wanted, histogram.sum(axis=1)))


def _highest(histogram: Counts, wanted: Floats) -> Floats:
    """The highest threshold (C,) that at least `wanted` (C,) pixels of each class reach."""
    above = histogram[:, ::-1].cumsum(axis=1)[:, ::-1]  # (C, 256) pixels at least so confident
    return np.where(above >= wanted[:, None] * (1 - 1e-12), STEPS, 0).max(axis=1) / 255


def adaptive(histogram: Counts) -> Floats:
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
    """Pixel weights (C,) by shares of the accepted pixels. 0: all alike; 1: all classes together weigh the same."""
    return balanced(accepted(histogram, thresholds), balance)


def balanced(pixels: Counts, balance: float) -> Floats:
    """Weights (C,) of classes by their shares of `pixels` (C,) ^ -balance, mean 1 over these; 1 for a class without any."""
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
