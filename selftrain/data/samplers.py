"""Samplers: the choice of labelled images for each step.

An entry is a function (count, contents) -> Sampler. `contents()` reads the masks and returns the pixels of
each class in each of the `count` images, (count, C). A Sampler returns the indices of the global batch of a
step. It is a pure function of (batch, step, keys), so there is no state to save.
"""

from collections.abc import Callable
from functools import partial
from typing import Annotated

import numpy as np

from selftrain.rng import Key, batch_ids, generator
from selftrain.tables import Bounds

Contents = Callable[[], np.ndarray]
Sampler = Callable[[int, int, tuple[Key, ...]], list[int]]


def uniform(count: int, contents: Contents) -> Sampler:
    """Draw every image equally often, in epochs of permutations."""
    return partial(epochs, count)


def by_class(
    count: int,
    contents: Contents,
    *,
    share: Annotated[
        float, Bounds(0, 1), "share of the draws that are by class; the others are uniform"
    ] = 1.0,
) -> Sampler:
    """Draw a class, each equally often, then an image that contains it, so rare classes are seen more often.

    Images without any labelled pixel occur only in the uniform draws. Images are drawn with replacement.
    """
    weights = share * class_weights(contents()) + (1 - share) / count
    return partial(_weighted, weights / weights.sum())


def class_weights(contents: np.ndarray) -> np.ndarray:
    """The probability (N,) of each image if each class is drawn equally often; `contents` (N, C).

    Uniform if no image has a labelled pixel.
    """
    has = contents[:, contents.any(axis=0)] > 0  # (N, classes that occur)
    if not has.size:
        return np.full(len(contents), 1 / len(contents))
    return (has / has.sum(axis=0)).mean(axis=1)


def epochs(count: int, batch: int, step: int, keys: tuple[Key, ...]) -> list[int]:
    """Permutations of the `count` images laid end to end, cut into batches."""
    return batch_ids(count, batch, step, *keys)


def _weighted(weights: np.ndarray, batch: int, step: int, keys: tuple[Key, ...]) -> list[int]:
    drawn = generator(*keys, "by class", step).choice(len(weights), size=batch, p=weights)
    return [int(i) for i in drawn]


def rejecting(sampler: Sampler, background: np.ndarray, p: float) -> Sampler:
    """`sampler`, but units of `background` (N,) bool make room for another one with probability `p`.

    The other one is drawn uniformly from the rest. If all units are background, nothing changes.
    """
    others = np.flatnonzero(~background)
    if not p or not len(others):
        return sampler
    return partial(_without, sampler, background, others, p)


def _without(
    sampler: Sampler,
    background: np.ndarray,
    others: np.ndarray,
    p: float,
    batch: int,
    step: int,
    keys: tuple[Key, ...],
) -> list[int]:
    rng = generator(*keys, "reject", step)
    rejected, instead = rng.uniform(size=batch) < p, rng.choice(others, size=batch)
    drawn = np.array(sampler(batch, step, keys))
    return np.where(rejected & background[drawn], instead, drawn).tolist()


SAMPLERS: dict[str, Callable[..., Sampler]] = {"uniform": uniform, "by_class": by_class}
