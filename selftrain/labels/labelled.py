"""Turns averaged probabilities into a label to store."""

import numpy as np

from selftrain.labels.record import Labelled, encode
from selftrain.labels.refiners import Refiner
from selftrain.scores import confusion


def label_image(
    image: np.ndarray,
    probs: np.ndarray,
    *,
    refiner: Refiner,
    soft_classes: int,
    mask: np.ndarray | None = None,
    raw: np.ndarray | None = None,
) -> Labelled:
    """Label an image (H, W, 3) uint8; `probs` (C, H, W) is the mean over its views.

    The refined probabilities are stored: the CRF's marginals rank pixels as well as the mean over the views
    does (docs/lab-notes.md). `mask` (H, W) and the plain view's labels `raw` (H, W) are used only to measure
    the label.
    """
    refined = refiner(image, probs)
    hard = refined.argmax(axis=0).astype(np.uint8)  # (H, W)
    confidence = np.rint(255 * refined.max(axis=0)).astype(np.uint8)
    classes = len(probs)
    histogram = np.bincount(hard.ravel().astype(np.int64) * 256 + confidence.ravel(), minlength=classes * 256)
    counts = None
    if mask is not None and raw is not None:
        stages = (raw, probs.argmax(axis=0), hard)
        counts = np.stack([confusion(labels, mask, classes) for labels in stages])
    return Labelled(
        encode(refined, hard, confidence, soft_classes),
        float(confidence.mean() / 255),
        histogram.reshape(classes, 256),
        counts,
    )
