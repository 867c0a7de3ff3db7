"""An exported network: its weights, and card.json with everything that a user of the network needs."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from selftrain import sizes
from selftrain.errors import ConfigError
from selftrain.files import MANIFEST, read_directory
from selftrain.ids import IGNORE
from selftrain.inference.asking import Asked
from selftrain.inference.pixels import PixelScale
from selftrain.inference.place import CARD, FIX, check_export
from selftrain.inference.predictor import Predictor
from selftrain.models import saved
from selftrain.rundir import WEIGHTS

ONNX = "model.onnx"
FORMAT = 1
RULE = (
    "a channel for each mean (three: RGB, one: grey), scaled to 0..1, minus mean, divided by std; resized to "
    "`size` if it is set: [height, width], or [longest, side] or [shortest, side], which keep the aspect "
    "ratio; `predicted` takes its place if it is set, and [scale, factor] multiplies it; by area averaging "
    "if neither side grows, else bilinearly, before it is scaled; then padded at the bottom and right to "
    "multiples, by reflection, or by the edge along a side that is too short; of 16-bit images, `range` "
    "becomes 0..255; without one, the high byte counts"
)
BACK = (
    "the logits without the padding; their softmax; resized bilinearly to the image's size; then `decision`: "
    "with argmax, a pixel gets its most probable class; with thresholds, the probabilities of each class are "
    "divided by its threshold first"
)
GATE = (
    "of image_logits, the second output: a class whose sigmoid is below `threshold` is suppressed in what "
    "the network saw, by logits of -inf before the softmax; the class of the largest image_logit always stays"
)


@dataclass(frozen=True)
class Origin:
    """The run that an exported network comes from."""

    recipe: str
    data: str
    generation: int | None  # None: networks of several runs
    seed: int
    metrics: dict[str, Any]  # scores by split


@dataclass(frozen=True)
class Input:
    """The images that an exported network takes."""

    mean: Sequence[float]
    std: Sequence[float]
    size: Sequence[Any]  # by the rule of selftrain.sizes, or empty for any size
    multiple: int  # sides are padded to multiples of this
    levels: Sequence[int] | None  # the values of 16-bit images that become 0 and 255
    predicted: Sequence[Any] = ()  # `predict.size`: in the place of `size`, or a multiple of it


@dataclass(frozen=True)
class Output:
    """The classes that an exported network predicts, and how."""

    classes: Sequence[str]
    masks: dict[str, Any]  # the values or colours of each class in the training masks
    asked: Asked
    quality: dict[str, Any] | None = None  # as `quality.fitted` returns it for val


def kind_of(model: dict[str, Any], ensemble: int = 0) -> str:
    """What an exported network is, in words. `ensemble` networks taught a student of an ensemble."""
    if ensemble:
        return f"one network, distilled from an ensemble of {ensemble}"
    several = len(model.get("members", []))
    return f"an ensemble of {several} networks" if several > 1 else "one network"


def card(
    origin: Origin, images: Input, output: Output, *, model: dict[str, Any], ensemble: int = 0
) -> dict[str, Any]:
    """The content of card.json: everything that a user of the export needs. `model` describes the network.

    It contains no paths, since exports move between machines.
    """
    return {
        "format": FORMAT,
        "recipe": origin.recipe,
        "data": origin.data,
        "classes": list(output.classes),
        "ignore_index": IGNORE,
        "mean": list(images.mean),
        "std": list(images.std),
        "input": {
            "size": list(images.size) or None,
            "predicted": list(images.predicted) or None,
            "multiple": images.multiple,
            "window": output.asked.window,
            "range": images.levels,
            "rule": RULE,
        },
        "output": {"rule": BACK},
        "views": output.asked.views,
        "refine": output.asked.refine,
        "decision": output.asked.decision,
        **({"gate": {"threshold": output.asked.gate, "rule": GATE}} if output.asked.gate else {}),
        "cleanup": output.asked.cleanup,
        "masks": output.masks,
        "network": kind_of(model, ensemble),
        "model": model,
        "generation": origin.generation,
        "seed": origin.seed,
        "metrics": origin.metrics,
        "quality": output.quality,
    }


def load_export(directory: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Load an export: the network, on the CPU and in eval mode, and its card.

        network, card = load_export(Path("runs/demo/export"))
        # read_image is in selftrain.data.images: (H, W, C) uint8
        image = read_image(path, card["input"].get("range"), len(card["mean"]))
        labels = predictor_of(network, card).labels(image[None])  # (1, H, W) uint8

    Nothing is downloaded. Raises ConfigError for a path that is not an export and for an export of a later
    version, IntegrityError for an incomplete or damaged export.
    """
    check_export(directory)
    files = read_directory(directory)
    if not {WEIGHTS, CARD} <= files.keys():
        raise ConfigError(
            f"{directory} is not an export: its {MANIFEST} lists no {WEIGHTS} and {CARD}; {FIX}"
        )
    found = json.loads(files[CARD])
    if found["format"] != FORMAT:
        raise ConfigError(
            f"{directory} was written by selftrain {found['selftrain']}, in a later format; update selftrain"
        )
    return saved.rebuilt(
        found.get("model"), found.get("classes"), files, directory, source=directory / CARD
    ), found


def predictor_of(
    network: nn.Module,
    described: dict[str, Any],
    *,
    batch: int = 8,
    device: torch.device | None = None,
) -> Predictor:
    """The predictor of an exported network, as its card describes it.

    If the card has a size, the predictor expects images of `seen_size`. Without `device`, the network is not
    moved.
    """
    device = device or next(network.parameters()).device
    return asked_of(described).predictor(
        network.to(device),
        PixelScale.of(described["mean"], described["std"], device),
        described["classes"],
        multiple=described["input"]["multiple"],
        batch=batch,
        layout=torch.contiguous_format,
    )


def asked_of(described: dict[str, Any]) -> Asked:
    """The settings of a card, also of older cards, which lack some."""
    window, gate = described["input"]["window"], described.get("gate", {}).get("threshold", 0.0)
    given = {
        name: described[name]
        for name in ("views", "decision", "refine", "cleanup", "least")
        if name in described
    }
    return Asked(window, gate=gate, **given)


def seen_size(described: dict[str, Any], own: tuple[int, int]) -> tuple[int, int]:
    """(height, width) at which the network of a card sees an image of size `own`."""
    return sizes.seen_size(described["input"]["size"], described["input"].get("predicted"), own)
