"""Parameter groups: which parameters are trained, and at which share of the learning rate.

A group may have an `lr_scale`, its share of train.lr. Biases and norms have no weight decay.
"""

from collections.abc import Callable, Collection, Iterator
from typing import Any

from timm.models import group_parameters
from timm.optim._param_groups import param_groups_weight_decay
from torch import nn

from selftrain.anatomy import anatomy_of
from selftrain.errors import ConfigError

Groups = list[dict[str, Any]]  # the type that torch.optim takes
# tensors per layer of an encoder whose layers timm does not know: as many as in a transformer block
LAYER = 12
FROZEN = "is_frozen"  # an attribute of encoders and their parts; copies keep it


def one(network: nn.Module, *, weight_decay: float) -> Groups:
    """All parameters are trained at the same rate."""
    spared: Collection[str] = getattr(network, "no_weight_decay", set)()
    return param_groups_weight_decay(network, weight_decay, no_weight_decay_list=spared)


GROUPS: dict[str, Callable[..., Groups]] = {"one": one}


def scaled(groups: Groups, network: nn.Module, *, encoder_lr: float, layer_decay: float) -> Groups:
    """`groups`, divided so that the encoder's parameters are trained at another rate than the rest.

    A parameter of the encoder gets `encoder_lr` times its rate. With a `layer_decay` below 1, each layer gets
    `layer_decay` times the next one's rate, and the last layer of the encoder `layer_decay` times the
    decoder's (BEiT, Bao et al. 2022). timm defines the layers of the encoders that it supports; in others,
    every LAYER tensors form a layer.

    Raises ConfigError if the network has no encoder and a setting needs one.
    """
    if encoder_lr == layer_decay == 1:
        return groups
    scales: dict[int, float] = {}
    for _, module in encoders(network, "train.encoder_lr and train.layer_decay"):
        depths = _layers_of(module)
        above = max(depths.values(), default=0) + 1
        scales |= {
            id(parameter): encoder_lr * layer_decay ** (above - depths[name])
            for name, parameter in module.named_parameters()
        }
    divided: dict[tuple[int, float], dict[str, Any]] = {}
    for number, group in enumerate(groups):
        for parameter in group["params"]:
            scale = group.get("lr_scale", 1.0) * scales.get(id(parameter), 1.0)
            row = divided.setdefault((number, scale), {**group, "params": [], "lr_scale": scale})
            row["params"].append(parameter)
    return list(divided.values())


class Freezer:
    """Freezes the encoder of a network for the first `steps` of `of` optimizer steps.

    A frozen encoder gets no gradients and stays in eval mode, so that its batch-norm statistics stay as well.
    If it is frozen to the end, it is so at once: then neither the optimizer nor DDP need its parameters.

    Raises ConfigError if there is no encoder.
    """

    def __init__(self, network: nn.Module, steps: int, *, of: int):
        self.network, self.steps, self.frozen = network, steps, bool(steps)
        found = [module for _, module in encoders(network, "train.freeze")] if steps else []
        self.parameters = [one for module in found for one in module.parameters() if one.requires_grad]
        for module in (part for encoder in found for part in encoder.modules()):
            setattr(module, FROZEN, True)
            module.register_forward_pre_hook(_in_eval_mode)
        if steps >= of:
            self.set(0)

    def set(self, step: int, *copies: nn.Module) -> None:
        """Freeze or unfreeze the encoder for optimizer step `step`, also in copies of the network."""
        self.frozen, before = step < self.steps, self.frozen
        for parameter in self.parameters:
            parameter.requires_grad_(not self.frozen)
        for module in (
            one for each in (self.network, *copies) for one in each.modules() if self.frozen != before
        ):
            if hasattr(module, FROZEN):
                setattr(module, FROZEN, self.frozen)


def unfrozen(network: nn.Module) -> Iterator[nn.Module]:
    """The modules of a network, except its frozen parts."""
    if not getattr(network, FROZEN, False):
        yield network
        for child in network.children():
            yield from unfrozen(child)


def _in_eval_mode(module: nn.Module, inputs: tuple) -> None:
    """Keep a frozen module in eval mode.

    A hook, because a call of `train` on the whole network would undo a call of `eval` on this part. Every
    part of an encoder has it, because some networks call these parts one by one (SegNet).
    """
    if getattr(module, FROZEN, False):
        module.training = False


def encoders(network: nn.Module, setting: str) -> list[tuple[str, nn.Module]]:
    """The encoder of a network, or of each network in a pair, with the prefix of its parameters.

    Raises ConfigError, naming `setting`, if there is no encoder.
    """
    known, own = dict(network.named_modules()), anatomy_of(network).encoder
    of_parts = [f"{name}.{anatomy_of(child).encoder}" for name, child in network.named_children()]
    found = [(f"{name}.", known[name]) for name in ([own] if own in known else of_parts) if name in known]
    if not found:
        raise ConfigError(
            f"{setting}: {type(network).__name__} has no encoder of its own; leave these at their defaults"
        )
    return found


def _layers_of(module: nn.Module) -> dict[str, int]:
    """The layer of each parameter of an encoder, counted from the input."""
    inner: Any = getattr(module, "model", module)  # smp stores a timm encoder as `model`
    names = [name for name, _ in module.named_parameters()]
    if not hasattr(inner, "group_matcher"):
        return {name: i // LAYER for i, name in enumerate(names)}
    prefix = "model." if inner is not module else ""
    depths = group_parameters(inner, inner.group_matcher(coarse=False), reverse=True)
    return {name: depths.get(name.removeprefix(prefix), max(depths.values())) for name in names}
