"""The exponential moving average of a network's weights: what is evaluated, teaches and is kept."""

import copy

import torch
from torch import nn


class Average:
    """`module` averages `network` over the steps: parameters and the statistics of batch norm; other buffers are copied.

    The decay grows as 1 - 1 / (t + 1) up to `decay` (Tarvainen & Valpola 2017), so the first steps are a plain mean.
    """

    def __init__(self, network: nn.Module, decay: float):
        self.module = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay
        ours, theirs = ([*one.parameters(), *one.buffers()] for one in (self.module, network))
        pairs = list(zip(ours, theirs, strict=True))  # looked up once: in-place loading keeps them true
        self.averaged = [(mine, other) for mine, other in pairs if mine.is_floating_point()]
        self.copied = [(mine, other) for mine, other in pairs if not mine.is_floating_point()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the network after optimizer step `step` (from 0)."""
        decay = min(self.decay, 1 - 1 / (step + 1))
        torch._foreach_lerp_([mine for mine, _ in self.averaged], [other for _, other in self.averaged], 1 - decay)
        for mine, other in self.copied:
            mine.copy_(other)

    @torch.no_grad()
    def distance(self, network: nn.Module) -> float:
        """|average - network| / |network| over all parameters."""
        pairs = list(zip(self.module.parameters(), network.parameters(), strict=True))
        apart = sum(float((mine - other).square().sum()) for mine, other in pairs)
        return (apart / max(sum(float(other.square().sum()) for _, other in pairs), 1e-12)) ** 0.5
