"""Normalisation of pixels for the input of a network."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from selftrain.errors import ConfigError


@dataclass(frozen=True)
class PixelScale:
    """Mean and deviation of each channel, in grey levels (0 to 255), on the device of the network."""

    mean: Tensor  # (1, C, 1, 1)
    std: Tensor  # (1, C, 1, 1)

    @classmethod
    def of(cls, mean: Sequence[float], std: Sequence[float], device: torch.device) -> "PixelScale":
        """The scale for means and deviations in 0..1, as in settings and cards.

        Raises ConfigError if their numbers of channels differ.
        """
        if len(mean) != len(std):
            raise ConfigError(
                f"data.mean has {len(mean)} channels and data.std has {len(std)}; give one number per channel"
            )
        scaled = (255 * torch.tensor(row, device=device).view(1, -1, 1, 1) for row in (mean, std))
        return cls(*scaled)

    @property
    def channels(self) -> int:
        return self.mean.shape[1]

    @property
    def device(self) -> torch.device:
        return self.mean.device

    def normalise(self, images: Tensor) -> Tensor:
        """(N, H, W, C) uint8 -> (N, C, H, W) float, in channels_last memory without an extra copy."""
        assert images.shape[-1] == self.channels, (
            f"images of {images.shape[-1]} channels, a scale of {self.channels}"
        )
        return (images.permute(0, 3, 1, 2).float() - self.mean) / self.std
