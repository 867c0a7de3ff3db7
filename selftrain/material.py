"""What the generations of a run learn from: their examples, their step functions, the images of their statistics."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from accelerate import Accelerator

from selftrain import augmentation
from selftrain.config import LossConfig, TrainConfig
from selftrain.data import batches
from selftrain.data.cache import Cache
from selftrain.data.labels import Labels, MaskLabels
from selftrain.data.sample import DataSet
from selftrain.data.samplers import Sampler
from selftrain.inference.pixels import PixelScale
from selftrain.labels.thresholds import balanced
from selftrain.methods.base import Context, Method
from selftrain.plan import Plan
from selftrain.rng import Key
from selftrain.scores import class_pixels


@dataclass(frozen=True)
class Material:
    """The data of a run, as training asks for it."""

    train: TrainConfig
    loss: LossConfig
    data: DataSet
    accelerator: Accelerator
    cache: Cache
    scale: PixelScale

    def dataset(self, plan: Plan, pseudo: Labels | None, keys: tuple[Key, ...]) -> batches.StepDataset:
        """The examples of a generation: labelled ones and, of unlabelled images, `pseudo` or views to label online."""
        views = plan.method.views
        return batches.StepDataset(
            MaskLabels(self.data.labelled, self.cache.mask),
            self.data.unlabelled,
            pseudo,
            sizes=(plan.labelled_batch, plan.unlabelled_batch if pseudo or views else 0),
            views=views,
            augmentation=plan.augmentation,
            sampler=self.sampler,
            cache=self.cache,
            keys=keys,
        )

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
        """Weakly augmented crops of what a generation learnt from: `train.statistics` batches (N, h, w, C) uint8."""
        train, from_masks_only = self.train, plan.unlabelled_batch == 0
        images = self.data.labelled if from_masks_only else [*self.data.labelled, *self.data.unlabelled]
        batch = max(train.eval_batch, 2)  # batch norm after a pooling over the whole image has no statistics of one
        how, cache = augmentation.weak(train), self.cache
        return batches.crops(images, how, batch=batch, count=train.statistics, cache=cache, keys=keys)

    @cached_property
    def sampler(self) -> Sampler:
        """Which labelled images a step sees."""
        return augmentation.sampler(self.train, len(self.data.labelled), lambda: self.contents)

    @cached_property
    def contents(self) -> np.ndarray:
        """Pixels of each class in the mask of each labelled image, (N, C); read once."""
        classes = len(self.data.classes)
        masks = (self.cache.mask(sample) for sample in self.data.labelled)
        return np.stack([class_pixels(mask, classes) for mask in masks])

    @property
    def class_pixels(self) -> np.ndarray:
        """Pixels of each class in the masks of the labelled images, (C,)."""
        return self.contents.sum(axis=0)

    def _class_weights(self) -> torch.Tensor | None:
        """What labelled pixels of each class weigh, (C,); None where all weigh the same."""
        if not self.loss.balance:
            return None
        weights = balanced(self.class_pixels, self.loss.balance)
        return torch.tensor(weights, dtype=torch.float32, device=self.accelerator.device)

    def _sum(self, values: torch.Tensor) -> torch.Tensor:
        return self.accelerator.reduce(values, "sum") if self.accelerator.num_processes > 1 else values
