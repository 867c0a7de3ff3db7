import pytest

from selftrain.optim.schedules import cosine, lr_at, plateau, poly


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
