"""Labels of samples for training: masks, or a teacher's pseudo-labels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch

from selftrain.ids import IGNORE
from selftrain.targets import Target


class Readable(Protocol):
    """An image with or without a mask, and a unique id."""

    @property
    def id(self) -> str: ...

    def read_image(self) -> np.ndarray: ...

    def read_mask(self) -> np.ndarray | None: ...


class Weighed(Readable, Protocol):
    """An image whose labelled pixels have a weight in training."""

    @property
    def weight(self) -> float: ...


# the probabilities (C, h, w) of a sample at flat indices (h, w)
Soft = Callable[[Readable, np.ndarray], np.ndarray]


class Labels(Protocol):
    """Labels of the pixels of `samples`: masks, or a teacher's filtered pseudo-labels."""

    @property
    def samples(self) -> Sequence[Readable]: ...

    def target(self, i: int, index: np.ndarray) -> Target[np.ndarray]:
        """The target of sample `i` at flat indices (h, w); indices outside of the image are negative."""


def weighed(sample: "Weighed", *, mask: Callable[[Readable], np.ndarray]) -> np.ndarray:
    """The weights (H, W) float32 of a sample's pixels, all equal: one number in memory."""
    return np.broadcast_to(np.float32(sample.weight), mask(sample).shape)


@dataclass(frozen=True)
class MaskLabels:
    """The masks of labelled samples, as `Labels`."""

    samples: Sequence[Readable]
    mask: Callable[[Readable], np.ndarray]  # (H, W) uint8 of a sample that has one
    # Weights (H, W) float32 of a sample's pixels; None: every pixel weighs 1.
    weight: Callable[[Readable], np.ndarray | None] = lambda sample: None

    def target(self, i: int, index: np.ndarray) -> Target[np.ndarray]:
        """See `Labels.target`; masks have no soft labels."""
        sample = self.samples[i]
        weight = self.weight(sample)
        return Target(
            gather(self.mask(sample), index, IGNORE), None if weight is None else gather(weight, index, 0)
        )


@dataclass(frozen=True)
class Taught:
    """Labels with a teacher's probabilities of the same pixels beside them."""

    labels: Labels
    soft: Soft

    @property
    def samples(self) -> Sequence[Readable]:
        return self.labels.samples

    def target(self, i: int, index: np.ndarray) -> Target[np.ndarray]:
        """See `Labels.target`; with soft labels."""
        return replace(self.labels.target(i, index), soft=self.soft(self.samples[i], index))


def gather(plane: np.ndarray, index: np.ndarray, fill: float) -> np.ndarray:
    """The values of `plane` (H, W) at flat indices (h, w); `fill` where an index is negative."""
    return np.where(index < 0, plane.dtype.type(fill), plane.reshape(-1)[index])


def known_to_be(target: Target[np.ndarray], classes: int) -> Target[np.ndarray]:
    """A mask target in the form of pseudo-labels without errors: with one-hot soft labels and weights."""
    known = target.hard != IGNORE
    soft = np.eye(classes, dtype=np.float32)[np.where(known, target.hard, 0)]  # (h, w, C)
    weight = known.astype(np.float32) if target.weight is None else known * target.weight
    return Target(target.hard, weight, np.moveaxis(soft, -1, 0))


def collated(targets: Sequence[Target[np.ndarray]]) -> Target[torch.Tensor]:
    """Targets of one kind as tensors (N, ...). Soft labels are channels last in memory, like logits."""
    hard, weight, soft = ([getattr(one, name) for one in targets] for name in ("hard", "weight", "soft"))
    return Target(
        torch.from_numpy(np.stack(hard)),
        None if weight[0] is None else torch.from_numpy(np.stack(weight)),
        None
        if soft[0] is None
        else torch.from_numpy(np.stack([np.moveaxis(one, 0, -1) for one in soft])).permute(0, 3, 1, 2),
    )
