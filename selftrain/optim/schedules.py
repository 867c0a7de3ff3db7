"""Learning rate schedules: the share of the full rate, from the progress and the scores so far.

Lengths are shares of the steps after the warm-up, so that generations of other lengths have the same curve.
"""

import math
from collections.abc import Callable, Sequence
from typing import Annotated

from selftrain.tables import Bounds, Share

Scores = Sequence[float]  # val mIoU of each evaluation in this stage so far
# progress after the warm-up (0 to 1), scores -> share of the full rate
Schedule = Callable[[float, Scores], float]


Floor = Annotated[Share, "lowest rate, as a share of train.lr"]
ROUNDING = 1e-9  # a step at a cycle's first place is not counted as the last one of the cycle before


def cosine(done: float, scores: Scores, *, floor: Floor = 0.0) -> float:
    """Half a cosine wave from 1 to `floor` (SGDR without restarts, Loshchilov & Hutter 2017)."""
    return _wave(1.0, floor, done)


def restarts(
    done: float,
    scores: Scores,
    *,
    first: Annotated[float, Bounds(0.001, 1), "T0: the first cycle, as a share of the steps"] = 0.25,
    grow: Annotated[float, Bounds(1), "T_mult: factor from the length of a cycle to the next"] = 1.0,
    floor: Floor = 0.0,
) -> float:
    """Cosine waves with warm restarts (SGDR, Loshchilov & Hutter 2017). The last cycle may be cut off.

    first=1/3 with grow=2 is two whole cycles, first=1/7 with grow=2 three.
    """
    begin, length = 0.0, first
    while done + ROUNDING >= begin + length and done < 1:
        begin, length = begin + length, length * grow
    return _wave(1.0, floor, min(max(done - begin, 0.0) / length, 1.0))


def cycles(*, first: float, grow: float) -> list[float]:
    """The progress (0 to 1) at the end of each whole cycle of `restarts`, in order."""
    ends, length = [first], first * grow
    while ends[-1] + length <= 1 + ROUNDING:
        ends, length = [*ends, min(ends[-1] + length, 1.0)], length * grow
    return ends


def step(
    done: float,
    scores: Scores,
    *,
    at: Annotated[list[float], Bounds(0, 1), "shares of the steps after which the rate falls"] = [0.5, 0.75],  # noqa: B006
    factor: Annotated[float, Bounds(0, 1), "what the rate is multiplied by"] = 0.1,
) -> float:
    """Constant, multiplied by `factor` at each of `at` (He et al. 2016, ResNet)."""
    return factor ** sum(done + ROUNDING >= one for one in at)


def constant(done: float, scores: Scores) -> float:
    """The full rate after the warm-up."""
    return 1.0


def one_cycle(
    done: float,
    scores: Scores,
    *,
    peak: Annotated[float, Bounds(0.01, 0.99), "share of the steps after which the rate is train.lr"] = 0.3,
    start: Annotated[Share, "first rate, as a share of train.lr"] = 0.04,
    end: Annotated[Share, "last rate, as a share of train.lr"] = 0.0,
) -> float:
    """A rise to the full rate and a longer fall, both cosines (Smith & Topin 2018); momentum stays."""
    if done < peak:
        return _wave(start, 1.0, done / peak)
    return _wave(1.0, end, (done - peak) / (1 - peak))


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


SCHEDULES: dict[str, Callable[..., float]] = {
    "cosine": cosine,
    "poly": poly,
    "plateau": plateau,
    "restarts": restarts,
    "step": step,
    "constant": constant,
    "one_cycle": one_cycle,
}
BY_SCORES = {"plateau"}  # schedules that need val scores during training (train.eval_every)
WARMING = {"one_cycle"}  # schedules with a rise of their own, which need no train.warmup


def waited(scores: Scores) -> int:
    """The number of scores since the best one, which a score must exceed to be the best."""
    best = max(range(len(scores)), key=lambda i: (scores[i], -i), default=0)
    return max(len(scores) - 1 - best, 0)


def lr_at(step: int, steps: int, scores: Scores, *, lr: float, warmup: int, schedule: Schedule) -> float:
    """Learning rate of optimizer step `step` (from 0) of `steps`.

    It rises linearly to `lr` over the warm-up, then follows the schedule.
    """
    if step < warmup:
        return lr * (step + 1) / warmup
    done = (step - warmup) / max(steps - warmup, 1)
    return lr * schedule(min(done, 1.0), scores)


def _wave(first: float, last: float, done: float) -> float:
    """Half a cosine wave from `first` to `last`."""
    return last + (first - last) * (0.5 * (1 + math.cos(math.pi * done)))
