import torch
from accelerate import Accelerator
from torch import nn

from selftrain.data.cache import Cache
from selftrain.stages.inference import Inference
from selftrain.stages.statistics import measure

MEAN, STD = torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1)


def go(network, crops):
    measure(network, crops, Inference(Accelerator(cpu=True), Cache(0), MEAN, STD, window=0))


def test_statistics_are_the_mean_over_the_batches_and_nothing_else_changes():
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3)
    network = nn.Sequential(norm, nn.Dropout(0.5), nn.Conv2d(3, 2, 1))
    norm.running_mean.fill_(1000.0)
    weights = [parameter.clone() for parameter in network.parameters()]
    crops = [torch.randint(0, 256, (4, 8, 8, 3), dtype=torch.uint8) for _ in range(3)]
    go(network, iter(crops))
    means = torch.stack([batch.float().mean(dim=(0, 1, 2)) for batch in crops]).mean(dim=0)
    variances = torch.stack([batch.float().reshape(-1, 3).var(dim=0) for batch in crops]).mean(dim=0)
    assert torch.allclose(norm.running_mean, means, rtol=1e-4) and torch.allclose(norm.running_var, variances, rtol=1e-4)
    assert norm.momentum == 0.1 and not any(module.training for module in network.modules())
    assert all(map(torch.equal, weights, network.parameters()))


def test_a_network_without_batch_norm_asks_for_no_image():
    crops = iter([torch.zeros(1, 2, 2, 3, dtype=torch.uint8)])
    go(nn.Conv2d(3, 2, 1), crops)
    assert len(list(crops)) == 1
