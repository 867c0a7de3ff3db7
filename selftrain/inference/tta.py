"""Test-time augmentation: softmax probabilities averaged over the views of ttach.

Works around four traps of ttach 0.0.3. Its `Scale` interpolates to the nearest pixel, always adds the scale
1, and returns a map that is a pixel too small (`int(int(h * s) / s)`). Turns with both flips give every view
twice.
"""

from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
import ttach
from torch import Tensor, nn

from selftrain.anatomy import Anatomy
from selftrain.errors import ConfigError
from selftrain.inference.windows import Window, whole
from selftrain.models.outputs import gated


class Zoom(ttach.Scale):
    """Exactly the given scales, with bilinear interpolation and rounded sizes.

    The views of one scale share the resized image. `predict` resizes the maps back: it has the size of the
    images, and it resizes the maps of one scale together.
    """

    def __init__(self, scales: Sequence[float]) -> None:
        super().__init__(list(scales), interpolation="bilinear", align_corners=False)
        self.params = list(scales)
        self._last: tuple[Tensor, float, Tensor] | None = None  # image, scale, resized image

    def apply_aug_image(self, image: Tensor, scale: float = 1.0, **_: Any) -> Tensor:
        if self._last is None or self._last[0] is not image or self._last[1] != scale:
            height, width = (max(1, round(side * scale)) for side in image.shape[2:])
            self._last = image, scale, _resize(image, (height, width))
        return self._last[2]

    def apply_deaug_mask(self, mask: Tensor, scale: float = 1.0, **_: Any) -> Tensor:
        return mask


def views(*, hflip: bool, vflip: bool, rotate90: bool, scales: Sequence[float]) -> ttach.Compose:
    """The product of scales, four turns and flips, without duplicates. Raises ConfigError for bad scales."""
    if not scales or min(scales) <= 0 or len(set(scales)) < len(scales):
        raise ConfigError(
            f"tta scales must be positive and all different, not {list(scales)}; [1.0] changes no size"
        )
    transforms: list[Any] = [Zoom(scales)]
    if rotate90:
        transforms.append(ttach.Rotate90([0, 90, 180, 270]))
    if hflip:
        transforms.append(ttach.HorizontalFlip())
    # Turns and one flip give all eight symmetries; the other flip would repeat each of them.
    if vflip and not (rotate90 and hflip):
        transforms.append(ttach.VerticalFlip())
    return ttach.Compose(transforms)


@torch.inference_mode()
def predict(
    model: nn.Module,
    images: Tensor,
    *,
    transforms: ttach.Compose | None = None,
    window: Window = whole,
    multiple: int = Anatomy.multiple,
    batch: int = 1,
    gate: float = 0.0,
) -> Tensor:
    """Class probabilities (N, K, H, W) float32 of images (N, C, H, W): the mean over the views.

    Without `transforms`, there is one view: the plain image. `model` must be in eval mode; autocast is left
    to the caller. `window`, an entry of WINDOWS with its settings, pads each view to `multiple` and computes
    its probabilities. With `gate`, classes that an image-level head finds less probable than this in what the
    network sees at once have probability 0. Views of one size, and windows, share a forward pass of up to
    `batch` images.

    Raises ConfigError for transforms that do not suit segmentation.
    """
    assert not model.training, "batch statistics would let an image change the result of its neighbours"
    transforms = _suited(transforms or ttach.Compose([]))
    size = (images.shape[2], images.shape[3])
    sums: dict[tuple[int, int], Tensor] = {}  # by the size of the maps: one resize for each size
    for group in _groups(transforms, images, most=max(1, batch // len(images))):
        seen = torch.cat([view for _, view in group])
        found = window(lambda padded: gated(model(padded), gate), seen, multiple, batch).split(len(images))
        for (transformer, _), probs in zip(group, found, strict=True):
            probs = transformer.deaugment_mask(probs)  # (N, C, h, w)
            key = (probs.shape[2], probs.shape[3])
            sums[key] = sums[key].add_(probs) if key in sums else probs
    return reduce(torch.add, [_resize(part, size) for part in sums.values()]) / len(transforms)


def _suited(transforms: ttach.Compose) -> ttach.Compose:
    for transform in transforms.aug_transforms:
        name = type(transform).__name__
        if isinstance(transform, ttach.FiveCrops):
            raise ConfigError("tta: FiveCrops has no way back to a whole map; use a window instead")
        if isinstance(transform, ttach.Resize) and transform.original_size is None:
            raise ConfigError("tta: Resize needs original_size to find the way back; use scales instead")
        if getattr(transform, "interpolation", "bilinear") == "nearest":
            raise ConfigError(f"tta: {name} takes the nearest pixel; say interpolation='bilinear'")
    return transforms


def _groups(transforms: ttach.Compose, images: Tensor, *, most: int) -> Iterator[list[tuple[Any, Tensor]]]:
    """Groups of up to `most` neighbouring views of one size, each with the transformer that undoes it."""
    group: list[tuple[Any, Tensor]] = []
    for transformer in transforms:
        view = transformer.augment_image(images)
        if group and (len(group) == most or group[0][1].shape != view.shape):
            yield group
            group = []
        group.append((transformer, view))
    yield group


def _resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(maps.shape[2:]) == size:
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
