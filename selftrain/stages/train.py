"""The training loop. Teachers, students and baselines differ in batches, network and step function."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial, reduce
from itertools import islice

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import nn

from selftrain import checkpoint
from selftrain.checkpoint import Checkpoint
from selftrain.config import ALWAYS, TrainConfig
from selftrain.data.examples import Batch
from selftrain.errors import LearningError, StoppedError, naming_savings
from selftrain.log import progress, say
from selftrain.methods.base import Step
from selftrain.models.build import to_layout
from selftrain.models.synchronised import synchronise
from selftrain.optim.averaging import AVERAGES, RATES, Average
from selftrain.optim.features import remember
from selftrain.optim.groups import GROUPS, Freezer, scaled
from selftrain.optim.optimizers import optimizer_of, rate_of
from selftrain.optim.schedules import SCHEDULES, lr_at, waited
from selftrain.rng import rekey
from selftrain.stage import SCORE, Stage
from selftrain.tables import Table, bound

LOG_EVERY = 10  # steps between rows of metrics.jsonl
# consecutive steps with NaN or infinite gradients before the stage goes back to its last checkpoint
PATIENCE = 8
Batches = Callable[[int], Iterator[Batch]]


@dataclass(frozen=True)
class Trained:
    """The result of a stage after `steps` steps; `network` has the averaged weights.

    `empty` counts the steps in which no pseudo-labelled pixel was accepted. `skipped` counts the steps with
    NaN or infinite gradients. `average_distance` is the distance between the averaged parameters and the last
    ones, relative to the last ones.
    """

    network: nn.Module
    steps: int
    seconds: float
    empty: int
    skipped: int
    average_distance: float


@naming_savings("training")
def train(
    network: nn.Module,
    batches: Batches,
    step: Step,
    *,
    cfg: TrainConfig,
    stage: Stage,
    evaluate: Callable[[nn.Module], Mapping[str, float]],
    keep: Mapping[int, Callable[[nn.Module], None]],
) -> Trained:
    """Train `network` from the newest checkpoint of the stage, or from step 0.

    `batches(first)` yields this rank's part of the global batches from step `first` on, in `cfg.accumulate`
    micro-batches per step. It ends early if a signal arrives while it waits. `evaluate` scores the averaged
    network every `cfg.eval_every` steps; its scores are logged, and SCORE is the one on val. After
    `cfg.patience` of these in a row without a new best one, the stage ends with the averaged weights of that
    step. `keep` maps a step to a callback that receives the averaged network.

    A step with NaN or infinite gradients is skipped. After PATIENCE such steps in a row, training goes back
    to the last checkpoint, once, at half the learning rate. Raises LearningError if that does not help,
    StoppedError for a signal, after saving.
    """
    learner, saved = Learner(network, cfg, stage.accelerator, steps=stage.steps), stage.newest()
    first = learner.resume(saved)
    if saved is None:
        stage.save(
            learner.checkpoint, 0
        )  # a checkpoint to go back to; it also reveals a full disk before any work
    shown = stage.accelerator.is_main_process
    with progress(stage.name, stage.steps, start=first, per_step=stage.images, show=shown) as show:
        loop = Loop(stage, cfg, learner, step, evaluate, keep, show)
        while not loop.advance(batches, first):
            first = learner.go_back(stage.newest(), stage.name)
    stage.accelerator.free_memory()
    distance = learner.average.distance(learner.network)
    return Trained(
        learner.averaged(), loop.done, learner.seconds, int(learner.empty), learner.skipped, distance
    )


@dataclass
class Loop:
    """The steps of a stage, and the work between them."""

    stage: Stage
    cfg: TrainConfig
    learner: "Learner"
    step: Step
    evaluate: Callable[[nn.Module], Mapping[str, float]]
    keep: Mapping[int, Callable[[nn.Module], None]]
    show: Callable[..., None]
    scores: list[float] = field(default_factory=list)  # val scores so far
    done: int = 0  # steps

    def __post_init__(self) -> None:
        self.schedule = bound(Table(SCHEDULES).one(self.cfg.schedule, "train.schedule"))
        average = Table(AVERAGES).one(self.cfg.average, "train.average")
        own = RATES.get(average.name)  # of the average
        self.own_rate = partial(own, **average.settings) if own else None

    @property
    def over(self) -> bool:
        """Whether the stage ends here: after its last step, or as val has not improved for too long."""
        patience = self.cfg.patience
        return self.done >= self.stage.steps or 0 < patience <= waited(self.scores)

    def advance(self, batches: Batches, first: int) -> bool:
        """Run the steps from `first` to the last; returns false if they diverge.

        Raises StoppedError for a signal.
        """
        stage, self.done = self.stage, first
        stage.metrics.rewind(stage.name, first)
        self.scores = stage.scores()
        coming = iter(()) if self.over else batches(first)
        for t, parts in enumerate(grouped(coming, self.cfg.accumulate), start=first):
            rekey(*stage.keys, t, stage.accelerator.process_index)
            here = [part.to(stage.accelerator.device) for part in parts]
            taken = self.learner.step(t, self.lr_at(t), self.step, here)
            if self.learner.diverged:
                return False
            self.done = t + 1
            self.show(self.done, self.report(self.done, taken))
            self.save(self.done)
            if self.over:
                break
        if not self.over:
            self.end_waiting(self.done)
        if self.done < stage.steps and stage.accelerator.is_main_process:
            say(
                f"{stage.name}: ends after {self.done} of {stage.steps} steps: "
                f"{self.cfg.patience} scores on val without a new best one"
            )
        return True

    def lr_at(self, t: int) -> float:
        """The learning rate of step `t`."""
        cfg, steps = self.cfg, self.stage.steps
        own = self.own_rate(t, steps=steps) if self.own_rate else None
        if own is not None:
            return cfg.lr * own
        return lr_at(t, steps, self.scores, lr=cfg.lr, warmup=cfg.warmup, schedule=self.schedule)

    def report(self, done: int, taken: "Taken") -> str:
        """Log, evaluate and keep what is due after `done` steps; returns a note for the progress line."""
        stage, cfg, note = self.stage, self.cfg, ""
        if done % LOG_EVERY == 0 or done == stage.steps:
            values = taken.values(stage.accelerator)
            stage.metrics.write(
                stage.name, done, {name: value for name, value in values.items() if math.isfinite(value)}
            )
            note = f"loss {values['loss']:.3f}"
        if cfg.eval_every and done % cfg.eval_every == 0 and done < stage.steps:
            found = self.evaluate(self.learner.averaged())
            self.scores.append(found[SCORE])
            stage.metrics.write(stage.name, done, found)
        if done in self.keep:
            self.keep[done](self.learner.averaged())
        return note

    def save(self, done: int) -> None:
        """Write a checkpoint if one is due. Raises StoppedError for a signal, after writing one."""
        stage, stopped = self.stage, self.stage.stop.agreed(self.stage.accelerator)
        due = done % self.cfg.checkpoint_every == 0 and not self.learner.streak
        if due or self.over or stopped:
            stage.save(self.learner.checkpoint, done)
        if stopped:
            raise StoppedError(
                f"stopped by a signal at {stage.name} step {done}; saved, the same command resumes"
            )

    def end_waiting(self, done: int) -> None:
        """Raises StoppedError for a signal that arrived while the loop waited for a batch."""
        stage = self.stage
        if stage.accelerator.num_processes == 1:  # other ranks are within a step and save nothing more
            stage.save(self.learner.checkpoint, done)
        where = f"{stage.name} step {done}"
        raise StoppedError(f"stopped by a signal at {where}, waiting for a batch; the same command resumes")


def added(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """The sum of tensors of one shape."""
    return reduce(torch.add, tensors)


def grouped(batches: Iterator[Batch], size: int) -> Iterator[list[Batch]]:
    """Group micro-batches by `size`. An incomplete last group, cut short by a signal, is left out."""
    while len(group := list(islice(batches, size))) == size:
        yield group


@dataclass(frozen=True)
class Taken:
    """A finished optimizer step: this rank's logs and the learning rate."""

    logs: dict[str, torch.Tensor]
    lr: float

    def values(self, accelerator: Accelerator) -> dict[str, float]:
        """The means over the ranks, and the rate. Not called at every step, as it waits for the device."""
        ranks = accelerator.reduce(torch.stack([value.float() for value in self.logs.values()]), "mean")
        return {**dict(zip(self.logs, ranks.tolist(), strict=True)), "lr": self.lr}


class Learner:
    """The network, averaged network and optimizer of one stage: the contents of a checkpoint."""

    def __init__(self, network: nn.Module, cfg: TrainConfig, accelerator: Accelerator, *, steps: int):
        self.network = to_layout(network).to(accelerator.device)
        grouping = bound(Table(GROUPS).one(cfg.groups, "train.groups"))
        # before the copy, so that a frozen encoder is frozen there as well
        self.freezer = Freezer(self.network, cfg.freeze if cfg.freeze != ALWAYS else steps, of=steps)
        groups = grouping(self.network, weight_decay=cfg.weight_decay)
        groups = scaled(groups, self.network, encoder_lr=cfg.encoder_lr, layer_decay=cfg.layer_decay)
        averaging = bound(Table(AVERAGES).one(cfg.average, "train.average"))
        self.average, self.decay_at = Average(self.network), partial(averaging, steps=steps, decay=cfg.ema)
        self.features = remember(self.network, cfg.feature_mb) if cfg.feature_mb else []  # not in the copy
        if cfg.sync_bn and accelerator.num_processes > 1:
            synchronise(self.network)  # nor in the copy
        self.optimizer = optimizer_of(
            groups,
            cfg.optimizer,
            lr=cfg.lr,
            device=accelerator.device,
            lookahead=cfg.lookahead,
            alpha=cfg.lookahead_alpha,
        )
        self.rates = [rate_of(group, cfg.lr) for group in self.optimizer.param_groups]  # steps change them
        self.model, self.prepared = accelerator.prepare(self.network, self.optimizer)
        self.accelerator, self.clip = accelerator, cfg.clip or math.inf
        self.buffers = list(self.network.buffers())
        self.began = time.monotonic()  # minus the time of earlier processes
        # on the device, so that no step waits for it
        self.empty = torch.zeros((), dtype=torch.int64, device=accelerator.device)
        self.skipped, self.streak, self.lr_scale = 0, 0, 1.0

    @property
    def seconds(self) -> float:
        """The duration of the stage, over all processes that worked on it."""
        return time.monotonic() - self.began

    @property
    def diverged(self) -> bool:
        """Whether PATIENCE steps in a row had NaN or infinite gradients."""
        return self.streak >= PATIENCE

    def step(self, t: int, lr: float, step: Step, parts: Sequence[Batch]) -> Taken:
        """Take optimizer step `t` on this rank's micro-batches.

        A step with NaN or infinite gradients changes nothing. Counts are summed over micro-batches and ranks
        before the first loss. So the gradients equal the gradients of the global batch, up to rounding. Batch
        norm is the exception: it sees one micro-batch, of one rank or with `sync_bn` of all ranks.
        """
        lr *= self.lr_scale
        self.freezer.set(t, self.average.module)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = lr * rate
        self.model.train()
        before = [buffer.clone() for buffer in self.buffers]
        logs = self._gradients(step, parts)
        if "accepted" in logs:
            self.empty += self._sum(logs["accepted"]) == 0
        # the norm over all ranks, so all decide alike
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.clip)
        # the only wait for the device in a step: it decides whether the step is taken
        if torch.isfinite(norm):
            self.prepared.step()
            self.average.update(self.decay_at(t))
            self.streak = 0
        else:
            self._skip(before)
        self.prepared.zero_grad()
        return Taken(logs, lr)

    def _gradients(self, step: Step, parts: Sequence[Batch]) -> dict[str, torch.Tensor]:
        """Add up the gradients of micro-batches; returns the sums of their logs.

        Ranks exchange gradients at the last micro-batch.
        """
        counts, logs = (
            self._sum(added([step.counts(part) for part in parts])),
            list[dict[str, torch.Tensor]](),
        )
        for left, part in zip(reversed(range(len(parts))), parts, strict=True):
            with self.accelerator.no_sync(self.model) if left else nullcontext():
                result = step.loss(self.model, self.average.module, part, counts)
                self.accelerator.backward(result.loss)
            logs.append(
                {
                    "loss": result.loss.detach(),
                    **{name: value.detach() for name, value in result.logs.items()},
                }
            )
        return {name: added([row[name] for row in logs]) for name in logs[0]}

    def _sum(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over ranks."""
        return self.accelerator.reduce(values, "sum") if self.accelerator.num_processes > 1 else values

    def _skip(self, buffers: list[torch.Tensor]) -> None:
        """Undo a step with NaN or infinite gradients, including its batch-norm statistics."""
        for buffer, before in zip(self.buffers, buffers, strict=True):
            buffer.copy_(before)
        self.skipped += 1
        scaler = self.accelerator.scaler
        if scaler and scaler.get_scale() > 1:
            # changes no weight, but lowers the fp16 scale, which may be the only problem
            self.prepared.step()
            return
        if scaler:
            # A scale below 1 would only lose digits. Without an update, the scaler refuses the next step.
            scaler.update(1.0)
        self.streak += 1

    def go_back(self, saved: Checkpoint | None, stage: str) -> int:
        """Load a checkpoint and halve the learning rate; returns its steps.

        Raises LearningError the second time.
        """
        if self.lr_scale < 1:
            raise LearningError(
                f"{stage}: no finite gradients, not even at half the learning rate; "
                "lower train.lr or set train.precision=none"
            )
        skipped, began = self.skipped, self.began
        first = self.resume(saved)
        self.skipped, self.began, self.streak, self.lr_scale = skipped, began, 0, 0.5
        if self.accelerator.is_main_process:
            say(
                f"{stage}: {PATIENCE} steps in a row without finite gradients; "
                f"back to step {first} at half the rate"
            )
        return first

    def averaged(self) -> nn.Module:
        """The averaged network, with the main process's batch-norm statistics on every rank.

        The main process's statistics are the ones that are saved.
        """
        for buffer in self.average.module.buffers():
            broadcast(buffer)
        return self.average.module

    def checkpoint(self, step: int) -> Checkpoint:
        """Everything that a resume after `step` steps needs."""
        tensors = {
            "model": self.network.state_dict(),
            "ema": self.average.module.state_dict(),
            "optimizer": checkpoint.optimizer_tensors(self.optimizer),
        }
        scaler = self.accelerator.scaler
        state = {
            "step": step,
            "optimizer": checkpoint.optimizer_numbers(self.optimizer),
            "empty": int(self.empty),
            "skipped": self.skipped,
            "streak": self.streak,
            "lr_scale": self.lr_scale,
            "seconds": round(self.seconds, 3),
            "scaler": scaler.state_dict() if scaler else None,
        }
        return Checkpoint(tensors, state)

    def resume(self, saved: Checkpoint | None) -> int:
        """Load a checkpoint; returns its number of steps."""
        if saved is None:
            return 0
        for network, name in ((self.network, "model"), (self.average.module, "ema")):
            network.load_state_dict(saved.tensors[name])
        checkpoint.load_optimizer(
            self.optimizer, saved.tensors["optimizer"], saved.state.get("optimizer", {})
        )
        if self.accelerator.scaler and saved.state["scaler"]:
            self.accelerator.scaler.load_state_dict(saved.state["scaler"])
        self.freezer.set(max(saved.state["step"] - 1, 0), self.average.module)  # as the last step left it
        self.began = time.monotonic() - saved.state["seconds"]
        self.empty.fill_(saved.state["empty"])
        self.skipped, self.streak, self.lr_scale = (
            saved.state[name] for name in ("skipped", "streak", "lr_scale")
        )
        return saved.state["step"]
