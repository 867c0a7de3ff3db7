"""The predictor: the only way to run a network on images."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
import ttach
from torch import Tensor, nn

from selftrain.anatomy import Anatomy
from selftrain.data.images import resize_image
from selftrain.inference import tta, windows
from selftrain.inference.decide import Cleaned, Decision, argmax
from selftrain.inference.pixels import PixelScale
from selftrain.labels.refiners import Refiner
from selftrain.models.ensemble import parts
from selftrain.models.fused import fused
from selftrain.models.heads import head_of
from selftrain.models.outputs import output_of
from selftrain.tables import Chosen, bound, handed

Size = tuple[int, int]  # height, width
Precision = Callable[[], AbstractContextManager[Any]]


def exact() -> AbstractContextManager[Any]:
    """Compute in fp32 throughout: by default, convolutions on a GPU use TF32, which keeps ten bits."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


@dataclass(frozen=True)
class Predictor:
    """Networks in eval mode, with all settings needed to predict images."""

    networks: tuple[nn.Module, ...]  # put in eval mode; their probabilities are averaged
    scale: PixelScale
    window: Chosen[windows.Window]
    views: ttach.Compose | None = None  # their probabilities are averaged; None: the plain image
    view_weights: tuple[float, ...] = ()  # of each view; empty: all count alike
    precision: Precision = exact  # the context of each forward pass
    refiner: Refiner | None = None  # refines the averaged probabilities of each image
    decision: Decision = argmax
    multiple: int = Anatomy.multiple  # input sides must be multiples of this
    gate: float = 0.0  # least probability of a class in the image-level head's view; 0: off
    batch: int = 1  # most views and windows that share a forward pass
    layout: torch.memory_format = torch.channels_last
    seen_size: Callable[[Size], Size] | None = None  # from an image's size to the size that is looked at
    tally: windows.Tally = field(default_factory=windows.Tally)  # of the windows looked at and skipped

    def __post_init__(self) -> None:
        for network in self.networks:
            network.eval()

    @property
    def side(self) -> int:
        """Longest side in pixels that the networks see at once; 0: no limit."""
        return windows.side_of(self.window)

    def plain(self) -> "Predictor":
        """This predictor without its views."""
        return replace(self, views=None, view_weights=())

    def with_views(self, found: tta.Views) -> "Predictor":
        """This predictor with other views."""
        return replace(self, views=found.transforms, view_weights=found.weights)

    def quickest(self, image: np.ndarray) -> "Predictor":
        """The form of this predictor that is fastest for many images like `image` (H, W, C) uint8."""
        if self.scale.device.type != "cpu":
            return self
        image = self._at_seen_size(image[None])[0]
        side = self.side or max(image.shape)
        seen = windows.pad(self.pixels(image[None, :side, :side]), self.multiple)
        dtype = self._dtype()
        return replace(self, networks=tuple(fused(network, seen, dtype) for network in self.networks))

    def pixels(self, images: np.ndarray | Tensor) -> Tensor:
        """(N, H, W, C) uint8 -> (N, C, H, W) float on the device, normalised."""
        normalised = self.scale.normalise(torch.as_tensor(images).to(self.scale.device))
        return normalised.contiguous(memory_format=self.layout)

    def probabilities(self, images: np.ndarray, sureness: list[Tensor] | None = None) -> Tensor:
        """(N, K, H, W) float32 of images (N, H, W, C) uint8: the mean over the networks and their views.

        If the images are seen at another size, the probabilities are resized back. They are refined, if there
        is a refiner. `sureness` gets the mean confidence (N,) of the single views of each network.
        """
        pixels = self.pixels(self._at_seen_size(images))
        with self.precision():
            found = [self._of(network, pixels, sureness) for network in self.networks]
        mean = found[0] if len(found) == 1 else torch.stack(found).mean(dim=0)
        mean = tta.resize_maps(mean, (images.shape[1], images.shape[2]))
        if self.refiner is None:
            return mean
        refined = [self.refiner(*pair) for pair in zip(images, mean.cpu().numpy(), strict=True)]
        return torch.from_numpy(np.stack(refined)).to(mean.device)

    @property
    def tells_tags(self) -> bool:
        """Whether the networks have an image-level head."""
        return all(head_of(one) for network in self.networks for one in parts(network))

    @torch.inference_mode()
    def tags(self, images: np.ndarray) -> Tensor:
        """The probability (N, K) float32 that images (N, H, W, C) uint8 contain each class.

        It is the mean over the networks. Of an image larger than a window it is the largest probability in
        neighbouring parts of that size.
        """
        pixels = self.pixels(self._at_seen_size(images))
        side = self.side or max(pixels.shape[2:])
        seen = [
            windows.pad(tile, self.multiple) for row in pixels.split(side, 2) for tile in row.split(side, 3)
        ]
        with self.precision():
            each = [torch.stack([self._image_logits(one, tile) for tile in seen]) for one in self.networks]
        return torch.stack(each).sigmoid().amax(dim=1).mean(dim=0)

    @staticmethod
    def _image_logits(network: nn.Module, pixels: Tensor) -> Tensor:
        logits = output_of(network(pixels)).image
        assert logits is not None
        return logits.float()

    def labels(self, images: np.ndarray) -> np.ndarray:
        """Class ids (N, H, W) uint8 of images (N, H, W, C) uint8."""
        return self.decision(self.probabilities(images)).cpu().numpy()

    def labels_in_tiles(self, images: np.ndarray) -> np.ndarray:
        """`labels`, computed tile by tile: a large image's probabilities may not fit in memory at once."""
        if not isinstance(self.decision, Cleaned):
            return windows.tiled(self.labels, images, window=self.side)
        uncleaned = replace(self, decision=self.decision.decision)  # a region may lie in several tiles
        ids = torch.from_numpy(uncleaned.labels_in_tiles(images))
        return self.decision.after(ids).numpy()

    def _at_seen_size(self, images: np.ndarray) -> np.ndarray:
        """Images (N, H, W, C) at the size at which the networks see them."""
        if self.seen_size is None:
            return images
        size = self.seen_size((images.shape[1], images.shape[2]))
        return np.stack([resize_image(image, size) for image in images])

    def _of(self, network: nn.Module, pixels: Tensor, sureness: list[Tensor] | None) -> Tensor:
        window = partial(
            bound(self.window), **handed(self.window.entry, f"window={self.window.name}", tally=self.tally)
        )
        return tta.predict(
            network,
            pixels,
            transforms=self.views,
            weights=self.view_weights,
            window=window,
            multiple=self.multiple,
            batch=self.batch,
            gate=self.gate,
            sureness=sureness,
        )

    def _dtype(self) -> torch.dtype:
        """The dtype of convolutions on a CPU."""
        with self.precision():
            return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32
