"""Averages of a network's weights over the steps. The averaged network is evaluated, teaches, and is kept.

An average is defined by its decay at each step: average = decay * average + (1 - decay) * weights.
"""

import copy
from collections.abc import Callable
from typing import Annotated

import torch
from torch import nn

from selftrain.tables import Bounds


def ema(
    step: int,
    *,
    steps: int,
    decay: float,
    share: Annotated[
        float,
        Bounds(0, 1),
        "the share of the steps that the average spans, instead of train.ema; 0: none",
    ] = 0.0,
) -> float:
    """Exponential moving average. The first steps use a plain mean (Tarvainen & Valpola 2017).

    An average with decay d spans 1 / (1 - d) steps. With `share` it spans as large a part of a short
    generation as of a long one.
    """
    if share:
        decay = 1 - 1 / max(share * steps, 1)
    return min(decay, 1 - 1 / (step + 1))


def none(step: int, *, steps: int, decay: float) -> float:
    """No averaging: the latest weights."""
    return 0.0


def swa(
    step: int,
    *,
    steps: int,
    decay: float,
    start: Annotated[float, Bounds(0, 1), "the share of the steps after which the mean begins"] = 0.75,
    period: Annotated[int, Bounds(1), "steps from one set of weights in the mean to the next"] = 1,
    lr: Annotated[float, Bounds(0), "rate from `start` on, as a share of train.lr; 0: the schedule's"] = 0.0,
) -> float:
    """Stochastic weight averaging (Izmailov et al. 2018): the equal mean of the weights from `start` on.

    The mean covers the weights after each step, or after every `period`th. Before `start` the average is the
    latest weights. With `lr` the rate is constant from `start` on, as in the paper.
    """
    past = step - _first(start, steps)
    count, between = divmod(max(past, 0), period)
    return 0.0 if past < 0 else 1.0 if between else 1 - 1 / (count + 1)


def swa_rate(step: int, *, steps: int, start: float, period: int, lr: float) -> float | None:
    """The share of train.lr at a step with `swa`; None if the schedule decides."""
    return lr if lr and step >= _first(start, steps) else None


def _first(start: float, steps: int) -> int:
    return min(int(start * steps), steps - 1)


# Each function returns the decay at `step` (from 0) of `steps`; `decay` is train.ema.
AVERAGES: dict[str, Callable[..., float]] = {"ema": ema, "none": none, "swa": swa}
# averages that need a learning rate of their own: the share of train.lr at a step, or None
RATES: dict[str, Callable[..., float | None]] = {"swa": swa_rate}


class Average:
    """A copy `module` of a network, averaged over the steps.

    It averages parameters and batch-norm statistics, and copies other buffers.
    """

    def __init__(self, network: nn.Module):
        self.module = copy.deepcopy(network).eval().requires_grad_(False)
        ours, theirs = ([*one.parameters(), *one.buffers()] for one in (self.module, network))
        pairs = list(zip(ours, theirs, strict=True))  # collected once: in-place loading keeps the tensors
        self.averaged = [(mine, other) for mine, other in pairs if mine.is_floating_point()]
        self.copied = [(mine, other) for mine, other in pairs if not mine.is_floating_point()]

    @torch.no_grad()
    def update(self, decay: float) -> None:
        """Add the network's current weights with weight 1 - `decay`."""
        torch._foreach_lerp_(
            [mine for mine, _ in self.averaged], [other for _, other in self.averaged], 1 - decay
        )
        for mine, other in self.copied:
            mine.copy_(other)

    @torch.no_grad()
    def distance(self, network: nn.Module) -> float:
        """Relative distance over all parameters, |average - network| / |network|."""
        pairs = list(zip(self.module.parameters(), network.parameters(), strict=True))
        apart = sum(float((mine - other).square().sum()) for mine, other in pairs)
        return (apart / max(sum(float(other.square().sum()) for _, other in pairs), 1e-12)) ** 0.5
