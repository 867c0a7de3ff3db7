"""The image-level head: its logits are the means of its maps, its copies are their own, and it is kept and exported."""

import copy

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn

from selftrain.errors import ConfigError
from selftrain.models.build import build
from selftrain.models.fused import fused
from selftrain.models.heads import add_head, features_of, head_of
from selftrain.models.onnx import onnx_graph
from selftrain.models.outputs import Output, gated, output_of
from selftrain.models.saved import describe, rebuilt, weights_of

torch.set_num_threads(1)
SMALL = {"encoder": "tu-test_resnet", "decoder_channels": [8, 8, 8, 8, 8]}


def network(arch="unet", classes=3, **settings):
    torch.manual_seed(0)
    return build(arch, classes=classes, image_head=True, **{**SMALL, **settings}).eval()


CONVOLUTIONAL = sorted(set(smp.MODEL_ARCHITECTURES_MAPPING) - {"dpt", "segformer", "pan", "unet"})


@pytest.mark.parametrize(
    ("arch", "encoder"),
    [
        ("unet", "tu-test_resnet"),
        ("segformer", "mit_b0"),
        ("dpt", "tu-test_vit"),
        *(pytest.param(arch, "resnet18", marks=pytest.mark.slow) for arch in CONVOLUTIONAL),
        pytest.param("slim_dpt", "tu-test_vit", marks=pytest.mark.slow),
    ],
)
def test_an_images_logit_is_the_mean_of_its_activation_map_on_evenly_divided_images(arch, encoder):
    """Bilinear interpolation keeps means only away from borders, so features are constant here."""
    asked = network(arch, encoder=encoder, decoder_channels=None)
    head = head_of(asked)
    with torch.inference_mode():
        images = torch.rand(2, 3, 64, 96)
        output = output_of(asked(images))
        features = features_of(asked.encoder(images))
        head.seen.clear()
        flat = [feature.mean(dim=(2, 3), keepdim=True).expand_as(feature) for feature in features]
        maps = head.maps(flat, (64, 96))
    assert output.pixels.shape == (2, 3, 64, 96) and output.image.shape == (2, 3)
    torch.testing.assert_close(maps.mean(dim=(2, 3)), output.image, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(output.image[0], output.image[1])


def test_a_head_learns_beside_a_network_whose_forward_is_half_precision():
    """As accelerate prepares it: autocast is around `forward`, and the hooks are outside."""
    asked = network().train()
    asked.forward = torch.autocast("cpu", torch.bfloat16)(asked.forward)
    output = output_of(asked(torch.rand(2, 3, 64, 64)))
    (output.pixels.float().mean() + output.image.sum()).backward()
    assert output.image.dtype == torch.float32
    assert all(layer.weight.grad.abs().sum() > 0 for layer in head_of(asked).layers)


def test_a_copy_answers_with_its_own_head_and_pixels_stay_the_same():
    torch.manual_seed(0)
    plain = build("unet", classes=3, **SMALL).eval()
    ours = network()
    ours.load_state_dict(plain.state_dict(), strict=False)
    other = copy.deepcopy(ours)
    with torch.no_grad():
        other.image_head.layers[0].bias += 5
    images = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        before, after = output_of(ours(images)), output_of(other(images))
        assert torch.equal(before.pixels, plain(images)) and torch.equal(after.pixels, before.pixels)
    torch.testing.assert_close(after.image, before.image + 5)
    assert not ours.image_head.seen and not other.image_head.seen


def test_an_encoder_of_unknown_widths_is_refused_with_the_way_out():
    with pytest.raises(
        ConfigError, match=r"arch=fcn8s: .* no image-level head; set loss\.image=\{\} or another"
    ):
        build({"fcn8s": {"width": 0.05}}, "tu-vgg16", classes=2, image_head=True)


def test_a_network_with_a_head_is_rebuilt_from_its_description(tmp_path):
    ours = network()
    described = describe(ours, arch="unet", **SMALL)
    assert described["image_head"] is True
    again = rebuilt(described, ["a", "b", "c"], weights_of(ours), tmp_path, source=tmp_path / "card.json")
    images = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        assert all(map(torch.equal, again(images), ours(images)))
    assert "image_head" not in describe(build("unet", classes=3, **SMALL), arch="unet", **SMALL)


def test_a_fused_copy_gives_both_outputs():
    ours, images = network(), torch.rand(1, 3, 64, 32)
    with torch.inference_mode():
        for found, logits in zip(fused(ours, images, torch.float32)(images), ours(images), strict=True):
            torch.testing.assert_close(found, logits, atol=1e-4, rtol=1e-3)


class Encoder(nn.Module):
    out_channels = (3, 4, 6)

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 2, stride=2), nn.Conv2d(4, 6, 2, stride=2)

    def forward(self, images):
        first = self.first(images).relu()
        return [images, first, self.second(first).relu()]


class Coarse(nn.Module):
    """Pixel logits of a quarter of the size."""

    def __init__(self):
        super().__init__()
        self.encoder, self.segmentation_head = Encoder(), nn.Conv2d(6, 2, 1)

    def forward(self, images):
        return self.segmentation_head(self.encoder(images)[-1])


def test_the_head_is_part_of_an_onnx_graph():
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    ours, images = Coarse(), torch.rand(1, 3, 12, 8)
    add_head(ours, 2, "coarse")
    content, compared = onnx_graph(ours.eval(), multiple=4)
    assert (compared["output"], compared["image_output"]) == ("logits", "image_logits")
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        expected = ours(images)
    for found, logits in zip(session.run(None, {"image": images.numpy()}), expected, strict=True):
        np.testing.assert_allclose(found, logits.numpy(), atol=1e-5)


def test_a_gate_suppresses_improbable_classes_but_never_the_most_probable_one():
    pixels = torch.zeros(2, 3, 1, 2)
    pixels[:, 2] = 1.0  # the largest logit of every pixel
    image = torch.tensor([[0.0, 2.0, -3.0], [-4.0, -5.0, -6.0]])  # sigmoid: 0.50 0.88 0.05; 0.02 0.01 0.00
    probs = gated(Output(pixels, image), 0.3).softmax(dim=1)
    assert probs[0, :, 0, 0].tolist() == [0.5, 0.5, 0.0] and probs[1, :, 0, 1].tolist() == [1.0, 0.0, 0.0]
    for threshold, given in ((0.0, image), (0.3, None)):
        assert gated(Output(pixels, given), threshold) is pixels
