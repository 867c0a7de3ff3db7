import numpy as np
import pytest
import torch
from torch import Tensor, nn

from selftrain.models.onnx import OnnxError, _without_provenance, onnx_graph

torch.set_num_threads(1)


def test_noise_that_outlives_training_is_refused() -> None:
    class Noisy(nn.Conv2d):
        def forward(self, images: Tensor) -> Tensor:
            found = super().forward(images)
            return found + torch.rand_like(found)

    with pytest.raises(OnnxError, match=r"at 2x3x128x160 the graph is off by 0\.\d+ of the largest logit"):
        onnx_graph(Noisy(3, 2, 1).eval(), multiple=32)


def test_an_operator_unknown_to_onnx_is_named() -> None:
    class Exotic(nn.Conv2d):
        def forward(self, images: Tensor) -> Tensor:
            return torch.special.bessel_j0(super().forward(images))

    with pytest.raises(OnnxError, match="bessel_j0"):
        onnx_graph(Exotic(3, 2, 1).eval(), multiple=32)


class TwoHeads(nn.Module):
    """Logits of pixels from four channels, and three logits of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.pixels, self.image = nn.Conv2d(4, 2, 1), nn.Linear(4, 3)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.pixels(images), self.image(images.mean(dim=(2, 3)))


def test_a_graph_of_one_size_and_of_another_opset() -> None:
    onnx = pytest.importorskip("onnx")
    network = nn.Conv2d(3, 2, 3, padding=1).eval()
    content, compared = onnx_graph(network, multiple=8, opset=17, size=[16, 24])
    model = onnx.load_from_string(content)
    sides = [side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim]
    assert sides == [1, 3, 16, 24] == compared["input"]["shape"]
    assert model.opset_import[0].version == compared["opset"] == 17 and model.ir_version == 8
    # what the exporter returns if it fails to convert a graph
    with pytest.raises(OnnxError, match=r"cannot be written with opset 16; set export\.opset=20"):
        _without_provenance(content, 16)


def test_a_network_of_four_channels_and_two_outputs_keeps_both() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    network = TwoHeads().eval()
    content, compared = onnx_graph(network, multiple=8, channels=4)
    assert compared["input"]["shape"] == ["batch", 4, "height", "width"]
    assert (compared["output"], compared["image_output"]) == ("logits", "image_logits")
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).random((2, 4, 16, 24), np.float32)
    found = session.run(["logits", "image_logits"], {"image": images})
    with torch.inference_mode():
        expected = network(torch.from_numpy(images))
    assert [row.shape for row in found] == [(2, 2, 16, 24), (2, 3)]
    for row, logits in zip(found, expected, strict=True):
        np.testing.assert_allclose(row, logits.numpy(), atol=1e-5)
