"""Max pooling that remembers its places, and its inverse, from operations that ONNX has."""

import torch
from torch import Tensor
from torch.nn import functional as F


def pooled(features: Tensor) -> tuple[Tensor, Tensor]:
    """Max pooling over windows of 2x2: (N, C, H, W) -> (N, C, H/2, W/2), twice.

    The second tensor contains the place of each maximum in its window: 0 to 3, row by row. Of equal values
    the first counts.
    """
    windows = F.pixel_unshuffle(features, 2).unflatten(1, (-1, 4))
    values, places = windows.max(dim=2)
    return values, places


def unpooled(features: Tensor, places: Tensor) -> Tensor:
    """Put each feature at its place in a window of 2x2 zeros: (N, C, H, W) -> (N, C, 2H, 2W)."""
    numbers = torch.arange(4, device=places.device)[:, None, None]
    spread = torch.where(numbers == places.unsqueeze(2), features.unsqueeze(2), 0)
    return F.pixel_shuffle(spread.flatten(1, 2), 2)
