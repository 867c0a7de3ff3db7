import torch
from torch import nn

from selftrain.models.average import Average


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))


def test_the_first_steps_are_a_plain_mean_and_later_ones_forget():
    model = network()
    average = Average(model, decay=0.75)
    expected = model[0].weight.detach().clone()
    for step in range(8):
        with torch.no_grad():
            model[0].weight.fill_(step)
        average.update(step)
        decay = min(0.75, 1 - 1 / (step + 1))
        expected = decay * expected + (1 - decay) * step
        assert torch.allclose(average.module[0].weight, torch.as_tensor(expected))
        if step == 2:
            assert torch.allclose(average.module[0].weight, torch.tensor(1.0))


def test_statistics_are_averaged_counters_copied_and_loading_changes_neither():
    model = network()
    average = Average(model, decay=0.5)
    average.module.load_state_dict(average.module.state_dict())
    for step in range(4):
        model(torch.rand(2, 3, 4, 4) + step)
        average.update(step)
    assert average.module[1].num_batches_tracked == 4 and not average.module.training
    assert (average.module[1].running_mean != model[1].running_mean).any()
    assert not any(parameter.requires_grad for parameter in average.module.parameters())


def test_the_distance_is_a_share_of_the_network():
    model = network()
    average = Average(model, decay=0.5)
    assert average.distance(model) == 0
    with torch.no_grad():
        for mine, other in zip(average.module.parameters(), model.parameters(), strict=True):
            mine.copy_(0.9 * other)
    assert abs(average.distance(model) - 0.1) < 1e-6
