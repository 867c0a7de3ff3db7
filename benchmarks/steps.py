"""The step function of a student, as benchmarks time it."""

from functools import partial

import torch
from accelerate import Accelerator

from selftrain.config import Config
from selftrain.methods.base import Context
from selftrain.methods.self_training import SelfTraining
from selftrain.stages.steps import normalised


def scale(cfg: Config) -> list[torch.Tensor]:
    """Mean and standard deviation of the pixels, (1, 3, 1, 1), in grey levels."""
    return [255 * torch.tensor(row).view(1, 3, 1, 1) for row in (cfg.data.mean, cfg.data.std)]


def student(cfg: Config, classes: int, accelerator: Accelerator) -> SelfTraining:
    """The default step of one process."""
    mean, std = (row.to(accelerator.device) for row in scale(cfg))
    pixels = partial(normalised, mean=mean, std=std)
    return SelfTraining(
        Context(cfg.loss, classes, pixels, 1, lambda counts: counts, accelerator.autocast, accelerator.unwrap_model, 1)
    )
