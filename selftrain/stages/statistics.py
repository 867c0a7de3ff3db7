"""Batch-norm statistics of a finished network, measured over the images that it has learnt from, without their noise."""

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from selftrain.errors import naming_savings
from selftrain.optim.groups import unfrozen
from selftrain.stages.inference import Inference


@naming_savings("evaluating")
@torch.no_grad()
def measure(network: nn.Module, crops: Iterable[torch.Tensor], inference: Inference) -> None:
    """Replace the running statistics of `network` by their mean over batches of `crops`, (N, h, w, 3) uint8 each.

    Those that were gathered in training are of noised and mixed images (Wu & Johnson 2021, "Rethinking Batch in BatchNorm",
    section 3: precise batch norm). Nothing else of the network is in training mode. Without batch norm nothing happens.
    A frozen encoder keeps its statistics.
    """
    norms = [module for module in unfrozen(network) if isinstance(module, _BatchNorm)]
    if not norms:
        return
    network.eval()
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over the batches
        norm.train()
    for images in crops:
        with inference.accelerator.autocast():
            network(inference.pixels(images))
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
    network.eval()
