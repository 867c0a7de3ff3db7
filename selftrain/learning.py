"""What each generation of a run learns from, and how: its examples, its step function, the images its statistics are of."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from accelerate import Accelerator

from selftrain import augmentation
from selftrain.config import Config
from selftrain.data import batches
from selftrain.data.cache import Cache
from selftrain.data.labels import Labels, MaskLabels
from selftrain.data.sample import DataSet
from selftrain.data.samplers import Sampler
from selftrain.inference.pixels import PixelScale
from selftrain.labels.thresholds import balanced
from selftrain.methods.base import Context, Method
from selftrain.methods.table import METHODS
from selftrain.rng import Key
from selftrain.scores import class_pixels


@dataclass(frozen=True)
class Learning:
    """What `cfg` says of each generation's learning from `data`."""

    cfg: Config
    data: DataSet
    accelerator: Accelerator
    cache: Cache
    scale: PixelScale

    def dataset(self, number: int, pseudo: Labels | None, keys: tuple[Key, ...]) -> batches.StepDataset:
        """The examples of generation `number`: labelled ones and, of unlabelled images, `pseudo` or views to label online."""
        views = METHODS[self.cfg.generations[number].online].views
        labelled, unlabelled = self.cfg.of_generation(number, "labelled_batch"), self.cfg.train.unlabelled_batch
        return batches.StepDataset(
            MaskLabels(self.data.labelled, self.cache.mask),
            self.data.unlabelled,
            pseudo,
            sizes=(labelled, unlabelled if pseudo or views else 0),
            views=views,
            augmentation=self.augmentation(number),
            sampler=self.sampler,
            cache=self.cache,
            keys=keys,
        )

    def step(self, number: int) -> Method:
        """The step function of generation `number`."""
        accelerator = self.accelerator
        context = Context(
            cfg=self.cfg.loss,
            classes=len(self.data.classes),
            pixels=self.scale.normalise,
            ranks=accelerator.num_processes,
            reduce=self._sum,
            autocast=accelerator.autocast,
            unwrap=accelerator.unwrap_model,
            steps=self.cfg.of_generation(number, "steps"),
            class_weights=self._class_weights(),
            mixers=augmentation.mixers(self.cfg.generations[number].noise),
        )
        return METHODS[self.cfg.generations[number].online](context)

    def unnoised(self, number: int, keys: tuple[Key, ...]) -> Iterator[torch.Tensor]:
        """Crops of what generation `number` learnt from, weakly augmented: `train.statistics` batches (N, h, w, 3) uint8."""
        train, from_labels_only = self.cfg.train, number == 0 and not self.cfg.generations[0].online
        images = self.data.labelled if from_labels_only else [*self.data.labelled, *self.data.unlabelled]
        batch = max(train.eval_batch, 2)  # batch norm after a pooling over the whole image has no statistics of one
        how, cache = augmentation.weak(train), self.cache
        return batches.crops(images, how, batch=batch, count=train.statistics, cache=cache, keys=keys)

    def augmentation(self, number: int) -> batches.Augmentation:
        """How generation `number` sees its images."""
        return augmentation.of(self.cfg.train, self.cfg.generations[number], number)

    @cached_property
    def sampler(self) -> Sampler:
        """Which labelled images a step sees."""
        return augmentation.sampler(self.cfg.train, len(self.data.labelled), lambda: self.contents)

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
        if not self.cfg.loss.balance:
            return None
        weights = balanced(self.class_pixels, self.cfg.loss.balance)
        return torch.tensor(weights, dtype=torch.float32, device=self.accelerator.device)

    def _sum(self, values: torch.Tensor) -> torch.Tensor:
        accelerator = self.accelerator
        return accelerator.reduce(values, "sum") if accelerator.num_processes > 1 else values
