"""Optimizers by their timm names. Optimizers whose state a checkpoint cannot contain are refused."""

import json
from typing import Any

import torch
from timm.optim import create_optimizer_v2  # type: ignore[attr-defined]
from timm.optim.lookahead import Lookahead
from torch import nn

from selftrain import checkpoint
from selftrain.errors import ConfigError
from selftrain.optim.groups import Groups

# one pass over the parameters: 3x faster than foreach on CPUs (docs/lab-notes.md)
FUSED = ("adam", "adamw", "sgd")


def optimizer_of(
    groups: Groups,
    name: str,
    *,
    lr: float,
    device: torch.device,
    lookahead: int = 0,
    alpha: float = 0.5,
) -> torch.optim.Optimizer:
    """Create the optimizer of parameter groups that have their own weight decay. Raises ConfigError.

    With `lookahead` steps k, slow weights take a share `alpha` of the way to the optimizer's weights every k
    steps, and the optimizer goes on from there (Lookahead, Zhang et al. 2019). They start from the weights
    after step k.
    """
    try:
        extra: dict[str, Any] = {"fused": True} if name in FUSED else {}
        _try(name, lr, max(group.get("weight_decay", 0.0) for group in groups), device)
        optimizer = create_optimizer_v2(groups, opt=name, lr=lr, **extra)
        return Lookahead(optimizer, alpha=alpha, k=lookahead) if lookahead else optimizer
    except (AssertionError, ValueError, KeyError) as error:
        raise ConfigError(f"train.optimizer={name!r}: timm knows no such optimizer ({error})") from None


def rate_of(group: dict[str, Any], lr: float) -> float:
    """A group's learning rate as a multiple of `lr`: its own rate (if it has one) times `lr_scale`."""
    return (group["lr"] / lr if lr else 1.0) * group.get("lr_scale", 1.0)


def _try(name: str, lr: float, weight_decay: float, device: torch.device) -> None:
    """Take one step with an optimizer to check it.

    Raises ConfigError if it needs more than gradients, or if a checkpoint cannot contain its state.
    """
    with torch.random.fork_rng(devices=[]):
        weight = nn.Parameter(torch.ones(2, 2, device=device))  # some optimizers run on GPUs only
        try:
            optimizer = create_optimizer_v2([weight], opt=name, lr=lr, weight_decay=weight_decay)
            weight.square().sum().backward()
            optimizer.step()
            json.dumps(checkpoint.optimizer_numbers(optimizer))
        except (RuntimeError, TypeError) as error:
            raise ConfigError(
                f"train.optimizer={name!r} does not work here ({' '.join(str(error).split())}); "
                "adamw and sgd do"
            ) from None
