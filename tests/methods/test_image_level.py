"""The image-level head learns beside the pixels, with stored labels and online."""

import math
from dataclasses import replace

import pytest
import torch
from online_views import Says, batch

from methods import method, result_of

TAGS = torch.tensor([[1.0, 0.0]])


class Tells(Says):
    """It also says of every image, with log-odds of 1 and -1, that it contains class 0 and not class 1."""

    def __init__(self, p):
        super().__init__(p)
        self.odds = torch.nn.Parameter(torch.tensor([1.0, -1.0]))

    def forward(self, images):
        return super().forward(images), self.odds.expand(len(images), 2)


@pytest.mark.parametrize("name", ["", "mean_teacher", "fixmatch", "unimatch_v2"])
def test_the_loss_of_the_head_is_added_to_the_loss_of_pixels(name):
    there = batch(strong=2 if name == "unimatch_v2" else 1)
    there = there if name else replace(there, views=None)
    network = Tells(0.9)
    network.encoder = torch.nn.Identity()
    network.anatomy = None
    plain = result_of(method(name), network, network, there)
    step = method(name, image={"bce": {"weight": 0.5}})
    both = result_of(step, network, network, replace(there, tags=TAGS))
    own = 0.5 * math.log1p(math.exp(-1))
    assert math.isclose(both.loss.item(), plain.loss.item() + own, rel_tol=1e-5)
    assert math.isclose(both.logs.pop("image_loss").item(), own, rel_tol=1e-5)
    assert both.logs == plain.logs
    both.loss.backward()
    assert network.odds.grad[0] < 0 < network.odds.grad[1]


def test_the_loss_of_the_head_is_divided_by_the_tags_of_the_global_batch():
    step, there = method(image={"bce": {}}), replace(batch(), views=None, tags=TAGS)
    counts = step.counts(there)
    counts[0] *= 4
    whole, part = (result_of(step, Tells(0.9), None, there, given) for given in (None, counts))
    assert math.isclose(part.logs["image_loss"].item(), whole.logs["image_loss"].item() / 4, rel_tol=1e-5)
