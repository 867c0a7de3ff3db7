"""The batches of a training stage.

The samples of step t and their noise are a pure function of (seed, stage, t). A rank takes its slice of each
global batch. Neither the number of workers nor a resume changes the samples of a step.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch.utils.data import Dataset

from selftrain.data.ahead import ahead
from selftrain.data.augment.colour import in_colours_of
from selftrain.data.augment.pipeline import Pipeline
from selftrain.data.augment.view import OUTSIDE
from selftrain.data.cache import Cache
from selftrain.data.examples import Example, Seen
from selftrain.data.labels import Labels, Readable, known_to_be
from selftrain.data.mixing import Mixer, drawn, share_of
from selftrain.data.samplers import Sampler, epochs
from selftrain.ids import IGNORE
from selftrain.rng import Key, batch_ids, generator
from selftrain.scores import class_pixels


@dataclass(frozen=True)
class Augmentation:
    """Augmentation and mixing of labelled and unlabelled images."""

    labelled: Pipeline
    unlabelled: Pipeline
    mixers: tuple[Mixer, ...] = ()
    paste: float = 0.0  # probability that an image is mixed with a labelled one
    style: float = 0.0  # probability that a labelled image takes the colours of an unlabelled one
    labelled_mixers: tuple[Mixer, ...] = ()  # of labelled images with one another

    @property
    def softens(self) -> bool:
        """Whether labelled images get soft labels, because a mixing averages them."""
        return any(mixer.soft for mixer in self.labelled_mixers)


class StepDataset(Dataset):
    """Data set of training examples, indexed by (step, slot in the global batch); labelled slots come first.

    `labels` are the labels of the labelled samples. Unlabelled slots contain pseudo-labels if `pseudo` is
    given, otherwise `views` noisy views for an online method. `classes` is the number of classes; soft labels
    of labelled images need it. `tags` returns the classes of a whole sample, as `Example.tags`; it is given
    for networks with an image-level head.
    """

    def __init__(
        self,
        labels: Labels,
        unlabelled: Sequence[Readable] = (),
        pseudo: Labels | None = None,
        *,
        sizes: tuple[int, int],
        views: int = 0,
        classes: int = 0,
        tags: Callable[[Readable], np.ndarray] | None = None,
        augmentation: Augmentation,
        sampler: Sampler | None = None,
        cache: Cache,
        keys: tuple[Key, ...],
    ):
        self.labels, self.unlabelled, self.pseudo = labels, unlabelled, pseudo
        self.sampler: Sampler = sampler or partial(epochs, len(labels.samples))
        self.labelled_batch, self.unlabelled_batch = self.sizes = sizes
        self.views, self.augmentation, self.cache, self.keys = views, augmentation, cache, keys
        self.classes, self.tags = classes, tags
        # Unmixed examples of one step: each is used for its own slot and for a partner.
        self.unmixed: tuple[int, dict[int, Example]] = (-1, {})

    def __getitem__(self, place: tuple[int, int]) -> Example | Seen:
        step, slot = place
        if slot < self.labelled_batch:
            return self._known(step, slot)
        return self._mixed(step, slot) if self.pseudo else self._seen(step, slot)

    def sample(self, step: int, slot: int) -> Readable:
        """The sample in a slot."""
        if slot < self.labelled_batch:
            return self.labels.samples[self._labelled_place(step, slot)]
        samples = self.pseudo.samples if self.pseudo else self.unlabelled
        return samples[self._drawn(len(samples), step, slot)]

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

    def _known(self, step: int, slot: int) -> Example:
        """The labelled example of a slot, perhaps mixed with the next one of the global batch."""
        mixers = self.augmentation.labelled_mixers
        if not mixers:
            return self._labelled(step, slot)
        example, rng = self._unmixed(step, slot), generator(*self.keys, step, slot, "mix")
        mixed = drawn(mixers, rng, example.target.hard.shape)
        if mixed.which < 0:
            return example
        partner = self._unmixed(step, (slot + 1) % self.labelled_batch)
        share = share_of(mixers[mixed.which], mixed.numbers, partner.target.hard)
        return example.blended(partner, share)

    def _labelled(self, step: int, slot: int) -> Example:
        samples = self.labels.samples
        i = self._labelled_place(step, slot)
        image = self.cache.image(samples[i])
        if self.augmentation.style:
            image = self._styled(image, generator(*self.keys, step, slot, "style"))
        seen = self.augmentation.labelled.view(
            image, generator(*self.keys, step, slot), self.cache.mask(samples[i])
        )
        target = self.labels.target(i, seen.index)
        if self.augmentation.softens and target.soft is None:
            target = known_to_be(target, self.classes)
        return Example(seen.image, target, True, self._tags(samples[i], target.hard))

    def _styled(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """`image`, with probability `style` in the colours of an unlabelled image."""
        if rng.uniform() >= self.augmentation.style:
            return image
        return in_colours_of(
            image, self.cache.image(self.unlabelled[int(rng.integers(len(self.unlabelled)))])
        )

    def _mixed(self, step: int, slot: int) -> Example:
        """The pseudo-labelled example of a slot, perhaps mixed with another one."""
        example = self._unmixed(step, slot)
        rng = generator(*self.keys, step, slot, "cutmix")
        mixed = drawn(self.augmentation.mixers, rng, example.target.hard.shape)
        if mixed.which < 0:
            return example
        pasted = rng.uniform() < self.augmentation.paste
        partner = self._pasted(step, slot, example) if pasted else self._unmixed(step, self.partner(slot))
        mixer = self.augmentation.mixers[mixed.which]
        share = share_of(mixer, mixed.numbers, partner.target.hard)
        found = example.blended(partner, share)
        return found.emphasised(share, example.target, partner.target) if mixer.weighs else found

    def _pasted(self, step: int, slot: int, example: Example) -> Example:
        """The labelled example that a slot is mixed with, in the form of pseudo-labels without errors."""
        donor = self._labelled(step, self.donor(slot))
        assert example.target.soft is not None
        target = known_to_be(donor.target, len(example.target.soft))
        return Example(donor.image, target, False, donor.tags)

    def _unmixed(self, step: int, slot: int) -> Example:
        """The example of a slot before mixing, kept for the slot that it is the partner of."""
        if self.unmixed[0] != step:
            self.unmixed = (step, {})
        examples = self.unmixed[1]
        if slot not in examples:
            one = self._labelled if slot < self.labelled_batch else self._pseudo
            examples[slot] = one(step, slot)
        return examples[slot]

    def _pseudo(self, step: int, slot: int) -> Example:
        assert self.pseudo is not None
        samples, how = self.pseudo.samples, self.augmentation.unlabelled
        i = self._drawn(len(samples), step, slot)
        image = self.cache.image(samples[i])
        stored = everything(self.pseudo, i, image) if how.reads_stored else None
        seen = how.view(image, generator(*self.keys, step, slot), stored)
        target = self.pseudo.target(i, seen.index)
        return Example(seen.image, target, False, self._tags(samples[i]))

    def _tags(self, sample: Readable, hard: np.ndarray | None = None) -> np.ndarray | None:
        """The tags (C,) of a crop: by its mask `hard` (h, w), or by the sample's own tags without one.

        A crop may lack a class of its image, and only a mask tells.
        """
        if self.tags is None:
            return None
        if hard is None or (hard == IGNORE).all():
            return self.tags(sample)
        return (class_pixels(hard, self.classes) > 0).astype(np.float32)

    def _seen(self, step: int, slot: int) -> Seen:
        """The views of an unlabelled slot, with the numbers drawn for mixing."""
        image = self.cache.image(self.unlabelled[self._drawn(len(self.unlabelled), step, slot)])
        rng = generator(*self.keys, step, slot)
        images, index, erased = self.augmentation.unlabelled.views(image, rng, strong=self.views)
        mixed = [drawn(self.augmentation.mixers, rng, index.shape) for _ in range(self.views)]
        pasted = rng.uniform(size=self.views) < self.augmentation.paste
        return Seen(step, images, index != OUTSIDE, mixed, pasted, erased)

    def _labelled_place(self, step: int, slot: int) -> int:
        """Index, among the labelled samples, of the sample in a slot."""
        return self.sampler(self.labelled_batch, step, (*self.keys, "labelled"))[slot]

    def _drawn(self, count: int, step: int, slot: int) -> int:
        """Index, among `count` unlabelled samples, of the sample in a slot."""
        return batch_ids(count, self.unlabelled_batch, step, *self.keys, "pseudo")[slot - self.labelled_batch]


def everything(labels: Labels, i: int, image: np.ndarray) -> np.ndarray:
    """The hard labels (H, W) of all pixels of sample `i`, whose `image` is (H, W, C)."""
    return labels.target(i, np.arange(image[..., 0].size).reshape(image.shape[:2])).hard


def crops(
    samples: Sequence[Readable], how: Pipeline, *, batch: int, count: int, cache: Cache, keys: tuple[Key, ...]
) -> Iterator[torch.Tensor]:
    """`count` batches (batch, h, w, 3) uint8 of images augmented by `how`, drawn like a stage's batches."""
    batches = ([samples[i] for i in batch_ids(len(samples), batch, step, *keys)] for step in range(count))
    for step, chosen in enumerate(ahead(batches, list)):
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
