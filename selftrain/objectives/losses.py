"""Pixel losses as sums over what counts, so that the caller can divide by the count of all ranks."""

import torch
from torch.nn import functional as F

from selftrain.ids import IGNORE


def cross_entropy_sum(
    logits: torch.Tensor, target: torch.Tensor, *, smoothing: float = 0.0, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Sum of -log p over pixels, with label smoothing (Szegedy et al. 2016).

    logits (N, C, H, W), target (N, H, W) int64 with 255 ignored, weights (C,) of the classes. 0 where every pixel is ignored.
    With both, as torch has it, the smoothed part of the target weighs by the classes that it goes to: a pixel of a frequent class
    leans towards the rare ones. With few masks val prefers that to smoothing alike (docs/lab-notes.md, 2026-11-29); confidences
    of frequent classes are lower for it.
    """
    return F.cross_entropy(logits, target, weights, ignore_index=IGNORE, label_smoothing=smoothing, reduction="sum")


def weighted_cross_entropy_sum(logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Sum of weight * -log p. logits (N, C, H, W), target (N, H, W) int64 with 255 ignored, weight (N, H, W)."""
    return (F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="none") * weight).sum()
