"""Training examples, one crop each, and the batch of a step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from selftrain.data.labels import collated
from selftrain.data.mixing import Drawn, emphasis
from selftrain.ids import IGNORE
from selftrain.targets import Target, blend

Use = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Example:
    """One augmented crop with its target. `known`: the target comes from a mask, not from a teacher."""

    image: np.ndarray  # (h, w, C) uint8
    target: Target[np.ndarray]
    known: bool
    tags: np.ndarray | None = None  # (C,) float32: 1 if it shows the class, 0 if not, NaN if not known

    def blended(self, other: "Example", share: np.ndarray) -> "Example":
        """This example with the `share` (h, w) of another one; tags in which the two differ are not known."""
        image = blend(share[..., None], self.image, other.image)
        tags = self.tags
        if tags is not None and other.tags is not None:
            tags = np.where(tags == other.tags, tags, np.float32(np.nan))
        return Example(image, self.target.blended(other.target, share), self.known, tags)

    def emphasised(
        self, share: np.ndarray, ours: Target[np.ndarray], theirs: Target[np.ndarray]
    ) -> "Example":
        """This example, mixed of `ours` and the `share` (h, w) bool of `theirs`, weighed as SnapMix does."""
        activations = (torch.from_numpy(activation(one)) for one in (ours, theirs))
        factor = emphasis(torch.from_numpy(share), *activations).numpy()
        assert self.target.weight is not None
        return replace(self, target=replace(self.target, weight=self.target.weight * factor))


def activation(target: Target[np.ndarray]) -> np.ndarray:
    """The probability (h, w) of the label of each pixel; 0 for pixels without a label."""
    assert target.soft is not None
    return target.soft.max(axis=0) * (target.hard != IGNORE)


@dataclass(frozen=True)
class Seen:
    """One crop of an unlabelled image for online methods: first without noise, then V - 1 noisy views."""

    step: int
    images: np.ndarray  # (V, h, w, C) uint8
    inside: np.ndarray  # (h, w) bool: within the image, not its padding
    mixed: list[Drawn]  # V - 1: how each noisy view is mixed with another image
    pasted: np.ndarray  # (V - 1,) bool: the other image is a labelled one, not the next unlabelled one
    erased: np.ndarray  # (V - 1, h, w) bool: pixels of a noisy view that have no label


@dataclass(frozen=True)
class Views:
    """The views of the M unlabelled images of a step."""

    step: int
    images: Tensor  # (V, M, h, w, C) uint8
    inside: Tensor  # (M, h, w) bool
    which: Tensor  # (V - 1, M) int64: which mixer acts, -1 for none
    numbers: Tensor  # (V - 1, M, k) float64: the numbers drawn for the mixer
    pasted: Tensor  # (V - 1, M) bool
    erased: Tensor  # (V - 1, M, h, w) bool: pixels without a label

    def each(self, use: Use) -> "Views":
        planes = (self.images, self.inside, self.which, self.numbers, self.pasted, self.erased)
        return Views(self.step, *map(use, planes))


@dataclass(frozen=True)
class Batch:
    """The training examples of one rank in one step: labelled images come first.

    The other images have pseudo-labels in `guessed`, or, for an online method, are contained in `views`.
    """

    images: Tensor  # (N, h, w, C) uint8
    known: Target[Tensor]  # of the first images
    guessed: Target[Tensor] | None = None  # of the rest, with soft labels and weights
    views: Views | None = None
    tags: Tensor | None = None  # (N, C), of `images`: see Example; None if the run has no image-level head

    @property
    def labelled(self) -> int:
        """Number of images with masks."""
        return len(self.known.hard)

    def to(self, device: torch.device) -> "Batch":
        return self.each(partial(Tensor.to, device=device, non_blocking=True))

    def each(self, use: Use) -> "Batch":
        """The batch with `use` applied to each tensor."""
        guessed = self.guessed.each(use) if self.guessed else None
        views = self.views.each(use) if self.views else None
        tags = None if self.tags is None else use(self.tags)
        return Batch(use(self.images), self.known.each(use), guessed, views, tags)


def collate(mixed: Sequence[Example | Seen]) -> Batch:
    """The batch of a step's examples, labelled ones first, as tensors."""
    examples = [one for one in mixed if isinstance(one, Example)]
    seen = [one for one in mixed if isinstance(one, Seen)]
    known, guessed = ([one.target for one in examples if one.known is masks] for masks in (True, False))
    images = torch.from_numpy(np.stack([one.image for one in examples]))
    tags = [one.tags for one in examples if one.tags is not None]
    return Batch(
        images,
        collated(known),
        collated(guessed) if guessed else None,
        _views(seen) if seen else None,
        torch.from_numpy(np.stack(tags)) if tags else None,
    )


def _views(seen: Sequence[Seen]) -> Views:
    longest = max(len(mixed.numbers) for one in seen for mixed in one.mixed)
    images, pasted, erased = (
        np.stack([getattr(one, name) for one in seen], axis=1) for name in ("images", "pasted", "erased")
    )
    which = np.array([[mixed.which for mixed in one.mixed] for one in seen], np.int64).T
    numbers = np.stack(
        [np.stack([_padded(mixed.numbers, longest) for mixed in one.mixed]) for one in seen], axis=1
    )
    inside = np.stack([one.inside for one in seen])
    return Views(seen[0].step, *map(torch.from_numpy, (images, inside, which, numbers, pasted, erased)))


def _padded(numbers: np.ndarray, length: int) -> np.ndarray:
    return np.pad(numbers, (0, length - len(numbers)))
