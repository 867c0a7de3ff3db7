"""Networks of other libraries: what they are built from, and where their parts are found."""

import pytest
import torch
from torch import nn

from selftrain.anatomy import Anatomy
from selftrain.errors import ConfigError
from selftrain.models import saved
from selftrain.models.build import ARCHITECTURES, Architecture, build, leaves_parameters_unused, multiple_of
from selftrain.models.weights import decoder_names, encoder_names, fitting
from selftrain.optim.groups import one, scaled
from selftrain.preflight import check
from selftrain.settings import compose


class Tiny(nn.Module):
    def __init__(self, classes, channels):
        super().__init__()
        self.body = nn.ModuleDict({"stem": nn.Conv2d(channels, 8, 3, padding=1)})
        self.classifier = nn.Conv2d(8, classes, 1)

    def forward(self, images):
        return self.classifier(self.body["stem"](images).relu())


def tiny(*, classes, channels):
    return Tiny(classes, channels)


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setitem(
        ARCHITECTURES, "tiny", Architecture(tiny, Anatomy(multiple=7, encoder="body.stem", head="classifier"))
    )


def test_a_name_of_the_table_builds_its_network_and_any_other_name_is_smp_s():
    assert build("tiny", "", classes=5, channels=4)(torch.zeros(1, 4, 7, 14)).shape == (1, 5, 7, 14)
    assert type(build("unet", "tu-resnet10t", classes=5, decoder_channels=[32, 16, 16, 8])).__name__ == "Unet"
    assert (multiple_of("tiny"), multiple_of("unet")) == (7, 32)
    assert leaves_parameters_unused("tiny", None) and not leaves_parameters_unused("unet", None)


def test_smp_s_networks_take_images_of_other_channels():
    network = build("unet", "tu-resnet10t", classes=2, channels=5, decoder_channels=[32, 16, 16, 8]).eval()
    assert network(torch.zeros(1, 5, 32, 32)).shape == (1, 2, 32, 32)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"decoder_channels": [8]}, "arch=tiny takes no decoder_channels; set model.decoder_channels=[]"),
        ({"drop_path": 0.1}, "arch=tiny takes no drop_path; set noise.drop_path=0"),
        ({"imagenet": True}, "arch=tiny takes no imagenet; set model.weights=null"),
    ],
)
def test_a_setting_that_an_architecture_does_not_take_is_refused(settings, message):
    with pytest.raises(ConfigError) as error:
        build("tiny", "", classes=2, **settings)
    assert str(error.value) == message


def test_dropout_acts_before_the_head_and_a_head_that_is_not_there_is_refused(monkeypatch):
    images = torch.rand(1, 3, 7, 7)
    noisy = build("tiny", "", classes=2, dropout=1.0)
    assert torch.equal(noisy(images), noisy.classifier.bias[None, :, None, None].expand(1, 2, 7, 7))
    assert not torch.equal(noisy.eval()(images), noisy.train()(images))
    monkeypatch.setitem(ARCHITECTURES, "tiny", Architecture(tiny))
    with pytest.raises(
        ConfigError,
        match=r"noise.dropout: Tiny has no module 'segmentation_head'; its Anatomy may name another",
    ):
        build("tiny", "", classes=2, dropout=0.5)


def test_the_encoder_is_found_by_weights_and_by_parameter_groups():
    network = build("tiny", "", classes=2)
    assert encoder_names(network) == ["body.stem.weight", "body.stem.bias"]
    assert decoder_names(network) == ["classifier.weight", "classifier.bias"]
    assert list(fitting(network, {"weight": torch.zeros(8, 3, 3, 3)})) == [
        "body.stem.weight"
    ]  # a file of the encoder only
    for whole in (network, nn.ModuleDict({"first": network, "second": build("tiny", "", classes=2)})):
        groups = scaled(one(whole, weight_decay=0.1), whole, encoder_lr=0.5, layer_decay=1.0)
        slower = {id(each) for group in groups for each in group["params"] if group["lr_scale"] == 0.5}
        assert slower == {id(each) for name, each in whole.named_parameters() if "body.stem" in name}


def test_a_saved_network_is_built_again_for_its_channels(tmp_path):
    network = build("tiny", "", classes=2, channels=4)
    described = saved.describe(network, arch="tiny", encoder="", decoder_channels=[], channels=4)
    saved.write(tmp_path / "model", network, described, ["sky", "road"])
    images = torch.rand(1, 4, 7, 7)
    assert torch.equal(saved.read(tmp_path / "model").network(images), network(images))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([], "train.crop=[32, 32] must be [height, width] in multiples of 7"),
        (["train.crop=[35,28]"], "labels.window=1024 must be a multiple of 7 (0: no windows)"),
        (
            ["train.crop=[35,28]", "labels.window=0", "generations.1.arch=unet"],
            "train.crop=[35, 28] must be [height, width] in multiples of 32",
        ),
    ],
)
def test_crops_and_windows_suit_the_networks_of_all_generations(settings, message):
    plain = ["recipe=smoke", "model.arch=tiny"]
    with pytest.raises(ConfigError) as error:
        check(compose([*plain, *settings]))
    assert str(error.value) == message
    check(compose([*plain, "train.crop=[35,28]", "labels.window=70"]))
