"""Training targets of pixels, and blending of two images or targets.

Works for masks and pseudo-labels, and for arrays and tensors.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch

Plane = TypeVar("Plane", np.ndarray, torch.Tensor)


@dataclass(frozen=True)
class Target(Generic[Plane]):
    """Training target of the pixels of one crop or of N crops."""

    hard: Plane  # (..., h, w) class ids, IGNORE for pixels without a label
    weight: Plane | None = None  # (..., h, w) float32; None: every pixel weighs 1
    soft: Plane | None = None  # (..., C, h, w) float32 probabilities; None: only `hard` is known

    def each(self, use: Callable[[Plane], Plane]) -> "Target[Plane]":
        """The target with `use` applied to each plane."""
        weight, soft = (None if plane is None else use(plane) for plane in (self.weight, self.soft))
        return Target(use(self.hard), weight, soft)

    def blended(self, other: "Target[Plane]", share: Plane) -> "Target[Plane]":
        """This target blended with the `share` (..., h, w) of `other`: bool, or 0 to 1.

        Both targets have the same planes. For a share between 0 and 1, soft labels are averaged by share and
        weight, so a pixel without a label adds nothing. Hard labels cannot be averaged: the larger part gives
        the label. Train on `soft` instead.
        """
        if self.weight is None or other.weight is None:
            weight, theirs = None, share
        else:
            weight = blend(share, self.weight, other.weight)
            theirs = share if _is_bool(share) else share * other.weight / (weight + (weight == 0))
        soft = (
            None
            if self.soft is None or other.soft is None
            else blend(theirs[..., None, :, :], self.soft, other.soft)
        )
        larger = theirs if _is_bool(theirs) else theirs > 0.5
        return Target(blend(larger, self.hard, other.hard), weight, soft)


def blend(share: Plane, ours: Plane, theirs: Plane) -> Plane:
    """`theirs` where `share` is true or 1, `ours` where it is false or 0, and their weighted mean in between.

    `share` has the shape of the planes, or a shape that broadcasts to it. Integers are rounded.
    """
    library: Any = np if isinstance(ours, np.ndarray) else torch
    if _is_bool(share):
        return library.where(share, theirs, ours)
    mean = (1 - share) * ours + share * theirs
    if isinstance(ours, np.ndarray):
        return (mean.round() if ours.dtype.kind in "iu" else mean).astype(ours.dtype)
    return (mean if ours.is_floating_point() else mean.round()).to(ours.dtype)


def _is_bool(plane: np.ndarray | torch.Tensor) -> bool:
    return plane.dtype in (np.bool_, torch.bool)
