"""Batch norm over all processes. Its statistics need GPUs; what it does to networks is tested here."""

import pytest
import torch
from accelerate import Accelerator
from timm.layers import BatchNormAct2d
from torch import nn

from selftrain import hosts, preflight
from selftrain.config import TrainConfig
from selftrain.errors import ConfigError
from selftrain.models.build import build
from selftrain.models.synchronised import synchronise
from selftrain.settings import compose
from selftrain.stages.train import Learner

TIMM = "tu-test_efficientnet"  # its batch norms contain their activation


def synchronised(network):
    return [module for module in network.modules() if isinstance(module, nn.SyncBatchNorm)]


def normalised(network):
    return [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


@pytest.fixture
def two_processes(monkeypatch):
    monkeypatch.setattr(Accelerator, "num_processes", 2)


@pytest.mark.parametrize("encoder", ["tu-test_resnet", TIMM])
def test_a_network_keeps_its_outputs_tensors_and_hooks(encoder):
    """In one process the statistics of all processes are its own."""
    torch.manual_seed(0)
    ours, theirs = (build("unet", encoder, classes=3, decoder_channels=[16, 8, 8, 8, 8][:5]) for _ in "ab")
    theirs.load_state_dict(ours.state_dict())
    names, seen = list(ours.state_dict()), []
    assert (encoder == TIMM) == any(isinstance(one, BatchNormAct2d) for one in ours.modules())
    normalised(ours)[0].register_forward_pre_hook(lambda *_: seen.append(1))
    synchronise(ours)
    assert len(synchronised(ours)) == len(normalised(theirs)) > 5
    images = torch.rand(2, 3, 64, 64)
    for network in (ours, theirs):
        network.train()
    assert torch.equal(ours(images), theirs(images)) and seen == [1]
    assert list(ours.state_dict()) == names
    for mine, other in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        assert torch.equal(mine, other)


def test_a_batch_norm_of_another_kind_is_refused():
    with pytest.raises(ConfigError, match=r"train\.sync_bn: 1 is a BatchNorm3d, which cannot be synch"):
        synchronise(nn.Sequential(nn.BatchNorm2d(2), nn.BatchNorm3d(2)))


@pytest.mark.parametrize("asked", [True, False])
def test_the_averaged_network_has_plain_batch_norm(asked, two_processes):
    """It is evaluated, kept and exported, and its statistics follow the trained network's."""
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    cfg = TrainConfig(sync_bn=asked, optimizer="sgd")
    learner = Learner(network, cfg, Accelerator(cpu=True), steps=5)
    averaged = learner.average.module
    assert len(synchronised(learner.network)) == asked and not synchronised(averaged)
    assert type(averaged[1]) is nn.BatchNorm2d
    learner.network[1].running_mean += 1
    learner.average.update(0.5)
    assert averaged[1].running_mean.tolist() == [0.5] * 4


def test_one_process_has_nothing_to_synchronise():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    learner = Learner(network, TrainConfig(sync_bn=True, optimizer="sgd"), Accelerator(cpu=True), steps=5)
    assert not synchronised(learner.network)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU can do it")
def test_several_processes_on_cpus_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(hosts.Ranks, "num_processes", 2)
    with pytest.raises(ConfigError, match=r"train\.sync_bn=true: torch synchronises batch norm on GPUs only"):
        preflight.accelerator_of(compose(["recipe=smoke", "train.sync_bn=true", f"out={tmp_path / 'run'}"]))
