"""Export a model: weights as safetensors, an ONNX graph compared with torch, card.json and a model card.

The directory contains everything that is needed to use the model, and no trace of the machine that made it.
"""

import copy
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import selftrain
from selftrain.anatomy import anatomy_of
from selftrain.data.labels import Readable
from selftrain.diagnosis import brief, quality_of
from selftrain.errors import ConfigError, ResourceError
from selftrain.files import MANIFEST, commit_directory, read_json, write_bytes
from selftrain.inference.exported import ONNX, kind_of, predictor_of
from selftrain.inference.labeller import Labeller, differing_ids
from selftrain.inference.place import CARD
from selftrain.inference.usage import USE, usage
from selftrain.log import say
from selftrain.models import saved
from selftrain.models.onnx import OPSET, OnnxError, onnx_graph
from selftrain.models.runtime import Graph
from selftrain.report.model_card import README, model_card
from selftrain.rundir import RunDir
from selftrain.tuning.tuned import Tuned, weighed

VARIANTS_OF, COMPARED = "variants", "compared"  # parts of a card that selftrain.variants adds
ALLOWED = 1e-3  # share of the pixels to which the graph may give other ids, without a warning
MEASURED, LONGEST = 4, 1024  # images on which ONNX is compared by ids, and their longest side in pixels


def export(
    network: nn.Module,
    directory: Path,
    *,
    card: dict[str, Any],
    onnx: bool,
    opset: int = OPSET,
    images: Sequence[np.ndarray] = (),
) -> dict[str, Any]:
    """Commit model.safetensors, model.onnx, card.json and MANIFEST.json to `directory`.

    Beside them are README.md and use.py, which a user may change.

    An earlier export is replaced. `network` maps normalised images (N, 3, H, W) to logits (N, classes, H, W).
    A copy in fp32 and in eval mode is exported. `card` describes it (docs/files.md).

    Returns the card as written. Its "selftrain" is the version. Its "onnx" describes the comparison of the
    graph with torch; with `images` (H, W, C) uint8, also by the predicted ids. If that is None,
    "onnx_reason" gives the reason why model.onnx was left out, which is also printed.

    Raises ConfigError if `directory` contains something other than an export.
    """
    _check_free(directory)
    plain = copy.deepcopy(network).cpu().float().to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    files = saved.weights_of(plain)
    card = {name: value for name, value in card.items() if name not in (VARIANTS_OF, COMPARED)}
    card |= {"selftrain": selftrain.__version__, "onnx": None, "onnx_reason": "not asked for"}
    if onnx:
        try:
            files[ONNX], card["onnx"] = onnx_graph(
                plain, multiple=card["input"]["multiple"], channels=len(card["mean"]), opset=opset
            )
            del card["onnx_reason"]
            if images:
                card["onnx"]["ids"] = found = _ids(plain, files[ONNX], card, images)
                if found["share"] > ALLOWED:
                    say(f"warning: {ONNX} gives other ids to {found['share']:.2%} of the pixels of val")
        except OnnxError as error:
            card["onnx_reason"] = str(error)
            say(f"{directory}: exported without {ONNX}: {error}")
    replace(directory, files, card)
    return card


def export_again(run_directory: Path, directory: Path, *, generation: int | None, opset: int = OPSET) -> None:
    """Export a finished run's best generation, or `generation`, to another directory.

    The run directory is only read.
    """
    run = RunDir(run_directory)
    if not run.report.is_file():
        raise ConfigError(
            f"{run.path} has no {run.report.name}: it is not finished (selftrain status {run.path})"
        )
    report = read_json(run.report)
    number = report["best"] if generation is None else generation
    gen = run.generation(number)
    if not gen.model.is_dir():
        raise ConfigError(f"{run.path} has no generation {number}")
    card = read_json(run.export / CARD)
    found = saved.read(gen.model)
    tests = {
        report["best"]: report["test"],
        0: report["teacher_test"],
        report["exported"]: report["exported_test"],
    }
    metrics = {"val": brief(report["generations"][number]["val"]), "test": brief(tests.get(number))}
    changed: dict[str, Any] = {"model": found.description, "generation": number, "metrics": metrics}
    changed["quality"] = quality_of(report["generations"][number]["val"])
    changed["network"] = kind_of(found.description)
    tuned, exported = (Tuned.of(report["generations"][row]) for row in (number, report["exported"]))
    untuned = "argmax" if exported.thresholds else card.get("decision", "argmax")
    changed |= {"decision": tuned.decision or untuned, "refine": tuned.refine}
    if tuned.views or exported.views:
        changed["views"] = weighed(card["views"], tuned.views)
    changed["input"] = {**card["input"], "multiple": anatomy_of(found.network).multiple}
    written = export(found.network, directory, card={**card, **changed}, onnx=True, opset=opset)
    if written["onnx"] is None:
        raise ResourceError(f"{directory} has no {ONNX}: {written['onnx_reason']}")


def of_val(samples: Sequence[Readable]) -> list[np.ndarray]:
    """Images of val, spread over it, by which the ids of ONNX are compared; large ones are cut."""
    places = sorted({int(i) for i in np.linspace(0, len(samples) - 1, min(MEASURED, len(samples)))})
    return [samples[i].read_image()[:LONGEST, :LONGEST] for i in places]


def _ids(
    network: nn.Module, graph: bytes, card: dict[str, Any], images: Sequence[np.ndarray]
) -> dict[str, Any]:
    """The shares of pixels to which onnxruntime and torch give different ids, as `selftrain predict` does.

    "share_resized" is at the card's size, None if it has none; "share" is without resizing.
    """
    unresized = {**card, "input": {**card["input"], "size": None, "predicted": None}}
    shares = []
    for described in (unresized, card):
        one, other = (
            Labeller(predictor_of(each, described, device=torch.device("cpu")), described)
            for each in (network, Graph(graph))
        )
        shares.append(
            round(differing_ids(one, other, images), 6) if described is unresized or one.resizes else None
        )
    return {"images": len(images), "share": shares[0], "share_resized": shares[1]}


def _check_free(directory: Path) -> None:
    """Raises ConfigError for anything that an export must not replace."""
    taken = directory.exists() and not (directory.is_dir() and not any(directory.iterdir()))
    if taken and not ((directory / MANIFEST).is_file() and (directory / CARD).is_file()):
        raise ConfigError(f"{directory} exists and is not an export; choose another directory")


def replace(directory: Path, files: dict[str, bytes], card: dict[str, Any]) -> None:
    """Commit an export with this card as a whole, then remove the old one.

    A kill can leave the old directory, the new one, or neither. README.md and use.py follow from the card.
    MANIFEST.json does not list them, so they may be changed.
    """
    described = (json.dumps(card, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode()
    beside = {README: model_card(card)}
    if ONNX in files:
        beside[USE] = usage(card, selftrain.__version__)
    new, old = (directory.with_name(f".{directory.name}.{word}") for word in ("new", "old"))
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    commit_directory(new, {**files, CARD: described})
    for name, text in beside.items():
        write_bytes(new / name, text.encode())
    if directory.exists():
        os.rename(directory, old)
    os.rename(new, directory)
    shutil.rmtree(old, ignore_errors=True)
