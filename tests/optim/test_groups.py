import copy
import itertools

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn

from selftrain.errors import ConfigError
from selftrain.methods.cps import Pair
from selftrain.optim.groups import LAYER, Freezer, one, scaled, unfrozen


class Small(nn.Module):
    """An encoder with batch norm and a decoder."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.decoder = nn.Conv2d(4, 2, 1)

    def forward(self, images):
        return self.decoder(self.encoder(images))


def groups_of(network, encoder_lr=1.0, layer_decay=1.0):
    groups = one(network, weight_decay=0.1)
    return scaled(groups, network, encoder_lr=encoder_lr, layer_decay=layer_decay)


def scales(network, groups):
    """The share of the rate of each parameter by its name."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    return {names[id(one)]: group.get("lr_scale", 1.0) for group in groups for one in group["params"]}


def decays(network, groups):
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    return {names[id(one)]: group["weight_decay"] for group in groups for one in group["params"]}


@pytest.mark.parametrize("rates", [{}, {"encoder_lr": 0.1}, {"layer_decay": 0.5}])
def test_biases_and_norms_have_no_weight_decay_and_every_parameter_is_there_once(rates):
    network = Small()
    groups = groups_of(network, **rates)
    expected = {name: 0.1 if parameter.ndim > 1 else 0.0 for name, parameter in network.named_parameters()}
    assert decays(network, groups) == expected
    assert sum(len(group["params"]) for group in groups) == len(expected)


def test_one_group_has_the_full_rate():
    network = Small()
    assert set(scales(network, one(network, weight_decay=0.1)).values()) == {1.0}


def test_the_encoder_has_its_own_share_of_the_rate():
    network = Small()
    found = scales(network, groups_of(network, encoder_lr=0.2))
    assert {name: scale for name, scale in found.items() if name.startswith("decoder")} == dict.fromkeys(
        ("decoder.weight", "decoder.bias"), 1.0
    )
    assert {scale for name, scale in found.items() if name.startswith("encoder")} == {0.2}


def test_of_two_networks_both_encoders_have_it():
    pair = Pair(Small(), Small())
    found = scales(pair, groups_of(pair, encoder_lr=0.2))
    assert {name for name, scale in found.items() if scale == 1} == {
        f"{which}.decoder.{part}" for which in ("first", "second") for part in ("weight", "bias")
    }


def test_each_layer_of_an_encoder_learns_slower_than_the_next_one():
    network = Small()
    network.encoder = nn.Sequential(
        *(nn.Conv2d(3, 3, 1) for _ in range(LAYER))
    )  # two layers of LAYER tensors each
    found = scales(network, groups_of(network, layer_decay=0.5))
    assert [found[f"encoder.{i}.weight"] for i in range(LAYER)] == [0.25] * (LAYER // 2) + [0.5] * (
        LAYER // 2
    )
    assert found["decoder.weight"] == 1


def test_the_layers_of_a_vision_transformer_are_its_blocks():
    network = smp.create_model(
        "dpt", "tu-vit_tiny_patch16_224", encoder_weights=None, classes=2, dynamic_img_size=True
    )
    found = scales(network, groups_of(network, layer_decay=0.5))
    blocks = [found[f"encoder.model.blocks.{i}.attn.qkv.weight"] for i in range(12)]
    assert all(later == 2 * earlier for earlier, later in itertools.pairwise(blocks))
    assert found["encoder.model.blocks.3.mlp.fc1.bias"] == blocks[3]
    assert found["encoder.model.patch_embed.proj.weight"] == blocks[0] / 2


def test_the_encoders_share_applies_to_every_layer_and_to_the_groups_of_an_entry_of_ones_own():
    network = Small()
    both = scales(network, groups_of(network, encoder_lr=0.2, layer_decay=0.5))
    assert both["encoder.0.weight"] == pytest.approx(0.1) and both["decoder.weight"] == 1
    own = [{"params": list(network.parameters()), "lr_scale": 0.5}]
    found = scales(network, scaled(own, network, encoder_lr=0.2, layer_decay=1.0))
    assert found["encoder.0.weight"] == pytest.approx(0.1) and found["decoder.weight"] == 0.5


def changed_by_a_step(network, optimizer):
    """The tensors that a step of training changes."""
    before = copy.deepcopy(network.state_dict())
    network.train()
    network(torch.rand(2, 3, 4, 4)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    return {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}


def test_a_frozen_encoder_keeps_weights_and_statistics_while_the_decoder_learns():
    network = Small()
    freezer, optimizer = (
        Freezer(network, 2, of=9),
        torch.optim.AdamW(network.parameters(), lr=0.1, weight_decay=0.1),
    )
    decoder = {"decoder.weight", "decoder.bias"}
    for step in range(2):
        freezer.set(step)
        assert changed_by_a_step(network, optimizer) == decoder
    assert len(optimizer.state) == len(decoder)
    freezer.set(2)
    assert changed_by_a_step(network, optimizer) >= decoder | {"encoder.0.weight", "encoder.1.running_mean"}


def test_a_parameter_that_is_never_trained_is_not_unfrozen():
    network = Small()
    network.encoder[0].weight.requires_grad_(False)
    freezer = Freezer(network, 1, of=9)
    freezer.set(1)
    assert not network.encoder[0].weight.requires_grad and network.encoder[0].bias.requires_grad


def test_a_copy_of_a_frozen_network_is_frozen_until_the_freezer_is_told():
    network = Small()
    freezer = Freezer(network, 1, of=9)
    again = copy.deepcopy(network).train()
    again(torch.rand(2, 3, 4, 4))
    assert torch.equal(again.encoder[1].running_mean, torch.zeros(4))
    assert {type(module) for module in unfrozen(again)} == {Small, nn.Conv2d}
    freezer.set(1, again)
    assert len(list(unfrozen(again))) == len(list(again.modules()))


@pytest.mark.parametrize(
    ("setting", "use"),
    [
        ("train.encoder_lr and train.layer_decay", lambda network: groups_of(network, encoder_lr=0.5)),
        ("train.encoder_lr and train.layer_decay", lambda network: groups_of(network, layer_decay=0.5)),
        ("train.freeze", lambda network: Freezer(network, 1, of=9)),
    ],
)
def test_a_network_without_an_encoder_of_its_own_is_refused(setting, use):
    with pytest.raises(ConfigError, match=f"{setting}: Sequential has no encoder of its own"):
        use(nn.Sequential(nn.Conv2d(3, 2, 1)))
