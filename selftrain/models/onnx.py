"""A network as an ONNX graph, compared with torch, and without traces of the machine that made it."""

import importlib.util
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from selftrain.models.outputs import tensors_of

LIBRARIES = ("onnx", "onnxscript", "onnxruntime")
OPSET = 20
# Compared sizes: batch, and height and width in input multiples. The first is traced.
SIZES = ((2, 4, 5), (1, 6, 4), (3, 5, 9))
TOLERANCE = 1e-4  # share of the largest logit; a graph that ignores a dynamic size is wrong by 0.1 to 1
AXES = {0: "batch", 2: "height", 3: "width"}
OUTPUTS = ("logits", "image_logits")
MEANING = (
    "largest |onnx - torch| over the largest |logit|, fp32, at each size; "
    "above the tolerance none is exported"
)


class OnnxError(Exception):
    """Why there is no ONNX graph. The card quotes the message."""


def missing_libraries() -> str:
    """The libraries of ONNX that are missing, and how to install them; empty if there are all."""
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    return f"{', '.join(missing)} not installed: pip install 'selftrain[export]'" if missing else ""


def onnx_graph(
    network: nn.Module,
    *,
    multiple: int,
    channels: int = 3,
    opset: int = OPSET,
    size: Sequence[int] | None = None,
) -> tuple[bytes, dict[str, Any]]:
    """Convert a network, in fp32 and in eval mode, to ONNX; returns the graph and how it was compared.

    Input "image" (batch, channels, height, width) float32, normalised, with sides that are multiples of
    `multiple`. With a `size` (height, width), the graph takes one image of this size only. Output "logits"
    (batch, classes, height, width), and "image_logits" if the network has an image-level head. The comparison
    has opset, sizes and the largest difference.

    Raises OnnxError if the libraries are missing, the network cannot be exported with this opset, or the
    graph differs at `size`, or at any of SIZES.
    """
    if missing := missing_libraries():
        raise OnnxError(missing)
    sizes = [[count, channels, height * multiple, width * multiple] for count, height, width in SIZES]
    shape: list[int | str] = ["batch", channels, "height", "width"]
    if size:
        sizes, shape = [[1, channels, *size]], [1, channels, *size]
    try:
        with quiet(), torch.inference_mode(False), torch.no_grad():
            example = torch.zeros(sizes[0])
            names = OUTPUTS[: len(tensors_of(network(example)))]
            content = _without_provenance(_convert(network, example, names, opset, dynamic=not size), opset)
            differences = _compare(content, network, names, sizes)
    except (MemoryError, OnnxError):
        raise
    except Exception as error:  # the exporter and onnxruntime raise many types
        raise OnnxError(f"the network cannot be exported: {in_short(error)}") from None
    compared = {
        "opset": opset,
        "input": {"name": "image", "shape": shape, "multiple": multiple},
        **dict(zip(("output", "image_output"), names, strict=False)),
        "compared_sizes": sizes,
        "largest_difference": float(f"{max(differences):.1e}"),
        "tolerance": TOLERANCE,
        "meaning": MEANING,
    }
    return content, compared


def _convert(
    network: nn.Module, example: Tensor, names: tuple[str, ...], opset: int, *, dynamic: bool
) -> bytes:
    program = torch.onnx.export(
        network,
        (example,),
        input_names=["image"],
        output_names=list(names),
        dynamic_shapes=(AXES,) if dynamic else None,
        opset_version=opset,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    return program.model_proto.SerializeToString()


def _without_provenance(content: bytes, opset: int) -> bytes:
    """`lean`: the exporter notes a stack trace with paths of this machine at each node.

    Raises OnnxError for another opset: where a conversion fails, the exporter keeps its own and only warns.
    """
    import onnx

    model = onnx.load_from_string(content)
    if model.opset_import[0].version != opset:
        raise OnnxError(f"the graph cannot be written with opset {opset}; set export.opset={OPSET}")
    return lean(model)


def lean(model: Any) -> bytes:
    """The bytes of an ONNX model, without notes and without domains that no node uses.

    It gets the lowest IR version of its opset, so that older programs read it.
    """
    import onnx

    used = {"", *(node.domain for node in model.graph.node), *(node.domain for node in model.functions)}
    domains = [one for one in model.opset_import if one.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(domains)
    model.ir_version = onnx.helper.find_min_ir_version_for(domains, ignore_unknown=True)
    _strip(model)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _strip(message: Any) -> None:
    """Clear doc_string and metadata_props of a protobuf message and of all nested messages."""
    for field, value in message.ListFields():
        if field.name in ("doc_string", "metadata_props"):
            message.ClearField(field.name)
        elif field.message_type is not None:
            for part in value if hasattr(value, "add") else [value]:
                _strip(part)


def _compare(
    content: bytes, network: nn.Module, names: tuple[str, ...], sizes: Sequence[Sequence[int]]
) -> list[float]:
    """The largest difference at each size and output, relative to the largest logit.

    Raises OnnxError above TOLERANCE.
    """
    session = session_of(content)
    noise = torch.Generator().manual_seed(0)
    differences = []
    for size in sizes:
        images, shape = torch.randn(tuple(size), generator=noise), "x".join(map(str, size))
        expected = tensors_of(network(images))
        try:
            returned = session.run(list(names), {"image": images.numpy()})
        except Exception as error:  # its exception classes are not in its API
            raise OnnxError(f"at {shape} the graph cannot be run: {in_short(error)}") from None
        differences += [
            _difference(torch.from_numpy(row), logits, shape)
            for row, logits in zip(returned, expected, strict=True)
        ]
    return differences


def session_of(content: bytes) -> Any:
    """An InferenceSession of onnxruntime for a graph, on the CPU, with torch's number of threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # fatal only: other failures are also raised
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _difference(found: Tensor, expected: Tensor, shape: str) -> float:
    if found.shape != expected.shape:
        raise OnnxError(f"at {shape} the graph gives {tuple(found.shape)}, torch {tuple(expected.shape)}")
    difference = float((found - expected).abs().max() / expected.abs().max())
    if not difference <= TOLERANCE:  # also catches NaN
        raise OnnxError(
            f"at {shape} the graph is off by {difference:.3g} of the largest logit (allowed {TOLERANCE:g})"
        )
    return difference


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the exporter's warnings and log lines. What matters is also raised as an error."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def in_short(error: Exception) -> str:
    """The first lines of the root cause, without paths."""
    while error.__cause__ is not None:
        error = error.__cause__  # type: ignore[assignment]
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return re.sub(r"\S*/(?=\S)", "", " ".join(lines[:2]))[:300]
