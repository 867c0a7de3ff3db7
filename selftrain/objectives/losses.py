"""Pixel losses as sums over what counts, so that the caller can divide by the count of all ranks."""

import torch
from torch.nn import functional as F

IGNORE = 255


def cross_entropy_sum(
    logits: torch.Tensor, target: torch.Tensor, *, smoothing: float = 0.0, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Sum of -log p over pixels, with label smoothing (Szegedy et al. 2016).

    logits (N, C, H, W), target (N, H, W) int64 with 255 ignored. A pixel weighs by its own class, weights (C,), the smoothed
    part of its target, too: torch's `weight` would draw every pixel towards the classes that weigh most. 0 where every pixel
    is ignored.
    """
    if weights is None or smoothing == 0:
        return F.cross_entropy(logits, target, weights, ignore_index=IGNORE, label_smoothing=smoothing, reduction="sum")
    losses = F.cross_entropy(logits, target, ignore_index=IGNORE, label_smoothing=smoothing, reduction="none")  # (N, H, W)
    return (losses * weights[target.clamp_max(len(weights) - 1)]).sum()


def weighted_cross_entropy_sum(logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Sum of weight * -log p. logits (N, C, H, W), target (N, H, W) int64 with 255 ignored, weight (N, H, W)."""
    return (F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="none") * weight).sum()
