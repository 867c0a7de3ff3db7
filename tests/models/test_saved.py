"""A network goes to disk with its description, and comes back from it."""

import copy
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from selftrain.errors import IntegrityError
from selftrain.files import commit_directory, read_directory
from selftrain.models import saved
from selftrain.models.build import build, parameters

NAMES = {"arch": "unet", "encoder": "tu-resnet10t", "decoder_channels": [32, 16, 16, 8]}


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """With the noise of training, which is no part of what is saved."""
    torch.manual_seed(0)
    made = build(
        "unet", "tu-resnet10t", classes=3, decoder_channels=[32, 16, 16, 8], dropout=0.5, drop_path=0.2
    )
    made.train()(torch.rand(2, 3, 64, 64))  # statistics of its own
    return made.eval()


def written(directory: Path, network: nn.Module) -> Path:
    saved.write(directory, network, saved.describe(network, **NAMES), ["sky", "road", "tree"])
    return directory


def change(directory: Path, **facts: object) -> None:
    """Other facts in the manifest; `None` removes one."""
    manifest = json.loads((directory / "MANIFEST.json").read_bytes()) | facts
    (directory / "MANIFEST.json").write_text(
        json.dumps({key: fact for key, fact in manifest.items() if fact is not None})
    )


def test_a_network_comes_back_as_it_was(network: nn.Module, tmp_path: Path) -> None:
    found, images = saved.read(written(tmp_path / "model", network)), torch.rand(1, 3, 32, 64)
    assert found.description == {**NAMES, "channels": 3, "params": parameters(network)}
    assert found.classes == ["sky", "road", "tree"]
    assert not found.network.training
    with torch.inference_mode():
        assert torch.equal(found.network(images), network(images))


def test_the_noise_of_training_is_not_read_back(network: nn.Module, tmp_path: Path) -> None:
    images = torch.rand(2, 3, 64, 64)
    noisy, quiet = (
        copy.deepcopy(network).train(),
        saved.read(written(tmp_path / "model", network)).network.train(),
    )
    with torch.no_grad():
        assert not torch.equal(noisy(images), noisy(images)) and torch.equal(quiet(images), quiet(images))


def test_what_lay_there_is_replaced_and_the_digest_changes(network: nn.Module, tmp_path: Path) -> None:
    before = saved.read(written(tmp_path / "model", network)).digest
    (tmp_path / "model" / "leftover").write_bytes(b"")
    other = build("unet", "tu-resnet10t", classes=3, decoder_channels=[32, 16, 16, 8])
    assert saved.read(written(tmp_path / "model", other)).digest != before
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "MANIFEST.json",
        "model.safetensors",
    ]


def test_weights_alone_are_described_by_another_directory(network: nn.Module, tmp_path: Path) -> None:
    model = written(tmp_path / "model", network)
    commit_directory(tmp_path / "snapshot", saved.weights_of(network))
    found = saved.read(tmp_path / "snapshot", described_in=model)
    assert found.digest == saved.read(model).digest and found.classes == ["sky", "road", "tree"]
    with pytest.raises(IntegrityError, match="does not describe a network"):
        saved.read(tmp_path / "snapshot")


@pytest.mark.parametrize(
    "facts", [{"model": None}, {"model": {"arch": "unet"}}, {"classes": None}, {"classes": 3}]
)
def test_a_manifest_that_describes_no_network_is_refused(
    network: nn.Module, tmp_path: Path, facts: dict
) -> None:
    change(written(tmp_path / "model", network), **facts)
    with pytest.raises(
        IntegrityError, match=r"model/MANIFEST\.json is damaged .* remove .*model to make it again"
    ):
        saved.read(tmp_path / "model")


def test_weights_of_another_network_are_refused(network: nn.Module, tmp_path: Path) -> None:
    change(written(tmp_path / "model", network), classes=["sky", "road"])
    with pytest.raises(
        IntegrityError, match=r"model\.safetensors does not contain the network of MANIFEST\.json"
    ):
        saved.read(tmp_path / "model")


def test_a_directory_without_weights_is_refused(network: nn.Module, tmp_path: Path) -> None:
    description = saved.describe(network, **NAMES)
    commit_directory(tmp_path / "model", {"other": b""}, model=description, classes=["a"])
    assert read_directory(tmp_path / "model")
    with pytest.raises(IntegrityError, match=r"contains no model\.safetensors"):
        saved.read(tmp_path / "model")
