"""Turns averaged probabilities into a label to store."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

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
    earlier: Callable[[], np.ndarray | None] = lambda: None,
    unlike: Callable[[np.ndarray], float | None] = lambda image: None,
    numbers: Mapping[str, float] = MappingProxyType({}),
) -> Labelled:
    """Label an image (H, W, 3) uint8; `probs` (C, H, W) is the mean over its views.

    The refined probabilities are stored: the CRF's marginals rank pixels as well as the mean over the views
    does (docs/lab-notes.md). `mask` (H, W) and the plain view's labels `raw` (H, W) are used only to measure
    the label. `earlier` reads the label (H, W) of an earlier generation, if there is one.
    `unlike` measures how unlike the image is to labelled ones. `numbers` are known already. All of these are
    only told (`labels.numbers`).
    """
    refined = refiner(image, probs)
    hard = refined.argmax(axis=0).astype(np.uint8)  # (H, W)
    confidence = np.rint(255 * refined.max(axis=0)).astype(np.uint8)
    classes = len(probs)
    histogram = np.bincount(hard.ravel().astype(np.int64) * 256 + confidence.ravel(), minlength=classes * 256)
    averaged, before = hard if refined is probs else probs.argmax(axis=0), earlier()
    counts = None
    if mask is not None and raw is not None:
        stages = (raw, averaged, hard)
        counts = np.stack([confusion(labels, mask, classes) for labels in stages])
    sure = float(confidence.mean() / 255)
    told = {
        "confidence": sure,
        "refiner": None if refined is probs else _changed(averaged, hard),
        "generations": None if before is None else _changed(before, hard),
        "unlike": unlike(image),
    }
    return Labelled(
        encode(refined, hard, confidence, soft_classes),
        sure,
        histogram.reshape(classes, 256),
        counts,
        {**numbers, **{name: value for name, value in told.items() if value is not None}},
    )


def _changed(before: np.ndarray, after: np.ndarray) -> float | None:
    """The share of the pixels whose class differs; None for labels of another size."""
    return float((before != after).mean()) if before.shape == after.shape else None
