"""Checkpoints: directories of tensors (safetensors) and state (JSON). A resume takes the newest intact."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from selftrain.errors import IntegrityError, LearningError
from selftrain.files import commit_directory, read_directory, remove_directory
from selftrain.rundir import CORRUPT, steps_in

GROUP = "group"
KEEP = 2
Tensors = dict[str, torch.Tensor]


@dataclass
class Checkpoint:
    """`tensors` by group ("model", "ema", "optimizer"); `state` is plain JSON with at least "step"."""

    tensors: dict[str, Tensors]
    state: dict[str, Any]


def write(directory: Path, checkpoint: Checkpoint) -> None:
    """Commit `directory`/step-<step> and `prune`. Raises LearningError for NaN or infinite values."""
    for group, tensors in checkpoint.tensors.items():
        if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
            raise LearningError(
                f"step {checkpoint.state['step']}: {group} contains NaN or infinite values; lower train.lr"
            )
    files = {f"{group}.safetensors": pack(tensors) for group, tensors in checkpoint.tensors.items()}
    files["state.json"] = json.dumps(checkpoint.state, indent=1).encode()
    path = directory / f"step-{checkpoint.state['step']:06d}"
    if path.exists():  # saved before a rewind, or by a run killed right after: the same bits
        remove_directory(path)
    commit_directory(path, files)
    prune(directory)


def prune(directory: Path) -> None:
    """Remove all but the newest KEEP.

    Also called on resume: a kill may have come between writing and removing.
    """
    for old in steps_in(directory)[:-KEEP]:
        remove_directory(old)


def newest(directory: Path) -> Checkpoint | None:
    """The newest intact checkpoint, or None if there never was one.

    Damaged ones are renamed *.corrupt. Raises IntegrityError with the reasons if all are damaged.
    """
    reasons = []
    for path in reversed(steps_in(directory)):
        try:
            return _read(path)
        except IntegrityError as error:
            reasons.append(str(error))
            os.replace(path, _free_name(path))
    set_aside = sorted(directory.glob(f"*{CORRUPT}*"))
    if reasons or set_aside:
        listed = "; ".join(reasons or [f"{path} was set aside earlier" for path in set_aside])
        raise IntegrityError(
            f"no intact checkpoint in {directory}: {listed}; remove that directory to train this stage again"
        )
    return None


def pack(tensors: Tensors) -> bytes:
    """Tensors as safetensors bytes, from dense copies: the format has neither shared memory nor strides."""
    return save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()})


def unpack(content: bytes, where: Path) -> Tensors:
    """Tensors from safetensors bytes. Raises IntegrityError for other bytes."""
    try:
        return load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise IntegrityError(f"{where} is not a safetensors file: {error}") from None


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> Tensors:
    """The optimizer's tensors: its state as "<parameter>.<name>", its groups as "group<number>.<name>"."""
    return {name: value for name, value in _entries(optimizer).items() if torch.is_tensor(value)}


def optimizer_numbers(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The optimizer's other values by the same names.

    Tuples and dtypes in groups never change and are not saved.
    """
    return {
        name: value
        for name, value in _entries(optimizer).items()
        if not torch.is_tensor(value)
        and not (name.startswith(GROUP) and isinstance(value, tuple | torch.dtype))
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Tensors, numbers: dict[str, Any]) -> None:
    """Restore the values of `optimizer_tensors` and `optimizer_numbers`.

    Learning rates follow from the step.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    content = optimizer.state_dict()
    content["state"] = {}
    for key, value in (numbers | tensors).items():
        index, name = key.split(".", 1)
        if index.startswith(GROUP):
            content["param_groups"][int(index.removeprefix(GROUP))][name] = value
            continue
        if torch.is_tensor(value) and value.shape == parameters[int(index)].shape:
            # In the parameter's own strides: fused kernels pair elements by their place in memory.
            value = torch.empty_like(parameters[int(index)]).copy_(value)
        content["state"].setdefault(int(index), {})[name] = value
    optimizer.load_state_dict(content)


def _entries(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    content = optimizer.state_dict()
    state = {
        f"{index}.{name}": value for index, entry in content["state"].items() for name, value in entry.items()
    }
    groups = ((f"{GROUP}{number}", group) for number, group in enumerate(content["param_groups"]))
    own = {
        f"{where}.{name}": value
        for where, group in groups
        for name, value in group.items()
        if name not in ("params", "lr")
    }
    return state | own


def _read(path: Path) -> Checkpoint:
    files = read_directory(path)
    try:
        state = json.loads(files.pop("state.json"))
    except (KeyError, ValueError):
        raise IntegrityError(f"{path} has no state.json") from None
    return Checkpoint(
        {name.removesuffix(".safetensors"): unpack(data, path / name) for name, data in files.items()}, state
    )


def _free_name(path: Path) -> Path:
    names = (path.with_name(f"{path.name}{CORRUPT}{suffix}") for suffix in ["", *map(str, range(1, 1000))])
    return next(name for name in names if not name.exists())
