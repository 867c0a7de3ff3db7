"""Policies: functions (rng) -> operations with their strengths, drawn anew for each image.

The geometry of the operations is part of the crop's one affine map. Their colours follow in order.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Annotated

import albumentations.augmentations.pixel.functional as pixel
import numpy as np
from torchvision.transforms import AutoAugment

from selftrain.data.augment.randaugment import MAX_MAGNITUDE, OPERATIONS, Operation, RandAugment
from selftrain.tables import Bounds

Strong = tuple[Operation, float]  # with a strength in [-1, 1]
Policy = Callable[..., list[Strong]]

LEVELS = 9  # the largest magnitude of AutoAugment's policies in torchvision
INVERT = Operation("invert", colour=lambda image, s: pixel.invert(image))
BY_NAME = {one.name.replace("_", ""): one for one in (*OPERATIONS, INVERT)}
BY_NAME["color"] = BY_NAME["colour"]


def randaugment(
    rng: np.random.Generator,
    *,
    n: Annotated[int, Bounds(1), "operations per image"] = 2,
    magnitude: Annotated[float, Bounds(0, MAX_MAGNITUDE), "strength of all operations"] = 9.0,
) -> list[Strong]:
    """RandAugment (Cubuk et al. 2020): `n` random operations, all of one magnitude."""
    how = RandAugment(n, magnitude)
    return list(zip(how.operations(rng), how.strengths(rng), strict=True))


def trivial(
    rng: np.random.Generator,
    *,
    most: Annotated[float, Bounds(0, 1), "largest strength, as a share of RandAugment's ranges"] = 1.0,
) -> list[Strong]:
    """TrivialAugment (Müller & Hutter 2021): one random operation of a random strength."""
    operation = OPERATIONS[rng.integers(len(OPERATIONS))]
    return [(operation, float(rng.uniform(0, most) * rng.choice([-1.0, 1.0])))]


def autoaugment(
    rng: np.random.Generator,
    *,
    strength: Annotated[float, Bounds(0, 1), "share of the published magnitudes"] = 1.0,
) -> list[Strong]:
    """AutoAugment's ImageNet policy (Cubuk et al. 2019, table 9): one of 25 pairs of operations.

    Each operation of the pair acts with its own probability.
    """
    pairs = _pairs()
    drawn = []
    for name, p, magnitude in pairs[rng.integers(len(pairs))]:
        acts, sign = rng.uniform() < p, rng.choice([-1.0, 1.0])
        if acts:
            drawn.append((BY_NAME[name.lower()], float(sign * strength * (magnitude or 0) / LEVELS)))
    return drawn


@lru_cache(maxsize=1)
def _pairs() -> list[tuple[tuple[str, float, int | None], ...]]:
    """The pairs of operations: name, probability, and magnitude up to LEVELS if the operation has one."""
    return AutoAugment().policies


POLICIES: dict[str, Policy] = {"randaugment": randaugment, "trivial": trivial, "autoaugment": autoaugment}
