"""The data YAML: written, and read as a run reads it."""

import shlex
import tempfile
from collections.abc import Mapping
from pathlib import Path

import yaml

from selftrain.data.dataset import DataSet
from selftrain.data.load import load
from selftrain.datasets import spec_of
from selftrain.settings import compose

# The settings in the order in which they are written.
ORDER = (
    "name", "format", "root", "images", "masks", "annotations", "unlabelled", "classes", "values", "colours",
    "ignore", "ignore_colours", "threshold", "nearest", "background", "range", "channels", "mean", "std",
    "size", "splits",
)  # fmt: skip


def loaded(file: Path) -> DataSet:
    """The data set that the YAML file describes."""
    spec = spec_of(compose([f"data={file}"]).data)
    return load(spec, strict=False)


def loaded_with(root: Path, settings: Mapping[str, object]) -> DataSet:
    """The data set that settings describe. Raises ConfigError or DataError."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "data.yaml"
        file.write_text(yaml_of(root, settings), encoding="utf-8")
        return loaded(file)


def yaml_of(root: Path, settings: Mapping[str, object], *, by: str = "init") -> str:
    """The content of the data YAML, which the command `by` writes for a folder."""
    lines = [
        "# @package _global_",
        f"# Written by selftrain {by} {shlex.quote(str(root))}. docs/data.md explains the settings.",
        "data:",
    ]
    for name in sorted(settings, key=ORDER.index):
        value = settings[name]
        if isinstance(value, Mapping):
            lines += [f"  {name}:", *(f"    {key}: {_flow(inner)}" for key, inner in value.items())]
        else:
            lines.append(f"  {name}: {_flow(value)}")
    return "\n".join([*lines, "train: {plan: auto}"]) + "\n"


def _flow(value: object) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**9)
    return text.removesuffix("\n").removesuffix("\n...")
