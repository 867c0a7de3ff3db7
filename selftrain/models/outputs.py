"""The outputs of a network. Only this module distinguishes networks with and without an image-level head."""

from typing import NamedTuple

import torch
from torch import Tensor


class Output(NamedTuple):
    """Logits of the pixels (N, C, H, W), and of the images (N, K) if the network has an image-level head."""

    pixels: Tensor
    image: Tensor | None = None


def output_of(returned: Tensor | tuple[Tensor, Tensor | None]) -> Output:
    """Wrap a network's return value: pixel logits alone, or both, as smp with `aux_params` returns."""
    return Output(returned) if isinstance(returned, Tensor) else Output(*returned)


def pixels_of(returned: Tensor | tuple[Tensor, Tensor | None]) -> Tensor:
    """The pixel logits (N, C, H, W) of a network's return value."""
    return output_of(returned).pixels


def gated(returned: Tensor | tuple[Tensor, Tensor | None], threshold: float) -> Tensor:
    """The pixel logits, -inf for classes that the image-level head finds less probable than `threshold`.

    The most probable class of an image always stays. Without a threshold, or a head, all classes stay.
    """
    output = output_of(returned)
    if not threshold or output.image is None:
        return output.pixels
    probs = output.image.float().sigmoid()  # (N, C)
    kept = (probs >= threshold) | (probs == probs.amax(dim=1, keepdim=True))
    return output.pixels.masked_fill(~kept[..., None, None], -torch.inf)


def tensors_of(returned: Tensor | tuple[Tensor, Tensor | None]) -> list[Tensor]:
    """The one or two tensors of a network's return value, pixel logits first."""
    return [logits for logits in output_of(returned) if logits is not None]
