"""How a run asks its networks about images: pixel scale, window, precision, device and cache in one place."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

import numpy as np
import torch
import ttach
from accelerate import Accelerator
from torch import Tensor, nn

from selftrain.config import DataConfig
from selftrain.data.cache import Cache
from selftrain.data.labels import Readable
from selftrain.labels import tta
from selftrain.models.frozen import frozen
from selftrain.stages.steps import normalised

Sample = TypeVar("Sample", bound=Readable)


@dataclass(frozen=True)
class Inference:
    """What the stages of one run share when they look at images; ranks share the images."""

    accelerator: Accelerator
    cache: Cache
    mean: Tensor  # (1, 3, 1, 1), in grey levels
    std: Tensor
    window: int  # side in pixels of what the network sees at once; 0: no limit

    @classmethod
    def of(cls, data: DataConfig, window: int, accelerator: Accelerator) -> "Inference":
        """With the pixel scale and the cache of `data`."""
        rows = (data.mean, data.std)
        mean, std = (255 * torch.tensor(row, device=accelerator.device).view(1, 3, 1, 1) for row in rows)
        return cls(accelerator, Cache(data.cache_mb), mean, std, window)

    def pixels(self, images: np.ndarray | Tensor) -> Tensor:
        """(N, H, W, 3) uint8 -> (N, 3, H, W) float on the device, normalised."""
        return normalised(torch.as_tensor(images).to(self.accelerator.device), self.mean, self.std)

    def quickest(self, network: nn.Module, image: np.ndarray) -> nn.Module:
        """A trained network in the form in which many images like `image` (H, W, 3) uint8 are labelled most quickly."""
        if self.accelerator.device.type != "cpu":
            return network
        side = self.window or max(image.shape)
        seen = tta.pad(self.pixels(image[None, :side, :side]))
        return frozen(network, seen, torch.bfloat16 if self.accelerator.mixed_precision == "bf16" else torch.float32)

    def probabilities(self, network: nn.Module, images: np.ndarray, views: ttach.Compose | None = None) -> Tensor:
        """(N, C, H, W) float32 of images (N, H, W, 3) uint8: the mean over the views; None: the plain image."""
        with self.accelerator.autocast():
            return tta.predict(network, self.pixels(images), transforms=views, window=self.window)

    def labels(self, network: nn.Module, images: np.ndarray) -> np.ndarray:
        """Class ids (N, H, W) uint8 of images (N, H, W, 3) uint8, one plain view each."""
        return self.probabilities(network, images).argmax(dim=1).to(torch.uint8).cpu().numpy()

    def mine(self, count: int) -> range:
        """Which of `count` things are this rank's."""
        return range(self.accelerator.process_index, count, self.accelerator.num_processes)

    def neighbours(self, samples: Sequence[Sample], batch: int) -> Iterator[list[tuple[Sample, np.ndarray]]]:
        """Samples with their images, in their order, up to `batch` neighbours of one size together.

        The grouping is part of a label's bits, so it depends on `samples` and `batch` alone.
        """
        for first in range(0, len(samples), batch):
            pairs = [(sample, self.cache.image(sample)) for sample in samples[first : first + batch]]
            for _, same in groupby(pairs, key=lambda pair: pair[1].shape):
                yield list(same)
