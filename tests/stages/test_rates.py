"""The learning rates of a stage: of groups, schedules, layers and frozen encoders."""

import signal
from dataclasses import replace

import pytest
import torch
from one_stage import CFG, Only, batches, go, learner_of, pull, rate_of_step

from selftrain import checkpoint
from selftrain.config import ALWAYS
from selftrain.errors import StoppedError
from selftrain.log import Metrics
from selftrain.methods.base import StepResult
from selftrain.optim.groups import GROUPS, unfrozen
from selftrain.signals import Stop


def two_groups(**second):
    """An entry of GROUPS for the two parameters of a convolution, a group each."""

    def groups(network, *, weight_decay):
        return [{"params": [network.weight]}, {"params": [network.bias], **second}]

    return groups


@pytest.mark.parametrize(
    ("second", "rate"),
    [({}, 1.0), ({"lr": 0.025}, 0.25), ({"lr_scale": 0.5}, 0.5), ({"lr": 0.025, "lr_scale": 0.5}, 0.125)],
)
def test_each_group_of_parameters_keeps_its_own_learning_rate(tmp_path, monkeypatch, second, rate):
    monkeypatch.setitem(GROUPS, "two", two_groups(**second))
    learner, again = (learner_of(torch.nn.Conv2d(1, 1, 1), cfg=replace(CFG, groups="two")) for _ in range(2))
    for t, lr in enumerate((0.08, 0.04)):
        learner.step(t, lr, Only(pull), [next(batches(0))])
        assert [group["lr"] for group in learner.optimizer.param_groups] == pytest.approx([lr, lr * rate])
    checkpoint.write(tmp_path, learner.checkpoint(2))
    again.resume(checkpoint.newest(tmp_path))
    for one in (learner, again):
        one.step(2, 0.02, Only(pull), [next(batches(3))])
    rates = [[group["lr"] for group in one.optimizer.param_groups] for one in (learner, again)]
    assert rates[0] == rates[1] == pytest.approx([0.02, 0.02 * rate])
    weights = [torch.cat([one.network.weight.flatten(), one.network.bias]) for one in (learner, again)]
    assert torch.equal(*weights)


PLATEAU = replace(CFG, eval_every=1, schedule={"plateau": {"factor": 0.5, "patience": 2}})


def rates_logged(directory, monkeypatch, scores, **settings):
    """The learning rate of each of 6 steps while the looks at val give `scores`."""
    monkeypatch.setattr("selftrain.stages.train.LOG_EVERY", 1)
    metrics = Metrics(directory / "metrics.jsonl")
    scores = iter(scores)
    go(directory, cfg=PLATEAU, metrics=metrics, evaluate=lambda network: next(scores), **settings)
    return [row["lr"] for row in metrics.rows() if "lr" in row]


def test_the_rate_falls_where_the_scores_of_the_stage_stop_improving(tmp_path, monkeypatch):
    """The scores after steps 2 and 3 are no better than the first one, so the rate halves from step 3 (the 4th) on."""
    rates = rates_logged(tmp_path, monkeypatch, [0.5, 0.4, 0.5, 0.6, 0.5])
    assert rates == pytest.approx([0.1, 0.1, 0.1, 0.05, 0.05, 0.05])


def test_a_resumed_stage_knows_the_scores_before_it(tmp_path, monkeypatch):
    """It is stopped after step 2, and takes up the two scores that metrics.jsonl has of it; a later row is forgotten."""
    stop = Stop()
    monkeypatch.setattr("selftrain.stages.train.LOG_EVERY", 1)

    def stopping(model, averaged, batch):
        stop.signal = signal.SIGTERM if batch.images.max() == 1 else None
        return pull(model, averaged, batch)

    metrics = Metrics(tmp_path / "metrics.jsonl")
    metrics.write("gen9", 1, {"val_miou": 0.9})  # another stage
    scores = iter([0.5, 0.4])
    with pytest.raises(StoppedError):
        go(
            tmp_path,
            step=stopping,
            cfg=PLATEAU,
            metrics=metrics,
            stop=stop,
            evaluate=lambda network: next(scores),
        )
    metrics.write("gen0", 3, {"val_miou": 0.9})  # a kill left it behind
    rates = rates_logged(tmp_path, monkeypatch, [0.5, 0.6, 0.5])
    assert rates == pytest.approx([0.1, 0.1, 0.1, 0.05, 0.05, 0.05])


def test_swa_has_its_own_rate_from_its_start_on(tmp_path, monkeypatch):
    monkeypatch.setattr("selftrain.stages.train.LOG_EVERY", 1)
    metrics = Metrics(tmp_path / "metrics.jsonl")
    swa = {"swa": {"start": 0.5, "period": 2, "lr": 0.3}}
    go(tmp_path, cfg=replace(CFG, average=swa, eval_every=0), metrics=metrics)
    rates = [row["lr"] for row in metrics.rows()]
    assert rates == pytest.approx([*map(rate_of_step, range(3)), 0.03, 0.03, 0.03])


class Parts(torch.nn.Module):
    """An encoder with batch norm, and a decoder."""

    def __init__(self):
        super().__init__()
        self.encoder = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1), torch.nn.BatchNorm2d(2))
        self.decoder = torch.nn.Conv2d(2, 1, 1)

    def forward(self, images):
        return self.decoder(self.encoder(images))


def changes(network, before):
    """How much each parameter and buffer has changed, the largest entry."""
    return {name: float((value - before[name]).abs().max()) for name, value in network.state_dict().items()}


def after_one_step(**settings):
    torch.manual_seed(0)
    network = Parts()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    learner = learner_of(network, cfg=replace(CFG, **settings))
    images = torch.rand(2, 3, 4, 4)
    learner.step(
        0, 0.1, Only(lambda model, *_: StepResult(model(images).square().mean(), {})), [next(batches(0))]
    )
    return changes(network, before), changes(learner.average.module, before)


def test_a_frozen_encoder_stays_in_every_step_and_in_the_average():
    for changed in (*after_one_step(freeze=ALWAYS), *after_one_step(freeze=1)):
        assert {name for name, change in changed.items() if change} == {"decoder.weight", "decoder.bias"}


def stage_of_parts(learner, directory, first, steps):
    """Train some steps from `first` on, and write a checkpoint; whether the average's encoder is frozen then."""
    for t in range(first, steps):
        torch.manual_seed(t)
        images = torch.rand(2, 3, 4, 4)
        step = Only(lambda model, *_, images=images: StepResult(model(images).square().mean(), {}))
        learner.step(t, 0.1, step, [next(batches(0))])
    checkpoint.write(directory, learner.checkpoint(steps))
    return learner.average.module.encoder not in unfrozen(learner.averaged())


@pytest.mark.parametrize("freeze", [2, 3, 6, ALWAYS])
def test_a_stage_that_freezes_its_encoder_goes_on_with_the_same_bits(tmp_path, freeze):
    """Interrupted after step 3: the encoder has begun to learn, begins with the next step, or stays frozen."""
    cfg = replace(CFG, freeze=freeze, optimizer="adamw", weight_decay=0.1)
    torch.manual_seed(0)
    whole, first, second, last = (learner_of(Parts(), cfg=cfg) for _ in range(4))
    first.network.load_state_dict(whole.network.state_dict())
    first.average.module.load_state_dict(whole.average.module.state_dict())
    before = {name: value.clone() for name, value in whole.network.state_dict().items()}
    kept_frozen = stage_of_parts(whole, tmp_path / "whole", 0, 6)
    stage_of_parts(first, tmp_path / "broken", 0, 3)
    early = changes(first.network, before)
    assert bool(early["encoder.0.weight"] or early["encoder.1.running_mean"]) == (freeze == 2)
    assert second.resume(checkpoint.newest(tmp_path / "broken")) == 3
    assert stage_of_parts(second, tmp_path / "broken", 3, 6) == kept_frozen == (freeze in (6, ALWAYS))
    assert (
        last.resume(checkpoint.newest(tmp_path / "broken")) == 6
    )  # the stage had ended, its model was not kept
    assert (last.average.module.encoder not in unfrozen(last.averaged())) == kept_frozen
    found = [checkpoint.newest(tmp_path / name) for name in ("whole", "broken")]
    for part, tensors in found[0].tensors.items():
        assert tensors.keys() == found[1].tensors[part].keys()
        assert all(torch.equal(value, found[1].tensors[part][name]) for name, value in tensors.items())
    assert bool(changes(whole.network, before)["encoder.0.weight"]) == (freeze in (2, 3))


def test_an_encoder_learns_at_its_own_rate():
    (full, _), (slow, _) = after_one_step(), after_one_step(encoder_lr=0.25)
    assert (
        slow["encoder.0.weight"] == pytest.approx(full["encoder.0.weight"] / 4, rel=1e-3)
        and full["encoder.0.weight"] > 0
    )
    assert slow["decoder.weight"] == pytest.approx(full["decoder.weight"])


def test_layers_learn_the_slower_the_nearer_they_are_to_the_image():
    (full, _), (slow, _) = after_one_step(), after_one_step(layer_decay=0.5)
    assert slow["encoder.0.weight"] == pytest.approx(
        full["encoder.0.weight"] / 2, rel=1e-3
    )  # one layer before the decoder
    assert slow["decoder.weight"] == pytest.approx(full["decoder.weight"])


@pytest.mark.parametrize(("largest", "norm"), [(0.5, 0.5), (100.0, 10.0), (0.0, 10.0)])
def test_a_gradient_is_cut_to_the_largest_norm(largest, norm):
    """The gradient is (6, 8). The first step of SGD with Nesterov momentum 0.9 is 1.9 of it; 0 is no limit."""
    network = torch.nn.Linear(2, 1, bias=False)
    before = network.weight.detach().clone()
    learner = learner_of(network, cfg=replace(CFG, clip=largest))
    slope = Only(lambda model, *_: StepResult((model.weight * torch.tensor([[6.0, 8.0]])).sum(), {}))
    learner.step(0, 1.0, slope, [None])
    moved = before - network.weight.detach()
    assert moved.norm().item() == pytest.approx(1.9 * norm, abs=1e-4)
    assert (moved / moved.norm()).tolist()[0] == pytest.approx([0.6, 0.8], abs=1e-5)
