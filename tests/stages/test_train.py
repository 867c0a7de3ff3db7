import math
import signal
from dataclasses import replace
from functools import partial

import pytest
import torch
from accelerate import Accelerator
from timm.optim import create_optimizer_v2

from selftrain import checkpoint
from selftrain.config import TrainConfig
from selftrain.data.examples import Batch
from selftrain.errors import ConfigError, LearningError, StoppedError
from selftrain.log import Metrics
from selftrain.methods.base import StepResult
from selftrain.stages.train import PATIENCE, Diverged, Learner, Stop, lr_at, train
from selftrain.targets import Target

CFG = TrainConfig(lr=0.1, warmup=0, ema=0.5, checkpoint_every=2, eval_every=2, optimizer="sgd", weight_decay=0.0, clip=0.0)


def batches(first, steps=6):
    """Batches whose only pixel is the number of the step."""
    for step in range(first, steps):
        pixel = torch.full((1, 1, 1, 3), step, dtype=torch.uint8)
        yield Batch(pixel, Target(pixel[..., 0]))


class Only:
    """A step function of a loss that counts nothing."""

    def __init__(self, loss):
        self.call = loss

    def counts(self, batch):
        return torch.zeros(0)

    def loss(self, model, averaged, batch, counts):
        return self.call(model, averaged, batch)


def pull(model, averaged, batch):
    """A loss that draws the weight towards the step's number, and noise from the global generator into the logs."""
    target = batch.images.float().mean()
    return StepResult((model.weight.sum() - target) ** 2, {"noise": torch.rand(())})


def go(directory, *, step=pull, cfg=CFG, metrics=None, stop=None, steps=6, seen=None, keep=None):
    torch.manual_seed(0)
    return train(
        torch.nn.Conv2d(1, 1, 1, bias=False), lambda first: batches(first, steps), Only(step), cfg=cfg,
        steps=steps, images=1, stage="gen0", keys=(0, "gen0"),
        directory=directory / "checkpoints", accelerator=Accelerator(cpu=True), metrics=metrics or Metrics(None),
        evaluate=lambda network: (seen.append(network.weight.item()) if seen is not None else None) or {"val_miou": 0.5},
        keep=keep or {}, stop=stop or Stop(),
    )  # fmt: skip


@pytest.mark.parametrize("schedule", ["cosine", "poly"])
def test_the_learning_rate_warms_up_and_falls_to_nought(schedule):
    cfg = TrainConfig(lr=0.1, warmup=4, schedule=schedule)
    rates = [lr_at(step, 20, cfg) for step in range(20)]
    assert rates[:4] == pytest.approx([0.025, 0.05, 0.075, 0.1])
    assert rates[4:] == sorted(rates[4:], reverse=True) and rates[-1] < 0.02
    assert lr_at(12, 20, cfg) == pytest.approx(0.05 if schedule == "cosine" else 0.1 * 0.5**0.9)


def test_the_averaged_weights_are_what_comes_out_and_is_evaluated(tmp_path):
    seen, kept = [], []
    trained = go(tmp_path, seen=seen, keep={4: lambda network: kept.append(network.weight.item())})
    assert kept == seen[1:] and 0 < trained.average_distance < 1
    last = torch.nn.Conv2d(1, 1, 1, bias=False)
    saved = checkpoint.newest(tmp_path / "checkpoints")
    last.load_state_dict(saved.tensors["model"])
    assert torch.equal(trained.network.weight, saved.tensors["ema"]["weight"])
    assert not torch.equal(trained.network.weight, last.weight)
    assert len(seen) == 2  # after steps 2 and 4; the end is measured by the caller


def test_an_interrupted_stage_goes_on_with_the_same_bits_and_the_same_rows(tmp_path):
    def stopping(model, averaged, batch):
        if batch.images.max() == 3:
            stop.signal = signal.SIGTERM
        return pull(model, averaged, batch)

    straight, broken = Metrics(tmp_path / "a.jsonl"), Metrics(tmp_path / "b.jsonl")
    whole = go(tmp_path / "a", metrics=straight)
    stop = Stop()
    with pytest.raises(StoppedError, match="gen0 step 4"):
        go(tmp_path / "b", step=stopping, metrics=broken, stop=stop)
    broken.write("gen0", 5, {"loss": 99.0})  # a row that a kill left behind
    resumed = go(tmp_path / "b", metrics=broken)
    assert torch.equal(whole.network.weight, resumed.network.weight)
    assert (tmp_path / "a.jsonl").read_text() == (tmp_path / "b.jsonl").read_text()


@pytest.mark.parametrize("name", ["lamb", "adan", "adabelief", "adafactor", "madgrad", "nadamw", "lookahead_adamw"])
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


@pytest.mark.parametrize("name", ["adahessian", "kron"])
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
    learner = Learner(network, CFG, Accelerator(cpu=True))

    def step(model, averaged, batch):
        return StepResult(model(torch.full((2, 3, 4, 4), math.nan)).sum(), {})

    learner.step(0, 0.1, Only(step), next(batches(0)))
    assert torch.equal(network.running_mean, torch.zeros(3)) and int(network.num_batches_tracked) == 0


def test_many_skipped_steps_lead_back_to_the_checkpoint_at_half_the_learning_rate(tmp_path, monkeypatch):
    monkeypatch.setattr("selftrain.stages.train.PATIENCE", 2)
    metrics = Metrics(tmp_path / "metrics.jsonl")
    trained = go(tmp_path, step=spoilt(2, 3), metrics=metrics)  # back from step 4 to step 2
    assert trained.skipped == 2
    state = checkpoint.newest(tmp_path / "checkpoints").state
    assert state["lr_scale"] == 0.5 and state["step"] == 6
    assert metrics.rows()[-1]["lr"] == pytest.approx(lr_at(5, 6, CFG) / 2)


def test_a_stage_that_stays_without_finite_gradients_ends_the_run_and_saves_nothing_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr("selftrain.stages.train.PATIENCE", 2)
    with pytest.raises(LearningError, match=r"train\.lr"):
        go(tmp_path, step=spoilt(None))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000000"]


def test_scaled_gradients_that_stay_without_end_lead_to_the_same_end(tmp_path):
    """fp16: the scale falls to 1 first; from then on steps are counted."""
    accelerator = Accelerator(cpu=True)
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    learner = Learner(torch.nn.Conv2d(1, 1, 1, bias=False), CFG, accelerator)
    for _ in range(2):
        learner.step(0, 0.1, Only(spoilt(None)), next(batches(0)))
    assert accelerator.scaler.get_scale() == 1 and learner.streak == 0
    for _ in range(PATIENCE - 1):
        learner.step(0, 0.1, Only(spoilt(None)), next(batches(0)))
    assert accelerator.scaler.get_scale() == 1 and learner.streak == PATIENCE - 1
    with pytest.raises(Diverged):
        learner.step(0, 0.1, Only(spoilt(None)), next(batches(0)))


def test_steps_without_an_accepted_pixel_are_counted_across_a_resume(tmp_path):
    def sparse(model, averaged, batch):
        stop.signal = signal.SIGTERM if batch.images.max() == 2 else None
        return StepResult(pull(model, averaged, batch).loss, {"accepted": torch.tensor(float(batch.images.max() % 2))})

    stop = Stop()
    with pytest.raises(StoppedError):
        go(tmp_path, step=sparse, stop=stop)
    assert go(tmp_path, step=sparse, stop=stop).empty == 3  # steps 0, 2 and 4


def two_groups(network, *, first, second):
    """SGD over the two parameters of a convolution, a group each."""
    groups = [{"params": [network.weight], **first}, {"params": [network.bias], **second}]
    return torch.optim.SGD(groups, lr=0.1, momentum=0.9)


@pytest.mark.parametrize(
    ("second", "rate"), [({}, 1.0), ({"lr": 0.025}, 0.25), ({"lr_scale": 0.5}, 0.5), ({"lr": 0.025, "lr_scale": 0.5}, 0.125)]
)
def test_each_group_of_parameters_keeps_its_own_learning_rate(tmp_path, monkeypatch, second, rate):
    monkeypatch.setattr("selftrain.stages.train._optimizer", lambda network, cfg: two_groups(network, first={}, second=second))
    learner = Learner(torch.nn.Conv2d(1, 1, 1), CFG, Accelerator(cpu=True))
    for t, lr in enumerate((0.08, 0.04)):
        learner.step(t, lr, Only(pull), next(batches(0)))
        assert [group["lr"] for group in learner.optimizer.param_groups] == pytest.approx([lr, lr * rate])
    checkpoint.write(tmp_path, learner.checkpoint(2))
    again = Learner(torch.nn.Conv2d(1, 1, 1), CFG, Accelerator(cpu=True))
    again.resume(checkpoint.newest(tmp_path))
    for one in (learner, again):
        one.step(2, 0.02, Only(pull), next(batches(3)))
    rates = [[group["lr"] for group in one.optimizer.param_groups] for one in (learner, again)]
    assert rates[0] == rates[1] == pytest.approx([0.02, 0.02 * rate])
    weights = [torch.cat([one.network.weight.flatten(), one.network.bias]) for one in (learner, again)]
    assert torch.equal(*weights)


class TwoLayers(torch.nn.Module):
    """Layers that timm can tell apart."""

    def __init__(self):
        super().__init__()
        self.first, self.second = (torch.nn.Conv2d(1, 1, 1, bias=False) for _ in range(2))

    def group_matcher(self, coarse=False):
        return {"first": "^first", "second": "^second"}


def test_timms_layer_decay_reaches_the_steps(monkeypatch):
    monkeypatch.setattr("selftrain.stages.train.create_optimizer_v2", partial(create_optimizer_v2, layer_decay=0.5))
    network = TwoLayers()
    learner = Learner(network, CFG, Accelerator(cpu=True))
    before = [weight.item() for weight in network.parameters()]
    learner.step(
        0, 0.1, Only(lambda model, *_: StepResult(sum(model.parameters()).sum(), {})), next(batches(0))
    )  # gradients of 1
    first, second = (old - weight.item() for old, weight in zip(before, network.parameters(), strict=True))
    assert first > 0 and second == pytest.approx(2 * first)


def test_an_unknown_optimizer_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"train\.optimizer"):
        go(tmp_path, cfg=TrainConfig(optimizer="nonsense"))
