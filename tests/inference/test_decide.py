import pytest
import torch
import torch.nn.functional as F

from selftrain.errors import ConfigError
from selftrain.inference import decide
from selftrain.inference.decide import DECISIONS, argmax, at_size


def careful(probs, *, least: float = 0.5):
    """Class 0, unless another one reaches `least`."""
    others = probs[:, 1:]
    return torch.where(others.amax(dim=1) >= least, argmax(others) + 1, 0).to(torch.uint8)


def test_the_most_probable_class_and_of_equal_ones_the_first():
    probs = torch.tensor([[0.2, 0.4], [0.5, 0.4], [0.3, 0.2]]).reshape(1, 3, 1, 2)
    found = argmax(probs)
    assert found.dtype == torch.uint8 and found.tolist() == [[[1, 0]]]


def test_argmax_is_that_of_torch():
    probs = torch.randint(
        0, 5, (2, 7, 9, 11), generator=torch.Generator().manual_seed(0)
    ).float()  # with many ties
    assert torch.equal(argmax(probs), probs.argmax(dim=1).to(torch.uint8))


@pytest.mark.parametrize("size", [(4, 6), (9, 13), (2, 3)])
def test_probabilities_are_resized_before_the_decision(size):
    probs = torch.rand(5, 4, 6, generator=torch.Generator().manual_seed(0)).softmax(dim=0)
    resized = F.interpolate(probs[None], size=size, mode="bilinear", align_corners=False)
    assert torch.equal(at_size(argmax, probs, size), argmax(resized)[0])
    assert torch.equal(at_size(careful, probs, size), careful(resized)[0])


def test_a_decision_from_outside_is_chosen_by_its_name(monkeypatch):
    monkeypatch.setitem(DECISIONS, "careful", careful)
    probs = torch.tensor([0.3, 0.4, 0.3]).reshape(1, 3, 1, 1)
    assert decide.of("argmax") is argmax and argmax(probs).item() == 1
    assert decide.of("careful")(probs).item() == 0
    assert decide.of({"careful": {"least": 0.35}})(probs).item() == 1


def test_an_unknown_decision_is_refused():
    with pytest.raises(ConfigError, match="decision: there is no 'median'; there are argmax"):
        decide.of("median")


def test_thresholds_of_two_classes_are_the_usual_threshold():
    probs = torch.tensor([[0.75, 0.69, 0.2], [0.25, 0.31, 0.8]]).reshape(1, 2, 1, 3)
    assert decide.of({"thresholds": {"each": [0.7, 0.3]}})(probs).tolist() == [[[0, 1, 1]]]
    assert decide.of("thresholds")(probs).tolist() == [[[0, 0, 1]]]  # none are given: the most probable class


def test_thresholds_of_many_classes_weigh_their_probabilities():
    probs = torch.tensor([0.5, 0.3, 0.2]).reshape(1, 3, 1, 1)
    assert decide.of({"thresholds": {"each": [0.6, 0.3, 0.1]}})(probs).item() == 2
    with pytest.raises(ConfigError, match="must be above 0"):
        decide.of({"thresholds": {"each": [0.6, 0.0, 0.4]}})
