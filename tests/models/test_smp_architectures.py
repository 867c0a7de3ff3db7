"""Every architecture of smp by its name: with smp's own encoders, and with encoders of timm."""

import pytest
import segmentation_models_pytorch as smp
import torch
from architectures import exports, learns, overfits, resumes, takes_odd_sizes

from selftrain.models.build import ARCHITECTURES, UNETS, VIT, build, smp_network
from selftrain.models.onnx import OnnxError

torch.set_num_threads(1)
NARROW = [32, 16, 16, 8, 8]
NETWORKS = [
    ("unet", "resnet18", NARROW),
    ("unet", "efficientnet-b0", NARROW),
    ("unet", "tu-hrnet_w18_small", NARROW),
    ("unet", "tu-resnet10t", NARROW[:4]),
    ("unetplusplus", "resnet18", NARROW),
    ("manet", "resnet18", NARROW),
    ("linknet", "resnet18", None),
    ("fpn", "resnet18", None),
    ("pspnet", "resnet18", None),
    ("pan", "resnet18", None),
    ("deeplabv3", "resnet18", None),
    ("deeplabv3plus", "resnet18", None),
    ("upernet", "resnet18", None),
    ("segformer", "mit_b0", None),
    ("dpt", "tu-test_vit", None),
]
ADAPTIVE = ("pspnet", "upernet")  # their average pooling to a fixed grid has no graph for all sizes: refused
each = pytest.mark.parametrize(("arch", "encoder", "channels"), NETWORKS)


def made(arch, encoder, channels, classes=3):
    torch.manual_seed(0)
    return build(arch, encoder, classes=classes, decoder_channels=channels)


def test_every_architecture_of_smp_is_in_the_table_and_among_these():
    named = {name for name, one in ARCHITECTURES.items() if one.build is smp_network}
    assert named == set(smp.MODEL_ARCHITECTURES_MAPPING) == {arch for arch, _, _ in NETWORKS}


@each
def test_steps_lower_the_loss_and_images_of_odd_size_are_predicted(arch, encoder, channels):
    network = made(arch, encoder, channels)
    assert learns(network)
    assert takes_odd_sizes(network)


@pytest.mark.parametrize("arch", smp.MODEL_ARCHITECTURES_MAPPING)
def test_training_resumes_to_the_same_bits(arch):
    narrow = NARROW if arch in UNETS else None
    assert resumes(lambda: made(arch, "tu-test_vit" if arch == VIT else "tu-test_resnet", narrow))


@pytest.mark.slow
@each
def test_two_images_are_learnt_by_heart(arch, encoder, channels):
    assert overfits(made(arch, encoder, channels, classes=4), steps=60) > 0.9


@pytest.mark.slow
@each
def test_onnx_computes_the_same_at_all_sizes_or_is_refused(arch, encoder, channels):
    if arch in ADAPTIVE:
        with pytest.raises(OnnxError, match="the graph cannot be run"):
            exports(made(arch, encoder, channels))
    else:
        assert exports(made(arch, encoder, channels))
