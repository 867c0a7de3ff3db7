"""From averaged probabilities to a stored label."""

from dataclasses import dataclass

import numpy as np

from selftrain import scores
from selftrain.labels import crf, store


@dataclass(frozen=True)
class Refined:
    """One image's record and what its shard counts of it."""

    record: bytes
    confidence: float  # mean over pixels, 0..1
    histogram: np.ndarray  # (C, 256) pixels by hard label and confidence
    confusion: np.ndarray | None  # (3, C, C): raw, after TTA, as stored; None without a mask


def refine(
    image: np.ndarray,
    probs: np.ndarray,
    *,
    soft_classes: int,
    settings: dict | None,
    mask: np.ndarray | None = None,
    raw: np.ndarray | None = None,
) -> Refined:
    """Label an image (H, W, 3) uint8 whose views average to probs (C, H, W); `settings` are the CRF's, None: off.

    What is stored are the CRF's marginals; as confidence they rank pixels as well as the views do (docs/lab-notes.md).
    `mask` (H, W) and the plain view's labels `raw` (H, W) are there only to measure.
    """
    refined = probs if settings is None else crf.refine(image, probs, **settings)
    hard = refined.argmax(axis=0).astype(np.uint8)  # (H, W)
    confidence = np.rint(255 * refined.max(axis=0)).astype(np.uint8)
    classes = len(probs)
    histogram = np.bincount(hard.ravel().astype(np.int64) * 256 + confidence.ravel(), minlength=classes * 256)
    confusion = None
    if mask is not None and raw is not None:
        stages = (raw, probs.argmax(axis=0), hard)
        confusion = np.stack([scores.confusion(said, mask, classes) for said in stages])
    return Refined(
        store.encode(refined, hard, confidence, soft_classes),
        float(confidence.mean() / 255),
        histogram.reshape(classes, 256),
        confusion,
    )
