"""The batches of a training stage.

The samples of step t and their noise are a pure function of (seed, stage, t). A rank takes its slice of each
global batch. Neither the number of workers nor a resume changes the samples of a step.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch.utils.data import Dataset

from selftrain.data.augment.colour import in_colours_of
from selftrain.data.augment.pipeline import Pipeline
from selftrain.data.augment.view import OUTSIDE
from selftrain.data.cache import Cache
from selftrain.data.examples import Example, Seen
from selftrain.data.labels import Labels, Readable, known_to_be
from selftrain.data.mixing import Mixer, drawn, share_of
from selftrain.data.samplers import Sampler, epochs
from selftrain.rng import Key, batch_ids, generator


@dataclass(frozen=True)
class Augmentation:
    """Augmentation of labelled and unlabelled images, and mixing of the unlabelled ones."""

    labelled: Pipeline
    unlabelled: Pipeline
    mixers: tuple[Mixer, ...] = ()
    paste: float = 0.0  # probability that an image is mixed with a labelled one
    style: float = 0.0  # probability that a labelled image takes the colours of an unlabelled one


class StepDataset(Dataset):
    """Data set of training examples, indexed by (step, slot in the global batch); labelled slots come first.

    `labels` are the labels of the labelled samples. Unlabelled slots contain pseudo-labels if `pseudo` is
    given, otherwise `views` noisy views for an online method.
    """

    def __init__(
        self,
        labels: Labels,
        unlabelled: Sequence[Readable] = (),
        pseudo: Labels | None = None,
        *,
        sizes: tuple[int, int],
        views: int = 0,
        augmentation: Augmentation,
        sampler: Sampler | None = None,
        cache: Cache,
        keys: tuple[Key, ...],
    ):
        self.labels, self.unlabelled, self.pseudo = labels, unlabelled, pseudo
        self.sampler: Sampler = sampler or partial(epochs, len(labels.samples))
        self.labelled_batch, self.unlabelled_batch = self.sizes = sizes
        self.views, self.augmentation, self.cache, self.keys = views, augmentation, cache, keys
        # Unmixed examples of one step: each is used for its own slot and for a partner.
        self.unmixed: tuple[int, dict[int, Example]] = (-1, {})

    def __getitem__(self, place: tuple[int, int]) -> Example | Seen:
        step, slot = place
        if slot < self.labelled_batch:
            return self._labelled(step, slot)
        return self._mixed(step, slot) if self.pseudo else self._seen(step, slot)

    def partner(self, slot: int) -> int:
        """The unlabelled slot that `slot` is mixed with.

        It is the next one in the global batch, cyclically, independent of the rank.
        """
        first = self.labelled_batch
        return first + (slot - first + 1) % self.unlabelled_batch

    def donor(self, slot: int) -> int:
        """The labelled slot that `slot` may be mixed with instead.

        After Bai et al. 2023, who paste boxes in both directions.
        """
        return (slot - self.labelled_batch) % self.labelled_batch

    def _labelled(self, step: int, slot: int) -> Example:
        samples = self.labels.samples
        i = self.sampler(self.labelled_batch, step, (*self.keys, "labelled"))[slot]
        image = self.cache.image(samples[i])
        if self.augmentation.style:
            image = self._styled(image, generator(*self.keys, step, slot, "style"))
        seen = self.augmentation.labelled.view(
            image, generator(*self.keys, step, slot), self.cache.mask(samples[i])
        )
        return Example(seen.image, self.labels.target(i, seen.index), known=True)

    def _styled(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """`image`, with probability `style` in the colours of an unlabelled image."""
        if rng.uniform() >= self.augmentation.style:
            return image
        return in_colours_of(
            image, self.cache.image(self.unlabelled[int(rng.integers(len(self.unlabelled)))])
        )

    def _mixed(self, step: int, slot: int) -> Example:
        """The pseudo-labelled example of a slot, perhaps mixed with another one."""
        example = self._pseudo(step, slot)
        rng = generator(*self.keys, step, slot, "cutmix")
        mixed = drawn(self.augmentation.mixers, rng, example.target.hard.shape)
        if mixed.which < 0:
            return example
        pasted = rng.uniform() < self.augmentation.paste
        partner = self._pasted(step, slot, example) if pasted else self._pseudo(step, self.partner(slot))
        mixer = self.augmentation.mixers[mixed.which]
        return example.blended(partner, share_of(mixer, mixed.numbers, partner.target.hard))

    def _pasted(self, step: int, slot: int, example: Example) -> Example:
        """The labelled example that a slot is mixed with, in the form of pseudo-labels without errors."""
        donor = self._labelled(step, self.donor(slot))
        assert example.target.soft is not None
        return Example(donor.image, known_to_be(donor.target, len(example.target.soft)), known=False)

    def _pseudo(self, step: int, slot: int) -> Example:
        if self.unmixed[0] != step:
            self.unmixed = (step, {})
        examples = self.unmixed[1]
        if slot not in examples:
            assert self.pseudo is not None
            samples = self.pseudo.samples
            i = self._drawn(len(samples), step, slot)
            rng = generator(*self.keys, step, slot)
            seen = self.augmentation.unlabelled.view(self.cache.image(samples[i]), rng)
            examples[slot] = Example(seen.image, self.pseudo.target(i, seen.index), known=False)
        return examples[slot]

    def _seen(self, step: int, slot: int) -> Seen:
        """The views of an unlabelled slot, with the numbers drawn for mixing."""
        image = self.cache.image(self.unlabelled[self._drawn(len(self.unlabelled), step, slot)])
        rng = generator(*self.keys, step, slot)
        images, index = self.augmentation.unlabelled.views(image, rng, strong=self.views)
        mixed = [drawn(self.augmentation.mixers, rng, index.shape) for _ in range(self.views)]
        pasted = rng.uniform(size=self.views) < self.augmentation.paste
        return Seen(step, images, index != OUTSIDE, mixed, pasted)

    def _drawn(self, count: int, step: int, slot: int) -> int:
        """Index, among `count` unlabelled samples, of the sample in a slot."""
        return batch_ids(count, self.unlabelled_batch, step, *self.keys, "pseudo")[slot - self.labelled_batch]


def crops(
    samples: Sequence[Readable], how: Pipeline, *, batch: int, count: int, cache: Cache, keys: tuple[Key, ...]
) -> Iterator[torch.Tensor]:
    """`count` batches (batch, h, w, 3) uint8 of images augmented by `how`, drawn like a stage's batches."""
    for step in range(count):
        chosen = [samples[i] for i in batch_ids(len(samples), batch, step, *keys)]
        seen = [
            how.view(cache.image(one), generator(*keys, step, slot)).image for slot, one in enumerate(chosen)
        ]
        yield torch.from_numpy(np.stack(seen))


def places(
    first: int, steps: int, sizes: tuple[int, int], rank: int, world: int, parts: int = 1
) -> Iterator[list[tuple[int, int]]]:
    """Lists of (step, slot) pairs for one rank, `parts` lists per step: each list is a micro-batch.

    `sizes` are the numbers of labelled and unlabelled examples in a global batch.
    """
    labelled, unlabelled = sizes
    for step in range(first, steps):
        for start in range(rank, world * parts, world):
            slots = [
                *range(start, labelled, world * parts),
                *range(labelled + start, labelled + unlabelled, world * parts),
            ]
            yield [(step, slot) for slot in slots]
