"""Networks by their smp names."""

from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import torch
from torch import nn

from selftrain.errors import ConfigError
from selftrain.models.noise import add_dropout
from selftrain.models.weights import IMAGENET, WAY_OUT, load_weights


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


def _first_line(error: Exception) -> str:
    lines = str(error).strip("'\" \n").splitlines()
    return lines[0] if lines else type(error).__name__


def to_layout(network: nn.Module) -> nn.Module:
    """channels_last: what convolutions of CPUs and GPUs compute in."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
