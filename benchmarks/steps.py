"""The step function of a student, as benchmarks time it."""

import torch
from accelerate import Accelerator

from selftrain.config import Config
from selftrain.inference.pixels import PixelScale
from selftrain.methods.base import Context
from selftrain.methods.self_training import SelfTraining
from selftrain.pretraining import SCALE


def scale() -> list[torch.Tensor]:
    """Mean and standard deviation of the pixels, (1, 3, 1, 1), in grey levels."""
    return [255 * torch.tensor(row).view(1, 3, 1, 1) for row in SCALE.values()]


def student(cfg: Config, classes: int, accelerator: Accelerator) -> SelfTraining:
    """The default step of one process."""
    pixels = PixelScale.of(*SCALE.values(), accelerator.device).normalise
    return SelfTraining(
        Context(
            cfg.loss,
            classes,
            pixels,
            1,
            lambda counts: counts,
            accelerator.autocast,
            accelerator.unwrap_model,
            1,
        )
    )
