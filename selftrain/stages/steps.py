"""Pixels as networks see them."""

import torch


def normalised(images: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """(N, H, W, 3) uint8 -> (N, 3, H, W) float, channels_last without a copy of its own."""
    return (images.permute(0, 3, 1, 2).float() - mean) / std
