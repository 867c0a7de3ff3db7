import pytest
import torch
from torch import nn

from selftrain.optim.averaging import Average, ema, none, swa, swa_rate


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))


def test_the_first_steps_are_a_plain_mean_and_later_ones_forget():
    model = network()
    average = Average(model)
    expected = model[0].weight.detach().clone()
    for step in range(8):
        with torch.no_grad():
            model[0].weight.fill_(step)
        average.update(ema(step, steps=8, decay=0.75))
        decay = min(0.75, 1 - 1 / (step + 1))
        expected = decay * expected + (1 - decay) * step
        assert torch.allclose(average.module[0].weight, torch.as_tensor(expected))
        if step == 2:
            assert torch.allclose(average.module[0].weight, torch.tensor(1.0))


def test_statistics_are_averaged_counters_copied_and_loading_changes_neither():
    model = network()
    average = Average(model)
    average.module.load_state_dict(average.module.state_dict())
    for step in range(4):
        model(torch.rand(2, 3, 4, 4) + step)
        average.update(0.5)
    assert average.module[1].num_batches_tracked == 4 and not average.module.training
    assert (average.module[1].running_mean != model[1].running_mean).any()
    assert not any(parameter.requires_grad for parameter in average.module.parameters())


def test_the_distance_is_a_share_of_the_network():
    model = network()
    average = Average(model)
    assert average.distance(model) == 0
    with torch.no_grad():
        for mine, other in zip(average.module.parameters(), model.parameters(), strict=True):
            mine.copy_(0.9 * other)
    assert abs(average.distance(model) - 0.1) < 1e-6


def mean_of_steps(decays):
    """The average over the numbers of the steps by these decays."""
    average = 0.0
    for step, decay in enumerate(decays):
        average = decay * average + (1 - decay) * step
    return average


def test_a_share_spans_the_same_part_of_short_and_long_generations():
    for steps in (40, 400):
        decays = [ema(step, steps=steps, decay=0.5, share=0.25) for step in range(steps)]
        assert decays[-1] == 1 - 1 / (0.25 * steps) and decays[:2] == [0, 0.5]
        assert mean_of_steps(decays) / steps == pytest.approx(1 - 0.25, abs=0.02)
    assert ema(5, steps=2, decay=0.5, share=0.25) == 0  # an average of less than a step is the last weights
    assert ema(9, steps=40, decay=0.5) == 0.5


def test_an_average_of_nothing_is_the_last_weights():
    assert mean_of_steps([none(step, steps=8, decay=0.9) for step in range(8)]) == 7


@pytest.mark.parametrize(("start", "expected"), [(0.0, 3.5), (0.5, 5.5), (0.75, 6.5), (1.0, 7.0)])
def test_swa_is_the_equal_mean_of_the_steps_from_its_start_on(start, expected):
    """Of steps 0 to 7: all, the last four, the last two, the last one."""
    assert mean_of_steps([swa(step, steps=8, decay=0.9, start=start) for step in range(8)]) == pytest.approx(
        expected
    )


def test_before_its_start_swa_has_the_last_weights():
    assert mean_of_steps([swa(step, steps=8, decay=0.9, start=0.75) for step in range(6)]) == 5


@pytest.mark.parametrize(("period", "expected"), [(2, (2 + 4 + 6) / 3), (3, (2 + 5) / 2), (9, 2)])
def test_swa_takes_every_weight_of_its_period(period, expected):
    """Of steps 0 to 7, from step 2 on."""
    decays = [swa(step, steps=8, decay=0.9, start=0.25, period=period) for step in range(8)]
    assert mean_of_steps(decays) == pytest.approx(expected)


def test_the_rate_of_swa_begins_with_its_mean():
    rates = [swa_rate(step, steps=4, start=0.5, period=1, lr=0.3) for step in range(4)]
    assert rates == [None, None, 0.3, 0.3]
    assert swa_rate(3, steps=4, start=0.5, period=1, lr=0.0) is None
