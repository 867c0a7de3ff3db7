"""Windows: how much of an image a network sees at once. The table is WINDOWS.

An entry maps images (N, C, H, W) to probabilities (N, K, H, W) float32, in a new tensor. Its arguments are

    logits    function that runs the network on images whose sides are multiples of `multiple`
    images    normalised images of any size
    multiple  number that divides the sides of the network's input
    batch     most images and windows that share a forward pass

and its own settings. The setting `side` limits what the network sees at once.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from selftrain.errors import ConfigError
from selftrain.tables import Bounds, Chosen, Table

Logits = Callable[[Tensor], Tensor]
Window = Callable[..., Tensor]
TILE = 4  # windows along a side of a tile; a whole image's probabilities may not fit in memory


def whole(logits: Logits, images: Tensor, multiple: int, batch: int) -> Tensor:
    """The whole image in one pass."""
    height, width = images.shape[2:]
    return softmax(logits(pad(images, multiple))[:, :, :height, :width])


def slide(
    logits: Logits,
    images: Tensor,
    multiple: int,
    batch: int,
    *,
    side: Annotated[int, Bounds(1), "pixels, a multiple of what the network takes"] = 1024,
    overlap: Annotated[
        float, Bounds(0, 0.9), "share of a side that neighbouring windows have in common"
    ] = 0.25,
) -> Tensor:
    """Sliding windows of `side` pixels, blended by a Gaussian; images that fit in one window stay whole.

    Raises ConfigError for a side that the network cannot take.
    """
    if side % multiple:
        raise ConfigError(
            f"window {side} must be a multiple of {multiple}; take {-(-side // multiple) * multiple}"
        )
    if max(images.shape[2:]) <= side:
        return whole(logits, images, multiple, batch)
    from monai.inferers.utils import sliding_window_inference  # imported late: it takes two seconds

    height, width = images.shape[2:]
    padded = pad(images, multiple)
    roi = [min(side, length) for length in padded.shape[2:]]
    probs = sliding_window_inference(
        padded, roi, batch, lambda part: softmax(logits(part)), overlap=overlap, mode="gaussian"
    )
    assert isinstance(probs, Tensor)
    return probs[:, :, :height, :width]


WINDOWS: dict[str, Window] = {"whole": whole, "slide": slide}


def of(setting: int | str | Mapping[str, Mapping[str, Any]]) -> Chosen[Window]:
    """The window for a setting: a side in pixels (0: whole images), or the name of an entry of WINDOWS.

    Raises ConfigError for unknown names and values.
    """
    if isinstance(setting, int):
        setting = {"slide": {"side": setting}} if setting else "whole"
    return Table(WINDOWS).one(setting, "window")


def side_of(window: Chosen[Window]) -> int:
    """Longest side in pixels that the network sees at once; 0: no limit."""
    return int(window.settings.get("side", 0))


def pad(images: Tensor, multiple: int) -> Tensor:
    """Images (N, C, H, W) padded at the bottom and right, so that sides are multiples of `multiple`.

    Padding reflects the image, or repeats its edge if the image is too small for that.
    """
    height, width = images.shape[2:]
    down, right = -height % multiple, -width % multiple
    if down < height and right < width:
        return F.pad(images, (0, right, 0, down), mode="reflect") if down or right else images
    for border, side in (((0, 0, 0, down), height), ((0, right, 0, 0), width)):
        if any(border):
            images = F.pad(images, border, mode="reflect" if max(border) < side else "replicate")
    return images


def softmax(logits: Tensor) -> Tensor:
    """Probabilities (N, K, H, W) float32 of logits."""
    # fp32: a bf16 softmax blurs 0.9 to 1.0, where thresholds live.
    # Contiguous: half the time of channels_last.
    return logits.to(torch.float32, memory_format=torch.contiguous_format).softmax(dim=1)


def tiled(labels: Callable[[np.ndarray], np.ndarray], images: np.ndarray, *, window: int) -> np.ndarray:
    """Class ids (N, H, W) uint8 of images (N, H, W, C) by `labels`, tile by tile; `window` 0: all at once.

    A tile is TILE x TILE windows, plus a margin of half a window around it.
    """
    count, height, width, _ = images.shape
    side, margin = TILE * window or max(height, width), window // 2
    ids = np.empty((count, height, width), np.uint8)
    for top in range(0, height, side):
        for left in range(0, width, side):
            above, before = max(0, top - margin), max(0, left - margin)
            seen = labels(images[:, above : top + side + margin, before : left + side + margin])  # (N, h, w)
            inner = seen[:, top - above : top - above + side, left - before : left - before + side]
            ids[:, top : top + side, left : left + side] = inner
    return ids
