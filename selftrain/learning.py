"""What each generation of a run learns from, and how: its examples, its step function, the images its statistics are of."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch

from selftrain.config import Config, NoiseConfig, TrainConfig
from selftrain.data import batches
from selftrain.data.labels import Labels, MaskLabels
from selftrain.data.mixing import TABLE, Mixer
from selftrain.data.sample import DataSet
from selftrain.ids import IGNORE
from selftrain.labels.thresholds import balanced
from selftrain.methods.base import Context, Method
from selftrain.methods.table import METHODS
from selftrain.rng import Key
from selftrain.stages.inference import Inference


@dataclass(frozen=True)
class Learning:
    """What `cfg` says of each generation's learning from `data`."""

    cfg: Config
    data: DataSet
    inference: Inference

    def dataset(self, number: int, pseudo: Labels | None, keys: tuple[Key, ...]) -> batches.StepDataset:
        """The examples of generation `number`: labelled ones and, of unlabelled images, `pseudo` or views to label online."""
        views = METHODS[self.cfg.generations[number].online].views
        labelled, unlabelled = self.cfg.of_generation(number, "labelled_batch"), self.cfg.train.unlabelled_batch
        return batches.StepDataset(
            MaskLabels(self.data.labelled, self.inference.cache.mask),
            self.data.unlabelled,
            pseudo,
            sizes=(labelled, unlabelled if pseudo or views else 0),
            views=views,
            augmentation=self.augmentation(number),
            cache=self.inference.cache,
            keys=keys,
        )

    def step(self, number: int) -> Method:
        """The step function of generation `number`."""
        accelerator = self.inference.accelerator
        context = Context(
            cfg=self.cfg.loss,
            classes=len(self.data.classes),
            pixels=self.inference.pixels,
            ranks=accelerator.num_processes,
            reduce=self._sum,
            autocast=accelerator.autocast,
            unwrap=accelerator.unwrap_model,
            steps=self.cfg.of_generation(number, "steps"),
            class_weights=self._class_weights(),
            mixers=mixers(self.cfg.generations[number].noise),
        )
        return METHODS[self.cfg.generations[number].online](context)

    def unnoised(self, number: int, keys: tuple[Key, ...]) -> Iterator[torch.Tensor]:
        """Crops of what generation `number` learnt from, weakly augmented: `train.statistics` batches (N, h, w, 3) uint8."""
        train, from_labels_only = self.cfg.train, number == 0 and not self.cfg.generations[0].online
        images = self.data.labelled if from_labels_only else [*self.data.labelled, *self.data.unlabelled]
        batch = max(train.eval_batch, 2)  # batch norm after a pooling over the whole image has no statistics of one
        return batches.crops(images, _weak(train), batch=batch, count=train.statistics, cache=self.inference.cache, keys=keys)

    def augmentation(self, number: int) -> batches.Augmentation:
        """How generation `number` sees its images."""
        generation = self.cfg.generations[number]
        noise, weak = generation.noise, _weak(self.cfg.train)
        strong = weak | {name: getattr(noise, name) for name in ("rand_n", "rand_m", "colour", "cutout")}
        return batches.Augmentation(
            labelled=strong if noise.labelled else weak,
            unlabelled=weak | {"jitter": 0.0, "colour": noise.colour} if generation.online else strong,
            mixers=mixers(noise),
            paste=noise.paste,
            style=noise.style,
        )

    @cached_property
    def class_pixels(self) -> np.ndarray:
        """Pixels of each class in the masks of the labelled images, (C,); read once."""
        classes = len(self.data.classes)
        masks = (self.inference.cache.mask(sample) for sample in self.data.labelled)
        return np.sum([np.bincount(mask[mask != IGNORE], minlength=classes) for mask in masks], axis=0)

    def _class_weights(self) -> torch.Tensor | None:
        """What labelled pixels of each class weigh, (C,); None where all weigh the same."""
        if not self.cfg.loss.balance:
            return None
        weights = balanced(self.class_pixels, self.cfg.loss.balance)
        return torch.tensor(weights, dtype=torch.float32, device=self.inference.accelerator.device)

    def _sum(self, values: torch.Tensor) -> torch.Tensor:
        accelerator = self.inference.accelerator
        return accelerator.reduce(values, "sum") if accelerator.num_processes > 1 else values


def mixers(noise: NoiseConfig) -> tuple[Mixer, ...]:
    """The mixings of `noise.cutmix` and `noise.mix`, in the order of their table."""
    given = {"cutmix": {"p": noise.cutmix}, **noise.mix}
    chosen = TABLE.chosen(given, "noise.mix")
    return tuple(Mixer(one.name, one.amount, partial(one.entry.draw, **one.settings), one.entry.mask) for one in chosen)


def _weak(train: TrainConfig) -> dict:
    """What `augment.view` is told where there is no noise."""
    return {"crop": tuple(train.crop), "scale": tuple(train.scale), "flip": train.flip, "jitter": train.jitter}
