"""The outputs of a network. Only this module distinguishes networks with and without an image-level head."""

from typing import NamedTuple

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


def tensors_of(returned: Tensor | tuple[Tensor, Tensor | None]) -> list[Tensor]:
    """The one or two tensors of a network's return value, pixel logits first."""
    return [logits for logits in output_of(returned) if logits is not None]
