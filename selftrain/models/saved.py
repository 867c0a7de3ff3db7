"""A network on disk: its weights, and the description from which it is built again.

A run's gen<k>/model/ has the description in its MANIFEST.json, an export in its card.json.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from selftrain.checkpoint import pack, unpack
from selftrain.errors import IntegrityError
from selftrain.files import MANIFEST, commit_directory, read_directory, read_manifest, remove_directory
from selftrain.models.build import build, parameters
from selftrain.rundir import WEIGHTS

DESCRIPTION = ("arch", "encoder", "decoder_channels")  # what a network is built from; "params" is there for the reader
CHANNELS = 3  # of images, where a description of an earlier version does not have them


@dataclass(frozen=True)
class Saved:
    """A network as it was read: on the CPU, in eval mode, without the noise of its training."""

    network: nn.Module
    description: dict[str, Any]  # "arch", "encoder", "decoder_channels", "channels", "params"
    classes: list[str]
    digest: str  # sha256 of the weights


def describe(
    network: nn.Module, *, arch: str, encoder: str, decoder_channels: Sequence[int], channels: int = CHANNELS
) -> dict[str, Any]:
    """What a reader of the weights of `network` has to build, and how many parameters it has."""
    described = {"arch": arch, "encoder": encoder, "decoder_channels": list(decoder_channels), "channels": channels}
    return {**described, "params": parameters(network)}


def weights_of(network: nn.Module) -> dict[str, bytes]:
    """The weights of a network as a file, by its name."""
    return {WEIGHTS: pack(network.state_dict())}


def write(directory: Path, network: nn.Module, description: Mapping[str, Any], classes: Sequence[str]) -> None:
    """Commit `directory` with the weights and the description of `network`, in place of what was there."""
    if directory.exists():
        remove_directory(directory)
    commit_directory(directory, weights_of(network), model=dict(description), classes=list(classes))


def read(directory: Path, *, described_in: Path | None = None) -> Saved:
    """The network that `write` committed. Weights alone are described in another directory, `described_in`.

    Raises IntegrityError for a damaged directory.
    """
    files, where = read_directory(directory), described_in or directory
    described = read_manifest(where)
    network = rebuilt(described.get("model"), described.get("classes"), files, directory, source=where / MANIFEST)
    return Saved(network, described["model"], described["classes"], read_manifest(directory)["files"][WEIGHTS])


def rebuilt(description: Any, classes: Any, files: Mapping[str, bytes], directory: Path, *, source: Path) -> nn.Module:
    """The network of `description` with the weights in `files`, on the CPU and in eval mode; nothing is fetched.

    `directory` contains the files; `source` contains the description and the names of the classes. Raises
    IntegrityError if one of the two is missing or if they do not belong together, ConfigError for a network that
    cannot be built here.
    """
    if not isinstance(description, dict) or not description.keys() >= set(DESCRIPTION) or not isinstance(classes, list):
        raise IntegrityError(f"{source} is damaged (it does not describe a network); remove {source.parent} to make it again")
    if WEIGHTS not in files:
        raise IntegrityError(f"{directory} contains no {WEIGHTS}; remove {directory} to make it again")
    arch, encoder, decoder_channels = (description[name] for name in DESCRIPTION)
    channels = description.get("channels", CHANNELS)
    network = build(arch, encoder, classes=len(classes), channels=channels, decoder_channels=decoder_channels)
    weights = unpack(files[WEIGHTS], directory / WEIGHTS)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise IntegrityError(f"{directory / WEIGHTS} does not hold the network of {source.name}: {error}") from None
    return network.eval()
