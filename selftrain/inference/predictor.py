"""The one way to ask a network about images."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import ttach
from torch import Tensor, nn

from selftrain.anatomy import Anatomy
from selftrain.inference import tta, windows
from selftrain.inference.decide import Decision, argmax
from selftrain.inference.pixels import PixelScale
from selftrain.models.fused import fused
from selftrain.tables import Chosen, bound

Precision = Callable[[], AbstractContextManager[Any]]


def exact() -> AbstractContextManager[Any]:
    """fp32 throughout: the TF32 that a GPU's convolutions take by default keeps ten bits."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


@dataclass(frozen=True)
class Predictor:
    """Networks, which it puts in eval mode, with all that it takes to ask them about images."""

    networks: tuple[nn.Module, ...]  # their probabilities are averaged
    scale: PixelScale
    window: Chosen[windows.Window]
    views: ttach.Compose | None = None  # whose probabilities are averaged; None: the plain image
    precision: Precision = exact  # a context for each forward pass
    decision: Decision = argmax
    multiple: int = Anatomy.multiple  # of the sides that the networks take
    batch: int = 1  # the most views and windows that share a forward pass
    layout: torch.memory_format = torch.channels_last

    def __post_init__(self) -> None:
        for network in self.networks:
            network.eval()

    @property
    def side(self) -> int:
        """The most pixels of a side that the networks see at once; 0: no limit."""
        return windows.side_of(self.window)

    def plain(self) -> "Predictor":
        """This predictor without its views."""
        return replace(self, views=None)

    def quickest(self, image: np.ndarray) -> "Predictor":
        """This predictor in the form that labels many images like `image` (H, W, C) uint8 most quickly."""
        if self.scale.device.type != "cpu":
            return self
        side = self.side or max(image.shape)
        seen = windows.pad(self.pixels(image[None, :side, :side]), self.multiple)
        dtype = self._dtype()
        return replace(self, networks=tuple(fused(network, seen, dtype) for network in self.networks))

    def pixels(self, images: np.ndarray | Tensor) -> Tensor:
        """(N, H, W, C) uint8 -> (N, C, H, W) float on the device, normalised."""
        normalised = self.scale.normalise(torch.as_tensor(images).to(self.scale.device))
        return normalised.contiguous(memory_format=self.layout)

    def probabilities(self, images: np.ndarray) -> Tensor:
        """(N, K, H, W) float32 of images (N, H, W, C) uint8: the mean over the networks and their views."""
        pixels = self.pixels(images)
        with self.precision():
            found = [self._of(network, pixels) for network in self.networks]
        return found[0] if len(found) == 1 else torch.stack(found).mean(dim=0)

    def labels(self, images: np.ndarray) -> np.ndarray:
        """Class ids (N, H, W) uint8 of images (N, H, W, C) uint8."""
        return self.decision(self.probabilities(images)).cpu().numpy()

    def labels_in_tiles(self, images: np.ndarray) -> np.ndarray:
        """As `labels`, tile by tile: the probabilities of a large image may not fit in memory at once."""
        return windows.tiled(self.labels, images, window=self.side)

    def _of(self, network: nn.Module, pixels: Tensor) -> Tensor:
        window = bound(self.window)
        return tta.predict(
            network, pixels, transforms=self.views, window=window, multiple=self.multiple, batch=self.batch
        )

    def _dtype(self) -> torch.dtype:
        """What convolutions compute in on a CPU."""
        with self.precision():
            return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32
