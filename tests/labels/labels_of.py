"""Drawn probabilities, and the labels that come of them."""

import numpy as np
from numpy.typing import NDArray

from selftrain.labels.record import Labelled, encode

CLASSES = 5


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float32]:
    odds = np.exp(logits - logits.max(axis=0))
    return (odds / odds.sum(axis=0)).astype(np.float32)


def distribution(
    seed: int, classes: int = CLASSES, height: int = 13, width: int = 17, sharpness: float = 3.0
) -> NDArray[np.float32]:
    return softmax(np.random.default_rng(seed).normal(size=(classes, height, width)) * sharpness)


def first(probs: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Hard label and confidence as they are without a CRF."""
    return probs.argmax(axis=0).astype(np.uint8), np.rint(255 * probs.max(axis=0)).astype(np.uint8)


def labelled(
    probs: NDArray[np.float32], confidence: float = 1.0, confusion: NDArray[np.int64] | None = None
) -> Labelled:
    """As a shard takes it; `confidence` and `confusion` are whatever a test wants to find again."""
    hard, sureness = first(probs)
    histogram = np.zeros((CLASSES, 256), np.int64)
    np.add.at(histogram, (hard, sureness), 1)
    return Labelled(encode(probs, hard, sureness, 3), confidence, histogram, confusion)
