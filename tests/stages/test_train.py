import math
import signal
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator

from selftrain import checkpoint
from selftrain.config import ALWAYS, TrainConfig
from selftrain.data.examples import Batch
from selftrain.errors import ConfigError, LearningError, StoppedError
from selftrain.log import Metrics
from selftrain.methods.base import StepResult
from selftrain.optim.groups import GROUPS, unfrozen
from selftrain.optim.schedules import cosine, lr_at
from selftrain.signals import Stop
from selftrain.stage import SCORE, Stage
from selftrain.stages.train import PATIENCE, Learner, grouped, train
from selftrain.targets import Target

CFG = TrainConfig(
    lr=0.1, warmup=0, ema=0.5, checkpoint_every=2, eval_every=2, optimizer="sgd", weight_decay=0.0, clip=0.0
)


def batches(first, steps=6, parts=1):
    """Batches whose only pixel is the number of the step, each in so many parts."""
    for step in range(first, steps):
        pixel = torch.full((1, 1, 1, 3), step, dtype=torch.uint8)
        yield from [Batch(pixel, Target(pixel[..., 0]))] * parts


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


def go(
    directory,
    *,
    step=pull,
    cfg=CFG,
    metrics=None,
    stop=None,
    steps=6,
    evaluate=lambda network: 0.5,
    keep=None,
):
    torch.manual_seed(0)
    stage = Stage(
        "gen0", 0, steps=steps, images=1, directory=directory / "checkpoints", accelerator=Accelerator(cpu=True),
        metrics=metrics or Metrics(None), stop=stop or Stop(),
    )  # fmt: skip
    network = torch.nn.Conv2d(1, 1, 1, bias=False)
    return train(
        network,
        lambda first: batches(first, steps, cfg.accumulate),
        Only(step),
        cfg=cfg,
        stage=stage,
        evaluate=lambda network: {SCORE: evaluate(network)},
        keep=keep or {},
    )


def learner_of(network, accelerator=None, cfg=CFG):
    return Learner(network, cfg, accelerator or Accelerator(cpu=True), steps=6)


def rate_of_step(step, steps=6, cfg=CFG):
    return lr_at(step, steps, [], lr=cfg.lr, warmup=cfg.warmup, schedule=cosine)


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


def test_a_step_whose_last_part_never_came_is_not_taken():
    parts = list(batches(0, steps=2, parts=2))[:3]
    assert [len(group) for group in grouped(iter(parts), 2)] == [2]
