"""What every architecture must be able to do, whoever wrote it."""

import json
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional as F

from selftrain import checkpoint
from selftrain.anatomy import anatomy_of
from selftrain.config import TrainConfig
from selftrain.inference import windows
from selftrain.inference.pixels import PixelScale
from selftrain.inference.predictor import Predictor
from selftrain.methods.base import StepResult
from selftrain.models.onnx import onnx_graph
from selftrain.models.outputs import pixels_of
from selftrain.stages.train import Learner

SIDE = 64  # unless a network needs more


def two_images(side, classes=4):
    """Images (2, 3, side, side) of four squares whose colours tell their classes, and masks (2, side, side)."""
    half = side // 2
    masks = (
        torch.tensor([[[0, 1], [2, 3]], [[3, 0], [1, 2]]])
        .repeat_interleave(half, 1)
        .repeat_interleave(half, 2)
    )
    random = torch.Generator().manual_seed(0)
    colours = torch.randn(4, 3, generator=random)
    noise = torch.randn(2, 3, side, side, generator=random)
    return colours[masks].permute(0, 3, 1, 2) + 0.2 * noise, masks.clamp(max=classes - 1)


def _trained(network, images, masks, steps, lr):
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    losses = []
    for _ in range(steps):
        loss = F.cross_entropy(pixels_of(network(images)), masks)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
    return losses


def learns(network):
    """Whether a few steps lower the loss."""
    images, masks = two_images(max(SIDE, anatomy_of(network).multiple), classes=3)
    network.train()
    losses = _trained(network, images, masks, 6, 1e-3)
    return all(np.isfinite(losses)) and min(losses[-2:]) < losses[0]


class PixelLoss:
    """The step function of cross-entropy on the same images in every step."""

    def __init__(self, images, masks):
        self.images, self.masks = images, masks

    def counts(self, batch):
        return torch.zeros(0)

    def loss(self, model, averaged, batch, counts):
        return StepResult(F.cross_entropy(pixels_of(model(self.images)), self.masks), {})


def resumes(made):
    """Whether a step after a checkpoint has the bits of a step that follows the one before it."""
    learners = [Learner(made(), TrainConfig(lr=1e-3), Accelerator(cpu=True), steps=2) for _ in range(2)]
    loss = PixelLoss(*two_images(max(32, anatomy_of(learners[0].network).multiple), classes=3))
    torch.manual_seed(1)
    learners[0].step(0, 1e-3, loss, [None])
    saved = learners[0].checkpoint(1)
    packed = {group: checkpoint.pack(tensors) for group, tensors in saved.tensors.items()}
    unpacked = {group: checkpoint.unpack(content, Path(group)) for group, content in packed.items()}
    learners[1].resume(checkpoint.Checkpoint(unpacked, json.loads(json.dumps(saved.state))))
    for one in learners:
        torch.manual_seed(2)  # a run keys its randomness by the step
        one.step(1, 1e-3, loss, [None])
    return all(
        whole.keys() == again.keys() and all(torch.equal(whole[name], again[name]) for name in whole)
        for whole, again in zip(*(one.checkpoint(2).tensors.values() for one in learners), strict=True)
    )


def takes_odd_sizes(network):
    """Whether padding makes images of any size fit, as in evaluation and labelling."""
    scale = PixelScale(torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1))
    asked = Predictor((network,), scale, windows.of(0), multiple=anatomy_of(network).multiple)
    images = np.random.default_rng(0).integers(0, 255, (1, 37, 71, 3), np.uint8)
    found = asked.probabilities(images)
    return found.shape[2:] == (37, 71) and torch.allclose(found.sum(dim=1), torch.ones(1, 37, 71))


def overfits(network, steps=150, lr=3e-3):
    """The share of the pixels of two images that a network learns by heart."""
    images, masks = two_images(max(SIDE, anatomy_of(network).multiple))
    network.train()
    _trained(network, images, masks, steps, lr)
    network.eval()
    with torch.no_grad():
        _recalibrate(network, images)
        return float((pixels_of(network(images)).argmax(dim=1) == masks).float().mean())


def _recalibrate(network, images):
    """Batch norm's statistics of the last weights, as every run computes them after its training."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    network(images)
    for norm in norms:
        norm.eval()


def exports(network):
    """Whether the ONNX graph gives the same logits at several sizes; `onnx_graph` raises if not."""
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)  # scores of zero would be equal to anything
    _, compared = onnx_graph(network.eval(), multiple=anatomy_of(network).multiple)
    return compared["largest_difference"] <= compared["tolerance"]
