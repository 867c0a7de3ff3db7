"""Networks by architecture and encoder. Networks of smp keep their smp names."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any

import segmentation_models_pytorch as smp
import torch
from torch import nn

from selftrain.anatomy import ATTRIBUTE, Anatomy
from selftrain.errors import ConfigError
from selftrain.models.classics import CLASSICS
from selftrain.models.dpt import slim_dpt
from selftrain.models.encoders import HUB, TIMM, about_name
from selftrain.models.heads import add_head
from selftrain.models.noise import add_dropout
from selftrain.models.weights import WAY_OUT
from selftrain.tables import Chosen, Table, handed
from selftrain.values import Choice

UNETS = ("unet", "unetplusplus", "manet")  # architectures with one width per decoder depth
VIT = "dpt"  # the decoder of vision transformers
FULL_DEPTH = 5  # stages of smp's own encoders
SMP = Anatomy()
UNUSED = {
    "decoder_channels": "model.decoder_channels=[]",
    "drop_path": "noise.drop_path=0",
    "imagenet": "model.weights=null",
}


@dataclass(frozen=True)
class Architecture:
    """A function that builds a network, and the anatomy of that network.

    The network maps images (N, channels, H, W) to logits (N, classes, H, W). The function's parameters are
    keyword-only. Those without a default are a subset of `build`'s parameters. If it lacks
    `decoder_channels`, `drop_path` or `imagenet`, setting that one is an error. Those with a default are
    settings of the architecture.
    """

    build: Callable[..., nn.Module]
    anatomy: Anatomy = SMP


def build(
    arch: Choice,
    encoder: str,
    *,
    classes: int,
    channels: int = 3,
    decoder_channels: list[int] | None = None,
    imagenet: bool = False,
    dropout: float = 0.0,
    drop_path: float = 0.0,
    image_head: bool = False,
) -> nn.Module:
    """Build a segmentation network: images (N, channels, H, W) -> logits (N, classes, H, W).

    `arch` is a name in ARCHITECTURES, or such a name with its settings. `drop_path` is the stochastic depth
    of a timm encoder ("tu-..."). `dropout` acts on the features before the head. With `imagenet` the
    encoder's weights are downloaded from a hub; otherwise all weights are random. With `image_head` the
    network also returns logits (N, classes) of whole images.

    Raises ConfigError for unknown names, settings that the network does not take, and unavailable weights.
    """
    chosen = _chosen(arch)
    noise = {"drop_path": drop_path, "imagenet": imagenet}
    offered = {
        "encoder": encoder,
        "classes": classes,
        "channels": channels,
        "decoder_channels": decoder_channels,
        **noise,
    }
    asked = handed(chosen.entry.build, f"arch={chosen.name}", arch=chosen.name, **offered)
    for name in UNUSED:
        if offered[name] and name not in asked:
            raise ConfigError(f"arch={chosen.name} takes no {name}; set {UNUSED[name]}")
    try:
        network = chosen.entry.build(**asked, **chosen.settings)
    except ConfigError:
        raise
    except Exception as error:  # the hub's errors have no common base
        if not imagenet:
            raise
        raise ConfigError(
            f"weights of {encoder} cannot be fetched ({_first_line(error)}); {WAY_OUT}"
        ) from None
    setattr(network, ATTRIBUTE, chosen.entry.anatomy)
    if dropout:
        add_dropout(network, dropout)
    if image_head:
        add_head(network, classes, chosen.name)
    return network


def check_encoder(arch: Choice, encoder: str, setting: str) -> None:
    """Raise ConfigError if a network of `arch` would have an encoder that nobody knows; builds nothing."""
    chosen = _chosen(arch)
    unknown = about_name(encoder) if "encoder" in signature(chosen.entry.build).parameters else ""
    if unknown:
        raise ConfigError(f"{setting}={encoder}: {unknown}")


def multiple_of(arch: Choice) -> int:
    """The number that divides the image sides of networks of `arch`."""
    return _chosen(arch).entry.anatomy.multiple


def written(arch: Choice) -> Choice:
    """An architecture with all its settings: a name, or `{fcn8s: {width: 1.0}}`."""
    return _chosen(arch).written


def _chosen(arch: Choice) -> Chosen[Architecture]:
    """The architecture and its settings."""
    return TABLE.one(arch, "model.arch")


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def smp_network(
    *,
    arch: str,
    encoder: str,
    classes: int,
    channels: int,
    decoder_channels: list[int] | None,
    drop_path: float,
    imagenet: bool,
) -> nn.Module:
    """A network of segmentation-models-pytorch."""
    extra: dict[str, Any] = {"in_channels": channels}
    if drop_path:
        if not encoder.startswith(TIMM):
            raise ConfigError(
                f"encoder {encoder!r} takes no drop_path (stochastic depth); "
                f"use 'tu-{encoder}' or noise.drop_path=0"
            )
        extra["drop_path_rate"] = drop_path
    if decoder_channels:
        extra |= {"decoder_channels": tuple(decoder_channels), "encoder_depth": len(decoder_channels)}
    create = partial(_create_vit if arch.lower() == VIT else smp.create_model, arch, encoder, classes=classes)
    try:
        network = create(encoder_weights=_hub_name(encoder) if imagenet else None, **extra)
    except (KeyError, ValueError, TypeError, RuntimeError, AttributeError) as error:
        reason = about_name(encoder) or _about_channels(arch, decoder_channels) or _first_line(error)
        shown = {name: value for name, value in extra.items() if (name, value) != ("in_channels", 3)}
        raise ConfigError(
            f"cannot build arch={arch} encoder={encoder}{f' {shown}' if shown else ''}: {reason}"
        ) from None
    if drop_path and not _has_drop_path(network):
        raise ConfigError(
            f"encoder {encoder!r} has no stochastic depth; set noise.drop_path=0 or choose another encoder"
        )
    return network


ARCHITECTURES = {
    **dict.fromkeys(smp.MODEL_ARCHITECTURES_MAPPING, Architecture(smp_network)),
    "pan": Architecture(smp_network, Anatomy(multiple=128)),  # it halves features of stride 16 three times
    "slim_dpt": Architecture(slim_dpt),
    **{name: Architecture(*parts) for name, parts in CLASSICS.items()},
}
TABLE = Table(ARCHITECTURES, function=lambda architecture: architecture.build)


def _create_vit(arch: str, encoder: str, **settings: Any) -> nn.Module:
    """Build a network for images of any size, if the vision transformer supports it.

    timm fixes most sizes.
    """
    try:
        return smp.create_model(arch, encoder, dynamic_img_size=True, **settings)
    except TypeError as error:
        if "dynamic_img_size" not in str(error):
            raise
    return smp.create_model(arch, encoder, **settings)


def leaves_parameters_unused(arch: Choice, decoder_channels: list[int] | None) -> bool:
    """Whether a network may have parameters that do not affect any output.

    timm's vision transformers keep their last norm and classifier. smp's own encoders, and some of timm, keep
    the stages that a shallow decoder does not read. Nothing is known of other architectures.
    """
    chosen = _chosen(arch)
    if chosen.entry.build is not smp_network:
        return True
    shallow = chosen.name == "pspnet" or bool(decoder_channels and len(decoder_channels) < FULL_DEPTH)
    return chosen.name == VIT or shallow


def _about_channels(arch: str, decoder_channels: list[int] | None) -> str:
    """A message about `decoder_channels`, for a network without configurable widths."""
    if not decoder_channels or arch.lower() in UNETS or arch.lower() not in smp.MODEL_ARCHITECTURES_MAPPING:
        return ""
    return f"only {', '.join(UNETS)} take decoder_channels; set model.decoder_channels=[]"


def _has_drop_path(network: nn.Module) -> bool:
    return any(
        getattr(module, "drop_prob", 0.0)
        for module in network.modules()
        if type(module).__name__ == "DropPath"
    )


def _hub_name(encoder: str) -> str | bool:
    """smp's name for an encoder's ImageNet weights; for timm, the encoder's name selects them."""
    return True if encoder.startswith(TIMM) else HUB


def _first_line(error: Exception) -> str:
    lines = str(error).strip("'\" \n").splitlines()
    return lines[0] if lines else type(error).__name__


def to_layout(network: nn.Module) -> nn.Module:
    """Convert a network to channels_last, the layout in which CPUs and GPUs compute convolutions."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
