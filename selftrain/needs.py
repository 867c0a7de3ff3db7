"""What a run will need: memory and time of real steps and labels, and disk space.

A few steps of each network are taken on the run's own images and kept as a checkpoint, and one batch of
images is labelled. So the numbers contain everything that a run does, such as augmentation, views and the
CRF.
"""

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, takewhile
from pathlib import Path

import numpy as np
import torch
from torch import nn

from selftrain import checkpoint, forecast, memory, trial
from selftrain.data import loading
from selftrain.data.labels import Labels
from selftrain.data.sample import Sample
from selftrain.errors import naming_savings
from selftrain.ids import IGNORE
from selftrain.models import ensemble
from selftrain.models.build import parameters
from selftrain.plan import Plan, views_of_labels
from selftrain.session import Session, space_of
from selftrain.stages.pseudo_label import Labeller
from selftrain.stages.train import Learner, grouped
from selftrain.targets import Target
from selftrain.values import worded

STEPS = 3  # of a measurement; the first one prepares kernels and memory, and is not timed


@dataclass(frozen=True)
class Measured:
    """The seconds and the memory of a step, or of the label of an image."""

    seconds: float
    memory: memory.Taken


@dataclass(frozen=True)
class Needs:
    """What a run needs, by generation: its steps, and the labels that it makes for the next one."""

    session: Session
    plans: list[Plan]
    parameters: dict[int, int]
    steps: dict[int, Measured]
    labels: dict[int, Measured]
    seconds: dict[str, float]  # of each stage of the run

    def lines(self, out: Path) -> Iterator[str]:
        """The needs of the run as lines to print; `out` is where it will be."""
        cfg, device = self.session.cfg, self.session.accelerator.device
        for plan in self.plans:
            parts = cfg.train.accumulate
            yield (
                f"generation {plan.number}: {worded(plan.arch)} {plan.encoder}, "
                f"{self.parameters[plan.number] / 1e6:.1f} M parameters, {plan.batch} images a step"
                + (f" in {parts} micro-batches" if parts > 1 else "")
            )
            yield f"  training   {_told(self.steps[plan.number], 'step')}"
            if plan.number in self.labels:
                yield f"  labelling  {_told(self.labels[plan.number], 'image')}"
        most = max(one.memory.peak for one in [*self.steps.values(), *self.labels.values()])
        where = "of the GPU" if device.type == "cuda" else "of the process"
        yield (
            f"memory: {memory.told(most)} {where} at most, {memory.told(self._decoded())} more for decoded "
            f"images (data.cache_mb); {memory.told(memory.free(device))} are free"
        )
        told = forecast.told(self.seconds, patient=cfg.train.patience > 0)
        yield f"time: {told.partition('this run will take ')[2]}"
        built = [(plan, self.session.networks.build(plan)) for plan in self.plans]
        space = space_of(cfg, built, self.session.data)
        yield (
            f"disk: {memory.told(space.needed)} at most in {out} (networks {memory.told(space.kept)}, labels "
            f"{memory.told(space.labels)}); {memory.told(shutil.disk_usage(existing(out)).free)} are free"
        )

    def _decoded(self) -> float:
        """The bytes of the decoded images that are kept in memory (on a CPU, by this process)."""
        data = self.session.data
        count = len(data.labelled) + len(data.unlabelled) + len(data.val)
        pixels = forecast.work_of(data, 1).pixels
        return min(self.session.cfg.data.cache_mb * 1e6, count * pixels * self.session.cfg.data.channels)


def needs_of(session: Session, scratch: Path) -> Needs:
    """Measure what the run of a session needs; `scratch` is a folder for files that are not kept."""
    steps, labels = dict[int, Measured](), dict[int, Measured]()
    data = session.data
    # without unlabelled images, the run ends before the first generation that needs their labels
    each = list(takewhile(lambda plan: data.unlabelled or not plan.needs_labels, session.plans))
    built = [(plan, session.networks.build(plan)) for plan in each]
    sizes = {plan.number: parameters(network) for plan, network in built}
    speeds = trial.speeds(session.cfg, built, len(data.classes), session.accelerator)
    teachers = {plan.number - 1 for plan in each if plan.needs_labels}
    for plan in each:
        session.stop.check(f"generation {plan.number}")
        place = scratch / f"gen{plan.number}"
        network, steps[plan.number] = _trained(session, plan, place / "checkpoints")
        if plan.number in teachers:
            labels[plan.number] = _labelled(session, plan, network, place / "labels")
        label = labels[plan.number].seconds if plan.number in labels else None
        speeds[plan.number] = replace(speeds[plan.number], step=steps[plan.number].seconds, label=label)
    work = forecast.work_of(data, session.accelerator.num_processes)
    return Needs(session, each, sizes, steps, labels, forecast.forecast(session.cfg, each, speeds, work))


@naming_savings("training")
def _trained(session: Session, plan: Plan, scratch: Path) -> tuple[nn.Module, Measured]:
    """Take a few steps of a generation with new weights; returns its averaged network.

    A checkpoint is written to `scratch`, because it takes memory, too.
    """
    material, cfg, method = session.material.of(plan), session.cfg.train, plan.method
    networks = [session.networks.build(plan) for _ in range(method.networks)]
    learner = Learner(method.joined(networks), cfg, session.accelerator, steps=plan.steps)
    classes = len(session.data.classes)
    stand_in: Labels | None = _Unknown(session.data.unlabelled, classes) if plan.needs_labels else None
    soft = (lambda _, index: _even(index, classes)) if session.cfg.loss.distill and stand_in else None
    dataset = material.dataset(plan, stand_in, (session.cfg.seed, "plan", plan.name), soft)
    step, parts, ends = material.step(plan), cfg.accumulate, [0.0]

    def work() -> None:
        """Take the steps, and write the checkpoint."""
        coming = loading.loader(dataset, first=0, steps=STEPS, rank=0, world=1, workers=0, parts=parts)
        ends[:] = [time.perf_counter()]
        for t, batches in enumerate(grouped(coming, parts)):
            learner.step(
                t,
                cfg.lr / max(cfg.warmup, 1),
                step,
                [batch.to(session.accelerator.device) for batch in batches],
            )
            if session.accelerator.device.type == "cuda":
                torch.cuda.synchronize()
            ends.append(time.perf_counter())
        checkpoint.write(scratch, learner.checkpoint(STEPS))

    found = memory.taken(session.accelerator.device, work)
    session.accelerator.free_memory()
    took = [after - before for before, after in pairwise(ends)]
    return method.kept(learner.averaged()), Measured(min(took[1:] or took), found)


def _labelled(session: Session, plan: Plan, network: nn.Module, scratch: Path) -> Measured:
    """Label one batch of images, with all views and the refiner."""
    cfg = session.cfg.labels
    together = ensemble.joined([network] * len(plan.zooms), plan.zooms)  # of several, each takes as long
    predictor = session.labelling(together).with_views(views_of_labels(session.cfg))
    labeller = Labeller(predictor, len(session.data.classes), cfg, session.cache, session.accelerator)
    images = session.data.unlabelled[: cfg.batch]
    began = time.perf_counter()
    found = memory.taken(
        session.accelerator.device,
        lambda: labeller.label(images, scratch, stage=plan.name, teacher="", check=lambda: None),
    )
    return Measured((time.perf_counter() - began) / len(images), found)


@dataclass(frozen=True)
class _Unknown:
    """Pseudo-labels that say nothing, in the form of a teacher's: before its training there are no others."""

    samples: Sequence[Sample]
    classes: int

    def target(self, i: int, index: np.ndarray) -> Target[np.ndarray]:
        """See `Labels.target`."""
        inside = index >= 0
        hard = np.where(inside, np.uint8(0), np.uint8(IGNORE))
        return Target(hard, inside.astype(np.float32), _even(index, self.classes))


def _even(index: np.ndarray, classes: int) -> np.ndarray:
    return np.full((classes, *index.shape), 1 / classes, np.float32)


def _told(one: Measured, what: str) -> str:
    took = f"{one.seconds:.2g} s" if one.seconds < 10 else f"{one.seconds:.0f} s"
    return f"{took} for {'a' if what == 'step' else 'an'} {what}, {memory.told(one.memory.peak)} of memory"


def existing(path: Path) -> Path:
    """The nearest folder of a path that exists."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.is_dir())
