"""A network that says what it sees, and small batches of views for online methods."""

import math

import torch
from torch import nn

from selftrain.data.examples import Batch, Views
from selftrain.data.mixing import MIXES, Mixer
from selftrain.targets import Target

BOXES = (Mixer("cutmix", 1.0, MIXES["cutmix"].draw, MIXES["cutmix"].mask),)


class Says(nn.Module):
    """Logits by the red value of a pixel: class 0 below 128, else class 1, as sure as `p`."""

    def __init__(self, p):
        super().__init__()
        self.sure = nn.Parameter(torch.tensor(math.log(p / (1 - p))))
        self.seen = []

    def forward(self, images):
        self.seen.append(images.detach())
        side = torch.where(images[:, 0] < 128, 0.5, -0.5) * self.sure
        return torch.stack([side, -side], dim=1)


def views_of(images, inside=None, box=None, pasted=(False,)):
    """The views of M unlabelled images, `box` of each mixed with another image."""
    strong, many = len(images) - 1, images.shape[1]
    inside = torch.ones(images.shape[1:4], dtype=torch.bool) if inside is None else inside
    which = torch.full((strong, many), -1 if box is None else 0)
    numbers = torch.tensor(box or (0, 0, 0, 0), dtype=torch.float64).expand(strong, many, 4)
    erased = torch.zeros(strong, *inside.shape, dtype=torch.bool)
    return Views(0, images, inside, which, numbers, torch.tensor(pasted)[:many].expand(strong, many), erased)


def batch(box=None, strong=1, padding=0, pasted=(False, False)):
    """A labelled image of class 0, and two unlabelled ones, black and white."""
    images = torch.zeros(1 + strong, 2, 4, 4, 3, dtype=torch.uint8)
    images[:, 1] = 255
    inside = torch.ones(2, 4, 4, dtype=torch.bool)
    inside[:, :padding] = False
    known = Target(torch.zeros(1, 4, 4, dtype=torch.uint8))
    return Batch(images[0, :1], known, views=views_of(images, inside, box, pasted))
