import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn

from selftrain.models.build import to_layout
from selftrain.models.fused import POSSIBLE, JoinedConvolution, fused

pytestmark = pytest.mark.skipif(not POSSIBLE, reason="this torch has no oneDNN")


def trained(network: nn.Module) -> nn.Module:
    """Batch norm that is no identity."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean, module.running_var):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return network.eval()


def joined(network: nn.Module) -> list[str]:
    return [module.then for module in network.modules() if isinstance(module, JoinedConvolution)]


@pytest.mark.parametrize(
    ("arch", "encoder"),
    [
        ("unet", "tu-resnet10t"),
        ("unet", "resnet18"),
        ("deeplabv3plus", "tu-resnet18"),
        ("segformer", "mit_b0"),
        ("fpn", "densenet121"),
    ],
)
def test_a_fused_network_predicts_the_same(arch, encoder):
    torch.manual_seed(0)
    network = to_layout(trained(smp.create_model(arch, encoder, encoder_weights=None, classes=5)))
    images = torch.randn(2, 3, 96, 128)
    with torch.inference_mode():
        expected, quick = network(images), fused(network, images, torch.float32)(images)
        with torch.autocast("cpu", torch.bfloat16):
            rough = fused(network, images, torch.bfloat16)(images).float()
    assert "relu" in joined(fused(network, images, torch.float32))
    assert (quick - expected).abs().max() < 1e-4 * expected.abs().max()
    assert (rough - expected).abs().max() < 0.1 * expected.abs().max()
    assert not joined(network)  # it stays as it was


class Residual(nn.Module):
    """An output that is added to, in place or not, before ReLU sees it."""

    def __init__(self, add):
        super().__init__()
        self.convolution, self.norm, self.relu, self.add = (
            nn.Conv2d(3, 3, 3, padding=1),
            nn.BatchNorm2d(3),
            nn.ReLU(True),
            add,
        )

    def forward(self, images):
        return self.relu(self.add(self.norm(self.convolution(images)), images))


@pytest.mark.parametrize("add", [torch.Tensor.add_, torch.Tensor.add])
def test_relu_is_joined_to_what_it_follows_at_once_only(add):
    network = trained(Residual(add))
    images = torch.randn(1, 3, 8, 8)
    quick = fused(network, images, torch.float32)
    assert joined(quick) == ["none"]
    assert torch.allclose(quick(images), network(images), atol=1e-5)


class Twice(nn.Module):
    """An output that is used a second time, which no hook sees."""

    def __init__(self):
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, images):
        found = self.convolution(images)
        return self.norm(found) + found


def test_a_network_that_cannot_be_fused_is_used_as_it_is():
    network = trained(Twice())
    assert fused(network, torch.randn(1, 3, 8, 8), torch.float32) is network


class TwoHeads(nn.Module):
    """Logits of pixels and of the image. With `broken`, the image logits use an output that is fused away."""

    def __init__(self, *, broken: bool):
        super().__init__()
        self.stem, self.norm, self.relu = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()
        self.pixels, self.image, self.broken = nn.Conv2d(4, 2, 1), nn.Linear(4, 5), broken

    def forward(self, images):
        raw = self.stem(images)
        features = self.relu(self.norm(raw))
        return self.pixels(features), self.image((raw if self.broken else features).mean(dim=(2, 3)))


def test_a_network_with_an_image_head_is_fused_only_if_both_outputs_stay():
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    network, broken = (trained(TwoHeads(broken=broken)) for broken in (False, True))
    quick = fused(network, images, torch.float32)
    assert joined(quick) == ["relu", "none"]
    for found, expected in zip(quick(images), network(images), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert fused(broken, images, torch.float32) is broken
