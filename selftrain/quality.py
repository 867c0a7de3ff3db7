"""How good the prediction for an image is, from how sure the network is: a line that is fitted on val.

The expected IoU of an image is sigmoid(slope * logit(c) + intercept), where c is the mean confidence of its
pixels. It is fitted to the images' mean IoUs by fractional logistic regression (Papke & Wooldridge 1996,
"Econometric methods for fractional response variables"). With the slope 1 and the intercept 0 it is the
confidence itself.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selftrain.scores import BLOCKS, blocks

LEAST = 10  # images; with fewer, nothing is fitted
FOLDS = 5
EDGE = 1e-3  # confidences are kept this far from 0 and 1
RIDGE = 1e-2  # pulls the slope to 0 where the images hardly differ
STEPS = 50  # of Newton's method; about six are needed

Values = NDArray[np.float64]


def fitted(sure: Values, ious: Values) -> dict[str, Any] | None:
    """The line for images of mean confidence `sure` (N,) and mean IoU `ious` (N,); None for few images.

    {"slope", "intercept", "images", "error", "error_of_mean"}: the errors are mean differences to the true
    IoU, of the line and of the mean IoU, on neighbouring images that neither was fitted on. If the line is
    not better, or falls, its slope is 0.
    """
    if len(ious) < LEAST:
        return None
    folds = np.array(blocks(len(ious))) * FOLDS // BLOCKS
    errors = np.zeros((2, len(ious)))
    for fold in np.unique(folds):
        own, rest = folds == fold, folds != fold
        line, mean = _line(sure[rest], ious[rest]), ious[rest].mean()
        errors[:, own] = np.abs([_expected(*line, sure[own]) - ious[own], mean - ious[own]])
    error, of_mean = (float(row.mean()) for row in errors)
    slope, intercept = _line(sure, ious)
    if slope <= 0 or error >= of_mean:
        slope, intercept, error = 0.0, float(_logit(ious.mean())), of_mean
    return {
        "slope": round(slope, 6),
        "intercept": round(intercept, 6),
        "images": len(ious),
        "error": round(error, 6),
        "error_of_mean": round(of_mean, 6),
    }


def expected(line: Mapping[str, Any] | None, sure: float) -> float | None:
    """The expected IoU of an image whose mean confidence is `sure`; None without a line."""
    return None if line is None else float(_expected(line["slope"], line["intercept"], np.array(sure)))


def _expected(slope: float, intercept: float, sure: Values) -> Values:
    return 1 / (1 + np.exp(-(slope * _logit(sure) + intercept)))


def _logit(shares: Values) -> Values:
    kept = np.clip(shares, EDGE, 1 - EDGE)
    return np.log(kept / (1 - kept))


def _line(sure: Values, ious: Values) -> tuple[float, float]:
    """Slope and intercept by Newton's method on the penalised likelihood, which is concave."""
    rows = np.stack([_logit(sure), np.ones(len(sure))], axis=1)  # (N, 2)
    penalty, found = np.diag([RIDGE * len(sure), 0.0]), np.zeros(2)
    for _ in range(STEPS):
        said = 1 / (1 + np.exp(-(rows @ found)))
        slopes = rows.T @ (ious - said) - penalty @ found
        curvature = rows.T @ (rows * (said * (1 - said))[:, None]) + penalty + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, slopes)
        found = found + np.clip(step, -5, 5)
        if np.abs(step).max() < 1e-9:
            break
    return float(found[0]), float(found[1])
