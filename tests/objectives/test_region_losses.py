"""Focal, region and boundary losses: by hand, and as libraries compute them."""

import math

import numpy as np
import pytest
import torch
from monai.losses import BoundaryLoss
from scipy.ndimage import distance_transform_edt
from segmentation_models_pytorch.losses import LovaszLoss
from test_losses import logits_of, total
from torchvision.ops import sigmoid_focal_loss

from selftrain.ids import IGNORE
from selftrain.objectives.losses import signed_distances


def known(hard):
    return hard != IGNORE


def drawn(images=3, classes=4, side=12):
    torch.manual_seed(0)
    hard = torch.randint(classes, (images, side, side))
    hard[0, :3], hard[1] = IGNORE, hard[1] // 2  # the second image has two classes
    return torch.randn(images, classes, side, side), hard


def test_focal_lowers_the_weight_of_easy_pixels():
    logits, target = logits_of([0.8, 0.2], [0.4, 0.6], [0.5, 0.5]), torch.tensor([[[0, 0, IGNORE]]])
    expected = -(0.2**2) * math.log(0.8) - 0.6**2 * math.log(0.4)
    assert total("focal", logits, target).item() == pytest.approx(expected, rel=1e-5)
    assert total("focal", logits, target, gamma=0.0).item() == pytest.approx(
        total("ce", logits, target).item(), rel=1e-5
    )


def test_focal_of_two_classes_is_that_of_torchvision():
    margin = torch.randn(2, 1, 5, 5)
    hard = torch.randint(2, (2, 5, 5))
    ours = total("focal", torch.cat([torch.zeros_like(margin), margin], dim=1), hard, gamma=1.5)
    theirs = sigmoid_focal_loss(margin[:, 0], hard.float(), alpha=-1, gamma=1.5, reduction="sum")
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)


def test_focal_weighs_classes_and_soft_labels():
    logits, weights = logits_of([0.8, 0.2]), torch.tensor([3.0, 0.5])
    expected = -3 * 0.7 * 0.2**2 * math.log(0.8) - 0.5 * 0.3 * 0.8**2 * math.log(0.2)
    soft = logits_of([0.7, 0.3]).exp()
    assert total("focal", logits, None, soft=soft, class_weights=weights).item() == pytest.approx(
        expected, rel=1e-5
    )


@pytest.mark.parametrize(
    ("name", "settings"),
    [("focal", {"gamma": 0.5}), ("tversky", {"exponent": 0.5, "smooth": 0.0}), ("lovasz", {}), ("jaccard", {"smooth": 0.0})],
)  # fmt: skip
def test_a_certain_and_right_network_has_finite_gradients(name, settings):
    logits = torch.tensor([200.0, -200.0]).reshape(1, 2, 1, 1).repeat(1, 1, 2, 2).requires_grad_()
    total(name, logits, torch.zeros(1, 2, 2, dtype=torch.uint8), **settings).backward()
    assert torch.isfinite(logits.grad).all()


TWO = logits_of([0.8, 0.2], [0.4, 0.6])  # class 0: 0.8 hit, 0.4 false; class 1: 0.6 hit, 0.2 false
HARD = torch.tensor([[[0, 1]]])


def test_jaccard_is_the_overlap_over_the_union():
    expected = ((1 - 0.8 / (0.8 + 0.4 + 0.2)) + (1 - 0.6 / (0.6 + 0.2 + 0.4))) / 2
    assert total("jaccard", TWO, HARD, smooth=0.0).item() == pytest.approx(expected, rel=1e-5)


def test_tversky_weighs_false_positives_and_misses_apart():
    """Class 0 has 0.4 false and 0.2 missed, class 1 has 0.2 false and 0.4 missed."""
    each = [1 - hit / (hit + 0.1 * false + 0.9 * missed) for hit, false, missed in ((0.8, 0.4, 0.2), (0.6, 0.2, 0.4))]  # fmt: skip
    settings = {"alpha": 0.1, "beta": 0.9, "smooth": 0.0}
    assert total("tversky", TWO, HARD, **settings).item() == pytest.approx(sum(each) / 2, rel=1e-5)
    focal = sum(one**0.75 for one in each) / 2
    assert total("tversky", TWO, HARD, exponent=0.75, **settings).item() == pytest.approx(focal, rel=1e-5)


def test_tversky_with_halves_is_dice_and_with_ones_is_jaccard():
    logits, hard = drawn()
    halves = total("tversky", logits, hard, alpha=0.5, beta=0.5, smooth=0.0)
    assert halves.item() == pytest.approx(total("dice", logits, hard, smooth=0.0).item(), rel=1e-5)
    ones = total("tversky", logits, hard, alpha=1.0, beta=1.0)
    assert ones.item() == pytest.approx(total("jaccard", logits, hard).item(), rel=1e-5)


@pytest.mark.parametrize("name", ["jaccard", "tversky"])
def test_a_region_loss_of_soft_labels_is_least_at_the_labels(name):
    soft = logits_of([0.7, 0.3], [0.2, 0.8]).exp()
    assert total(name, soft.log(), None, soft=soft).item() == pytest.approx(0, abs=1e-6)
    assert total(name, logits_of([0.9, 0.1], [0.1, 0.9]), None, soft=soft).item() > 0.05


def test_lovasz_is_that_of_berman_image_by_image():
    logits, hard = drawn()
    theirs = LovaszLoss("multiclass", per_image=True, ignore_index=IGNORE)(logits, hard)
    assert total("lovasz", logits, hard).item() == pytest.approx(3 * theirs.item(), rel=1e-5)


def test_lovasz_of_certain_predictions_is_one_minus_the_iou_of_the_weighted_pixels():
    """Pixels of class 0, 0, 1 and 1 that weigh 1, 2, 3 and 4; the second is predicted as class 1."""
    certain = torch.tensor([[0, 1, 1, 1]])[None].eq(torch.arange(2)[:, None, None]).float()[None] * 100
    loss = total("lovasz", certain, torch.tensor([[[0, 0, 1, 1]]]), torch.tensor([[[1.0, 2.0, 3.0, 4.0]]]))
    assert loss.item() == pytest.approx(((1 - 1 / 3) + (1 - 7 / 9)) / 2, rel=1e-5)


def test_distances_to_a_boundary_are_negative_inside_and_ignored_pixels_bound_nothing():
    hard = torch.tensor([[[0, 0, 1, 1, IGNORE, IGNORE, 0]]], dtype=torch.uint8)
    far = signed_distances(hard, known(hard), 3)[0, :, 0]
    assert far[0].tolist() == [-1, 0, 1, 2, 2, 1, -2]  # the nearest known other pixel is 3 away
    assert far[1, :4].tolist() == [2, 1, 0, -1] and far[1, 6] == 3
    assert not far[2].any()


def test_a_class_without_a_boundary_is_at_distance_nought():
    hard = torch.ones(1, 3, 3, dtype=torch.uint8)
    assert not signed_distances(hard, known(hard), 2).any()


def test_distances_are_exact():
    hard = torch.randint(2, (1, 40, 50), dtype=torch.uint8).cummax(dim=1).values
    hard[0, 10:14, 20:33] = 1
    there = hard[0].numpy() == 1
    expected = np.where(there, 1 - distance_transform_edt(there), distance_transform_edt(~there))
    assert np.allclose(signed_distances(hard, known(hard), 2)[0, 1], expected, atol=1e-4)


def test_distances_are_exact_to_the_last_bit_wherever_an_array_lies():
    """OpenCV's are not, so equal runs differed: its last bit depends on the address of the array."""
    generator = np.random.default_rng(0)
    for _ in range(100):  # odd sizes move the arrays
        plane = generator.random(generator.integers(5, 60, 2)) < 0.9
        outside, inside = (distance_transform_edt(part).astype(np.float32) for part in (~plane, plane))
        hard = torch.from_numpy(plane[None].astype(np.uint8))
        found = signed_distances(hard, known(hard), 2)[0, 1].numpy()
        assert np.array_equal(found, np.where(outside > 0, outside, 1 - inside))


def test_boundary_is_that_of_monai_summed_over_known_pixels():
    logits, hard = drawn()
    hard[hard == IGNORE] = 0
    theirs = BoundaryLoss(softmax=True, to_onehot_y=True, reduction="sum")(logits, hard)
    pixels = hard[0].numel()  # their sum is over images and classes, of means over pixels
    assert total("boundary", logits, hard).item() == pytest.approx(pixels * float(theirs), rel=1e-4)


def test_boundary_leaves_out_rejected_pixels_and_what_they_would_bound():
    """Without the last pixel's label, class 1 has no pixel: nothing has a boundary."""
    hard, weight = torch.tensor([[[0, 0, 1]]]), torch.tensor([[[1.0, 1.0, 0.0]]])
    logits = logits_of([0.8, 0.2], [0.4, 0.6], [0.5, 0.5])
    assert total("boundary", logits, hard, weight).item() == 0
    whole = total("boundary", logits, hard).item()
    assert whole == pytest.approx(-0.8 + 0.5 * 1 + 2 * 0.2 + 0.6, rel=1e-5)
