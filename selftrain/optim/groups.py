"""Parameter groups: which parameters are trained, and at which share of the learning rate.

A group may have an `lr_scale`, its share of train.lr. Biases and norms have no weight decay.
"""

from collections.abc import Callable, Collection, Iterator
from typing import Annotated, Any

from timm.models import group_parameters
from timm.optim._param_groups import param_groups_weight_decay
from torch import nn

from selftrain.anatomy import anatomy_of
from selftrain.errors import ConfigError
from selftrain.tables import Bounds

Groups = list[dict[str, Any]]  # the type that torch.optim takes
# tensors per layer of an encoder whose layers timm does not know: as many as in a transformer block
LAYER = 12


def one(network: nn.Module, *, weight_decay: float) -> Groups:
    """All parameters are trained at the same rate."""
    spared: Collection[str] = getattr(network, "no_weight_decay", set)()
    return param_groups_weight_decay(network, weight_decay, no_weight_decay_list=spared)


def encoder(
    network: nn.Module,
    *,
    weight_decay: float,
    lr_scale: Annotated[float, Bounds(0), "the encoder's share of train.lr"] = 0.1,
) -> Groups:
    """The encoder is trained at another rate than the rest; pretrained weights need a lower one."""
    of_encoders = {name for prefix, _ in _encoders(network) for name in _names(network, prefix)}
    return _scaled(network, weight_decay, lambda name: lr_scale if name in of_encoders else 1.0)


def layers(
    network: nn.Module,
    *,
    weight_decay: float,
    decay: Annotated[float, Bounds(0, 1), "the rate of a layer as a share of the next one's"] = 0.75,
) -> Groups:
    """Layer-wise decay (BEiT, Bao et al. 2022): each encoder layer has `decay` times the next one's rate.

    The decoder is trained at the full rate, the last layer of the encoder at `decay` times that rate. timm
    defines the layers of the encoders that it supports; in others, every LAYER tensors form a layer.
    """
    scales: dict[str, float] = {}
    for prefix, module in _encoders(network):
        depths = _layers_of(module)
        above = max(depths.values(), default=0) + 1
        scales |= {prefix + name: decay ** (above - depth) for name, depth in depths.items()}
    return _scaled(network, weight_decay, lambda name: scales.get(name, 1.0))


def frozen(network: nn.Module, *, weight_decay: float) -> Groups:
    """The encoder keeps its weights and its batch-norm statistics; the rest is trained."""
    for _, module in _encoders(network):
        module.requires_grad_(False)
        module.register_forward_pre_hook(_in_eval_mode)
    return one(network, weight_decay=weight_decay)


GROUPS: dict[str, Callable[..., Groups]] = {
    "one": one,
    "encoder": encoder,
    "layers": layers,
    "frozen": frozen,
}
# groups whose encoder stays in eval mode, so that it has no stochastic depth (noise.drop_path)
WITHOUT_DEPTH = {"frozen"}


def unfrozen(network: nn.Module) -> Iterator[nn.Module]:
    """The modules of a network, except its frozen parts."""
    if _in_eval_mode not in network._forward_pre_hooks.values():
        yield network
        for child in network.children():
            yield from unfrozen(child)


def _in_eval_mode(module: nn.Module, inputs: tuple) -> None:
    """Keep a module in eval mode.

    A hook, because a call of `train` on the whole network would undo a call of `eval` on this part.
    """
    module.eval()


def _encoders(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """The encoder of a network, or of each network in a pair, with the prefix of its parameters.

    Raises ConfigError if there is no encoder.
    """
    known, own = dict(network.named_modules()), anatomy_of(network).encoder
    of_parts = [f"{name}.{anatomy_of(child).encoder}" for name, child in network.named_children()]
    found = [(f"{name}.", known[name]) for name in ([own] if own in known else of_parts) if name in known]
    if not found:
        raise ConfigError(
            f"train.groups: {type(network).__name__} has no encoder of its own; set train.groups=one"
        )
    return found


def _names(network: nn.Module, prefix: str) -> list[str]:
    return [name for name, _ in network.named_parameters() if name.startswith(prefix)]


def _layers_of(module: nn.Module) -> dict[str, int]:
    """The layer of each parameter of an encoder, counted from the input."""
    inner: Any = getattr(module, "model", module)  # smp stores a timm encoder as `model`
    names = [name for name, _ in module.named_parameters()]
    if not hasattr(inner, "group_matcher"):
        return {name: i // LAYER for i, name in enumerate(names)}
    prefix = "model." if inner is not module else ""
    depths = group_parameters(inner, inner.group_matcher(coarse=False), reverse=True)
    return {name: depths.get(name.removeprefix(prefix), max(depths.values())) for name in names}


def _scaled(network: nn.Module, weight_decay: float, scale_of: Callable[[str], float]) -> Groups:
    """Split the groups of `one` by the learning rates of their parameters."""
    scales = {id(parameter): scale_of(name) for name, parameter in network.named_parameters()}
    divided: dict[tuple[int, float], dict[str, Any]] = {}
    for number, group in enumerate(one(network, weight_decay=weight_decay)):
        for parameter in group["params"]:
            scale = scales[id(parameter)]
            row = divided.setdefault((number, scale), {**group, "params": [], "lr_scale": scale})
            row["params"].append(parameter)
    return list(divided.values())
