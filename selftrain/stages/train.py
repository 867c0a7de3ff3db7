"""The one training loop: teachers, students and baselines differ in their batches, their network and their step function."""

import json
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from timm.optim import create_optimizer_v2  # type: ignore[attr-defined]
from torch import nn

from selftrain import checkpoint
from selftrain.checkpoint import Checkpoint
from selftrain.config import TrainConfig
from selftrain.data.examples import Batch
from selftrain.errors import ConfigError, LearningError, StoppedError, naming_savings
from selftrain.log import Metrics, progress, say
from selftrain.methods.base import Step
from selftrain.models.average import Average
from selftrain.models.build import to_layout
from selftrain.rng import Key, rekey

GRACE = 20.0  # seconds after a signal that one of several ranks goes on waiting for its batch
LOG_EVERY = 10  # steps between rows of metrics.jsonl
PATIENCE = 8  # steps in a row whose gradients are not finite, before the stage goes back to its last checkpoint
FUSED = ("adam", "adamw", "sgd")  # one pass over the parameters: 3x quicker than foreach on CPUs (docs/lab-notes.md)
SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "poly": lambda done: (1 - done) ** 0.9,  # DeepLab's power
}


class Stop:
    """Set by SIGTERM, SIGINT or SIGUSR1: save at the next step and exit 75. A second SIGINT ends at once."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.since = math.inf

    def listen(self) -> "Stop":
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, self._received)
        return self

    def _received(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.signal is not None:
            raise KeyboardInterrupt
        self.signal, self.since = number, min(self.since, time.monotonic())

    def ends_waiting(self, ranks: int) -> bool:
        """Whether to wait for a batch no longer. Of several ranks one that leaves alone costs the others their steps."""
        return time.monotonic() - self.since > (GRACE if ranks > 1 else 0)

    def agreed(self, accelerator: Accelerator) -> bool:
        """Whether any rank was told to stop; all ranks get the same answer."""
        if accelerator.num_processes == 1:
            return self.signal is not None
        told = torch.tensor(float(self.signal is not None), device=accelerator.device)
        return bool(accelerator.reduce(told, "sum") > 0)

    def check(self, where: str) -> None:
        """Raises StoppedError if this rank was told to stop; whatever `where` had to save is saved."""
        if self.signal is not None:
            raise StoppedError(f"stopped by a signal at {where}; everything is saved, the same command resumes")


class Diverged(Exception):
    """PATIENCE steps in a row had gradients that are not finite."""


@dataclass(frozen=True)
class Trained:
    """`network` carries the averaged (EMA) weights.

    `empty` counts the steps in which no pseudo-labelled pixel was accepted, `skipped` those whose gradients were not finite.
    `average_distance` is how far the averaged parameters are from the last ones, as a share of these.
    """

    network: nn.Module
    seconds: float
    empty: int
    skipped: int
    average_distance: float


@naming_savings("training")
def train(
    network: nn.Module,
    batches: Callable[[int], Iterator[Batch]],
    step: Step,
    *,
    cfg: TrainConfig,
    steps: int,
    images: int,
    stage: str,
    keys: tuple[Key, ...],
    directory: Path,
    accelerator: Accelerator,
    metrics: Metrics,
    evaluate: Callable[[nn.Module], dict[str, float]],
    keep: Mapping[int, Callable[[nn.Module], None]],
    stop: Stop,
) -> Trained:
    """Train `network` for `steps` optimizer steps, from the newest checkpoint under `directory` if there is one.

    `batches(first)` yields this rank's part of the global batches, of `images` each, from step `first` on; it ends early
    where a signal comes while it waits. `evaluate` is
    asked of the averaged weights every `cfg.eval_every` steps; `keep` tells who is given them after how many steps. A step
    whose gradients are not finite is skipped; PATIENCE of them in a row lead back to the last checkpoint, once, at half the
    rate. Raises LearningError where that does not help, StoppedError after saving for a signal.
    """
    learner, saved = Learner(network, cfg, accelerator), _newest(directory, accelerator)
    first = learner.resume(saved)
    if saved is None:
        _save(learner, 0, directory, accelerator, metrics)  # a place to go back to; and a full disk shows before the work

    def advance(first: int) -> None:
        """Steps `first` to the last."""
        metrics.rewind(stage, first)
        done = first
        for t, batch in enumerate(batches(first) if first < steps else (), start=first):
            rekey(*keys, t, accelerator.process_index)
            values = learner.step(t, lr_at(t, steps, cfg), step, batch.to(accelerator.device))
            done, said = t + 1, ""
            if done % LOG_EVERY == 0 or done == steps:
                metrics.write(stage, done, values())
                said = f"loss {learner.loss:.3f}"
            if cfg.eval_every and done % cfg.eval_every == 0 and done < steps:
                metrics.write(stage, done, evaluate(learner.averaged()))
            if done in keep:
                keep[done](learner.averaged())
            show(done, said)
            stopped = stop.agreed(accelerator)
            if (done % cfg.checkpoint_every == 0 and not learner.streak) or done == steps or stopped:
                _save(learner, done, directory, accelerator, metrics)
            if stopped:
                raise StoppedError(f"stopped by a signal at {stage} step {done}; saved, the same command resumes")
        if done < steps:
            if accelerator.num_processes == 1:  # others are within a step and save no more
                _save(learner, done, directory, accelerator, metrics)
            raise StoppedError(f"stopped by a signal at {stage} step {done}, waiting for a batch; the same command resumes")

    with progress(stage, steps, start=first, per_step=images, show=accelerator.is_main_process) as show:
        while True:
            try:
                advance(first)
                break
            except Diverged:
                first = learner.go_back(_newest(directory, accelerator), stage)
    accelerator.free_memory()
    distance = learner.ema.distance(learner.network)
    return Trained(learner.averaged(), learner.seconds, learner.empty, learner.skipped, distance)


def lr_at(step: int, steps: int, cfg: TrainConfig) -> float:
    """Learning rate of optimizer step `step` (from 0): linear warm-up, then the schedule down to 0."""
    if step < cfg.warmup:
        return cfg.lr * (step + 1) / cfg.warmup
    done = (step - cfg.warmup) / max(steps - cfg.warmup, 1)
    return cfg.lr * SCHEDULES[cfg.schedule](min(done, 1.0))


class Learner:
    """Network, averaged network and optimizer of one stage: what a checkpoint holds."""

    def __init__(self, network: nn.Module, cfg: TrainConfig, accelerator: Accelerator):
        self.network = to_layout(network).to(accelerator.device)
        self.ema = Average(self.network, cfg.ema)
        self.optimizer = _optimizer(self.network, cfg)
        # Kept here, as each step overwrites the groups' own.
        self.rates = [_rate(group, cfg.lr) for group in self.optimizer.param_groups]
        self.model, self.prepared = accelerator.prepare(self.network, self.optimizer)
        self.accelerator, self.clip = accelerator, cfg.clip or math.inf
        self.buffers = list(self.network.buffers())
        self.began = time.monotonic()  # less what earlier processes took
        self.loss, self.empty = math.nan, 0
        self.skipped, self.streak, self.lr_scale = 0, 0, 1.0

    @property
    def seconds(self) -> float:
        """The time that the stage has taken, over all processes that worked on it."""
        return time.monotonic() - self.began

    def step(self, t: int, lr: float, step: Step, batch: Batch) -> Callable[[], dict[str, float]]:
        """One optimizer step; returns a function that gives what may be logged of it. Raises Diverged."""
        lr *= self.lr_scale
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = lr * rate
        self.model.train()
        before = [buffer.clone() for buffer in self.buffers]
        counts = self._sum(step.counts(batch))
        result = step.loss(self.model, self.ema.module, batch, counts)
        self.empty += int("accepted" in result.logs and not self._sum(result.logs["accepted"].detach()))
        self.accelerator.backward(result.loss)
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.clip)  # of all ranks, so all decide alike
        if torch.isfinite(norm):
            self.prepared.step()
            self.ema.update(t)
            self.streak = 0
        else:
            self._skip(before)
        self.prepared.zero_grad()
        if self.streak == PATIENCE:
            raise Diverged

        def values() -> dict[str, float]:
            logs = {"loss": result.loss, **result.logs}
            ranks = self.accelerator.reduce(torch.stack([value.detach().float() for value in logs.values()]), "mean")
            named = dict(zip(logs, ranks.tolist(), strict=True))
            self.loss = named["loss"]
            return {name: value for name, value in {**named, "lr": lr}.items() if math.isfinite(value)}

        return values

    def _sum(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over ranks."""
        return self.accelerator.reduce(values, "sum") if self.accelerator.num_processes > 1 else values

    def _skip(self, buffers: list[torch.Tensor]) -> None:
        """Forget a step: its statistics of batch norm too, which numbers that are none would have spoilt."""
        for buffer, before in zip(self.buffers, buffers, strict=True):
            buffer.copy_(before)
        self.skipped += 1
        scaler = self.accelerator.scaler
        if scaler and scaler.get_scale() > 1:
            self.prepared.step()  # changes no weight, but lowers the scale of fp16: that may be all that is wrong
            return
        if scaler:
            scaler.update(1.0)  # a scale below 1 would only lose digits; without a word it would refuse the next step
        self.streak += 1

    def go_back(self, saved: Checkpoint | None, stage: str) -> int:
        """Take up a checkpoint at half the learning rate; returns its steps. Raises LearningError the second time."""
        if self.lr_scale < 1:
            raise LearningError(
                f"{stage}: no finite gradients, at half the learning rate neither; lower train.lr or set train.precision=none"
            )
        skipped, began = self.skipped, self.began
        first = self.resume(saved)
        self.skipped, self.began, self.streak, self.lr_scale = skipped, began, 0, 0.5
        if self.accelerator.is_main_process:
            say(f"{stage}: {PATIENCE} steps in a row without finite gradients; back to step {first} at half the rate")
        return first

    def averaged(self) -> nn.Module:
        """The averaged network, with the main process's batch-norm statistics on every rank: they are what is saved."""
        for buffer in self.ema.module.buffers():
            broadcast(buffer)
        return self.ema.module

    def checkpoint(self, step: int) -> Checkpoint:
        """All that a resume after `step` steps needs."""
        tensors = {
            "model": self.network.state_dict(),
            "ema": self.ema.module.state_dict(),
            "optimizer": checkpoint.optimizer_tensors(self.optimizer),
        }
        scaler = self.accelerator.scaler
        state = {
            "step": step,
            "optimizer": checkpoint.optimizer_numbers(self.optimizer),
            "empty": self.empty,
            "skipped": self.skipped,
            "streak": self.streak,
            "lr_scale": self.lr_scale,
            "seconds": round(self.seconds, 3),
            "scaler": scaler.state_dict() if scaler else None,
        }
        return Checkpoint(tensors, state)

    def resume(self, saved: Checkpoint | None) -> int:
        """Take up a checkpoint; returns the steps that it has behind it."""
        if saved is None:
            return 0
        self.network.load_state_dict(saved.tensors["model"])
        self.ema.module.load_state_dict(saved.tensors["ema"])
        checkpoint.load_optimizer(self.optimizer, saved.tensors["optimizer"], saved.state.get("optimizer", {}))
        if self.accelerator.scaler and saved.state["scaler"]:
            self.accelerator.scaler.load_state_dict(saved.state["scaler"])
        self.began, self.empty = time.monotonic() - saved.state["seconds"], saved.state["empty"]
        self.skipped, self.streak, self.lr_scale = (saved.state[name] for name in ("skipped", "streak", "lr_scale"))
        return saved.state["step"]


def _rate(group: dict[str, Any], lr: float) -> float:
    """A parameter group's learning rate as a multiple of `lr`, times timm's `lr_scale` (layer decay)."""
    return (group["lr"] / lr if lr else 1.0) * group.get("lr_scale", 1.0)


def _optimizer(network: nn.Module, cfg: TrainConfig) -> torch.optim.Optimizer:
    try:
        extra: dict[str, Any] = {"fused": True} if cfg.optimizer in FUSED else {}
        _try(cfg, next(network.parameters()).device)
        return create_optimizer_v2(network, opt=cfg.optimizer, lr=cfg.lr, weight_decay=cfg.weight_decay, **extra)
    except (AssertionError, ValueError, KeyError) as error:
        raise ConfigError(f"train.optimizer={cfg.optimizer!r}: timm knows no such optimizer ({error})") from None


def _try(cfg: TrainConfig, device: torch.device) -> None:
    """Raises ConfigError for an optimizer that wants more than gradients, or whose state no checkpoint can hold."""
    with torch.random.fork_rng(devices=[]):
        weight = nn.Parameter(torch.ones(2, 2, device=device))  # some optimizers are for GPUs only
        try:
            optimizer = create_optimizer_v2([weight], opt=cfg.optimizer, lr=cfg.lr, weight_decay=cfg.weight_decay)
            weight.square().sum().backward()
            optimizer.step()
            json.dumps(checkpoint.optimizer_numbers(optimizer))
        except (RuntimeError, TypeError) as error:
            raise ConfigError(
                f"train.optimizer={cfg.optimizer!r} does not work here ({' '.join(str(error).split())}); adamw and sgd do"
            ) from None


def _newest(directory: Path, accelerator: Accelerator) -> Checkpoint | None:
    """The newest sound checkpoint; the main process sets damaged ones aside before the others look."""
    with accelerator.main_process_first():
        saved = checkpoint.newest(directory)
        if accelerator.is_main_process:
            checkpoint.prune(directory)
        return saved


def _save(learner: Learner, step: int, directory: Path, accelerator: Accelerator, metrics: Metrics) -> None:
    if accelerator.is_main_process:
        metrics.sync()
        checkpoint.write(directory, learner.checkpoint(step))
    accelerator.wait_for_everyone()
