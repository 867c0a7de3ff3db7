"""The batches of a stage of training: step t's samples and their noise are a pure function of (seed, stage, t).

A rank takes its slice of each global batch. Neither the number of workers nor a resume changes what a step sees.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import Dataset

from selftrain.data.augment.colour import in_colours_of
from selftrain.data.augment.pipeline import Pipeline
from selftrain.data.augment.view import OUTSIDE
from selftrain.data.mixing import box, cutmix
from selftrain.data.samplers import Sampler, epochs
from selftrain.rng import Key, batch_ids, generator

IGNORE = 255


class Readable(Protocol):
    """An image with or without a mask, under an id that nothing else has."""

    @property
    def id(self) -> str: ...

    def read_image(self) -> np.ndarray: ...

    def read_mask(self) -> np.ndarray | None: ...


class PseudoLabels(Protocol):
    """What a teacher says of unlabelled images, filtered."""

    @property
    def samples(self) -> Sequence[Readable]: ...

    def target(self, i: int, index: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of sample `i` at flat indices (h, w), -1 outside.

        hard (h, w) uint8, 255 rejected; soft (h, w, C) float32; weight (h, w) float32.
        """


@dataclass(frozen=True)
class Example:
    """One augmented crop. Soft labels of a labelled one are empty: (h, w, 0)."""

    image: np.ndarray  # (h, w, 3) uint8
    hard: np.ndarray  # (h, w) uint8, IGNORE where nothing may be learnt
    soft: np.ndarray  # (h, w, C) float32
    weight: np.ndarray  # (h, w) float32


@dataclass(frozen=True)
class Seen:
    """One crop of an unlabelled image for online methods: seen once without noise and then with."""

    step: int
    images: np.ndarray  # (V, h, w, 3) uint8
    inside: np.ndarray  # (h, w) bool: of the image, not of its padding
    boxes: np.ndarray  # (V - 1, 4) int64: top, bottom, left, right of what CutMix takes from another image; maybe nothing
    pasted: np.ndarray  # (V - 1,) bool: that image is a labelled one, instead of the next unlabelled one


@dataclass(frozen=True)
class Views:
    """Those of the M unlabelled images of a step."""

    step: int
    images: torch.Tensor  # (V, M, h, w, 3) uint8
    inside: torch.Tensor  # (M, h, w) bool
    boxes: torch.Tensor  # (V - 1, M, 4) int64
    pasted: torch.Tensor  # (V - 1, M) bool

    def each(self, use: Callable[[torch.Tensor], torch.Tensor]) -> "Views":
        return Views(self.step, *map(use, (self.images, self.inside, self.boxes, self.pasted)))


@dataclass(frozen=True)
class Batch:
    """`labelled` images come first; `soft` and `weight` are of the pseudo-labelled rest. Online methods have `views` instead."""

    labelled: int
    images: torch.Tensor  # (N, h, w, 3) uint8
    hard: torch.Tensor  # (N, h, w) uint8
    soft: torch.Tensor  # (M, h, w, C) float32
    weight: torch.Tensor  # (M, h, w) float32
    views: Views | None = None

    def to(self, device: torch.device) -> "Batch":
        return self.each(partial(torch.Tensor.to, device=device, non_blocking=True))

    def each(self, use: Callable[[torch.Tensor], torch.Tensor]) -> "Batch":
        """The batch with what `use` makes of each tensor."""
        views = self.views.each(use) if self.views else None
        return Batch(self.labelled, use(self.images), use(self.hard), use(self.soft), use(self.weight), views)


@dataclass(frozen=True)
class Augmentation:
    """How labelled and unlabelled images are seen; the numbers are probabilities."""

    labelled: Pipeline
    pseudo: Pipeline
    cutmix: float = 0.0
    paste: float = 0.0  # that a box of CutMix comes from a labelled image
    style: float = 0.0  # that a labelled image has the colours of another one


class Cache:
    """Decoded arrays within a budget of bytes. Past it, reads go to the source: access is random, so no eviction pays."""

    def __init__(self, megabytes: float):
        self.left = megabytes * 2**20
        self.arrays: dict[tuple[str, str], np.ndarray] = {}

    def image(self, sample: Readable) -> np.ndarray:
        return self._get((sample.id, "image"), sample.read_image)

    def mask(self, sample: Readable) -> np.ndarray:
        """The mask of a sample that has one."""
        return self._get((sample.id, "mask"), sample.read_mask)  # type: ignore[arg-type]

    def _get(self, key: tuple[str, str], read: Callable[[], np.ndarray]) -> np.ndarray:
        found = self.arrays.get(key)
        if found is None:
            found = read()
            if found.nbytes <= self.left:
                self.left -= found.nbytes
                self.arrays[key] = found
        return found


class StepDataset(Dataset):
    """Example `slot` of the global batch of `step`: labelled slots first, then pseudo-labelled ones."""

    def __init__(
        self,
        labelled: Sequence[Readable],
        pseudo: PseudoLabels | None,
        *,
        labelled_batch: int,
        pseudo_batch: int,
        augmentation: Augmentation,
        styles: Sequence[Readable] = (),
        sampler: Sampler | None = None,
        cache: Cache,
        keys: tuple[Key, ...],
    ):
        self.labelled, self.pseudo = labelled, pseudo
        self.sampler: Sampler = sampler or partial(epochs, len(labelled))
        self.labelled_batch, self.pseudo_batch = labelled_batch, pseudo_batch
        self.augmentation, self.styles, self.cache, self.keys = augmentation, styles, cache, keys
        self.unmixed: tuple[int, dict[int, Example]] = (
            -1,
            {},
        )  # of one step: each is needed for itself and for a partner

    def __getitem__(self, place: tuple[int, int]) -> Example:
        step, slot = place
        if slot < self.labelled_batch:
            return self._labelled(step, slot)
        example = self._unmixed(step, slot)
        rng = generator(*self.keys, step, slot, "cutmix")
        if rng.uniform() >= self.augmentation.cutmix:
            return example
        area = box(rng, *example.hard.shape)
        if rng.uniform() < self.augmentation.paste:
            return cutmix(example, self._as_pseudo(self._labelled(step, self.donor(slot)), example.soft.shape[-1]), area)
        return cutmix(example, self._unmixed(step, self.partner(slot)), area)

    def partner(self, slot: int) -> int:
        """The pseudo-labelled slot whose box `slot` may get: the next one, round the global batch, whatever the rank."""
        first = self.labelled_batch
        return first + (slot - first + 1) % self.pseudo_batch

    def donor(self, slot: int) -> int:
        """The labelled slot whose box `slot` may get instead (after Bai et al. 2023, whose boxes go both ways)."""
        return (slot - self.labelled_batch) % self.labelled_batch

    def _as_pseudo(self, example: Example, classes: int) -> Example:
        """A labelled example as a teacher that knows the truth would have labelled it."""
        known = example.hard != IGNORE
        soft = np.eye(classes, dtype=np.float32)[np.where(known, example.hard, 0)]  # (h, w, C)
        return Example(example.image, example.hard, soft, known.astype(np.float32))

    def _labelled(self, step: int, slot: int) -> Example:
        i = self.sampler(self.labelled_batch, step, (*self.keys, "labelled"))[slot]
        image, mask = self.cache.image(self.labelled[i]), self.cache.mask(self.labelled[i])
        if self.augmentation.style:
            image = self._styled(image, generator(*self.keys, step, slot, "style"))
        seen = self.augmentation.labelled.view(image, generator(*self.keys, step, slot), mask)
        hard = seen.take(mask, IGNORE)
        return Example(seen.image, hard, np.empty((*hard.shape, 0), np.float32), np.empty(0, np.float32))

    def _styled(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """`image`, in the colours of one of `styles` as often as the augmentation says."""
        if rng.uniform() >= self.augmentation.style:
            return image
        return in_colours_of(image, self.cache.image(self.styles[int(rng.integers(len(self.styles)))]))

    def _unmixed(self, step: int, slot: int) -> Example:
        if self.unmixed[0] != step:
            self.unmixed = (step, {})
        examples = self.unmixed[1]
        if slot not in examples:
            examples[slot] = self._pseudo(step, slot)
        return examples[slot]

    def _drawn(self, step: int, slot: int) -> int:
        """Which unlabelled sample a slot has."""
        assert self.pseudo is not None
        count = len(self.pseudo.samples)
        return batch_ids(count, self.pseudo_batch, step, *self.keys, "pseudo")[slot - self.labelled_batch]

    def _pseudo(self, step: int, slot: int) -> Example:
        assert self.pseudo is not None
        i = self._drawn(step, slot)
        image = self.cache.image(self.pseudo.samples[i])
        seen = self.augmentation.pseudo.view(image, generator(*self.keys, step, slot))
        hard, soft, weight = self.pseudo.target(i, seen.index)
        return Example(seen.image, hard, soft, weight)


@dataclass(frozen=True)
class Unlabelled:
    """Samples of which nothing is known yet."""

    samples: Sequence[Readable]


class OnlineDataset(StepDataset):
    """Labelled examples as ever; of the unlabelled ones, one weak view and `strong` noisy ones of the same crop."""

    def __init__(self, labelled: Sequence[Readable], unlabelled: Sequence[Readable], *, strong: int, **settings: Any):
        super().__init__(labelled, Unlabelled(unlabelled), **settings)  # type: ignore[arg-type]
        self.strong = strong

    def __getitem__(self, place: tuple[int, int]) -> Example | Seen:  # type: ignore[override]
        step, slot = place
        if slot < self.labelled_batch:
            return self._labelled(step, slot)
        assert self.pseudo is not None
        image = self.cache.image(self.pseudo.samples[self._drawn(step, slot)])
        rng = generator(*self.keys, step, slot)
        images, index = self.augmentation.pseudo.views(image, rng, strong=self.strong)
        boxes = [self._box(rng, index.shape) for _ in range(self.strong)]
        pasted = rng.uniform(size=self.strong) < self.augmentation.paste
        return Seen(step, images, index != OUTSIDE, np.array(boxes, np.int64), pasted)

    def _box(self, rng: np.random.Generator, size: tuple[int, ...]) -> tuple[int, int, int, int]:
        if rng.uniform() >= self.augmentation.cutmix:
            return 0, 0, 0, 0
        rows, columns = box(rng, *size)
        return rows.start, rows.stop, columns.start, columns.stop


def crops(
    samples: Sequence[Readable], how: Pipeline, *, batch: int, count: int, cache: Cache, keys: tuple[Key, ...]
) -> Iterator[torch.Tensor]:
    """`count` batches (batch, h, w, 3) uint8 of images seen through `how`; drawn as those of a stage are."""
    for step in range(count):
        drawn = [samples[i] for i in batch_ids(len(samples), batch, step, *keys)]
        seen = [how.view(cache.image(one), generator(*keys, step, slot)).image for slot, one in enumerate(drawn)]
        yield torch.from_numpy(np.stack(seen))


def places(first: int, steps: int, sizes: tuple[int, int], rank: int, world: int) -> Iterator[list[tuple[int, int]]]:
    """(step, slot) pairs of one rank, a list a step. `sizes`: labelled and pseudo-labelled examples of a global batch."""
    labelled, pseudo = sizes
    mine = [*range(rank, labelled, world), *range(labelled + rank, labelled + pseudo, world)]
    for step in range(first, steps):
        yield [(step, slot) for slot in mine]


def collate(mixed: list[Example | Seen]) -> Batch:
    """Examples of one step, labelled ones first, as tensors."""
    examples, seen = [one for one in mixed if isinstance(one, Example)], [one for one in mixed if isinstance(one, Seen)]
    pseudo = [example for example in examples if example.soft.shape[-1]]
    labelled = len(examples) - len(pseudo)
    crop = examples[0].hard.shape
    soft = np.stack([e.soft for e in pseudo]) if pseudo else np.empty((0, *crop, 0), np.float32)
    weight = np.stack([e.weight for e in pseudo]) if pseudo else np.empty((0, *crop), np.float32)
    images, hard = np.stack([e.image for e in examples]), np.stack([e.hard for e in examples])
    from_numpy = torch.from_numpy
    views = _collate_views(seen) if seen else None
    return Batch(labelled, from_numpy(images), from_numpy(hard), from_numpy(soft), from_numpy(weight), views)


def _collate_views(seen: list[Seen]) -> Views:
    inside = torch.from_numpy(np.stack([one.inside for one in seen]))
    images, boxes, pasted = (
        torch.from_numpy(np.stack([getattr(one, name) for one in seen], axis=1)) for name in ("images", "boxes", "pasted")
    )
    return Views(seen[0].step, images, inside, boxes, pasted)
