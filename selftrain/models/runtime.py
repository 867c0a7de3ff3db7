"""An ONNX graph that onnxruntime runs, instead of the network that it was exported from."""

import importlib.util

import torch
from torch import Tensor, nn

from selftrain.errors import ConfigError
from selftrain.models.onnx import session_of

TORCH = "use --backend torch"


class Graph(nn.Module):
    """A graph as a network: images (N, C, H, W) float32 to logits, on the CPU.

    Several threads may call it at once. Raises ConfigError if onnxruntime is missing or refuses the graph.
    """

    def __init__(self, content: bytes):
        super().__init__()
        if importlib.util.find_spec("onnxruntime") is None:
            raise ConfigError(
                f"--backend onnx: onnxruntime is not installed: pip install 'selftrain[export]', or {TORCH}"
            )
        try:
            self.session = session_of(content)
        except Exception as error:  # onnxruntime's exception classes are not in its API
            said = str(error).splitlines()[0]
            raise ConfigError(f"--backend onnx: onnxruntime refuses the graph ({said}); {TORCH}") from error
        self.outputs = [one.name for one in self.session.get_outputs()]

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        returned = self.session.run(self.outputs, {"image": images.float().contiguous().numpy()})
        found = tuple(torch.from_numpy(one) for one in returned)
        return found[0] if len(found) == 1 else found
