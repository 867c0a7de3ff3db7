"""Learning rate schedules: the share of the full rate, from the progress and the scores so far."""

import math
from collections.abc import Callable, Sequence
from typing import Annotated

from selftrain.tables import Bounds

Scores = Sequence[float]  # val mIoU of each evaluation in this stage so far
# progress after the warm-up (0 to 1), scores -> share of the full rate
Schedule = Callable[[float, Scores], float]


def cosine(done: float, scores: Scores) -> float:
    """Half a cosine wave from 1 to 0."""
    return 0.5 * (1 + math.cos(math.pi * done))


def poly(
    done: float, scores: Scores, *, power: Annotated[float, Bounds(0), "1 is a straight line"] = 0.9
) -> float:
    """Polynomial decay (1 - done)^power; DeepLab's power is 0.9."""
    return (1 - done) ** power


def plateau(
    done: float,
    scores: Scores,
    *,
    factor: Annotated[float, Bounds(0, 1), "what the rate is multiplied by"] = 0.3,
    patience: Annotated[
        int, Bounds(1), "looks at val in a row without a new best score, before the rate falls"
    ] = 3,
    margin: Annotated[float, Bounds(0), "how far above the best score a new best one must be"] = 0.0,
) -> float:
    """Constant until the scores stop improving, then multiplied by `factor`, and so on."""
    best, waited, share = -math.inf, 0, 1.0
    for score in scores:
        better = score > best + margin
        best, waited = (score, 0) if better else (best, waited + 1)
        if waited == patience:
            share, waited = share * factor, 0
    return share


SCHEDULES: dict[str, Callable[..., float]] = {"cosine": cosine, "poly": poly, "plateau": plateau}
BY_SCORES = {"plateau"}  # schedules that need val scores during training (train.eval_every)


def lr_at(step: int, steps: int, scores: Scores, *, lr: float, warmup: int, schedule: Schedule) -> float:
    """Learning rate of optimizer step `step` (from 0) of `steps`.

    It rises linearly to `lr` over the warm-up, then follows the schedule.
    """
    if step < warmup:
        return lr * (step + 1) / warmup
    done = (step - warmup) / max(steps - warmup, 1)
    return lr * schedule(min(done, 1.0), scores)
