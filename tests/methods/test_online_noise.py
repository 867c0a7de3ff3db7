"""Erased parts of online views, and mixings that average or weigh labels."""

import math

import pytest
import torch
from online_views import BOXES, Says, batch

from methods import method as step
from methods import result_of
from selftrain.data.mixing import MIXES, Mixer
from selftrain.ids import IGNORE
from selftrain.methods.cps import Pair
from selftrain.models.build import build

SURE = torch.ones(1, 2, 4, 4)  # confidence of the labels


def erased_rows(batch, view, image, rows):
    batch.views.erased[view, image, rows] = True
    return batch


def test_erased_pixels_of_a_view_are_not_learnt_from_there():
    """The second, white image loses half of its pixels; the average's labels stay in the other view."""
    for name, left in (("fixmatch", 24), ("mean_teacher", 24)):
        there = erased_rows(batch(), 0, 1, slice(0, 2))
        result = result_of(step(name, mixers=()), Says(0.6), Says(0.99).eval(), there)
        each = -math.log(0.6) if name == "fixmatch" else 0.39**2
        assert math.isclose(result.logs["pseudo_loss"].item(), each * left / 32, abs_tol=1e-6)
    pair = Pair(Says(0.7), Says(0.2))
    result = result_of(step("cps"), pair, pair, erased_rows(batch(), 0, 1, slice(0, 2)))
    assert math.isclose(
        result.logs["pseudo_loss"].item(), (-math.log(0.3) - math.log(0.2)) * 24 / 32, abs_tol=1e-5
    )


def test_erased_pixels_move_with_a_mixed_box():
    there = erased_rows(batch(box=(0, 2, 0, 4)), 0, 1, slice(0, 1))  # the first row of the white image
    method = step("fixmatch", mixers=BOXES)
    hard = torch.tensor([0, 1])[:, None, None].expand(2, 4, 4)
    target = method.target(method.mixture(there, hard), there, hard[None], SURE).hard
    assert target[0, :, 0].tolist() == [IGNORE, 1, 0, 0]  # black image with the upper half of the white one
    assert target[1, :, 0].tolist() == [0, 0, 1, 1]


MIXUP = (Mixer("mixup", 1.0, MIXES["mixup"].draw, MIXES["mixup"].mask, soft=True),)


def test_mixup_averages_images_and_labels_by_one_share():
    there = batch(box=(0.25,) * 4)
    method = step("fixmatch", mixers=MIXUP, classes=3)
    hard = torch.tensor([0, 2])[:, None, None].expand(2, 4, 4)
    mixture = method.mixture(there, hard)
    assert mixture.mixed(there.views.images[1:], there.images)[0, :, 0, 0, 0].tolist() == [64, 191]
    target = method.target(mixture, there, hard[None], SURE)
    assert target.soft[:, :, 0, 0].tolist() == [[0.75, 0, 0.25], [0.25, 0, 0.75]]
    assert target.hard[:, 0, 0].tolist() == [0, 2]  # not 1, the rounded mean of the ids
    unsure = torch.where(torch.tensor([True, False])[:, None, None], hard, IGNORE)
    target = method.target(mixture, there, unsure[None], SURE)
    assert target.soft[:, :, 0, 0].tolist() == [[1, 0, 0], [1, 0, 0]]
    assert target.weight[:, 0, 0].tolist() == [0.75, 0.25]


def test_labels_are_soft_also_where_no_image_is_averaged():
    """A loss of soft labels needs them in every step, whatever mixings are drawn in it."""
    there = batch()
    method = step("fixmatch", mixers=MIXUP)
    hard = torch.tensor([0, 1])[:, None, None].expand(2, 4, 4)
    target = method.target(method.mixture(there, hard), there, hard[None], SURE)
    assert target.soft[:, :, 0, 0].tolist() == [[1, 0], [0, 1]] and (target.weight == 1).all()


def test_mixup_with_a_labelled_image_uses_its_mask():
    there = batch(box=(0.25,) * 4, pasted=(True, True))
    there.known.hard[:] = 1
    method = step("fixmatch", mixers=MIXUP)
    hard = torch.zeros(2, 4, 4, dtype=torch.int64)
    target = method.target(method.mixture(there, hard), there, hard[None], SURE)
    assert target.soft[:, :, 0, 0].tolist() == [[0.75, 0.25], [0.75, 0.25]]


SNAPMIX = (Mixer("snapmix", 1.0, MIXES["snapmix"].draw, MIXES["snapmix"].mask, weighs=True),)


def test_snapmix_weighs_the_labels_of_a_part_by_the_confidence_there():
    """The upper half of the white image on the black one. Confidence 0.9 and 0.3 in the halves of the white image,
    0.5 everywhere in the black one: the upper half weighs 0.9 / 0.6, the lower half 1."""
    there = batch(box=(0, 2, 0, 4))
    method = step("fixmatch", mixers=SNAPMIX)
    hard = torch.tensor([0, 1])[:, None, None].expand(2, 4, 4)
    confidence = torch.full((1, 2, 4, 4), 0.5)
    confidence[0, 1, :2], confidence[0, 1, 2:] = 0.9, 0.3
    target = method.target(method.mixture(there, hard), there, hard[None], confidence)
    assert target.hard[0, :, 0].tolist() == [1, 1, 0, 0]
    assert torch.allclose(target.weight[0, :, 0], torch.tensor([1.5, 1.5, 1, 1]))
    assert torch.allclose(target.weight[1, :, 0], torch.tensor([1, 1, 0.5, 0.5]))
    plain = step("fixmatch", mixers=BOXES)
    assert plain.target(plain.mixture(there, hard), there, hard[None], confidence).weight is None
    pasted = batch(box=(0, 2, 0, 4), pasted=(True, True))  # a mask is as sure everywhere
    target = method.target(method.mixture(pasted, hard), pasted, hard[None], confidence)
    assert torch.allclose(target.weight[0], torch.ones(4, 4))


def test_snapmix_weighs_only_the_images_that_it_mixes():
    there = batch(box=(0, 2, 0, 4))
    there.views.which[0, 1] = -1
    method = step("fixmatch", mixers=SNAPMIX)
    hard = torch.tensor([0, 1])[:, None, None].expand(2, 4, 4)
    confidence = torch.rand(1, 2, 4, 4)
    target = method.target(method.mixture(there, hard), there, hard[None], confidence)
    assert (target.weight[0] != 1).any() and (target.weight[1] == 1).all()


@pytest.mark.parametrize("mixers", [MIXUP, SNAPMIX])
@pytest.mark.parametrize("name", ["fixmatch", "cps", "unimatch_v2"])
def test_a_step_learns_soft_and_weighed_labels_of_mixed_images(name, mixers):
    torch.manual_seed(0)
    there = batch(
        box=(0.4,) * 4 if mixers is MIXUP else (0, 12, 0, 32), strong=2 if name == "unimatch_v2" else 1
    )
    online = {"kl" if mixers is MIXUP else "ce": {"weight": 1.0}}
    method = step(name, mixers=mixers, threshold=0.0, online=online)
    networks = [build("unet", "tu-resnet10t", classes=2, decoder_channels=[8, 8, 8, 8]) for _ in range(2)]
    big = there.each(lambda one: one if one.dim() < 3 else grown(one))
    model = method.joined(networks[: method.networks]).train()
    result = result_of(method, model, networks[0].eval() if name != "cps" else model, big)
    assert result.logs["pseudo_loss"].item() > 0 and math.isfinite(result.loss.item())


def grown(plane):
    """A plane (..., 4, 4) or (..., 4, 4, 3) with pixels 8 times as large; numbers stay as they are."""
    if plane.shape[-2:] == (4, 4):
        return plane.repeat_interleave(8, dim=-1).repeat_interleave(8, dim=-2)
    if plane.shape[-3:] == (4, 4, 3):
        return plane.repeat_interleave(8, dim=-2).repeat_interleave(8, dim=-3)
    return plane
