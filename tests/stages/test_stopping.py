"""Early stopping and Lookahead in a stage of training, and in a stage that was stopped and resumed."""

import signal
from dataclasses import replace

import pytest
import torch
from one_stage import CFG, Only, batches, go, learner_of, pull

from selftrain import checkpoint
from selftrain.errors import StoppedError
from selftrain.log import Metrics
from selftrain.methods.base import StepResult
from selftrain.signals import Stop

PATIENT = replace(CFG, eval_every=1, patience=2, checkpoint_every=100)


def ended_at(directory, scores, cfg=PATIENT, **settings):
    """The last step of a stage whose evaluations give `scores`, and its checkpoints."""
    scores = iter(scores)
    trained = go(directory, cfg=cfg, evaluate=lambda network: next(scores), **settings)
    return trained.steps, [path.name for path in sorted((directory / "checkpoints").iterdir())]


@pytest.mark.parametrize(
    ("scores", "steps"), [([0.5, 0.4, 0.5], 3), ([0.1, 0.2, 0.1, 0.2], 4), ([0.1, 0.2, 0.1, 0.3, 0.2], 6)]
)
def test_a_stage_ends_when_val_has_not_improved_for_so_many_evaluations(tmp_path, scores, steps):
    ended, kept = ended_at(tmp_path, scores)
    assert ended == steps and kept == ["step-000000", f"step-{steps:06d}"]
    assert checkpoint.newest(tmp_path / "checkpoints").state["step"] == steps


def test_a_stage_that_ended_early_has_the_averaged_weights_of_its_last_step(tmp_path):
    scores, seen = iter([0.5, 0.4, 0.3]), []

    def evaluate(network):
        seen.append(network.weight.item())
        return next(scores)

    trained = go(tmp_path, cfg=PATIENT, evaluate=evaluate)
    assert trained.network.weight.item() == seen[-1] and len(set(seen)) == 3


@pytest.mark.parametrize("last", [1, 2, 3])
def test_a_resumed_stage_ends_early_at_the_same_step_with_the_same_bits(tmp_path, last):
    """Stopped after step 1, 2 or 3; the third is the step at which it ends."""
    stop, metrics = Stop(), [Metrics(tmp_path / name) for name in ("a.jsonl", "b.jsonl")]

    def stopping(model, averaged, batch):
        stop.signal = signal.SIGTERM if batch.images.max() == last - 1 else None
        return pull(model, averaged, batch)

    scores = {1: 0.5, 2: 0.4, 3: 0.45, 4: 0.9, 5: 0.9}
    counted = {}

    def evaluating(name):
        def evaluate(network):
            counted[name] = counted.get(name, 0) + 1
            return scores[counted[name]]

        return evaluate

    whole = go(tmp_path / "a", cfg=PATIENT, metrics=metrics[0], evaluate=evaluating("a"))
    with pytest.raises(StoppedError):
        go(
            tmp_path / "b",
            step=stopping,
            cfg=PATIENT,
            metrics=metrics[1],
            stop=stop,
            evaluate=evaluating("b"),
        )
    resumed = go(tmp_path / "b", cfg=PATIENT, metrics=metrics[1], evaluate=evaluating("b"))
    assert whole.steps == resumed.steps == 3 and counted == {"a": 3, "b": 3}
    assert torch.equal(whole.network.weight, resumed.network.weight)
    assert (tmp_path / "a.jsonl").read_text() == (tmp_path / "b.jsonl").read_text()


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "madgrad"])
def test_lookahead_goes_on_with_the_same_bits(tmp_path, optimizer):
    """Stopped between two updates of the slow weights, and resumed."""
    stop = Stop()
    cfg = replace(CFG, optimizer=optimizer, lookahead=3, lookahead_alpha=0.3, checkpoint_every=100)

    def stopping(model, averaged, batch):
        stop.signal = signal.SIGTERM if batch.images.max() == 7 else None
        return pull(model, averaged, batch)

    whole = go(tmp_path / "a", cfg=cfg, steps=14)
    with pytest.raises(StoppedError):
        go(tmp_path / "b", step=stopping, stop=stop, cfg=cfg, steps=14)
    assert torch.equal(whole.network.weight, go(tmp_path / "b", cfg=cfg, steps=14).network.weight)
    other = go(tmp_path / "c", cfg=replace(cfg, lookahead=0), steps=14)
    assert not torch.equal(whole.network.weight, other.network.weight)


def test_lookahead_goes_a_share_of_the_way_every_k_steps():
    """SGD without momentum at rate 1 and a gradient of -1 would add 1 in every step."""
    network = torch.nn.Conv2d(1, 1, 1, bias=False)
    torch.nn.init.zeros_(network.weight)
    cfg = replace(CFG, optimizer="momentum", lookahead=2, lookahead_alpha=0.25)
    learner = learner_of(network, cfg=cfg)
    for group in learner.optimizer.param_groups:
        group["momentum"] = 0.0
    after = []
    for t in range(4):
        learner.step(t, 1.0, Only(lambda model, *_: StepResult(-model.weight.sum(), {})), [next(batches(0))])
        after.append(network.weight.item())
    # the slow weights begin as 2, those after the first two steps; then 2 + 0.25 * (4 - 2)
    assert after == pytest.approx([1, 2, 3, 2.5])
