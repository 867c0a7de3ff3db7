"""UniMatch V2's network: a vision transformer of timm, at patches of 16 pixels, and a slim DPT."""

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import resample_patch_embed
from torch import nn

from selftrain.errors import ConfigError
from selftrain.methods.table import METHODS
from selftrain.models.build import build, multiple_of
from selftrain.models.foreign import import_weights
from selftrain.models.weights import encoder_names, load_weights
from selftrain.settings import compose

DINO, TINY = "tu-vit_small_patch14_dinov2", "tu-test_vit"


def count(*modules):
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def test_the_decoder_has_the_papers_size_and_no_batch_norm():
    network = build("slim_dpt", DINO, classes=21)
    assert round(count(network.decoder, network.segmentation_head) / 1e6, 1) == 2.7
    assert round(count(network) / 1e6, 1) == 24.9  # the paper's table: 24.8 M with patches of 14
    assert not [module for module in network.modules() if isinstance(module, nn.BatchNorm2d | nn.Dropout2d)]
    assert network.encoder._output_indices == [2, 5, 8, 11]


@pytest.mark.parametrize("size", [(32, 32), (64, 96)])
def test_images_of_any_size_in_multiples_of_32_are_taken(size):
    network = build("slim_dpt", TINY, classes=3, channels=4, drop_path=0.1).eval()
    assert network(torch.rand(2, 4, *size)).shape == (2, 3, *size)
    assert size[0] % multiple_of("slim_dpt") == 0


def test_the_features_are_those_after_the_last_norm():
    network = build("slim_dpt", TINY, classes=3).eval()
    with torch.no_grad():
        features, tokens = network.encoder(torch.rand(1, 3, 32, 64))
        network.encoder.model.norm.weight.zero_()
        network.encoder.model.norm.bias.fill_(7)
        again, _ = network.encoder(torch.rand(1, 3, 32, 64))
    assert [tuple(feature.shape) for feature in features] == [(1, 64, 2, 4)] * 4 and tokens == [None] * 4
    assert all((feature == 7).all() for feature in again)


@pytest.mark.parametrize("kind", ["timm", "their own"])
def test_weights_for_patches_of_14_pixels_are_resampled(tmp_path, kind):
    """A small ViT of DINOv2's form, in timm's file and, with a mask token, in DINOv2's own."""
    source = timm.create_model("test_vit", patch_size=14, img_size=140)
    tensors = {name: value for name, value in source.state_dict().items() if not name.startswith("head.")}
    network = build("slim_dpt", TINY, classes=3)
    assert network.encoder.model.patch_embed.proj.weight.shape[-1] == 16
    if kind == "timm":
        save_file(tensors, tmp_path / "w.safetensors")
    else:
        torch.save({**tensors, "mask_token": torch.zeros(1, 64)}, tmp_path / "w.pth")
        target = tmp_path / "w.safetensors"
        imported = import_weights(tmp_path / "w.pth", target, network, arch="slim_dpt", encoder=TINY)
        assert imported.taken.encoder == imported.taken.of_encoder and not imported.by_order
    names = load_weights(network, tmp_path / "w.safetensors", whose="x", remedy="y")
    assert set(encoder_names(network)) <= names
    model, patches = network.encoder.model, tensors["patch_embed.proj.weight"]
    expected = resample_patch_embed(patches, [16, 16], interpolation="bicubic", antialias=True)
    assert torch.equal(model.patch_embed.proj.weight, expected)
    assert torch.equal(model.pos_embed, tensors["pos_embed"])  # a grid of 10 x 10 in both


@pytest.mark.parametrize("encoder", ["tu-resnet18", "resnet18", "tu-nonsense"])
def test_an_encoder_that_is_no_vision_transformer_is_refused(encoder):
    with pytest.raises(
        ConfigError, match=f"arch=slim_dpt encoder={encoder}: it takes a plain vision transformer"
    ):
        build("slim_dpt", encoder, classes=2)


def test_all_depths_lose_the_same_channels_and_each_view_what_the_other_keeps():
    torch.manual_seed(0)
    network, seen = build("slim_dpt", TINY, classes=3).eval(), []
    network.decoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    images = torch.rand(4, 3, 32, 32)
    images = torch.cat([images[:1], *[images[1:]] * 2])  # 1 labelled image, 2 views of 3 unlabelled ones
    method = METHODS["unimatch_v2"].__new__(METHODS["unimatch_v2"])
    with torch.no_grad(), method.noise(network, 1, 3):
        network(images)
        clean, _ = network.encoder.__class__.forward(network.encoder, images)
    factors = [
        noisy.sum(dim=(2, 3)) / plain.sum(dim=(2, 3)) for noisy, plain in zip(*(seen[0], clean), strict=True)
    ]
    assert all(torch.allclose(factor, factors[0], atol=1e-3) for factor in factors[1:])
    assert torch.allclose(factors[0][0], torch.ones(64), atol=1e-3)
    assert torch.allclose(factors[0][1:4] + factors[0][4:], torch.full((3, 64), 2.0), atol=1e-3)
    assert {0.0, 2.0} <= set(factors[0].round().flatten().tolist())


def test_the_recipes_rates_are_those_of_the_paper():
    train = compose(["recipe=dinov2"]).train
    assert train.lr * train.encoder_lr == pytest.approx(5e-6) and 1 / train.encoder_lr == 40
