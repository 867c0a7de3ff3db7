"""A copy of a network for inference on CPUs, with batch norm and ReLU fused into convolutions.

On CPUs with matrix units convolutions are cheap. The memory passes between them take two thirds of the time.
"""

import copy
from collections import Counter
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from selftrain.models.outputs import tensors_of

# oneDNN's convolution with ReLU is part of torch for torch.compile, under private names.
NEEDED = ("_convolution_pointwise", "_reorder_convolution_weight")
POSSIBLE = torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in NEEDED)
TOLERANCE = 1e-3  # share of the largest logit; fp32 rounds to 1e-6 of it, a wrong graph is off by all of it


def fused(network: nn.Module, images: Tensor, dtype: torch.dtype) -> nn.Module:
    """Fuse a copy of `network`, which is in eval mode; its convolutions compute in `dtype`.

    The order of the layers is recorded in one forward pass over `images` (N, C, H, W). The network itself is
    returned if this torch cannot fuse, or if the fused copy's logits differ (for example because an output is
    used twice).
    """
    if not POSSIBLE:
        return network
    with torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False):
        order, expected = _order(network, images)
        found = tensors_of(_joined(network, order, torch.float32)(images))
    if any(_differ(*pair) for pair in zip(found, expected, strict=True)):
        return network
    return _joined(network, order, dtype)


class JoinedConvolution(nn.Module):
    """A convolution with the batch norm after it, and with ReLU if `relu`, in one pass."""

    def __init__(self, convolution: nn.Conv2d, *, relu: bool, dtype: torch.dtype):
        super().__init__()
        weight = convolution.weight.detach().to(dtype, memory_format=torch.channels_last)
        bias = convolution.bias.detach().to(dtype) if convolution.bias is not None else None
        self.geometry = (convolution.padding, convolution.stride, convolution.dilation, convolution.groups)
        self.weight: Tensor  # in oneDNN's own order
        self.register_buffer("weight", torch.ops.mkldnn._reorder_convolution_weight(weight, *self.geometry))
        self.register_buffer("bias", bias)
        self.then = "relu" if relu else "none"

    def forward(self, images: Tensor) -> Tensor:
        images = images.to(self.weight.dtype)
        return torch.ops.mkldnn._convolution_pointwise(
            images, self.weight, self.bias, *self.geometry, self.then, [], ""
        )


@dataclass
class _Order:
    """Which module receives another module's unmodified output, and how often each is called, by name."""

    after: dict[str, str] = field(default_factory=dict)
    calls: Counter = field(default_factory=Counter)
    # Keyed by a tensor's id and version: an in-place change gives it another version.
    _made: dict[tuple[int, int], str] = field(default_factory=dict)
    _kept: list[Tensor] = field(default_factory=list)  # keeps the tensors alive, so that no id is reused

    def takes(self, name: str, module: nn.Module, inputs: tuple) -> None:
        """Record the input of `module`. Called before `module` runs, because it may run in place."""
        self.calls[name] += 1
        maker = self._made.get((id(inputs[0]), inputs[0]._version))
        if maker:
            self.after[maker] = name

    def gives(self, name: str, module: nn.Module, inputs: tuple, output: Tensor) -> None:
        self._made[id(output), output._version] = name
        self._kept.append(output)


def _differ(found: Tensor, expected: Tensor) -> bool:
    return float((found - expected).abs().max()) > TOLERANCE * float(expected.abs().max())


def _order(network: nn.Module, images: Tensor) -> tuple[_Order, list[Tensor]]:
    """The order of the layers, and the logits of the images."""
    order, handles = _Order(), []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.ReLU):
            handles.append(module.register_forward_pre_hook(partial(order.takes, name)))
            handles.append(module.register_forward_hook(partial(order.gives, name)))
    logits = tensors_of(network(images))
    for handle in handles:
        handle.remove()
    return order, logits


def _joined(network: nn.Module, order: _Order, dtype: torch.dtype) -> nn.Module:
    network = copy.deepcopy(network)
    modules = dict(network.named_modules())

    def follower(name: str, kind: type[nn.Module]) -> str | None:
        other = order.after.get(name)
        return other if other and type(modules[other]) is kind and order.calls[other] == 1 else None

    for name, module in modules.items():
        if type(module) is not nn.Conv2d or order.calls[name] != 1 or not _plain(module):
            continue
        norm = follower(name, nn.BatchNorm2d)
        joined = module
        if norm:
            joined = fuse_conv_bn_eval(module, modules[norm])
            network.set_submodule(norm, nn.Identity())
        relu = follower(norm or name, nn.ReLU)
        if relu:
            network.set_submodule(relu, nn.Identity())
        network.set_submodule(name, JoinedConvolution(joined, relu=bool(relu), dtype=dtype))
    return network


def _plain(convolution: nn.Conv2d) -> bool:
    return convolution.padding_mode == "zeros" and not isinstance(convolution.padding, str)
