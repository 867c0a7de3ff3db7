import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn

from selftrain.models.build import to_layout
from selftrain.models.frozen import POSSIBLE, JoinedConvolution, frozen

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
def test_a_frozen_network_says_the_same(arch, encoder):
    torch.manual_seed(0)
    network = to_layout(trained(smp.create_model(arch, encoder, encoder_weights=None, classes=5)))
    images = torch.randn(2, 3, 96, 128)
    with torch.inference_mode():
        expected, quick = network(images), frozen(network, images, torch.float32)(images)
        with torch.autocast("cpu", torch.bfloat16):
            rough = frozen(network, images, torch.bfloat16)(images).float()
    assert "relu" in joined(frozen(network, images, torch.float32))
    assert (quick - expected).abs().max() < 1e-4 * expected.abs().max()
    assert (rough - expected).abs().max() < 0.1 * expected.abs().max()
    assert not joined(network)  # it stays as it was


class Residual(nn.Module):
    """An output that is added to, in place or not, before ReLU sees it."""

    def __init__(self, add):
        super().__init__()
        self.convolution, self.norm, self.relu, self.add = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(True), add

    def forward(self, images):
        return self.relu(self.add(self.norm(self.convolution(images)), images))


@pytest.mark.parametrize("add", [torch.Tensor.add_, torch.Tensor.add])
def test_relu_is_joined_to_what_it_follows_at_once_only(add):
    network = trained(Residual(add))
    images = torch.randn(1, 3, 8, 8)
    quick = frozen(network, images, torch.float32)
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


def test_a_network_that_cannot_be_frozen_is_used_as_it_is():
    network = trained(Twice())
    assert frozen(network, torch.randn(1, 3, 8, 8), torch.float32) is network
