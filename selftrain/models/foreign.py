"""Weights of other programs: files that a user converts to safetensors, and installed packages.

The only module that opens a pickle. It uses torch's restricted reader (weights_only), which runs no code.
"""

import pickle
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save
from torch import nn

from selftrain.errors import ConfigError, IntegrityError
from selftrain.files import write_bytes
from selftrain.models.encoders import TIMM
from selftrain.models.weights import (
    COUNTER,
    WAY_OUT,
    Taken,
    Tensors,
    encoder_names,
    encoder_prefix,
    fitting,
    misfit,
    package_of,
    resampled,
)

# Keys around the weights in other programs' files, preferred keys first
WRAPPERS = ("state_dict", "model_state_dict", "model", "ema", "student", "teacher", "net")
KINDS = {"weight", "bias", "running_mean", "running_var"}  # last words of names that tell tensors apart
ESCAPE_CODES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclass(frozen=True)
class Imported:
    """The tensors written, and whether they were matched by order.

    `missing` counts tensors by part of the network.
    """

    taken: Taken
    by_order: bool
    missing: dict[str, int]

    def lines(self) -> list[str]:
        """The summary for the user."""
        taken = self.taken
        decoder = f" and {taken.decoder} of {taken.of_decoder} decoder tensors" if taken.decoder else ""
        how = ", matched by order and shape, since the names do not fit" if self.by_order else ""
        lines = [f"{taken.encoder} of {taken.of_encoder} encoder tensors{decoder} from {taken.source}{how}"]
        if self.missing:
            parts = ", ".join(f"{count} of {part}" for part, count in self.missing.items())
            lines.append(f"not in the file: {parts}; {COUNTER} are not needed")
        if self.taken.encoder < self.taken.of_encoder:
            way = "a run that needs it takes this file with model.partial_weights=true"
            lines.append(f"a part of the encoder is missing: {way}")
        return lines


def import_weights(source: Path, target: Path, network: nn.Module, *, arch: str, encoder: str) -> Imported:
    """Write the tensors of a PyTorch file that fit `network` to a safetensors file.

    `network` is built from `arch` and `encoder`. Tensors fit by name and shape, or else by order and shape.

    Raises IntegrityError for a file that cannot be read without running its code, ConfigError if no encoder
    tensor fits or if the order is in doubt.
    """
    if target.suffix != ".safetensors":
        raise ConfigError(f"-o {target}: weights are written as .safetensors")
    tensors, ordered, found = _matched(source, network, encoder)
    taken = Taken.of(network, tensors, source.name)
    if not taken.encoder:
        said = misfit(network, tensors, found, f"arch={arch} encoder={encoder}")
        raise ConfigError(f"{source}: {said}; is it for another --arch or --encoder?")
    write_bytes(target, save({name: tensor.contiguous().clone() for name, tensor in tensors.items()}))
    lacking = [name for name in network.state_dict() if name not in tensors and not name.endswith(COUNTER)]
    return Imported(taken, ordered, dict(Counter(name.split(".")[0] for name in lacking)))


def load_package(network: nn.Module, weights: str, *, encoder: str) -> set[str]:
    """Load the encoder's weights from the installed package `weights`; returns the names of the tensors.

    Raises ConfigError unless all tensors of the encoder are there.
    """
    source = package_of(weights, encoder)
    tensors, _, found = _matched(source, network, encoder)
    if not tensors.keys() >= set(encoder_names(network)):
        raise ConfigError(f"model.weights={weights}: {misfit(network, tensors, found, encoder)}; {WAY_OUT}")
    network.load_state_dict(tensors, strict=False)
    return set(tensors)


def _matched(source: Path, network: nn.Module, encoder: str) -> tuple[dict[str, torch.Tensor], bool, Tensors]:
    """The tensors of a file that fit, under the network's names; whether by order; and the file's own."""
    states = [dict(resampled(network, state)) for state in _states(_read(source)) if state]
    needed = encoder_names(network)
    named = [fitting(network, state) for state in states]
    best = max(range(len(states)), key=lambda i: sum(name in named[i] for name in needed), default=None)
    tensors = named[best] if best is not None else {}
    ordered = (
        None
        if all(name in tensors for name in needed)
        else _first_in_order(network, encoder, states, tensors, source)
    )
    return ordered or tensors, bool(ordered), states[best] if best is not None else {}


def _read(source: Path) -> Any:
    try:
        return torch.load(source, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ConfigError(f"{source}: no such file") from None
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        ValueError,
        OSError,
        KeyError,
        AttributeError,
    ) as error:
        raise IntegrityError(f"{source} {_refused(error)}") from None


def _refused(error: Exception) -> str:
    """Why torch's reader stopped, in one line."""
    said = ESCAPE_CODES.sub("", str(error)).strip()
    name = re.search(r"\bGLOBAL (\S+)", said)
    if name:
        return (
            f"contains {name[1]} beside the weights, which is not read because it could run code; "
            "where the file was made, save the state_dict alone: "
            "torch.save(network.state_dict(), 'weights.pth')"
        )
    first = said.splitlines()[0].strip() if said else type(error).__name__
    return f"cannot be read as weights without running its code ({first}); save the state_dict alone"


def _states(content: Any) -> Iterator[dict[str, torch.Tensor]]:
    """The dictionaries of tensors in a foreign file, at the top level and inside other dictionaries."""
    if not isinstance(content, dict):
        return
    yield {str(name): value for name, value in content.items() if isinstance(value, torch.Tensor)}
    for name in sorted(content, key=lambda name: WRAPPERS.index(name) if name in WRAPPERS else len(WRAPPERS)):
        yield from _states(content[name])


def _first_in_order(
    network: nn.Module, encoder: str, states: list[dict[str, torch.Tensor]], named: Tensors, source: Path
) -> dict[str, torch.Tensor] | None:
    """The tensors of the first of `states` with the same sequence of shapes as a known network.

    None if there is no such state, or if a tensor of `named`, which fits by name, would get another position.

    Raises ConfigError if other names leave a doubt about the order.
    """
    for state in states:
        found, doubt = _in_order(network, encoder, state)
        if found and all(
            found.get(name) is tensor for name, tensor in named.items() if not name.endswith(COUNTER)
        ):
            if doubt:
                raise ConfigError(
                    f"{source}: its names fit nothing, its shapes fit in their order, but {doubt}; save the "
                    "tensors in the order in which the network uses them, or rename them"
                )
            return found
    return None


def _in_order(network: nn.Module, encoder: str, state: Tensors) -> tuple[dict[str, torch.Tensor], str]:
    """The tensors of `state` by their order, and a doubt about it; none if no known network fits."""
    theirs = [name for name in state if not name.endswith(COUNTER)]
    values = [state[name] for name in theirs]
    for known in _known_networks(network, encoder):
        pairs = [(name, tensor) for name, tensor in known.items() if not name.endswith(COUNTER)]
        if [tensor.shape for _, tensor in pairs] == [tensor.shape for tensor in values]:
            ours = [name for name, _ in pairs]
            return fitting(network, dict(zip(ours, values, strict=True))), _doubt(theirs, ours)
    return {}, ""


def _doubt(theirs: Sequence[str], ours: Sequence[str]) -> str:
    """A reason to doubt that `theirs` and `ours` name the same tensors in the same order; empty if none.

    Equal shapes don't tell a weight of batch norm from a bias, nor a block from the next one. Names do, where
    they end in the kind of a tensor and count the blocks.
    """
    for their, our in zip(theirs, ours, strict=True):
        kinds = {name.rpartition(".")[2] for name in (their, our)}
        if len(kinds & KINDS) == 2:
            return f"{their} would become {our}"
    numbered: dict[str, list[tuple[int, ...]]] = {}
    for name in theirs:
        pattern = re.sub(r"\d+", "#", name)
        numbered.setdefault(pattern, []).append(tuple(map(int, re.findall(r"\d+", name))))
    for pattern, numbers in numbered.items():
        if numbers not in (sorted(numbers), sorted(numbers, reverse=True)):
            return f"{pattern} is numbered neither upwards nor downwards"
    return ""


def _known_networks(network: nn.Module, encoder: str) -> Iterator[Tensors]:
    """The possible contents of a file, under our names: the network, its encoder, or timm's classifier."""
    own = network.state_dict()
    yield own
    yield {name: own[name] for name in own if name.startswith(encoder_prefix(network))}
    name = encoder.removeprefix(TIMM)
    if encoder.startswith(TIMM) and timm.is_model(name):
        with torch.device("meta"):
            yield timm.create_model(name).state_dict()
