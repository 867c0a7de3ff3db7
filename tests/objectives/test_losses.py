import math

import pytest
import torch

from selftrain.objectives.distillation import kl_sum
from selftrain.objectives.losses import cross_entropy_sum, weighted_cross_entropy_sum


def logits_of(*probs):
    """(1, C, 1, W) logits of one row of pixels with these probabilities."""
    return torch.tensor(probs).log().T[None, :, None, :]


def test_cross_entropy_sums_over_known_pixels_only():
    logits = logits_of([0.5, 0.5], [0.25, 0.75], [0.9, 0.1])
    target = torch.tensor([[[0, 1, 255]]])
    assert math.isclose(cross_entropy_sum(logits, target).item(), -math.log(0.5) - math.log(0.75), rel_tol=1e-6)


def test_smoothing_spreads_the_target():
    logits, target = logits_of([0.8, 0.2]), torch.tensor([[[0]]])
    expected = -(0.95 * math.log(0.8) + 0.05 * math.log(0.2))
    assert math.isclose(cross_entropy_sum(logits, target, smoothing=0.1).item(), expected, rel_tol=1e-5)


def test_smoothing_with_weights_leans_towards_the_classes_that_weigh_more():
    weights, smoothing = torch.tensor([0.5, 3.0]), 0.1
    wanted = torch.tensor([0.95 * 0.5, 0.05 * 3.0])  # for a pixel of class 0
    least = logits_of((wanted / wanted.sum()).tolist()).requires_grad_()
    cross_entropy_sum(least, torch.tensor([[[0]]]), smoothing=smoothing, weights=weights).backward()
    assert least.grad.abs().max() < 1e-6


def test_weights_weigh_and_ignored_pixels_do_not_count():
    logits = logits_of([0.5, 0.5], [0.25, 0.75], [0.5, 0.5])
    target, weight = torch.tensor([[[0, 1, 255]]]), torch.tensor([[[2.0, 0.5, 9.0]]])
    expected = -2 * math.log(0.5) - 0.5 * math.log(0.75)
    assert math.isclose(weighted_cross_entropy_sum(logits, target, weight).item(), expected, rel_tol=1e-6)


def test_kl_is_nought_for_a_student_that_agrees_and_positive_otherwise():
    soft = logits_of([0.7, 0.3]).exp()
    one = torch.ones(1, 1, 1)
    assert abs(kl_sum(logits_of([0.7, 0.3]), soft, one).item()) < 1e-6
    expected = 0.7 * math.log(0.7 / 0.4) + 0.3 * math.log(0.3 / 0.6)
    assert math.isclose(kl_sum(logits_of([0.4, 0.6]), soft, one).item(), expected, rel_tol=1e-5)


def test_temperature_softens_both_and_scales_by_its_square():
    soft, student = logits_of([0.9, 0.1]).exp(), logits_of([0.5, 0.5])
    root = [math.sqrt(0.9), math.sqrt(0.1)]
    teacher = [value / sum(root) for value in root]
    expected = 4 * sum(p * math.log(p / 0.5) for p in teacher)
    assert math.isclose(kl_sum(student, soft, torch.ones(1, 1, 1), temperature=2.0).item(), expected, rel_tol=1e-4)


def test_the_gradient_of_kl_hardly_depends_on_the_temperature_when_it_is_high():
    """Hinton et al. 2015: T^2 keeps soft and hard gradients in proportion."""
    soft = logits_of([0.6, 0.4]).exp()
    sizes = []
    for temperature in (8.0, 16.0):
        student = logits_of([0.45, 0.55]).requires_grad_()
        kl_sum(student, soft, torch.ones(1, 1, 1), temperature=temperature).backward()
        sizes.append(student.grad.abs().sum().item())
    assert sizes[1] == pytest.approx(sizes[0], rel=0.05)


def test_rejected_pixels_and_stored_zeros_do_no_harm():
    soft = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).T[None, :, None, :]
    student = torch.zeros(1, 2, 1, 2, requires_grad=True)
    loss = kl_sum(student, soft, torch.tensor([[[1.0, 0.0]]]))
    loss.backward()
    assert torch.isfinite(loss) and (student.grad[..., 1] == 0).all() and (student.grad[..., 0] != 0).all()
