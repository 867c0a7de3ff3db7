"""A network on disk: its weights, and the description from which it is rebuilt.

In a run, gen<k>/model/MANIFEST.json contains the description. In an export, card.json contains it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from selftrain.checkpoint import pack, unpack
from selftrain.errors import IntegrityError
from selftrain.files import MANIFEST, commit_directory, read_directory, read_manifest, remove_directory
from selftrain.models import ensemble
from selftrain.models.build import build, parameters, written
from selftrain.models.heads import head_of
from selftrain.rundir import WEIGHTS
from selftrain.values import Choice

# The keys from which a network is built; "params" is for human readers.
DESCRIPTION = ("arch", "encoder", "decoder_channels")
CHANNELS = 3  # image channels, if a description of an earlier version lacks them


@dataclass(frozen=True)
class Saved:
    """A network loaded from disk: on the CPU, in eval mode, without training noise."""

    network: nn.Module
    description: dict[str, Any]  # see `describe`
    classes: list[str]
    digest: str  # sha256 of the weights


def describe(
    network: nn.Module,
    *,
    arch: Choice,
    encoder: str,
    decoder_channels: Sequence[int],
    channels: int = CHANNELS,
) -> dict[str, Any]:
    """Describe how to rebuild `network`, and count its parameters.

    Several networks as one (ensemble.py) also have "members": the zoom of each. If they do not weigh alike,
    "member_weights" has their weights. Networks with an image-level head have "image_head".
    """
    described = {
        "arch": written(arch),
        "encoder": encoder,
        "decoder_channels": list(decoder_channels),
        "channels": channels,
    }
    zooms, weights = ensemble.zooms_of(network), ensemble.weights_of(network)
    several: dict[str, Any] = {"members": zooms} if zooms != [1.0] else {}
    if weights:
        several["member_weights"] = weights
    head = {"image_head": True} if head_of(ensemble.parts(network)[0]) else {}
    return {**described, "params": parameters(network), **several, **head}


def describe_joined(network: nn.Module, descriptions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Describe several described networks that were joined as one, `network` (ensemble.py).

    If they differ, "each" describes all single networks in order.
    """
    several = [(one, one.get("members", [1.0])) for one in descriptions]
    rows = [row for one, zooms in several for row in _each(one, len(zooms))]
    differ = {"each": rows} if any(row != rows[0] for row in rows) else {}
    zooms, weights = ensemble.zooms_of(network), ensemble.weights_of(network)
    first = {name: value for name, value in descriptions[0].items() if name != "member_weights"}
    unlike = {"member_weights": weights} if weights else {}
    return {**first, "params": parameters(network), "members": zooms, **unlike, **differ}


def _each(description: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """What each of the `count` networks of a description is built from."""
    head = {"image_head": True} if description.get("image_head") else {}
    return description.get("each") or [{name: description[name] for name in DESCRIPTION} | head] * count


def weights_of(network: nn.Module) -> dict[str, bytes]:
    """The weights of a network as {file name: content}."""
    return {WEIGHTS: pack(network.state_dict())}


def write(
    directory: Path, network: nn.Module, description: Mapping[str, Any], classes: Sequence[str]
) -> None:
    """Commit the weights and the description of `network` to `directory`; replaces its contents."""
    if directory.exists():
        remove_directory(directory)
    commit_directory(directory, weights_of(network), model=dict(description), classes=list(classes))


def read(directory: Path, *, described_in: Path | None = None) -> Saved:
    """Load the network that `write` committed.

    If `directory` contains weights only, `described_in` is the directory with their description.

    Raises IntegrityError for a damaged directory.
    """
    files, where = read_directory(directory), described_in or directory
    described = read_manifest(where)
    network = rebuilt(
        described.get("model"), described.get("classes"), files, directory, source=where / MANIFEST
    )
    return Saved(
        network, described["model"], described["classes"], read_manifest(directory)["files"][WEIGHTS]
    )


def rebuilt(
    description: Any, classes: Any, files: Mapping[str, bytes], directory: Path, *, source: Path
) -> nn.Module:
    """Rebuild a network on the CPU, in eval mode, from `description` and the weights in `files`.

    Nothing is downloaded. `directory` contains the files; `source` contains the description and the class
    names.

    Raises IntegrityError if one of the two is missing or if they do not match, ConfigError for a network that
    cannot be built here.
    """
    if (
        not isinstance(description, dict)
        or not description.keys() >= set(DESCRIPTION)
        or not isinstance(classes, list)
    ):
        raise IntegrityError(
            f"{source} is damaged (it does not describe a network); remove {source.parent} to make it again"
        )
    if WEIGHTS not in files:
        raise IntegrityError(f"{directory} contains no {WEIGHTS}; remove {directory} to make it again")
    channels = description.get("channels", CHANNELS)
    zooms = description.get("members", [1.0])
    each = [build(**own, classes=len(classes), channels=channels) for own in _each(description, len(zooms))]
    network = ensemble.joined(each, zooms, description.get("member_weights", []))
    weights = unpack(files[WEIGHTS], directory / WEIGHTS)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise IntegrityError(
            f"{directory / WEIGHTS} does not contain the network of {source.name}: {error}"
        ) from None
    return network.eval()
