"""What a network predicts. The one place that tells a network with an image-level head from one without."""

from typing import NamedTuple

from torch import Tensor


class Output(NamedTuple):
    """Logits of the pixels (N, C, H, W) and, of a network with an image-level head, of the images (N, K)."""

    pixels: Tensor
    image: Tensor | None = None


def output_of(returned: Tensor | tuple[Tensor, Tensor | None]) -> Output:
    """What a network returned: pixel logits alone, or (as smp with `aux_params` and `Output` do) both."""
    return Output(returned) if isinstance(returned, Tensor) else Output(*returned)


def pixels_of(returned: Tensor | tuple[Tensor, Tensor | None]) -> Tensor:
    """The pixel logits (N, C, H, W) of what a network returned."""
    return output_of(returned).pixels


def tensors_of(returned: Tensor | tuple[Tensor, Tensor | None]) -> list[Tensor]:
    """The one or two tensors of what a network returned, pixel logits first."""
    return [logits for logits in output_of(returned) if logits is not None]
