import re

import pytest
import torch
from accelerate.state import AcceleratorState

from selftrain.config import Config, GenerationConfig, ModelConfig, TrainConfig
from selftrain.errors import ConfigError
from selftrain.models.build import build, leaves_parameters_unused, parameters
from selftrain.models.weights import grown
from selftrain.preflight import accelerator_of

TU = "tu-resnet10t"
TINY = {"classes": 3, "decoder_channels": [32, 16, 16, 8]}


def test_logits_have_the_images_size():
    network = build("unet", "tu-resnet10t", **TINY).eval()
    assert network(torch.zeros(2, 3, 32, 64)).shape == (2, 3, 32, 64)


def test_students_grow():
    small, large = (build("unet", encoder, **TINY) for encoder in ("tu-resnet10t", "tu-resnet18"))
    assert parameters(small) < parameters(large)


@pytest.mark.parametrize(
    ("teacher", "student"), [("tu-resnet10t", "tu-resnet18d"), ("tu-resnet18", "tu-resnet34")]
)
def test_a_deeper_student_says_what_its_teacher_says(teacher, student):
    """The first pair is that of recipe=noisy_student: its stems differ in width."""
    small, large = (build("unet", encoder, **TINY) for encoder in (teacher, student))
    images = torch.randn(4, 3, 64, 64)
    small.train()(images)  # statistics of batch norm that are not the first ones
    found = grown(large, small.state_dict())
    assert len(found) == len(small.state_dict())
    large.load_state_dict(found, strict=False)
    small.eval(), large.eval()
    assert torch.allclose(small(images), large(images), atol=1e-4)


def test_what_is_narrower_or_of_another_kernel_is_not_taken():
    wide, narrow = (torch.nn.Conv2d(inputs, 4, size) for inputs, size in ((3, 3), (2, 3)))
    assert set(grown(narrow, wide.state_dict())) == {"bias"}
    assert set(grown(torch.nn.Conv2d(3, 4, 5), wide.state_dict())) == {"bias"}


def test_dropout_acts_in_training_only_and_names_no_parameter():
    plain, noisy = build("unet", "tu-resnet10t", **TINY), build("unet", "tu-resnet10t", dropout=0.5, **TINY)
    noisy.load_state_dict(plain.state_dict())
    image = torch.rand(2, 3, 32, 32)
    assert torch.equal(plain.eval()(image), noisy.eval()(image))
    noisy.train()
    for module in noisy.modules():  # statistics of the batch aside, dropout alone makes two passes differ
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    assert not torch.equal(noisy(image), noisy(image))


def test_stochastic_depth_reaches_the_encoder():
    network = build("unet", "tu-resnet10t", drop_path=0.2, **TINY)
    rates = [module.drop_prob for module in network.modules() if type(module).__name__ == "DropPath"]
    assert rates == sorted(rates) and rates[-1] > 0.1  # grows with the depth (Huang et al. 2016)


@pytest.mark.parametrize("encoder", ["resnet18", "tu-vgg11"])
def test_an_encoder_without_stochastic_depth_is_refused(encoder):
    with pytest.raises(ConfigError, match="drop_path"):
        build("unet", encoder, classes=2, drop_path=0.1)


@pytest.mark.parametrize(("arch", "encoder"), [("unet", "tu-resnet1000"), ("unet", "nonsense")])
def test_unknown_names_are_a_config_error(arch, encoder):
    with pytest.raises(ConfigError, match="cannot build"):
        build(arch, encoder, classes=2)


@pytest.mark.parametrize(
    ("arch", "said"),
    [("unett", "similar names: unet"), ("DeepLabV3++", "deeplabv3plus"), ("fcn_8s", "fcn8s")],
)
def test_an_unknown_architecture_is_answered_with_near_names(arch, said):
    with pytest.raises(ConfigError, match=re.escape(f"model.arch: there is no {arch!r}; ")) as refused:
        build(arch, TU, classes=2)
    assert said in str(refused.value) and len(str(refused.value)) < 120


@pytest.mark.parametrize(
    ("encoder", "said"),
    [
        ("tf_efficientnet_lite0", "tu-tf_efficientnet_lite0"),
        ("resnt18", "tu-resnet18"),
        ("tu-resnet1000", "tu-resnet10t"),
        ("se_resnxt50_32x4d", "se_resnext50_32x4d"),
    ],
)
def test_the_name_of_an_unknown_encoder_is_explained_by_near_ones(encoder, said):
    with pytest.raises(ConfigError, match=re.escape(said)) as refused:
        build("unet", encoder, classes=2)
    assert len(str(refused.value)) < 250  # no list of all names


def test_widths_are_refused_by_name_where_the_decoder_has_none_to_choose():
    with pytest.raises(ConfigError, match=r"unet, unetplusplus, manet.*model\.decoder_channels=\[\]"):
        build("dpt", "tu-test_vit", **TINY)


def test_a_vision_transformer_takes_images_of_any_size():
    network = build("dpt", "tu-test_vit3", classes=3).eval()  # timm fixes the size of this one at 160
    for height, width in ((32, 32), (64, 96)):
        assert network(torch.zeros(1, 3, height, width)).shape == (1, 3, height, width)


@pytest.mark.parametrize(
    ("arch", "encoder", "channels"),
    [("dpt", "tu-test_vit", None), ("pspnet", "resnet18", None), ("unet", "resnet18", [16, 8, 8]), ("unet", "resnet18", None),
     ("unet", "tu-resnet10t", None), ("unet", "tu-test_efficientnet", [16, 8, 8])],
)  # fmt: skip
def test_networks_with_parameters_that_nothing_depends_on_are_known(arch, encoder, channels):
    network = build(arch, encoder, classes=2, decoder_channels=channels).train()
    network(torch.randn(2, 3, 64, 64)).sum().backward()
    idle = any(parameter.grad is None for parameter in network.parameters())
    assert leaves_parameters_unused(arch, channels) == idle
    AcceleratorState._reset_state(reset_partial_state=True)  # of tests before this one in the same process
    for model, generation in (
        (ModelConfig(arch=arch, encoder=encoder, decoder_channels=channels or []), GenerationConfig()),
        (ModelConfig(), GenerationConfig(arch=arch, encoder=encoder, decoder_channels=channels or [])),
    ):
        accelerator = accelerator_of(
            Config(model=model, generations=[GenerationConfig(arch="unet", encoder=TU), generation])
        )
        assert (
            accelerator.ddp_handler.find_unused_parameters == idle
        )  # or ranks would wait for their gradients for ever


@pytest.mark.parametrize(("freeze", "told"), [(0, False), (3, True), ("always", False)])
def test_ranks_are_told_of_an_encoder_that_is_frozen_at_first(freeze, told):
    """torch's DDP would wait for its gradients; if it is always frozen, DDP does not know its parameters."""
    AcceleratorState._reset_state(reset_partial_state=True)
    config = Config(model=ModelConfig(encoder=TU), train=TrainConfig(freeze=freeze))
    assert accelerator_of(config).ddp_handler.find_unused_parameters == told
