"""The features that a frozen encoder has computed, kept for images that it sees again unchanged."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from selftrain.errors import ConfigError
from selftrain.log import say
from selftrain.optim.groups import encoders

MEGABYTE = 2**20


class Features:
    """The forward pass of a frozen encoder, which looks up images (N, C, H, W) that it has seen.

    Images are known by their pixels, so other pixels never get these features. A batch with an unknown image
    is computed as a whole: so each image's features are computed in a batch of the usual size, and are the
    same bits as without this class. Kept features may take `room` bytes; after that, nothing more is kept.
    """

    def __init__(self, forward: Callable[[Tensor], Any], room: int):
        self.forward, self.room, self.used, self.full = forward, room, 0, False
        self.kept: dict[bytes, Any] = {}
        self.hits = 0  # batches that were looked up

    def __call__(self, images: Tensor) -> Any:
        """The features of `images`: tensors (N, ...), also within lists and tuples."""
        keys = [hashlib.blake2b(image.tobytes()).digest() for image in images.detach().cpu().numpy()]
        if all(key in self.kept for key in keys):
            self.hits += 1
            return _joined([self.kept[key] for key in keys])
        features = self.forward(images)
        for place, key in enumerate(keys):
            if key not in self.kept:
                self._keep(key, features, place)
        return features

    def _keep(self, key: bytes, features: Any, place: int) -> None:
        size = sum(one[place].numel() * one.element_size() for one in _tensors(features))
        if self.used + size > self.room:
            if not self.full:
                say(
                    f"train.feature_mb={self.room // MEGABYTE} is full after {len(self.kept)} images, "
                    f"{size / MEGABYTE:.1f} MB each; a larger value saves more time"
                )
            self.full = True
            return
        self.used += size
        self.kept[key] = _each(features, lambda one: one[place : place + 1].detach().clone())


def remember(network: nn.Module, megabytes: int) -> list[Features]:
    """Let each frozen encoder of `network` look up the images that it has seen; returns the stores."""
    found = []
    for _, module in encoders(network, "train.feature_mb"):
        found.append(Features(module.forward, megabytes * MEGABYTE))
        setattr(module, "forward", found[-1])  # noqa: B010  (a module's own method, for mypy)
    return found


def check_called(network: nn.Module, ask: Callable[[], None]) -> None:
    """Raises ConfigError if `ask`, which uses `network`, does not call its encoder as a whole."""
    called: list[nn.Module] = []
    for _, module in encoders(network, "train.feature_mb"):
        handle = module.register_forward_hook(lambda encoder, *_: called.append(encoder))
        ask()
        handle.remove()
    if not called:
        raise ConfigError(
            f"train.feature_mb: {type(network).__name__} uses parts of its encoder on their own, so features "
            "cannot be kept; set train.feature_mb=0 or another model.arch"
        )


def _each(features: Any, use: Callable[[Tensor], Tensor]) -> Any:
    """`features` with `use` applied to each tensor, at any depth; other values stay."""
    if isinstance(features, Tensor):
        return use(features)
    return (
        type(features)(_each(one, use) for one in features)
        if isinstance(features, list | tuple)
        else features
    )


def _tensors(features: Any) -> list[Tensor]:
    if isinstance(features, Tensor):
        return [features]
    return (
        [found for one in features for found in _tensors(one)] if isinstance(features, list | tuple) else []
    )


def _joined(each: Sequence[Any]) -> Any:
    """The features of a batch, from the features of its images."""
    first = each[0]
    if isinstance(first, Tensor):
        return torch.cat(list(each))
    if isinstance(first, list | tuple):
        return type(first)(_joined(parts) for parts in zip(*each, strict=True))
    return first
