"""Where a network's first weights come from: a hub, a safetensors file, or a foreign file imported on request."""

import os
import pickle
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from selftrain.errors import ConfigError, IntegrityError
from selftrain.files import write_bytes

HUB = ("huggingface.co", 443)
HUB_SECONDS = 3.0
IMAGENET = "imagenet"
WAY_OUT = "set model.weights=null (from scratch) or model.weights=/path/to/weights.safetensors"
# Keys around the weights in other programs' files
WRAPPERS = ("state_dict", "model_state_dict", "model", "ema", "student", "teacher", "net")
Tensors = dict[str, torch.Tensor]


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
    tensors = fitting(network, found)
    if not tensors:
        raise ConfigError(f"model.weights={path}: no tensor fits this network; {WAY_OUT}")
    network.load_state_dict(tensors, strict=False)


def import_weights(source: Path, target: Path, network: nn.Module) -> tuple[int, list[str]]:
    """Write the tensors of a PyTorch file that fit `network` by name and shape to `target`, as safetensors.

    The only place where a pickle is opened, by torch's restricted reader (weights_only), which runs no code. Returns how
    many tensors fit, and the network's tensors that the file does not have. Raises IntegrityError for a file that is no
    such thing or holds more than tensors, ConfigError where nothing fits.
    """
    if target.suffix != ".safetensors":
        raise ConfigError(f"-o {target}: weights are written as .safetensors")
    try:
        content = torch.load(source, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ConfigError(f"{source}: no such file") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError, KeyError, AttributeError) as error:
        said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise IntegrityError(f"{source} is no file of weights that can be read without running its code ({said})") from None
    tensors = max((fitting(network, state) for state in _states(content)), key=len, default={})
    if not tensors:
        raise ConfigError(f"{source}: no tensor fits this network by name and shape; is it for another --arch or --encoder?")
    write_bytes(target, save({name: tensor.contiguous().clone() for name, tensor in tensors.items()}))
    return len(tensors), [name for name in network.state_dict() if name not in tensors]


def _states(content: Any) -> Iterator[Tensors]:
    """The dictionaries of tensors that a foreign file holds, at its top and in its wrappers."""
    if not isinstance(content, dict):
        return
    tensors = {str(name): value for name, value in content.items() if isinstance(value, torch.Tensor)}
    yield {name.removeprefix("module."): value for name, value in tensors.items()}
    for name in WRAPPERS:
        yield from _states(content.get(name))


def fitting(network: nn.Module, found: Tensors) -> Tensors:
    """The tensors that fit by name and shape, under the network's names; an encoder's own file fits too."""
    own = network.state_dict()
    tensors = {}
    for theirs, tensor in found.items():
        names = (theirs, f"encoder.{theirs}", f"encoder.model.{theirs}")
        name = next((name for name in names if name in own and own[name].shape == tensor.shape), None)
        if name:
            tensors[name] = tensor
    return tensors


def grown(network: nn.Module, teacher: Tensors) -> Tensors:
    """Tensors of a teacher that fit, narrower ones in a corner: as `network` they do what they did (Net2Net, Chen et al. 2016).

    Channels that only the network has keep their weights; those of the teacher do not listen to them.
    """
    own, tensors = network.state_dict(), fitting(network, teacher)
    for name, tensor in teacher.items():
        mine = own.get(name)
        if name in tensors or mine is None or mine.dim() != tensor.dim() or mine.shape[2:] != tensor.shape[2:]:
            continue
        if all(theirs <= ours for theirs, ours in zip(tensor.shape, mine.shape, strict=True)):
            whole = mine.clone()
            whole[: len(tensor)] = 0
            whole[tuple(map(slice, tensor.shape))] = tensor
            tensors[name] = whole
    return tensors


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
