import pytest
import torch

from selftrain.optim.schedules import (
    constant,
    cosine,
    lr_at,
    one_cycle,
    plateau,
    poly,
    restarts,
    step,
    waited,
)


@pytest.mark.parametrize(("schedule", "half"), [(cosine, 0.5), (poly, 0.5**0.9)])
def test_the_learning_rate_warms_up_and_falls_to_nought(schedule, half):
    rates = [lr_at(step, 20, [], lr=0.1, warmup=4, schedule=schedule) for step in range(20)]
    assert rates[:4] == pytest.approx([0.025, 0.05, 0.075, 0.1])
    assert rates[4:] == sorted(rates[4:], reverse=True) and rates[-1] < 0.02
    assert rates[12] == pytest.approx(0.1 * half)


def test_the_power_of_poly_is_a_setting():
    assert poly(0.5, [], power=2) == 0.25 and poly(0.5, [], power=0) == 1


def shares(scores, **settings):
    """The share of the full rate after each score."""
    return [plateau(0.5, scores[:count], **settings) for count in range(len(scores) + 1)]


def test_a_plateau_lowers_the_rate_after_so_many_looks_without_a_new_best_score():
    scores = [0.3, 0.2, 0.4, 0.4, 0.3, 0.35, 0.1]
    assert shares(scores, factor=0.5, patience=2) == [1, 1, 1, 1, 1, 0.5, 0.5, 0.25]


def test_a_better_score_starts_the_count_of_a_plateau_again():
    assert shares([0.1, 0.1, 0.2, 0.2, 0.3], factor=0.5, patience=2) == [1] * 6


def test_an_improvement_below_the_margin_is_none():
    scores = [0.1, 0.15, 0.19, 0.3]
    assert shares(scores, factor=0.5, patience=2, margin=0.1) == [1, 1, 1, 0.5, 0.5]
    assert shares(scores, factor=0.5, patience=2) == [1] * 5


def test_a_cosine_ends_at_its_floor():
    assert cosine(0, [], floor=0.2) == 1 and cosine(1, [], floor=0.2) == pytest.approx(0.2)
    assert cosine(0.5, [], floor=0.2) == pytest.approx(0.6)


def curve(schedule, steps, **settings):
    """The shares of a schedule in a stage of so many steps without warm-up."""
    return [
        lr_at(t, steps, [], lr=1.0, warmup=0, schedule=lambda *at: schedule(*at, **settings))
        for t in range(steps)
    ]


@pytest.mark.parametrize(
    ("steps", "first", "grow", "t0"), [(30, 0.1, 1.0, 3), (70, 1 / 7, 2.0, 10), (60, 1 / 6, 1.0, 10), (50, 0.2, 3.0, 10)]
)  # fmt: skip
def test_restarts_are_those_of_torch(steps, first, grow, t0):
    """SGDR restarts exactly at the first step of a cycle, in spite of rounding."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, t0, int(grow), eta_min=0.1)
    expected = []
    for _ in range(steps):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    assert curve(restarts, steps, first=first, grow=grow, floor=0.1) == pytest.approx(expected)
    assert expected.count(1.0) > 1


def test_steps_fall_at_their_places():
    assert curve(step, 8, at=[0.5, 0.75], factor=0.1) == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])
    assert curve(step, 3, at=[]) == [1, 1, 1] == curve(constant, 3)
    assert curve(step, 10, at=[0.3, 0.6], factor=0.5) == pytest.approx([1] * 3 + [0.5] * 3 + [0.25] * 4)


def test_one_cycle_rises_to_its_peak_and_falls_to_its_end():
    rates = [one_cycle(done, [], peak=0.4, start=0.2, end=0.1) for done in (0, 0.2, 0.4, 0.7, 1)]
    assert rates == pytest.approx([0.2, 0.6, 1.0, 0.55, 0.1])


@pytest.mark.parametrize(
    ("scores", "expected"),
    [([], 0), ([0.5], 0), ([0.5, 0.4], 1), ([0.5, 0.5, 0.5], 2), ([0.4, 0.5, 0.3], 1), ([0.1, 0.9, 0.3, 0.4, 0.9], 3)],
)  # fmt: skip
def test_a_score_like_the_best_one_is_no_new_best(scores, expected):
    assert waited(scores) == expected
