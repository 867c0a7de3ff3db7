"""Optimizers by timm's names, except those that a checkpoint cannot hold."""

import json
from typing import Any

import torch
from timm.optim import create_optimizer_v2  # type: ignore[attr-defined]
from torch import nn

from selftrain import checkpoint
from selftrain.errors import ConfigError
from selftrain.optim.groups import Groups

FUSED = (
    "adam",
    "adamw",
    "sgd",
)  # one pass over the parameters: 3x quicker than foreach on CPUs (docs/lab-notes.md)


def optimizer_of(groups: Groups, name: str, *, lr: float, device: torch.device) -> torch.optim.Optimizer:
    """The optimizer of parameter groups that have their own weight decay. Raises ConfigError."""
    try:
        extra: dict[str, Any] = {"fused": True} if name in FUSED else {}
        _try(name, lr, max(group.get("weight_decay", 0.0) for group in groups), device)
        return create_optimizer_v2(groups, opt=name, lr=lr, **extra)
    except (AssertionError, ValueError, KeyError) as error:
        raise ConfigError(f"train.optimizer={name!r}: timm knows no such optimizer ({error})") from None


def rate_of(group: dict[str, Any], lr: float) -> float:
    """A group's learning rate as a multiple of `lr`: its own rate where the optimizer gave it one, times `lr_scale`."""
    return (group["lr"] / lr if lr else 1.0) * group.get("lr_scale", 1.0)


def _try(name: str, lr: float, weight_decay: float, device: torch.device) -> None:
    """Raises ConfigError for an optimizer that wants more than gradients, or whose state no checkpoint can hold."""
    with torch.random.fork_rng(devices=[]):
        weight = nn.Parameter(torch.ones(2, 2, device=device))  # some optimizers are for GPUs only
        try:
            optimizer = create_optimizer_v2([weight], opt=name, lr=lr, weight_decay=weight_decay)
            weight.square().sum().backward()
            optimizer.step()
            json.dumps(checkpoint.optimizer_numbers(optimizer))
        except (RuntimeError, TypeError) as error:
            raise ConfigError(
                f"train.optimizer={name!r} does not work here ({' '.join(str(error).split())}); adamw and sgd do"
            ) from None
