import math

import pytest
import torch

from selftrain.config import LossConfig
from selftrain.errors import ConfigError
from selftrain.objectives.losses import IMAGE_TABLE, LOSSES, Loss, pixels
from selftrain.objectives.objective import Objective, check_losses
from selftrain.tables import handed
from selftrain.targets import Target


def total(name, logits, hard, weight=None, soft=None, class_weights=None, **settings):
    """The sum of a loss; pixels (N, h, w) are of class 0 where `hard` is None."""
    hard = torch.zeros(len(logits), *logits.shape[2:], dtype=torch.uint8) if hard is None else hard
    total = LOSSES[name].total
    offered = handed(total, f"loss.{name}", class_weights=class_weights)
    return total(logits, Target(hard, weight, soft), **offered, **settings)


def logits_of(*probs):
    """(1, C, 1, W) logits of one row of pixels with these probabilities."""
    return torch.tensor(probs).log().T[None, :, None, :]


def test_cross_entropy_sums_over_known_pixels_only():
    logits = logits_of([0.5, 0.5], [0.25, 0.75], [0.9, 0.1])
    target = torch.tensor([[[0, 1, 255]]])
    assert math.isclose(total("ce", logits, target).item(), -math.log(0.5) - math.log(0.75), rel_tol=1e-6)


def test_smoothing_spreads_the_target():
    logits, target = logits_of([0.8, 0.2]), torch.tensor([[[0]]])
    expected = -(0.95 * math.log(0.8) + 0.05 * math.log(0.2))
    assert math.isclose(total("ce", logits, target, smoothing=0.1).item(), expected, rel_tol=1e-5)


def test_smoothing_with_weights_leans_towards_the_classes_that_weigh_more():
    weights, smoothing = torch.tensor([0.5, 3.0]), 0.1
    wanted = torch.tensor([0.95 * 0.5, 0.05 * 3.0])  # for a pixel of class 0
    least = logits_of((wanted / wanted.sum()).tolist()).requires_grad_()
    total("ce", least, torch.tensor([[[0]]]), smoothing=smoothing, class_weights=weights).backward()
    assert least.grad.abs().max() < 1e-6


def test_weights_weigh_and_ignored_pixels_do_not_count():
    logits = logits_of([0.5, 0.5], [0.25, 0.75], [0.5, 0.5])
    target, weight = torch.tensor([[[0, 1, 255]]]), torch.tensor([[[2.0, 0.5, 9.0]]])
    expected = -2 * math.log(0.5) - 0.5 * math.log(0.75)
    assert math.isclose(total("ce", logits, target, weight).item(), expected, rel_tol=1e-6)


def test_kl_is_nought_for_a_student_that_agrees_and_positive_otherwise():
    soft = logits_of([0.7, 0.3]).exp()
    one = torch.ones(1, 1, 1)
    assert abs(total("kl", logits_of([0.7, 0.3]), None, one, soft).item()) < 1e-6
    expected = 0.7 * math.log(0.7 / 0.4) + 0.3 * math.log(0.3 / 0.6)
    assert math.isclose(total("kl", logits_of([0.4, 0.6]), None, one, soft).item(), expected, rel_tol=1e-5)


def test_temperature_softens_both_and_scales_by_its_square():
    soft, student = logits_of([0.9, 0.1]).exp(), logits_of([0.5, 0.5])
    root = [math.sqrt(0.9), math.sqrt(0.1)]
    teacher = [value / sum(root) for value in root]
    expected = 4 * sum(p * math.log(p / 0.5) for p in teacher)
    assert math.isclose(
        total("kl", student, None, torch.ones(1, 1, 1), soft, temperature=2.0).item(), expected, rel_tol=1e-4
    )


def test_the_gradient_of_kl_hardly_depends_on_the_temperature_when_it_is_high():
    """Hinton et al. 2015: T^2 keeps soft and hard gradients in proportion."""
    soft = logits_of([0.6, 0.4]).exp()
    sizes = []
    for temperature in (8.0, 16.0):
        student = logits_of([0.45, 0.55]).requires_grad_()
        total("kl", student, None, torch.ones(1, 1, 1), soft, temperature=temperature).backward()
        sizes.append(student.grad.abs().sum().item())
    assert sizes[1] == pytest.approx(sizes[0], rel=0.05)


def test_rejected_pixels_and_stored_zeros_do_no_harm():
    soft = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).T[None, :, None, :]
    student = torch.zeros(1, 2, 1, 2, requires_grad=True)
    loss = total("kl", student, None, torch.tensor([[[1.0, 0.0]]]), soft)
    loss.backward()
    assert torch.isfinite(loss) and (student.grad[..., 1] == 0).all() and (student.grad[..., 0] != 0).all()


def test_the_squared_error_is_the_mean_over_classes():
    loss = total("mse", logits_of([0.6, 0.4], [0.5, 0.5]), None, soft=logits_of([0.9, 0.1], [0.5, 0.5]).exp())
    assert math.isclose(loss.item(), 0.3**2, rel_tol=1e-5)


def test_dice_compares_areas_image_by_image():
    """Class 0 with probabilities 0.8 and 0.4 where it is and is not: 1 - 2 * 0.8 / (1.2 + 1), class 1 alike: 0.2 of 0.8."""
    loss = total("dice", logits_of([0.8, 0.2], [0.4, 0.6]), torch.tensor([[[0, 1]]]), smooth=0.0)
    expected = ((1 - 1.6 / 2.2) + (1 - 1.2 / 1.8)) / 2
    assert math.isclose(loss.item(), expected, rel_tol=1e-5)


def test_dice_leaves_out_ignored_pixels_and_absent_classes():
    logits = logits_of([0.8, 0.2], [0.4, 0.6])
    loss = total("dice", logits, torch.tensor([[[0, 255]]]), smooth=0.0)
    assert math.isclose(loss.item(), 1 - 1.6 / 1.8, rel_tol=1e-5)


def test_dice_without_smoothing_adds_nothing_for_an_image_without_a_label():
    logits = logits_of([0.8, 0.2], [0.4, 0.6]).repeat(2, 1, 1, 1).requires_grad_()
    loss = total("dice", logits, torch.tensor([[[0, 255]], [[255, 255]]]), smooth=0.0)
    loss.backward()
    assert math.isclose(loss.item(), 1 - 1.6 / 1.8, rel_tol=1e-5)
    assert logits.grad[0].any() and not logits.grad[1].any()


def test_ohem_is_the_mean_of_the_hardest_pixels_of_each_image():
    logits = logits_of([0.9, 0.1], [0.2, 0.8], [0.5, 0.5], [0.1, 0.9])
    hard = torch.tensor([[[0, 0, 0, 255]]])  # half of three pixels, rounded up, is two
    assert math.isclose(
        total("ohem", logits, hard, keep=0.5).item(), -(math.log(0.2) + math.log(0.5)) / 2, rel_tol=1e-5
    )


@pytest.mark.parametrize("name", LOSSES)
def test_parts_of_a_batch_add_up_to_the_loss_of_the_whole(name):
    """Images with unequal numbers of known pixels, on two ranks or in two micro-batches."""
    torch.manual_seed(0)
    logits, soft = torch.randn(4, 3, 5, 6), torch.rand(4, 3, 5, 6).softmax(dim=1)
    hard = torch.randint(3, (4, 5, 6))
    hard[0, :4], hard[2, :, :2], hard[3] = 255, 255, 255
    target, objective = Target(hard, torch.rand(4, 5, 6), soft), Objective.of({name: {}}, "loss.pseudo", 3)
    parts = [
        (logits[part], target.each(lambda plane, part=part: plane[part])) for part in (slice(1), slice(1, 4))
    ]
    counts = objective.counts(target)
    assert torch.allclose(sum(objective.counts(part) for _, part in parts), counts)
    shares = [objective.value(*part, counts).item() for part in parts]
    assert all(shares) and math.isclose(
        sum(shares), objective.value(logits, target, counts).item(), rel_tol=1e-5
    )


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_without_a_pixel_that_counts_is_nought_and_its_gradient_too(name):
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    target = Target(torch.full((2, 4, 4), 255), torch.ones(2, 4, 4), torch.rand(2, 3, 4, 4).softmax(dim=1))
    objective = Objective.of({name: {}}, "loss.pseudo", 3)
    loss = objective.value(logits, target, objective.counts(target))
    loss.backward()
    assert loss.item() == 0 and not logits.grad.any()


def test_a_loss_that_needs_no_class_weights_does_not_ask_for_them(monkeypatch):
    monkeypatch.setitem(
        LOSSES, "ones", Loss(lambda logits, target: pixels(target) * logits.new_ones(()), pixels)
    )
    target = Target(torch.tensor([[[0, 1, 255]]]))
    objective = Objective.of({"ones": {}}, "loss.labelled", 2, torch.tensor([1.0, 2.0]))
    assert objective.value(torch.zeros(1, 2, 1, 3), target, objective.counts(target)).item() == 1


@pytest.mark.parametrize("section", ["labelled", "pseudo", "online"])
def test_a_loss_that_asks_for_more_than_there_is_is_refused_before_the_run(monkeypatch, section):
    monkeypatch.setitem(LOSSES, "more", Loss(lambda logits, target, *, depth: logits.sum(), pixels))
    with pytest.raises(ConfigError) as error:
        check_losses(LossConfig(**{section: {"more": {"weight": 1.0}}}))
    assert str(error.value) == (
        f"loss.{section}.more asks for depth, which needs a default: the program passes class_weights"
    )


@pytest.mark.parametrize("name", ["kl", "mse"])
def test_losses_of_soft_labels_are_refused_for_masks(name):
    with pytest.raises(ConfigError, match=rf"loss.labelled.{name} learns from soft labels"):
        check_losses(LossConfig(labelled={name: {"weight": 1.0}}))
    check_losses(LossConfig(labelled={name: {"weight": 1.0}}), soft=True)
    check_losses(LossConfig(labelled={"ce": {"weight": 1.0}, name: {"weight": 0.0}}))


def test_bce_is_the_mean_over_known_tags():
    """Three known tags of four: log-odds 0 for a class that is there, and for two that are not."""
    tags = torch.tensor([[1.0, 0.0], [float("nan"), 0.0]])
    for settings, expected in (
        ({}, math.log(2)),
        ({"present": 3.0, "weight": 0.5}, 0.5 * math.log(2) * 5 / 3),
    ):
        objective = Objective.of({"bce": settings}, "loss.image", 2, table=IMAGE_TABLE)
        counts = objective.counts(tags)
        assert counts.tolist() == [3.0]
        logits = torch.zeros(2, 2, requires_grad=True)
        loss = objective.value(logits, tags, counts)
        assert math.isclose(loss.item(), expected, rel_tol=1e-6)
        loss.backward()
        assert (
            logits.grad[1, 0] == 0
            and logits.grad.isfinite().all()
            and logits.grad[0, 0] < 0 < logits.grad[0, 1]
        )
