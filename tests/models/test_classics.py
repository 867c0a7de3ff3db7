"""The architectures that smp lacks: as large as in the papers, and usable at any width."""

import copy

import pytest
import timm
import torch
from architectures import exports, learns, overfits, resumes, takes_odd_sizes
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from selftrain.errors import ConfigError
from selftrain.models import saved
from selftrain.models.build import build, leaves_parameters_unused, parameters, written
from selftrain.models.classics import CLASSICS
from selftrain.models.classics.dilatednet import context
from selftrain.models.classics.unpooling import pooled, unpooled
from selftrain.models.classics.vgg import scaled
from selftrain.models.weights import COUNTER, encoder_names, grown, load_weights
from selftrain.optim.groups import Freezer

torch.set_num_threads(1)
VGG = [name for name in CLASSICS if not name.startswith("fc_")]
WITH_NORM = ("segnet", "deconvnet")  # in the papers, too


def encoder_of(name, normed=True):
    return "" if name not in VGG else "tu-vgg16_bn" if normed or name in WITH_NORM else "tu-vgg16"


def small(name, width=1 / 16, classes=3, **settings):
    torch.manual_seed(0)
    return build({name: {"width": width}}, encoder_of(name), classes=classes, **settings)


def whole(name, classes):
    """The network of the paper, without memory for its weights."""
    with torch.device("meta"):
        return build(name, encoder_of(name, normed=False), classes=classes)


@pytest.mark.parametrize("name", CLASSICS)
def test_steps_lower_the_loss(name):
    assert learns(small(name))


@pytest.mark.parametrize("name", CLASSICS)
def test_images_of_odd_size_are_predicted(name):
    assert takes_odd_sizes(small(name))


@pytest.mark.parametrize("name", CLASSICS)
def test_training_resumes_to_the_same_bits(name):
    assert resumes(lambda: small(name))


@pytest.mark.parametrize("name", CLASSICS)
def test_a_frozen_encoder_keeps_its_statistics_however_the_network_calls_its_parts(name):
    network = small(name)
    Freezer(network, 2, of=9).set(0)
    before = copy.deepcopy(network.encoder.state_dict())
    network.train()(torch.rand(2, 3, 64, 64))
    assert all(torch.equal(value, before[name]) for name, value in network.encoder.state_dict().items())
    assert any("running" in name for name in before)


@pytest.mark.parametrize("name", CLASSICS)
def test_a_network_comes_back_from_disk_at_its_width(name, tmp_path):
    network, images = small(name).train(), torch.rand(2, 3, 64, 32)
    network(images)  # statistics of its own
    network.eval()
    named = {"arch": {name: {"width": 1 / 16}}, "encoder": encoder_of(name), "decoder_channels": []}
    saved.write(tmp_path / "model", network, saved.describe(network, **named), ["sky", "road", "tree"])
    found = saved.read(tmp_path / "model")
    assert found.description["arch"] == {name: {"width": 1 / 16}}
    assert torch.equal(found.network(images), network(images))


@pytest.mark.parametrize("name", CLASSICS)
def test_feature_noise_acts_before_the_head(name):
    network, seen = small(name, dropout=1.0), []
    network.segmentation_head.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    network.train()(torch.rand(2, 3, 64, 64))
    network.eval()(torch.rand(2, 3, 64, 64))
    assert not seen[0].any() and seen[1].any()


@pytest.mark.parametrize("name", CLASSICS)
def test_images_may_have_four_channels_and_no_parameter_is_idle(name):
    network = small(name, channels=4).train()
    network(torch.rand(2, 4, 64, 64)).square().mean().backward()
    assert not [key for key, one in network.named_parameters() if one.grad is None]
    assert leaves_parameters_unused(name, None)  # what is not known of a table's entry is safe


@pytest.mark.parametrize(
    ("name", "classes", "count", "paper"),
    [
        # Long et al. 2015, Table 1: FCN-VGG16 has 134 M
        ("fcn32s", 21, 134_346_581, 134e6),
        # + 512 x 21 + 21 of the scores of pool4, 21 x 21 x 4 x 4 of the upsampling
        ("fcn16s", 21, 134_346_581 + 10_773 + 7_056, 134e6),
        # + 256 x 21 + 21 of the scores of pool3, 21 x 21 x 4 x 4 of the upsampling
        ("fcn8s", 21, 134_364_410 + 5_397 + 7_056, 134e6),
        # Noh et al. 2015, Section 5.1: approximately 252 M in total
        ("deconvnet", 21, 251_805_653, 252e6),
        # Yu and Koltun 2016 count 64 C^2 weights of the context module; VGG-16 as in FCN-32s; 8 x 21 biases
        ("dilatednet", 21, 134_346_581 + 64 * 21**2 + 8 * 21, None),
        # Chen et al. 2015, Table 2: DeepLab-CRF-LargeFOV has 20.5 M
        ("deeplabv1", 21, 20_505_429, 20.5e6),
        # Chen et al. 2018 give no number; Figure 7 (b): V1 with four branches of fc6, fc7 and fc8
        ("deeplabv2", 21, 14_714_688 + 4 * (4_719_616 + 1_049_600 + 21_525), None),
    ],
)
def test_the_full_width_has_the_papers_parameters(name, classes, count, paper):
    assert parameters(whole(name, classes)) == count
    assert paper is None or f"{count:.3g}" == f"{paper:.3g}"


def test_segnet_has_the_papers_parameters_and_size():
    """Badrinarayanan et al. 2017, Section 3: 14.7 M in the encoder; Table 6: a model of 117 MB, CamVid's 11 classes."""
    network = whole("segnet", classes=11)
    convolutions = [module for module in network.encoder.modules() if isinstance(module, nn.Conv2d)]
    assert sum(map(parameters, convolutions)) == 14_714_688
    assert parameters(network) == 29_449_355 and 4 * 29_449_355 // 10**6 == 117


@pytest.mark.parametrize(
    ("name", "count", "kept", "paper"),
    [
        ("fc_densenet103", 9_322_091, 9_425_163, "9.4"),
        ("fc_densenet67", 3_463_243, 3_502_923, "3.5"),
        # The paper says 1.5 M. Its own layers have 1.4 M: see the next test
        ("fc_densenet56", 1_376_795, 1_397_963, "1.4"),
    ],
)
def test_fc_densenet_has_the_papers_parameters(name, count, kept, paper):
    """Jégou et al. 2017, Table 3, CamVid's 11 classes. Their program also counts batch norm's statistics."""
    network = whole(name, classes=11)
    stored = {key: one for key, one in network.state_dict().items() if not key.endswith(COUNTER)}
    assert (parameters(network), sum(one.numel() for one in stored.values())) == (count, kept)
    assert f"{kept / 1e6:.1f}" == paper


@pytest.mark.parametrize(
    ("name", "growth", "layers"),
    [
        ("fc_densenet56", 12, [4] * 6),
        ("fc_densenet67", 16, [5] * 6),
        ("fc_densenet103", 16, [4, 5, 7, 10, 12, 15]),
    ],
)
def test_fc_densenet_has_the_layers_of_the_papers_table(name, growth, layers):
    """By hand: 3x3 layers of batch norm and convolution, 1x1 layers down, transposed convolutions up."""

    def block(channels, count):
        inside = [channels + i * growth for i in range(count)]
        return sum(2 * c + 9 * c * growth + growth for c in inside)

    *down, middle = layers
    total, channels, skipped = 3 * 9 * 48 + 48, 48, []
    for count in down:
        total, channels = total + block(channels, count), channels + count * growth
        total += 2 * channels + channels**2 + channels
        skipped.append(channels)
    total, made = total + block(channels, middle), middle * growth
    for count, skip in zip(reversed(down), reversed(skipped), strict=True):
        total += 9 * made**2 + made + block(made + skip, count)
        channels, made = made + skip, count * growth
    assert parameters(whole(name, classes=11)) == total + (channels + made) * 11 + 11
    kinds = nn.Conv2d | nn.ConvTranspose2d
    named = sum(isinstance(module, kinds) for module in whole(name, classes=11).modules())
    assert named == int(name.removeprefix("fc_densenet"))  # the number in its name is its number of layers


def test_the_context_module_begins_as_the_identity_and_has_64_weights_per_pair_of_channels():
    module, scores = context(5), torch.rand(1, 5, 40, 40)
    weights = [layer.weight for layer in module if isinstance(layer, nn.Conv2d)]
    assert sum(weight.numel() for weight in weights) == 64 * 5**2
    assert torch.equal(module(scores), scores)


def test_a_learnt_upsampling_begins_as_bilinear():
    network = small("fcn8s")
    scores = torch.rand(1, 3, 6, 6)
    expected = F.interpolate(scores, scale_factor=2, mode="bilinear", align_corners=False)
    inner = (..., slice(1, -1), slice(1, -1))  # at the border the layer sees zeros
    torch.testing.assert_close(network.up4(scores)[inner], expected[inner])


def test_features_return_to_the_places_of_their_maxima():
    features = torch.randn(2, 3, 6, 8)
    values, places = pooled(features)
    expected, indices = F.max_pool2d(features, 2, return_indices=True)
    assert torch.equal(values, expected)
    assert torch.equal(unpooled(values + 1, places), F.max_unpool2d(expected + 1, indices, 2))


def test_of_equal_maxima_the_first_counts():
    _, places = pooled(torch.tensor([[[[0.0, 7.0], [7.0, 7.0]]]]))
    assert places.tolist() == [[[[1]]]]
    assert unpooled(torch.tensor([[[[5.0]]]]), places).tolist() == [[[[0, 5], [0, 0]]]]


@pytest.mark.parametrize("encoder", ["tu-vgg16", "tu-vgg16_bn"])
def test_names_and_shapes_are_timm_s(encoder):
    with torch.device("meta"):
        theirs = timm.create_model(encoder.removeprefix("tu-")).state_dict()
        network = build("fcn8s", encoder, classes=2)
    own = {
        name.removeprefix("encoder."): one.shape
        for name, one in network.state_dict().items()
        if "encoder." in name
    }
    assert own == {name: one.shape for name, one in theirs.items() if not name.startswith("head.")}


@pytest.mark.parametrize("name", VGG)
def test_a_file_of_timm_s_tensors_fills_the_encoder(name, tmp_path):
    encoder = encoder_of(name)
    with torch.device("meta"):
        theirs = timm.create_model(encoder.removeprefix("tu-")).state_dict()

    def narrow(size):
        return scaled(size, 1 / 16) if size >= 64 else size  # but not kernels and the three colours

    found = {
        key: torch.randn([narrow(size) for size in one.shape])
        for key, one in theirs.items()
        if key[-1] != "d"
    }
    save_file(found, tmp_path / "vgg.safetensors")
    network = small(name)
    taken = load_weights(network, tmp_path / "vgg.safetensors", whose=name, remedy="another")
    assert taken == set(encoder_names(network)) and len(taken) >= 65
    for key in taken:
        assert torch.equal(network.state_dict()[key], found[key.removeprefix("encoder.")])
    with pytest.raises(ConfigError, match=r"0 of \d+ encoder tensors fit"):
        load_weights(small(name, width=1 / 32), tmp_path / "vgg.safetensors", whose=name, remedy="another")


def test_timm_s_weights_are_taken_at_full_width(monkeypatch):
    with torch.device("meta"):
        theirs = timm.create_model("vgg16_bn")
    theirs.features.to_empty(device="cpu")  # its 120 M other parameters are not looked at
    with torch.no_grad():
        for number, tensor in enumerate(theirs.features.state_dict().values()):
            tensor.fill_(number)
    asked = []
    monkeypatch.setattr(
        timm, "create_model", lambda *names, **settings: asked.append((names, settings)) or theirs
    )
    network = build("deeplabv1", "tu-vgg16_bn", classes=2, channels=3, imagenet=True)
    assert asked == [(("vgg16_bn",), {"pretrained": True, "in_chans": 3})]
    assert [int(one.flatten()[0]) for one in network.encoder.features.state_dict().values()] == list(
        range(91)
    )


@pytest.mark.parametrize(
    ("arch", "encoder", "settings", "said"),
    [
        ("fcn8s", "tu-resnet18", {}, "model.encoder=tu-resnet18: .* VGG-16; set model.encoder=tu-vgg16 or tu-vgg16_bn"),
        ("segnet", "tu-vgg16", {}, "model.encoder=tu-vgg16: .* set model.encoder=tu-vgg16_bn"),
        ("fc_densenet56", "tu-vgg16", {}, "FC-DenseNet takes no encoder; set model.encoder= and"),
        ("fc_densenet56", "", {"imagenet": True}, "takes no imagenet; set model.weights=null"),
        ("segnet", "tu-vgg16_bn", {"drop_path": 0.1}, "takes no drop_path; set noise.drop_path=0"),
        ("segnet", "tu-vgg16_bn", {"decoder_channels": [8]}, r"takes no decoder_channels; set model.decoder_channels=\[\]"),
        ({"segnet": {"width": 0.5}}, "tu-vgg16_bn", {"imagenet": True}, "fit width=1, not width=0.5; set model.weights=null"),
        ({"segnet": {"width": 0}}, "tu-vgg16_bn", {}, "model.arch.segnet.width=0 must be above 0"),
        ({"segnet": {"with": 1}}, "tu-vgg16_bn", {}, "model.arch.segnet.with: no such setting; segnet has width"),
        ("fcn8", "tu-vgg16", {}, "there is no 'fcn8'; similar names: fcn8s"),
        ("DeepLab_v2", "tu-vgg16", {}, "there is no 'DeepLab_v2'; similar names: .*deeplabv2"),
        ("???", "tu-vgg16", {}, r"there is no '\?\?\?'; there are unet, .*fcn32s"),
    ],
)  # fmt: skip
def test_what_an_architecture_does_not_take_is_refused(arch, encoder, settings, said):
    with pytest.raises(ConfigError, match=said):
        build(arch, encoder, classes=2, **settings)


def test_an_architecture_is_written_with_its_settings():
    assert written("fcn8s") == {"fcn8s": {"width": 1.0}}
    assert written("unet") == written("Unet") == "unet"  # exports of earlier versions have smp's capitals


@pytest.mark.parametrize(
    "name", [name for name in VGG if name != "deconvnet"]
)  # `grown` knows convolutions only
def test_a_wider_student_says_what_its_teacher_says(name):
    teacher, student = small(name), small(name, width=1 / 8)
    with torch.no_grad():
        for one in teacher.parameters():
            one.add_(0.01 * torch.randn_like(one))  # FCN begins with scores of zero
    images = torch.rand(2, 3, 64, 64)
    teacher.train()(images)  # statistics of its own
    student.load_state_dict(grown(student, teacher.state_dict()), strict=False)
    teacher.eval(), student.eval()
    assert teacher(images).std() > 1e-3
    torch.testing.assert_close(student(images), teacher(images), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSICS)
def test_two_images_are_learnt_by_heart(name):
    assert overfits(small(name, width=1 / 8, classes=4), lr=1e-2 if name == "deconvnet" else 3e-3) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSICS)
def test_onnx_computes_the_same_at_all_sizes(name):
    assert exports(small(name))
