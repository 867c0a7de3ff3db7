"""A model to take away: weights as safetensors, an ONNX graph that was compared with torch, and card.json; and back.

The directory says all that is needed to use the model, and nothing of the machine that made it.
"""

import copy
import importlib.util
import json
import logging
import os
import re
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import selftrain
from selftrain.checkpoint import pack, unpack
from selftrain.errors import ConfigError, IntegrityError, ResourceError
from selftrain.files import MANIFEST, commit_directory, read_directory, read_json, read_manifest
from selftrain.log import say
from selftrain.models.build import build
from selftrain.rundir import WEIGHTS, RunDir

ONNX, CARD = "model.onnx", "card.json"
FORMAT = 1
LIBRARIES = ("onnx", "onnxscript", "onnxruntime")
OPSET = 20
SIZES = ((2, 4, 5), (1, 6, 4), (3, 5, 9))  # compared: batch, and height and width in input multiples; the first is traced
TOLERANCE = 1e-4  # of the largest logit; a graph that forgot a dynamic size is wrong by 0.1 to 1
AXES = {0: "batch", 2: "height", 3: "width"}


class OnnxError(Exception):
    """Why there is no ONNX graph, in words for the card."""


def export(network: nn.Module, directory: Path, *, card: dict[str, Any], onnx: bool) -> dict[str, Any]:
    """Commit `directory`: model.safetensors, model.onnx, card.json, MANIFEST.json, in place of an earlier export.

    `network` maps normalised images (N, 3, H, W) to logits (N, classes, H, W); a copy is exported in fp32, in eval mode.
    `card` says what it is (docs/design.md, "Files of a run"). Returned is the card as written, with "selftrain", the
    version, and "onnx": how the graph was compared with torch, or None, and then "onnx_reason" says why model.onnx was
    left out (also to the user). Raises ConfigError where `directory` holds something else than an export.
    """
    _check_free(directory)
    plain = copy.deepcopy(network).cpu().float().to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    files = {WEIGHTS: pack(plain.state_dict())}
    card = {**card, "selftrain": selftrain.__version__, "onnx": None, "onnx_reason": "not asked for"}
    if onnx:
        try:
            files[ONNX], card["onnx"] = onnx_graph(plain, multiple=card["input"]["multiple"])
            del card["onnx_reason"]
        except OnnxError as error:
            card["onnx_reason"] = str(error)
            say(f"{directory}: exported without {ONNX}: {error}")
    files[CARD] = (json.dumps(card, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode()
    _replace_directory(directory, files)
    return card


def export_again(run_directory: Path, directory: Path, *, generation: int | None) -> None:
    """Export a finished run's best generation, or `generation`, to another directory. Reads of the run only."""
    run = RunDir(run_directory)
    if not run.report.is_file():
        raise ConfigError(f"{run.path} has no {run.report.name}: it is not finished (selftrain status {run.path})")
    report = read_json(run.report)
    number = report["best"] if generation is None else generation
    gen = run.generation(number)
    if not gen.model.is_dir():
        raise ConfigError(f"{run.path} has no generation {number}")
    card = read_json(run.export / CARD)
    model = read_manifest(gen.model)["model"]
    network = build(model["arch"], model["encoder"], classes=len(card["classes"]), decoder_channels=model["decoder_channels"])
    network.load_state_dict(unpack(read_directory(gen.model)[WEIGHTS], gen.model / WEIGHTS))
    tests = {report["best"]: report["test"], 0: report["teacher_test"], report["exported"]: report["exported_test"]}
    metrics = {"val": report["generations"][number]["val"], "test": tests.get(number)}
    written = export(network, directory, card={**card, "model": model, "generation": number, "metrics": metrics}, onnx=True)
    if written["onnx"] is None:
        raise ResourceError(f"{directory} has no {ONNX}: {written['onnx_reason']}")


def load_export(directory: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The network of an export, on the CPU and in eval mode, and its card.

        network, card = load_export(Path("runs/demo/export"))
        rgb = read_image(path, card["input"].get("range"))  # of selftrain.data.images: (H, W, 3) uint8
        logits = network((rgb / 255 - mean) / std)  # (N, 3, H, W) -> (N, len(card["classes"]), H, W)

    Raises ConfigError for a path that is no directory or an export of a later version, IntegrityError for one that is
    incomplete or damaged. Nothing is fetched.
    """
    if not directory.is_dir():
        raise ConfigError(f"{directory} is no directory; give the export/ of a finished run")
    files = read_directory(directory)
    if not {WEIGHTS, CARD} <= files.keys():
        raise IntegrityError(f"{directory} holds no {WEIGHTS} and {CARD}; give the export/ of a finished run")
    card = json.loads(files[CARD])
    if card["format"] != FORMAT:
        raise ConfigError(f"{directory} was written by selftrain {card['selftrain']}, in a later format; update selftrain")
    model = card["model"]
    classes = len(card["classes"])
    network = build(model["arch"], model["encoder"], classes=classes, decoder_channels=model["decoder_channels"])
    try:
        network.load_state_dict(unpack(files[WEIGHTS], directory / WEIGHTS))
    except RuntimeError as error:
        raise IntegrityError(f"{directory / WEIGHTS} does not hold the network of {CARD}: {error}") from None
    return network.eval(), card


def onnx_graph(network: nn.Module, *, multiple: int) -> tuple[bytes, dict[str, Any]]:
    """The network as ONNX, and what was compared: opset, sizes, difference.

    Input "image" (batch, 3, height, width) float32, normalised, sides multiples of `multiple`; output "logits" (batch,
    classes, height, width). Raises OnnxError where the libraries are missing, the network cannot be exported, or the
    graph differs from it at any of SIZES.
    """
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise OnnxError(f"{', '.join(missing)} not installed: pip install 'selftrain[export]'")
    sizes = [(count, 3, height * multiple, width * multiple) for count, height, width in SIZES]
    try:
        with _quiet(), torch.inference_mode(False), torch.no_grad():
            content = _without_provenance(_convert(network, torch.zeros(sizes[0])))
            differences = _compare(content, network, sizes)
    except (MemoryError, OnnxError):
        raise
    except Exception as error:  # the exporter and onnxruntime raise what they like
        raise OnnxError(f"the network cannot be exported: {_in_short(error)}") from None
    compared = {
        "opset": OPSET,
        "input": {"name": "image", "shape": ["batch", 3, "height", "width"], "multiple": multiple},
        "output": "logits",
        "compared_sizes": [list(size) for size in sizes],
        "largest_difference": float(f"{max(differences):.1e}"),
        "tolerance": TOLERANCE,
        "meaning": "largest |onnx - torch| over the largest |logit|, fp32, at each size; above the tolerance none is exported",
    }
    return content, compared


def _convert(network: nn.Module, example: Tensor) -> bytes:
    program = torch.onnx.export(
        network,
        (example,),
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes=(AXES,),
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    return program.model_proto.SerializeToString()


def _without_provenance(content: bytes) -> bytes:
    """The graph without notes: the exporter writes the stack trace of each node, with the paths of this machine."""
    import onnx

    model = onnx.load_from_string(content)
    _strip(model)
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def _strip(message: Any) -> None:
    """Clear doc_string and metadata_props of a protobuf message and of all within."""
    for field, value in message.ListFields():
        if field.name in ("doc_string", "metadata_props"):
            message.ClearField(field.name)
        elif field.message_type is not None:
            for part in value if hasattr(value, "add") else [value]:
                _strip(part)


def _compare(content: bytes, network: nn.Module, sizes: list[tuple[int, int, int, int]]) -> list[float]:
    """Largest difference at each size, relative to the largest logit. Raises OnnxError for one above TOLERANCE."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # fatal: what it cannot run, it raises too
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    noise = torch.Generator().manual_seed(0)
    differences = []
    for size in sizes:
        images, shape = torch.randn(size, generator=noise), "x".join(map(str, size))
        expected = network(images)
        try:
            found = torch.from_numpy(session.run(["logits"], {"image": images.numpy()})[0])
        except Exception as error:  # its classes are no part of its API
            raise OnnxError(f"at {shape} the graph cannot be run: {_in_short(error)}") from None
        if found.shape != expected.shape:
            raise OnnxError(f"at {shape} the graph gives {tuple(found.shape)}, torch {tuple(expected.shape)}")
        difference = float((found - expected).abs().max() / expected.abs().max())
        if not difference <= TOLERANCE:  # nan too
            raise OnnxError(f"at {shape} the graph is off by {difference:.3g} of the largest logit (allowed {TOLERANCE:g})")
        differences.append(difference)
    return differences


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's warnings and log lines; what matters of them it also raises."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _in_short(error: Exception) -> str:
    """What the cause says first, without paths."""
    while error.__cause__ is not None:
        error = error.__cause__  # type: ignore[assignment]
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return re.sub(r"\S*/(?=\S)", "", " ".join(lines[:2]))[:300]


def _check_free(directory: Path) -> None:
    """Raises ConfigError for anything that an export must not replace."""
    taken = directory.exists() and not (directory.is_dir() and not any(directory.iterdir()))
    if taken and not ((directory / MANIFEST).is_file() and (directory / CARD).is_file()):
        raise ConfigError(f"{directory} exists and is no export; choose another directory")


def _replace_directory(directory: Path, files: dict[str, bytes]) -> None:
    """Commit `directory` whole, then forget what was there. A kill can leave either the old or the new one, or neither."""
    new, old = (directory.with_name(f".{directory.name}.{word}") for word in ("new", "old"))
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    commit_directory(new, files)
    if directory.exists():
        os.rename(directory, old)
    os.rename(new, directory)
    shutil.rmtree(old, ignore_errors=True)
