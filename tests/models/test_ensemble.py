"""Several networks as one."""

import torch
from torch import nn

from selftrain.anatomy import Anatomy, anatomy_of, part
from selftrain.models import saved
from selftrain.models.build import build
from selftrain.models.ensemble import Ensemble, joined, parts, shares_of
from selftrain.models.onnx import onnx_graph


def unet(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return build("unet", "tu-resnet18", classes=3, decoder_channels=[8, 8]).eval()


class Edge(nn.Module):
    """Logits that are the image's first two channels; remembers the size of what it saw."""

    anatomy = Anatomy(multiple=4)

    def forward(self, images):
        self.seen = tuple(images.shape)
        return images[:, :2]


def test_its_probabilities_are_the_mean_of_its_members():
    networks, images = [unet(0), unet(1)], torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        mean = torch.stack([network(images).softmax(1) for network in networks]).mean(0)
        together = Ensemble(networks, [1.0, 1.0])(images)
    assert torch.allclose(together.exp(), mean, atol=1e-6)  # logits are logarithms of probabilities
    assert torch.allclose(together.softmax(1), mean, atol=1e-6)


def test_one_network_that_sees_images_as_they_are_stays_itself():
    network = Edge()
    assert joined([network], [1.0]) is network and parts(network) == [network]


def test_a_member_with_a_zoom_sees_larger_images_and_answers_at_their_size():
    network, images = Edge(), torch.zeros(1, 3, 20, 36)
    images[:, 1, :, 18:] = 4.0
    logits = Ensemble([network], [1.25])(images)
    assert network.seen == (1, 3, 28, 48)  # multiples of 4 that are at least 1.25 times as long
    assert logits.shape == (1, 2, 20, 36)
    assert (logits[0, 1, :, 20:] > logits[0, 0, :, 20:]).all() and torch.isclose(
        logits.exp().sum(1), torch.ones(())
    ).all()


def test_image_level_logits_are_averaged():
    class Two(Edge):
        def __init__(self, value):
            super().__init__()
            self.value = value

        def forward(self, images):
            return images[:, :2], torch.full((len(images), 5), self.value)

    _, image = Ensemble([Two(1.0), Two(3.0)], [1.0, 1.0])(torch.zeros(2, 3, 4, 4))
    assert image.shape == (2, 5) and (image == 2.0).all()
    _, image = Ensemble([Two(1.0), Two(3.0)], [1.0, 1.0], [1, 3])(torch.zeros(2, 3, 4, 4))
    assert (image == 2.5).all()


def test_it_is_written_and_read_as_one_network(tmp_path):
    ensemble, images = Ensemble([unet(0), unet(1)], [1.0, 1.5]).eval(), torch.randn(1, 3, 64, 64)
    settings = {"arch": "unet", "encoder": "tu-resnet18", "decoder_channels": [8, 8]}
    described = saved.describe(ensemble, **settings)
    assert described["members"] == [1.0, 1.5]
    assert described["params"] == 2 * saved.describe(unet(0), **settings)["params"]
    saved.write(tmp_path / "model", ensemble, described, ["a", "b", "c"])
    with torch.no_grad():
        assert torch.equal(saved.read(tmp_path / "model").network(images), ensemble(images))


def test_the_parts_of_member_0_are_found_by_name():
    ensemble = Ensemble([unet(0), unet(1)], [1.0, 1.0])
    anatomy = anatomy_of(ensemble)
    assert part(ensemble, anatomy.encoder, "train.groups") is ensemble.members[0].encoder
    assert anatomy.multiple == 32


def test_its_onnx_graph_answers_like_torch_at_every_size():
    class Layer(nn.Conv2d):
        anatomy = Anatomy(multiple=4)

    ensemble = Ensemble([Layer(3, 2, 3, padding=1), Layer(3, 2, 3, padding=1)], [1.0, 1.25]).eval()
    _, compared = onnx_graph(ensemble, multiple=32)
    assert compared["largest_difference"] < compared["tolerance"]


def test_joined_descriptions_have_the_share_of_each_network(tmp_path):
    arch, encoder = "unet", "tu-test_resnet"
    pair = joined([build(arch, encoder, classes=2), build(arch, encoder, classes=2)], [1.0, 1.0], [3.0, 1.0])
    lone = build(arch, encoder, classes=2)
    described = [saved.describe(one, arch=arch, encoder=encoder, decoder_channels=[]) for one in (pair, lone)]
    network = joined([*parts(pair), lone], [1.0] * 3, [*shares_of(pair), *shares_of(lone)])
    together = saved.describe_joined(network, described)
    assert together["member_weights"] == [0.75, 0.25, 1.0] and together["members"] == [1.0] * 3
    saved.write(tmp_path / "model", network, together, ["a", "b"])
    found = saved.read(tmp_path / "model").network
    images = torch.rand(1, 3, 32, 32)
    assert torch.equal(found(images), network.eval()(images))
