"""A few optimizer steps of a small network on drawn images, on one rank or, under torchrun, on several.

python accumulating.py ACCUMULATE      prints the weights, the logs and how often gradients were exchanged
"""

import json
import sys

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

from selftrain.config import DataConfig, LossConfig, TrainConfig
from selftrain.data import loading
from selftrain.data.augment.pipeline import Pipeline
from selftrain.data.batches import Augmentation, StepDataset
from selftrain.data.cache import Cache
from selftrain.data.labels import MaskLabels
from selftrain.data.load import load
from selftrain.datasets import spec_of
from selftrain.ids import IGNORE
from selftrain.methods.base import Context
from selftrain.methods.table import METHODS
from selftrain.stages.train import Learner, grouped
from selftrain.targets import Target

STEPS, IMAGES, SIDE = 3, 8, 32
SHAPES = {"labelled": IMAGES, "unlabelled": IMAGES, "val": 1, "test": 1}
SMALL = Pipeline((SIDE, SIDE), scale=(0.5, 0.9))  # crops with padding, which does not count


class Guesses:
    """Soft pseudo-labels of class 1, for another share of each image."""

    def __init__(self, samples, classes):
        self.samples, self.classes = samples, classes

    def target(self, i, index):
        hard = np.where((index >= 0) & (index % SIDE < 4 * i), 1, IGNORE).astype(np.uint8)
        soft = np.full((self.classes, *index.shape), 0.2 / (self.classes - 1), np.float32)
        soft[1] = 0.8
        return Target(hard, (hard != IGNORE).astype(np.float32), soft)


def dataset_of(data, views):
    cache = Cache(100)
    guesses = None if views else Guesses(data.unlabelled, len(data.classes))
    return StepDataset(
        MaskLabels(data.labelled, cache.mask), data.unlabelled, guesses, sizes=(IMAGES, IMAGES), views=views,
        augmentation=Augmentation(SMALL, SMALL), cache=cache, keys=(0, "gen1"),
    )  # fmt: skip


def method_of(name, classes, accelerator, losses):
    def summed(values):
        return accelerator.reduce(values, "sum")

    context = Context(
        LossConfig(**losses), classes, lambda images: images.permute(0, 3, 1, 2).float() / 255, accelerator.num_processes,
        summed, accelerator.autocast, accelerator.unwrap_model, STEPS,
    )  # fmt: skip
    return METHODS[name](context)


def learnt(accumulate, accelerator, method="", **losses):
    """The weights after STEPS steps, the logs of the last step, and how often gradients were exchanged."""
    data = load(spec_of(DataConfig(format="shapes", size=[SIDE, SIDE], shapes=SHAPES)))
    classes, exchanged = len(data.classes), []
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, classes, 1)
    )  # no batch norm
    learner = Learner(network, TrainConfig(optimizer="sgd", ema=0.5), accelerator, steps=STEPS)
    if accelerator.num_processes > 1:
        learner.model.register_comm_hook(
            exchanged, lambda state, bucket: state.append(1) or allreduce_hook(None, bucket)
        )
    step = method_of(method, classes, accelerator, losses)
    batches = loading.loader(
        dataset_of(data, METHODS[method].views), first=0, steps=STEPS, rank=accelerator.process_index,
        world=accelerator.num_processes, workers=0, parts=accumulate,
    )  # fmt: skip
    for t, parts in enumerate(grouped(batches, accumulate)):
        taken = learner.step(t, 0.5, step, parts)
    weights = torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
    return weights, taken.values(accelerator), len(exchanged)


if __name__ == "__main__":
    accelerator = Accelerator(cpu=True)
    weights, logs, exchanged = learnt(int(sys.argv[1]), accelerator)
    if accelerator.is_main_process:
        print(json.dumps({"weights": weights.tolist(), "logs": logs, "exchanged": exchanged}))
    accelerator.end_training()
