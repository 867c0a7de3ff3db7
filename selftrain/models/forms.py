"""Other forms of an exported network: half precision, 8-bit integers, and a program of torch.export."""

import io
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.export import Dim

from selftrain.models.onnx import lean, quiet

STACKS = ("stack_trace",)  # notes of a torch.export program that contain paths of this machine


def half(content: bytes) -> bytes:
    """An ONNX graph with weights and arithmetic in fp16. Its inputs and outputs stay float32."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    model = OnnxModel(convert_float_to_float16(onnx.load_from_string(content), keep_io_types=True))
    model.topological_sort(is_deterministic=True)  # the casts of inputs come last before
    return lean(model.model)


def quantised(content: bytes, batches: Iterable[np.ndarray]) -> bytes:
    """An ONNX graph with 8-bit integer weights and activations (static quantisation, QDQ).

    Scales of weights are per channel. Ranges of activations are measured on `batches` of normalised
    images (N, C, H, W) float32.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder, quiet():
        given, prepared, written = (Path(folder) / f"{name}.onnx" for name in ("given", "prepared", "int8"))
        given.write_bytes(content)
        quant_pre_process(str(given), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(written),
            _reader(batches),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
        return lean(onnx.load(str(written)))


def _reader(batches: Iterable[np.ndarray]) -> Any:
    """Batches as onnxruntime's quantisation reads them."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left: Iterator[np.ndarray] = iter(batches)

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.left, None)
            return None if batch is None else {"image": batch}

    return Reader()


def program(network: nn.Module, *, multiple: int, channels: int) -> bytes:
    """A network as a torch.export program (.pt2), which torch.export.load reads without selftrain.

    It takes images (N, channels, H, W), normalised, with sides of at least two times `multiple`, which
    divides them.
    """
    sizes = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    with quiet(), torch.inference_mode(False), torch.no_grad():
        example = torch.zeros(2, channels, 4 * multiple, 5 * multiple)
        exported = torch.export.export(network, (example,), dynamic_shapes=(sizes,))
        for module in exported.graph_module.modules():
            for node in getattr(getattr(module, "graph", None), "nodes", ()):
                for name in STACKS:
                    node.meta.pop(name, None)
        stream = io.BytesIO()
        torch.export.save(exported, stream)
    return stream.getvalue()


def program_network(content: bytes) -> nn.Module:
    """The network of `program`, from its bytes. They must be our own: torch may unpickle parts of them."""
    with quiet():
        return _Evaluated(torch.export.load(io.BytesIO(content)).module())


class _Evaluated(nn.Module):
    """A program of torch.export, which cannot be told to evaluate and always does."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.run = [module]  # no part of this module, so that eval() does not reach it

    def forward(self, images: torch.Tensor) -> Any:
        return self.run[0](images)
