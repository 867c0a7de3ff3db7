"""What a stage of training keeps, skips, and goes on with."""

import math
import signal
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from one_stage import CFG, Only, batches, go, learner_of, pull, rate_of_step

from selftrain import checkpoint
from selftrain.config import TrainConfig
from selftrain.errors import ConfigError, LearningError, StoppedError
from selftrain.log import Metrics
from selftrain.methods.base import StepResult
from selftrain.signals import Stop
from selftrain.stages.train import PATIENCE, grouped


def test_the_averaged_weights_are_what_comes_out_and_is_evaluated(tmp_path):
    seen, kept = [], []

    def evaluate(network):
        seen.append(network.weight.item())
        return 0.5

    trained = go(tmp_path, evaluate=evaluate, keep={4: lambda network: kept.append(network.weight.item())})
    assert kept == seen[1:] and 0 < trained.average_distance < 1
    last = torch.nn.Conv2d(1, 1, 1, bias=False)
    saved = checkpoint.newest(tmp_path / "checkpoints")
    last.load_state_dict(saved.tensors["model"])
    assert torch.equal(trained.network.weight, saved.tensors["ema"]["weight"])
    assert not torch.equal(trained.network.weight, last.weight)
    assert len(seen) == 2  # after steps 2 and 4; the end is measured by the caller


@pytest.mark.parametrize("accumulate", [1, 2])
def test_an_interrupted_stage_goes_on_with_the_same_bits_and_the_same_rows(tmp_path, accumulate):
    cfg = replace(CFG, accumulate=accumulate)

    def stopping(model, averaged, batch):
        if batch.images.max() == 3:
            stop.signal = signal.SIGTERM
        return pull(model, averaged, batch)

    straight, broken = Metrics(tmp_path / "a.jsonl"), Metrics(tmp_path / "b.jsonl")
    whole = go(tmp_path / "a", metrics=straight, cfg=cfg)
    stop = Stop()
    with pytest.raises(StoppedError, match="gen0 step 4"):
        go(tmp_path / "b", step=stopping, metrics=broken, stop=stop, cfg=cfg)
    broken.write("gen0", 5, {"loss": 99.0})  # a row that a kill left behind
    resumed = go(tmp_path / "b", metrics=broken, cfg=cfg)
    assert torch.equal(whole.network.weight, resumed.network.weight)
    assert (tmp_path / "a.jsonl").read_text() == (tmp_path / "b.jsonl").read_text()


@pytest.mark.parametrize(
    "name", ["lamb", "adan", "adabelief", "adafactor", "madgrad", "nadamw", "lookahead_adamw"]
)
def test_any_optimizer_goes_on_with_the_same_bits(tmp_path, name):
    """Some keep counters that are no tensors, of parameters or of their groups."""
    stop, cfg = Stop(), replace(CFG, optimizer=name, weight_decay=0.01, checkpoint_every=100)

    def stopping(model, averaged, batch):
        stop.signal = signal.SIGTERM if batch.images.max() == 7 else None
        return pull(model, averaged, batch)

    whole = go(tmp_path / "a", cfg=cfg, steps=14)
    with pytest.raises(StoppedError):
        go(tmp_path / "b", step=stopping, stop=stop, cfg=cfg, steps=14)
    assert torch.equal(whole.network.weight, go(tmp_path / "b", cfg=cfg, steps=14).network.weight)


@pytest.mark.parametrize(
    "name", ["adahessian", pytest.param("kron", marks=pytest.mark.slow)]
)  # kron compiles
def test_an_optimizer_that_cannot_be_resumed_or_wants_more_than_gradients_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match=rf"train\.optimizer='{name}' does not work here"):
        go(tmp_path, cfg=replace(CFG, optimizer=name))


def test_a_finished_stage_is_not_trained_again(tmp_path):
    first = go(tmp_path)
    again = go(tmp_path, step=lambda *_: pytest.fail("a step was made"))
    assert torch.equal(first.network.weight, again.network.weight)


def spoilt(*bad, calls=None):
    """`pull`, with a loss that is NaN in the calls `bad` (None: in all)."""
    calls = iter(range(100)) if calls is None else calls

    def step(model, averaged, batch):
        result, n = pull(model, averaged, batch), next(calls)
        return StepResult(result.loss * (math.nan if bad == (None,) or n in bad else 1), result.logs)

    return step


def test_a_step_without_finite_gradients_is_skipped_counted_and_kept_out_of_the_metrics(tmp_path):
    metrics = Metrics(tmp_path / "metrics.jsonl")
    trained = go(tmp_path, step=spoilt(5), metrics=metrics)
    assert trained.skipped == 1 and math.isfinite(trained.network.weight.item())
    assert "loss" not in metrics.rows()[-1] and "lr" in metrics.rows()[-1]


def test_a_skipped_step_leaves_the_statistics_of_batch_norm_alone():
    network = torch.nn.BatchNorm2d(3)
    learner = learner_of(network)

    def step(model, averaged, batch):
        return StepResult(model(torch.full((2, 3, 4, 4), math.nan)).sum(), {})

    learner.step(0, 0.1, Only(step), [next(batches(0))])
    assert torch.equal(network.running_mean, torch.zeros(3)) and int(network.num_batches_tracked) == 0


def test_many_skipped_steps_lead_back_to_the_checkpoint_at_half_the_learning_rate(tmp_path, monkeypatch):
    monkeypatch.setattr("selftrain.stages.train.PATIENCE", 2)
    metrics = Metrics(tmp_path / "metrics.jsonl")
    trained = go(tmp_path, step=spoilt(2, 3), metrics=metrics)  # back from step 4 to step 2
    assert trained.skipped == 2
    state = checkpoint.newest(tmp_path / "checkpoints").state
    assert state["lr_scale"] == 0.5 and state["step"] == 6
    assert metrics.rows()[-1]["lr"] == pytest.approx(rate_of_step(5) / 2)


def test_a_stage_that_stays_without_finite_gradients_ends_the_run_and_saves_nothing_of_it(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("selftrain.stages.train.PATIENCE", 2)
    with pytest.raises(LearningError, match=r"train\.lr"):
        go(tmp_path, step=spoilt(None))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000000"]


def test_scaled_gradients_that_stay_without_end_lead_to_the_same_end(tmp_path):
    """fp16: the scale falls to 1 first; from then on steps are counted."""
    accelerator = Accelerator(cpu=True)
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    learner = learner_of(torch.nn.Conv2d(1, 1, 1, bias=False), accelerator)
    for _ in range(2):
        learner.step(0, 0.1, Only(spoilt(None)), [next(batches(0))])
    assert accelerator.scaler.get_scale() == 1 and learner.streak == 0
    for _ in range(PATIENCE - 1):
        learner.step(0, 0.1, Only(spoilt(None)), [next(batches(0))])
    assert accelerator.scaler.get_scale() == 1 and not learner.diverged
    learner.step(0, 0.1, Only(spoilt(None)), [next(batches(0))])
    assert learner.diverged


def test_steps_without_an_accepted_pixel_are_counted_across_a_resume(tmp_path):
    def sparse(model, averaged, batch):
        stop.signal = signal.SIGTERM if batch.images.max() == 2 else None
        return StepResult(
            pull(model, averaged, batch).loss, {"accepted": torch.tensor(float(batch.images.max() % 2))}
        )

    stop = Stop()
    with pytest.raises(StoppedError):
        go(tmp_path, step=sparse, stop=stop)
    assert go(tmp_path, step=sparse, stop=stop).empty == 3  # steps 0, 2 and 4


def test_an_unknown_optimizer_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"train\.optimizer"):
        go(tmp_path, cfg=TrainConfig(optimizer="nonsense"))


def become(model, averaged, batch):
    """The weight becomes the step's number, and its gradient is 0."""
    with torch.no_grad():
        model.weight.fill_(batch.images.float().mean())
    return StepResult(0 * model.weight.sum(), {})


@pytest.mark.parametrize(
    ("average", "expected"), [("none", 5.0), ({"swa": {"start": 0.5}}, 4.0), ("swa", 4.5)]
)
def test_the_kept_network_is_the_average_that_was_asked_for(tmp_path, average, expected):
    """The weight after step t is t. Over steps 3 to 5 its mean is 4, over steps 4 and 5 it is 4.5."""
    trained = go(tmp_path, step=become, cfg=replace(CFG, average=average))
    assert trained.network.weight.item() == pytest.approx(expected)


def test_a_step_whose_last_part_never_came_is_not_taken():
    parts = list(batches(0, steps=2, parts=2))[:3]
    assert [len(group) for group in grouped(iter(parts), 2)] == [2]
