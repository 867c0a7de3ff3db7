"""Noise inside a network. Stochastic depth belongs to the encoder and is set when it is built."""

from torch import nn
from torch.nn import functional as F

from selftrain.anatomy import anatomy_of, part


def add_dropout(network: nn.Module, p: float) -> None:
    """Drop whole feature maps before the segmentation head during training (Tompson et al. 2015).

    A hook, so that parameter names do not depend on noise, and evaluated and exported networks have no noise.
    """

    def drop(module: nn.Module, inputs: tuple) -> tuple:
        features, *rest = inputs
        return (F.dropout2d(features, p, training=module.training), *rest)

    part(network, anatomy_of(network).head, "noise.dropout").register_forward_pre_hook(drop)
