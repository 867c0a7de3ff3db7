"""Moves the borders of painted areas to the edges of the image, within a box, by the CRF of the run."""

import numpy as np

from selftrain.ids import IGNORE
from selftrain.labels.crf import CRF, marginals
from selftrain.verdicts import Planes

PAINTED = 0.9  # probability of the painted class; the CRF may move the border of a sketch
AROUND = 24  # pixels around the box that the CRF sees

Box = tuple[int, int, int, int]  # top, left, bottom, right; the last two are outside


def refined(image: np.ndarray, planes: Planes, soft: np.ndarray, box: Box, crf: CRF) -> Planes:
    """The planes of an image after the CRF has relabelled a box.

    `soft` (C, H, W) has the probabilities of the pseudo-label; painted pixels have their class with
    probability PAINTED. Pixels that get another class are known from then on, since a person asked for them
    and sees them. Ignored pixels stay ignored. Raises ValueError for an empty box, and for images (H, W, N)
    that are neither RGB nor grey.
    """
    (height, width), (top, left, bottom, right) = planes[0].shape, box
    if not (0 <= top < bottom <= height and 0 <= left < right <= width):
        raise ValueError(f"the box {box} is empty, or outside of an image of {height} x {width}")
    if image.shape[2] not in (1, 3):
        raise ValueError(f"the CRF takes grey images and RGB, and this one has {image.shape[2]} channels")
    seen = slice(max(top - AROUND, 0), bottom + AROUND), slice(max(left - AROUND, 0), right + AROUND)
    ids, known = (plane[seen] for plane in planes)
    probs = _unaries(ids, known, soft[(slice(None), *seen)])
    found = marginals(np.ascontiguousarray(image[seen]), probs, crf=crf).argmax(axis=0).astype(np.uint8)
    inside = np.zeros(planes[0].shape, bool)
    inside[top:bottom, left:right] = True
    changed = inside[seen] & (ids != IGNORE) & (found != ids)
    new_ids, new_known = (plane.copy() for plane in planes)
    new_ids[seen][changed] = found[changed]
    new_known[seen] |= changed
    return new_ids, new_known


def _unaries(ids: np.ndarray, known: np.ndarray, soft: np.ndarray) -> np.ndarray:
    """Probabilities (C, h, w): of the pseudo-label, or of what is painted; equal if that is ignored."""
    classes = len(soft)
    painted = np.full((classes, *ids.shape), (1 - PAINTED) / max(classes - 1, 1), np.float32)
    rows, columns = np.nonzero(ids != IGNORE)
    painted[ids[rows, columns], rows, columns] = PAINTED
    painted[:, ids == IGNORE] = 1 / classes
    return np.where(known, painted, soft).astype(np.float32)
