"""The training material of a run: examples, step functions, and the images for batch-norm statistics."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from selftrain import augmentation
from selftrain.config import LossConfig, TrainConfig
from selftrain.data import batches
from selftrain.data.ahead import ahead
from selftrain.data.cache import Cache
from selftrain.data.dataset import DataSet
from selftrain.data.labels import Labels, MaskLabels, Readable, Soft, Taught, weighed
from selftrain.data.many import Both
from selftrain.data.reviewed import with_review
from selftrain.data.sample import Sample
from selftrain.data.samplers import Sampler, rejecting
from selftrain.data.tags import known_by_tags, tags_of
from selftrain.data.tiles import Tiled, Tiling
from selftrain.inference.pixels import PixelScale
from selftrain.labels.thresholds import balanced
from selftrain.methods.base import Context, Method
from selftrain.plan import Plan
from selftrain.rng import Key
from selftrain.scores import class_pixels
from selftrain.verdicts import Review


@dataclass(frozen=True)
class Material:
    """The data of a run, prepared for training."""

    train: TrainConfig
    loss: LossConfig
    data: DataSet
    accelerator: Accelerator
    cache: Cache
    scale: PixelScale
    tiling: Tiling | None = None  # draw tiles instead of whole images

    def without(self, places: Collection[int]) -> "Material":
        """The material without some of the labelled images, given by index."""
        if not places:
            return self
        left = [one for i, one in enumerate(self.data.labelled) if i not in places]
        return replace(self, data=replace(self.data, labelled=left))

    def reviewed(self, review: Review | None, folder: Path) -> "Material":
        """The material after a review, whose masks are in `folder`; None: unchanged."""
        return replace(self, data=with_review(self.data, review, folder)) if review else self

    def of(self, plan: Plan) -> "Material":
        """The material of a generation: with tagged images among the labelled ones, if it learns from tags.

        If no image has a mask, every generation has tagged images in their place. They have no labelled
        pixel, so only the loss of image-level heads sees them.
        """
        if self.data.labelled and not plan.from_tags:
            return self
        labelled = [*self.data.labelled, *known_by_tags(self.data.unlabelled)]
        return replace(self, data=replace(self.data, labelled=labelled))

    def dataset(
        self, plan: Plan, pseudo: Labels | None, keys: tuple[Key, ...], soft: Soft | None = None
    ) -> batches.StepDataset:
        """The training examples of a generation.

        They are labelled images, with a teacher's probabilities `soft` if given, and unlabelled images with
        the labels `pseudo` or as views to label online.
        """
        views = plan.method.views
        return batches.StepDataset(
            self._labels(soft) if soft else self.labelled,
            self._drawn(self.data.unlabelled),
            Tiled(pseudo, self.tiling.tiles(pseudo.samples)) if pseudo and self.tiling else pseudo,
            sizes=(plan.labelled_batch, plan.unlabelled_batch if pseudo or views else 0),
            views=views,
            classes=len(self.data.classes),
            tags=partial(tags_of, classes=len(self.data.classes)) if plan.image_head else None,
            augmentation=plan.augmentation,
            sampler=self.sampler,
            cache=self.cache,
            keys=keys,
        )

    @cached_property
    def labelled(self) -> Labels:
        """The masks of the labelled images or tiles, with weights if data.extra gives some another one."""
        return self._labels()

    def _labels(self, soft: Soft | None = None) -> Labels:
        """The labels of `labelled`, with a teacher's probabilities beside them if given."""
        samples, mask = self.data.labelled, self.cache.mask_of_tiles if self.tiling else self.cache.mask
        labels: Labels = MaskLabels(samples, mask)
        if any(sample.weight != 1 for sample in samples):
            labels = MaskLabels(samples, mask, partial(weighed, mask=mask))
        if soft:
            labels = Taught(labels, soft)
        return Tiled(labels, self.tiling.tiles(samples)) if self.tiling else labels

    def _drawn(self, samples: Sequence[Sample]) -> Sequence[Readable]:
        """The units that training draws: the images, or their tiles."""
        return self.tiling.tiles(samples) if self.tiling else samples

    def step(self, plan: Plan) -> Method:
        """The step function of a generation."""
        accelerator = self.accelerator
        return plan.method(
            Context(
                cfg=self.loss,
                classes=len(self.data.classes),
                pixels=self.scale.normalise,
                ranks=accelerator.num_processes,
                reduce=self._sum,
                autocast=accelerator.autocast,
                unwrap=accelerator.unwrap_model,
                steps=plan.steps,
                class_weights=self._class_weights(),
                mixers=plan.augmentation.mixers,
            )
        )

    def unnoised(self, plan: Plan, keys: tuple[Key, ...]) -> Iterator[torch.Tensor]:
        """Weakly augmented crops of a generation's training images, for recalibration.

        Yields `train.statistics` batches (N, h, w, C) uint8.
        """
        from_masks_only = plan.unlabelled_batch == 0
        images: Sequence[Sample] = (
            self.data.labelled if from_masks_only else Both(self.data.labelled, self.data.unlabelled)
        )
        # at least two: batch norm after global pooling has no statistics of one image
        batch, drawn = max(self.train.eval_batch, 2), self._drawn(images)
        count, cache = self.train.statistics, self.cache
        return batches.crops(drawn, plan.unnoised, batch=batch, count=count, cache=cache, keys=keys)

    @cached_property
    def sampler(self) -> Sampler:
        """The sampler of labelled images or tiles."""
        sampler = augmentation.sampler(self.train, len(self.labelled.samples), lambda: self.contents)
        if self.tiling is None or not self.tiling.reject:
            return sampler
        return rejecting(sampler, self.contents[:, 1:].sum(axis=1) == 0, self.tiling.reject)

    @cached_property
    def contents(self) -> np.ndarray:
        """Pixels of each class in each labelled image or tile, (N, C); read once."""
        return self._counts(self.labelled.samples)

    @cached_property
    def shares(self) -> np.ndarray:
        """Class shares of the pixels of each labelled image of the data set itself, (N, C)."""
        counts = self._counts([sample for sample in self.data.labelled if not sample.extra])
        return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)

    def _counts(self, samples: Sequence[Readable]) -> np.ndarray:
        classes = len(self.data.classes)
        counts = [class_pixels(self.cache.mask(one), classes) for one in ahead(samples, lambda one: [one])]
        return np.array(counts, np.int64).reshape(-1, classes)

    @cached_property
    def class_pixels(self) -> np.ndarray:
        """Pixels of each class in the masks of the data set itself, without data.extra, (C,)."""
        whole = self._counts(self.data.labelled) if self.tiling else self.contents
        return whole[[not sample.extra for sample in self.data.labelled]].sum(axis=0)

    def _class_weights(self) -> torch.Tensor | None:
        """The weight of labelled pixels of each class, (C,); None if all weights are equal."""
        given = self.loss.class_weights
        if not self.loss.balance and not given:
            return None
        weights = balanced(self.contents.sum(axis=0), self.loss.balance)
        if given:
            weights = weights * [given.get(name, 1.0) for name in self.data.classes]
        return torch.tensor(weights, dtype=torch.float32, device=self.accelerator.device)

    def _sum(self, values: torch.Tensor) -> torch.Tensor:
        return self.accelerator.reduce(values, "sum") if self.accelerator.num_processes > 1 else values
