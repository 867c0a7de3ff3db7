"""Values fitted to pixels whose class is known."""

import numpy as np
from numpy.typing import NDArray

FLOOR = 1e-6  # least probability: a network that is certain and wrong would rule out all its others
ROUNDS = 200  # of EM, at most
SHARE = 1e-4  # least weight
SWEEPS = 3  # over the classes
# offsets of a class's log-probability: a factor of up to e^3, in steps of 6 %
OFFSETS = np.arange(-48, 49) / 16

Floats = NDArray[np.floating]


def weights(likelihoods: Floats) -> NDArray[np.float64]:
    """Weights (M,) with sum 1 that maximise the mean log-likelihood of a mixture, by EM.

    `likelihoods` (M, n) are the probabilities that each of M predictions gives to the true class of n pixels.
    The log-likelihood is concave in the weights, so EM (Dempster et al. 1977) finds its maximum. A weight
    stays above 0; without pixels all are equal.
    """
    given = np.maximum(likelihoods.astype(np.float64), FLOOR)
    found = np.full(len(given), 1 / len(given))
    for _ in range(ROUNDS if given.size else 0):
        shares = found[:, None] * given
        before, found = found, np.maximum((shares / shares.sum(axis=0)).mean(axis=1), SHARE)
        found /= found.sum()
        if np.abs(found - before).max() < 1e-5:
            break
    return found


def thresholds(probs: Floats, truth: NDArray[np.integer]) -> NDArray[np.float64]:
    """Thresholds (C,) with sum 1 that maximise the mIoU of the decision argmax_c probs_c / thresholds_c.

    `probs` (n, C) and `truth` (n,) are the probabilities and classes of pixels whose class is known. One
    class after the other gets its best offset while the others are fixed (coordinate ascent, Lipton et al.
    2014). An offset must raise the mIoU; of equally good ones the smallest is taken. A class that is not in
    `truth` keeps its offset of 0, since its IoU is undefined.
    """
    logs = np.log(np.maximum(probs.astype(np.float32), FLOOR))
    offsets = np.zeros(logs.shape[1])
    for _ in range(SWEEPS):
        before = offsets.copy()
        for c in np.unique(truth):
            offsets[c] = _best(logs, offsets, truth, int(c))
        if (offsets == before).all():
            break
    found = np.exp(-offsets)
    return found / found.sum()


def _best(logs: Floats, offsets: Floats, truth: NDArray[np.integer], c: int) -> float:
    """The offset of class `c` with the highest mIoU, if the other classes keep theirs."""
    classes = logs.shape[1]
    moved = logs + offsets.astype(np.float32)
    moved[:, c] = -np.inf
    other = moved.argmax(axis=1)
    needed = moved[np.arange(len(moved)), other] - logs[:, c]  # a higher offset decides for c
    step = np.searchsorted(OFFSETS, needed, side="right")  # the first offset that does
    known = np.bincount(truth, minlength=classes).astype(np.float64)  # (C,)

    def taken(where: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Pixels (C, offsets) by their other class that are decided for c."""
        place = other[where] * (len(OFFSETS) + 1) + step[where]
        counts = np.bincount(place, minlength=classes * (len(OFFSETS) + 1))
        return counts.reshape(classes, -1)[:, :-1].cumsum(axis=1).astype(np.float64)

    every, right = taken(np.ones(len(truth), bool)), taken(other == truth)
    said = np.bincount(other, minlength=classes)[:, None] - every
    hit = np.bincount(other[other == truth], minlength=classes)[:, None] - right
    said[c], hit[c] = every.sum(axis=0), taken(truth == c).sum(axis=0)
    union = known[:, None] + said - hit
    scores = (hit / np.maximum(union, 1))[known > 0].mean(axis=0)  # (offsets,)
    now = np.argmin(np.abs(OFFSETS - offsets[c]))
    if scores.max() <= scores[now] + 1e-9:
        return float(offsets[c])
    best = np.flatnonzero(scores >= scores.max() - 1e-12)
    return float(OFFSETS[best[np.abs(OFFSETS[best]).argmin()]])
