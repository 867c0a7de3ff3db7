"""From averaged probabilities to a stored label."""

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
    """Label an image (H, W, 3) uint8 whose views average to probs (C, H, W).

    The refined probabilities are stored. Those of the CRF rank pixels as well as the views do (docs/lab-notes.md).
    `mask` (H, W) and the plain view's labels `raw` (H, W) only measure the label.
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
