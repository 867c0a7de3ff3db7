"""Batch-norm statistics of a trained network, recomputed on un-augmented training images."""

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from selftrain.errors import naming_savings
from selftrain.inference.pixels import PixelScale
from selftrain.inference.predictor import Precision
from selftrain.optim.groups import unfrozen


@naming_savings("evaluating")
@torch.no_grad()
def recalibrate(
    network: nn.Module, crops: Iterable[torch.Tensor], *, scale: PixelScale, precision: Precision
) -> None:
    """Replace the running statistics of `network` with their mean over batches of `crops`.

    Training gathered them over augmented and mixed images (Wu & Johnson 2021, "Rethinking Batch in
    BatchNorm", section 3: precise batch norm). `crops` are (N, h, w, C) uint8. `precision` is the context of
    a forward pass. Only batch norm is in training mode. A network without batch norm is left unchanged, and
    so is a frozen encoder.
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
        with precision():
            network(scale.normalise(images.to(scale.device)))
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
    network.eval()
