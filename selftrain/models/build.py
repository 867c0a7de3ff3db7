"""Networks by their smp names, and where their first weights come from."""

import os
import socket
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from selftrain.errors import ConfigError, IntegrityError
from selftrain.models.noise import add_dropout

HUB = ("huggingface.co", 443)
HUB_SECONDS = 3.0
IMAGENET = "imagenet"
WAY_OUT = "set model.weights=null (from scratch) or model.weights=/path/to/weights.safetensors"


def build(
    arch: str,
    encoder: str,
    *,
    classes: int,
    decoder_channels: list[int] | None = None,
    weights: str | None = None,
    dropout: float = 0.0,
    drop_path: float = 0.0,
) -> nn.Module:
    """A segmentation network: images (N, 3, H, W) -> logits (N, classes, H, W), with its noise built in.

    `drop_path` is the stochastic depth of a timm encoder ("tu-..."); `dropout` acts on the features before the head.
    `weights`: None, "imagenet" for the encoder, or a safetensors file for all that fits by name and shape.
    Raises ConfigError for unknown names, settings that the network does not take, and weights that cannot be had.
    """
    network = _create(arch, encoder, classes, decoder_channels, drop_path, encoder_weights=_encoder_weights(weights))
    if weights and weights != IMAGENET:
        load_weights(network, Path(weights))
    if dropout:
        add_dropout(network, dropout)
    return network


def check_weights(weights: str | None) -> None:
    """Say at once, before any work, that weights cannot be had. Raises ConfigError with the way out."""
    if weights == IMAGENET:
        if not _hub_reachable():
            _go_offline()  # a cached file is still found, and a missing one fails without retries
    elif weights and not Path(weights).is_file():
        raise ConfigError(f"model.weights={weights}: no such file; {WAY_OUT}")


def load_weights(network: nn.Module, path: Path) -> None:
    """Load every tensor whose name and shape fit (encoder files too). Raises ConfigError if none does."""
    if path.suffix != ".safetensors":
        raise ConfigError(f"model.weights={path}: only safetensors are read (a pickle could run code); {WAY_OUT}")
    try:
        found = load_file(path)
    except (SafetensorError, OSError) as error:
        raise IntegrityError(f"model.weights={path} is no sound safetensors file ({error})") from None
    own = network.state_dict()
    names = {
        name if name in own else f"encoder.{name}" if f"encoder.{name}" in own else f"encoder.model.{name}": name
        for name in found
    }
    fitting = {name: found[theirs] for name, theirs in names.items() if name in own and own[name].shape == found[theirs].shape}
    if not fitting:
        raise ConfigError(f"model.weights={path}: no tensor fits this network; {WAY_OUT}")
    network.load_state_dict(fitting, strict=False)


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _create(
    arch: str,
    encoder: str,
    classes: int,
    decoder_channels: list[int] | None,
    drop_path: float,
    *,
    encoder_weights: str | None,
) -> nn.Module:
    extra: dict[str, Any] = {}
    if drop_path:
        if not encoder.startswith("tu-"):
            raise ConfigError(
                f"encoder {encoder!r} takes no drop_path (stochastic depth); use 'tu-{encoder}' or noise.drop_path=0"
            )
        extra["drop_path_rate"] = drop_path
    if decoder_channels:
        extra |= {"decoder_channels": tuple(decoder_channels), "encoder_depth": len(decoder_channels)}
    try:
        network = smp.create_model(arch, encoder, encoder_weights=encoder_weights, classes=classes, **extra)
    except (KeyError, ValueError, TypeError, RuntimeError, AttributeError) as error:
        raise ConfigError(f"cannot build arch={arch} encoder={encoder} {extra or ''}: {_first_line(error)}") from None
    except Exception as error:  # the hub's errors have no common base
        if encoder_weights is None:
            raise
        raise ConfigError(f"weights of {encoder} cannot be fetched ({_first_line(error)}); {WAY_OUT}") from None
    if drop_path and not _has_drop_path(network):
        raise ConfigError(f"encoder {encoder!r} has no stochastic depth; set noise.drop_path=0 or choose another encoder")
    return network


def _has_drop_path(network: nn.Module) -> bool:
    return any(getattr(module, "drop_prob", 0.0) for module in network.modules() if type(module).__name__ == "DropPath")


def _encoder_weights(weights: str | None) -> str | None:
    return IMAGENET if weights == IMAGENET else None


def _hub_reachable() -> bool:
    if os.environ.get("https_proxy") or os.environ.get("HTTPS_PROXY"):
        return True  # a proxy decides; the hub's own client will say
    try:
        socket.create_connection(HUB, timeout=HUB_SECONDS).close()
    except OSError:
        return False
    return True


def _go_offline() -> None:
    import huggingface_hub.constants

    huggingface_hub.constants.HF_HUB_OFFLINE = True


def _first_line(error: Exception) -> str:
    lines = str(error).strip("'\" \n").splitlines()
    return lines[0] if lines else type(error).__name__


def to_layout(network: nn.Module) -> nn.Module:
    """channels_last: what convolutions of CPUs and GPUs compute in."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
