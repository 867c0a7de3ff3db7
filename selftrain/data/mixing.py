"""Mixing of two training images with their labels.

A mixing is a mask: the share of each pixel that comes from the partner. Its random numbers are drawn
beforehand, with the crop, so that a step is a pure function of its seed. The mask may also depend on the
partner's labels, which online methods know only in the step. The same function serves stored labels (in the
loader) and online labels (in the step).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from selftrain.ids import IGNORE
from selftrain.tables import Bounds, Table

Draw = Callable[..., np.ndarray]  # (rng, (h, w), *, settings) -> numbers (k,)
# (numbers (..., k), the partner's hard labels (..., h, w)) -> share (..., h, w)
Mask = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Mixing:
    """A mixing: `draw` draws random numbers, and `mask` turns them into the partner's share of each pixel.

    `soft`: the shares lie between 0 and 1, so the labels of a mixed image are soft. `weighs`: the labels of
    each part weigh by the class activation there (`emphasis`), so a network must have labelled the image.
    """

    draw: Draw
    mask: Mask
    soft: bool = False
    weighs: bool = False


@dataclass(frozen=True)
class Mixer:
    """A mixing with its probability; at most one mixing acts on an image."""

    name: str
    p: float
    draw: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
    mask: Mask
    soft: bool = False
    weighs: bool = False


@dataclass(frozen=True)
class Drawn:
    """The index of the mixer that acts on an image, -1 for none, and the numbers drawn for it."""

    which: int
    numbers: np.ndarray  # (k,) float64


def box(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """CutMix: a box of the partner, as top, bottom, left and right.

    Its share of the area is uniform (Beta(1, 1)). Its centre is uniform over the image; the box is cut off at
    the border.
    """
    height, width = size
    side = np.sqrt(rng.uniform())
    tall, wide = round(side * height), round(side * width)
    top, left = int(rng.integers(height)) - tall // 2, int(rng.integers(width)) - wide // 2
    return np.array([max(top, 0), max(top + tall, 0), max(left, 0), max(left + wide, 0)], float)


def in_box(numbers: Tensor, hard: Tensor) -> Tensor:
    """Mask (..., h, w) bool of the pixels within the box."""
    height, width = hard.shape[-2:]
    top, bottom, left, right = numbers[..., :4, None, None].unbind(dim=-3)  # (..., 1, 1) each
    rows = torch.arange(height, device=numbers.device)[:, None]
    columns = torch.arange(width, device=numbers.device)
    return (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)


def priorities(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """ClassMix: half of the partner's classes, chosen by a random number for each class id."""
    return rng.uniform(size=IGNORE)


def of_classes(numbers: Tensor, hard: Tensor) -> Tensor:
    """Mask (..., h, w) bool of the chosen classes: half of the partner's classes, rounded up."""
    flat, drawn = (
        hard.reshape(-1, *hard.shape[-2:]).long(),
        numbers.expand(*hard.shape[:-2], -1).reshape(-1, numbers.shape[-1]),
    )
    masks = [torch.isin(one, _half(torch.unique(one), row)) for one, row in zip(flat, drawn, strict=True)]
    return torch.stack(masks).reshape(hard.shape)


def _half(present: Tensor, numbers: Tensor) -> Tensor:
    present = present[present != IGNORE]
    return present[numbers[present].argsort()][: (len(present) + 1) // 2]


def beta(
    rng: np.random.Generator,
    size: tuple[int, int],
    *,
    alpha: Annotated[float, Bounds(0.01), "of Beta(alpha, alpha); 1: every share is as likely"] = 0.4,
) -> np.ndarray:
    """MixUp: the partner's share."""
    return np.array([rng.beta(alpha, alpha)])


def everywhere(numbers: Tensor, hard: Tensor) -> Tensor:
    """The same share (..., h, w) of every pixel."""
    return numbers[..., 0, None, None].expand(hard.shape)


def emphasis(share: Tensor, ours: Tensor, theirs: Tensor) -> Tensor:
    """SnapMix: weights (..., h, w) of the pixels of a mixed image, from class activations (..., h, w).

    Huang et al. 2021 weigh the labels of both images by the share of their class activation that is seen.
    Here each pixel has its own label. So the labels of a part weigh by its mean activation, divided by the
    mean of the whole image: together, they then weigh as much as that share of the activation. The
    activation of a pixel is the probability of its label, which in a segmentation network is the class
    activation map of that class, normalised. `share` (..., h, w) bool is true in the partner's part.
    """
    return torch.where(share, _relative(theirs, share), _relative(ours, ~share))


def _relative(activation: Tensor, part: Tensor) -> Tensor:
    """The mean activation in a `part` (..., h, w) bool, divided by the mean everywhere; (..., 1, 1)."""
    inside = (activation * part).sum(dim=(-2, -1), keepdim=True)
    mean = inside / part.sum(dim=(-2, -1), keepdim=True).clamp_min(1)
    return mean / activation.mean(dim=(-2, -1), keepdim=True).clamp_min(1e-6)


MIXES: dict[str, Mixing] = {
    "cutmix": Mixing(box, in_box),  # Yun et al. 2019; for dense labels French et al. 2020
    "classmix": Mixing(priorities, of_classes),  # Olsson et al. 2021
    "mixup": Mixing(beta, everywhere, soft=True),  # Zhang et al. 2018
    "snapmix": Mixing(box, in_box, weighs=True),  # Huang et al. 2021
}
TABLE = Table(MIXES, main="p", function=lambda mixing: mixing.draw)


def drawn(mixers: tuple[Mixer, ...], rng: np.random.Generator, size: tuple[int, int]) -> Drawn:
    """Draw the mixer that acts on an image of `size` (h, w); one uniform number decides among all mixers."""
    if not mixers:
        return Drawn(-1, np.zeros(0))
    at, reached = rng.uniform(), 0.0
    for which, mixer in enumerate(mixers):
        reached += mixer.p
        if at < reached:
            return Drawn(which, mixer.draw(rng, size))
    return Drawn(-1, np.zeros(0))


def share_of(mixer: Mixer, numbers: np.ndarray, hard: np.ndarray) -> np.ndarray:
    """The partner's share (h, w) of each pixel, from the partner's hard labels (h, w)."""
    return mixer.mask(torch.from_numpy(numbers), torch.from_numpy(hard)).numpy()
