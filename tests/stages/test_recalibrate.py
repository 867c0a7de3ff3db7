from contextlib import nullcontext

import torch
from torch import nn

from selftrain.inference.pixels import PixelScale
from selftrain.optim.groups import Freezer
from selftrain.stages.recalibrate import recalibrate

MEAN, STD = torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1)


def go(network, crops):
    recalibrate(network, crops, scale=PixelScale(MEAN, STD), precision=nullcontext)


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
    assert torch.allclose(norm.running_mean, means, rtol=1e-4) and torch.allclose(
        norm.running_var, variances, rtol=1e-4
    )
    assert norm.momentum == 0.1 and not any(module.training for module in network.modules())
    assert all(map(torch.equal, weights, network.parameters()))


def test_a_network_without_batch_norm_asks_for_no_image():
    crops = iter([torch.zeros(1, 2, 2, 3, dtype=torch.uint8)])
    go(nn.Conv2d(3, 2, 1), crops)
    assert len(list(crops)) == 1


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, images):
        return self.decoder(self.encoder(images))


def test_a_frozen_encoder_keeps_the_statistics_that_it_was_used_with():
    network = Small()
    network.encoder.running_mean.fill_(7.0)
    freezer = Freezer(network, 3, of=9)
    go(network, iter([torch.full((2, 4, 4, 3), 9, dtype=torch.uint8)]))
    assert torch.equal(network.encoder.running_mean, torch.full((3,), 7.0))
    assert torch.allclose(network.decoder.running_mean, torch.full((3,), 2.0), rtol=1e-4)  # 9 less 7
    freezer.set(3)
    go(network, iter([torch.full((2, 4, 4, 3), 9, dtype=torch.uint8)]))
    assert torch.allclose(network.encoder.running_mean, torch.full((3,), 9.0))
