import math

import numpy as np
import torch

from methods import method, result_of
from selftrain.data.examples import Batch
from selftrain.labels.thresholds import balanced
from selftrain.targets import Target


class Constant(torch.nn.Module):
    """Says the same two-class distribution of every pixel."""

    def __init__(self, p):
        super().__init__()
        self.logits = torch.nn.Parameter(torch.tensor([p, 1 - p]).log())

    def forward(self, images):
        return self.logits.view(1, 2, 1, 1).expand(len(images), 2, *images.shape[2:])


def batch(accepted):
    """One labelled image of class 0 and one pseudo-labelled image of class 1, of which `accepted` pixels count."""
    hard, weight = torch.full((1, 2, 2), 255, dtype=torch.uint8), torch.zeros(1, 2, 2)
    hard.view(-1)[:accepted] = 1
    weight.view(-1)[:accepted] = 1
    soft = torch.tensor([0.25, 0.75]).view(1, 2, 1, 1).expand(1, 2, 2, 2)
    known = Target(torch.zeros(1, 2, 2, dtype=torch.uint8))
    return Batch(torch.zeros(2, 2, 2, 3, dtype=torch.uint8), known, Target(hard, weight, soft))


def loss_of(batch, **settings):
    return result_of(method(**settings), Constant(0.6), None, batch)


def test_the_loss_is_the_mean_over_labelled_plus_the_mean_over_accepted_pixels():
    divergence = 0.25 * math.log(0.25 / 0.6) + 0.75 * math.log(0.75 / 0.4)
    for accepted in (1, 4):
        result = loss_of(batch(accepted), unlabelled_weight=0.5)
        assert math.isclose(result.loss.item(), -math.log(0.6) + 0.5 * divergence, rel_tol=1e-4)


def test_labelled_pixels_weigh_by_their_class():
    """Two classes with 3 and 1 pixels: at balance 1 both weigh the same, over a mean of 1."""
    known = batch(0)
    known.known.hard[0] = torch.tensor([[0, 0], [0, 1]])
    weights = torch.tensor(balanced(np.array([3, 1]), 1.0), dtype=torch.float32)
    loss = loss_of(known, class_weights=weights).loss
    assert math.isclose(loss.item(), -(math.log(0.6) + math.log(0.4)) / 2, rel_tol=1e-5)


def test_hard_labels_are_the_alternative_to_soft_ones():
    result = loss_of(batch(2), pseudo={"ce": {}})
    assert math.isclose(result.loss.item(), -math.log(0.6) - math.log(0.4), rel_tol=1e-4)


def test_soft_and_hard_labels_may_be_mixed():
    soft, hard = (
        loss_of(batch(2), pseudo=terms).logs["pseudo_loss"].item() for terms in ({"kl": {}}, {"ce": {}})
    )
    both = loss_of(batch(2), pseudo={"kl": {"weight": 0.25}, "ce": {"weight": 0.75}})
    assert math.isclose(both.logs["pseudo_loss"].item(), 0.25 * soft + 0.75 * hard, rel_tol=1e-5)


def taught(soft):
    """One labelled image of class 0, whose teacher gives class 0 the probability `soft`."""
    plain = batch(2)
    planes = torch.tensor([soft, 1 - soft]).view(1, 2, 1, 1).expand(1, 2, 2, 2)
    return Batch(plain.images, Target(plain.known.hard, None, planes), plain.guessed)


def test_labelled_images_learn_from_their_masks_and_from_their_teacher():
    """Hinton et al. 2015: a weighted sum of KL at a temperature and of hard cross-entropy."""
    terms = {"labelled": {"ce": {"weight": 0.3}}, "distill": {"kl": {"weight": 0.7, "temperature": 1.0}}}
    result = loss_of(taught(0.9), unlabelled_weight=0.0, **terms)
    divergence = 0.9 * math.log(0.9 / 0.6) + 0.1 * math.log(0.1 / 0.4)
    assert math.isclose(result.loss.item(), -0.3 * math.log(0.6) + 0.7 * divergence, rel_tol=1e-4)
    assert math.isclose(result.logs["distill_loss"].item(), 0.7 * divergence, rel_tol=1e-4)
    soft = {**terms, "distill": {"kl": {"weight": 0.7, "temperature": 3.0}}}
    assert loss_of(taught(0.9), unlabelled_weight=0.0, **soft).loss.item() != result.loss.item()


def test_a_loss_of_masks_does_not_see_the_teachers_labels():
    terms = {"labelled": {"jaccard": {}}, "distill": {"kl": {"weight": 1e-9}}}
    one, other = (loss_of(taught(soft), **terms).logs["labelled_loss"].item() for soft in (0.9, 0.1))
    assert one == other


def test_two_ranks_distil_as_the_global_batch():
    """4 pixels taught 0.9 and 1 pixel taught 0.2."""
    parts = [taught(0.9), taught(0.2)]
    parts[1].known.hard.view(-1)[1:] = 255
    terms = {"labelled": {"ce": {}}, "distill": {"kl": {}}}
    counts = sum(method(**terms).counts(part) for part in parts)
    shares = [result_of(method(ranks=2, **terms), Constant(0.6), None, part, counts) for part in parts]
    first, second = (p * math.log(p / 0.6) + (1 - p) * math.log((1 - p) / 0.4) for p in (0.9, 0.2))
    found = sum(share.logs["distill_loss"].item() for share in shares) / 2
    assert math.isclose(found, (4 * first + second) / 5, rel_tol=1e-4)
    assert all(share.logs["accepted"].item() == 0.5 for share in shares)


def test_ignored_pixels_are_not_distilled():
    known = taught(0.9)
    known.known.hard[:] = 255
    assert loss_of(known, distill={"kl": {}}).logs["distill_loss"].item() == 0


def test_without_a_teacher_nothing_is_distilled():
    assert set(loss_of(batch(2), distill={"kl": {}}).logs) == {"labelled_loss", "pseudo_loss", "accepted"}


def test_labelled_pixels_may_weigh_by_themselves():
    """Weights 1 and 3 on pixels that cost -log 0.6 and -log 0.4."""
    known = batch(0)
    target = Target(
        torch.tensor([[[0, 1], [255, 255]]], dtype=torch.uint8), torch.tensor([[[1.0, 3.0], [9.0, 9.0]]])
    )
    weighted = Batch(known.images, target, known.guessed)
    assert math.isclose(loss_of(weighted).loss.item(), -(math.log(0.6) + 3 * math.log(0.4)) / 4, rel_tol=1e-5)


def test_without_accepted_pixels_the_pseudo_loss_is_nought_finite_and_counted():
    result = loss_of(batch(0))
    result.loss.backward()
    assert result.logs["pseudo_loss"].item() == 0 and result.logs["accepted"].item() == 0
    assert math.isclose(result.loss.item(), -math.log(0.6), rel_tol=1e-5)


def test_two_ranks_average_to_the_loss_of_the_global_batch():
    """Ranks with unequal counts, whose pixels cost differently: 1 and 3 accepted ones, 2 and 4 with a mask."""
    parts, sure = [batch(1), batch(3)], (0.6, 0.9)
    parts[0].known.hard[0, 0] = 255
    counts = sum(method().counts(part) for part in parts)
    assert counts.tolist() == [6, 4, 8]
    shares = [
        result_of(method(ranks=2), Constant(p), None, part, counts)
        for p, part in zip(sure, parts, strict=True)
    ]
    known = -(2 * math.log(0.6) + 4 * math.log(0.9)) / 6
    first, second = (0.25 * math.log(0.25 / p) + 0.75 * math.log(0.75 / (1 - p)) for p in sure)
    assert math.isclose(
        sum(share.loss.item() for share in shares) / 2, known + (first + 3 * second) / 4, rel_tol=1e-4
    )
    assert sum(share.logs["accepted"].item() for share in shares) / 2 == 0.5
