"""One process's part of a run: its settings, data, directory and networks, checked and ready."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

from selftrain import (
    debugging,
    files,
    fitting,
    forecast,
    hosts,
    predictors,
    preflight,
    pretraining,
    process,
    tracking,
    trial,
)
from selftrain.autoplan import resolve
from selftrain.autoplan.division import Row
from selftrain.config import Config
from selftrain.data.cache import Cache
from selftrain.data.dataset import DataSet
from selftrain.data.sample import Sample
from selftrain.data.tiles import Tiling
from selftrain.inference import decide, windows
from selftrain.inference.pixels import PixelScale
from selftrain.inference.predictor import Predictor
from selftrain.labels.crf import crf_of
from selftrain.log import Metrics, expect, say
from selftrain.material import Material
from selftrain.models.build import parameters
from selftrain.networks import SNAPSHOTS, Networks
from selftrain.plan import Plan, plans, students, window_of, window_of_labels
from selftrain.rundir import RunDir
from selftrain.settings.changes import flat
from selftrain.settings.tree import changed
from selftrain.signals import Stop
from selftrain.sizes import seen_size
from selftrain.stages import evaluate, reliability
from selftrain.times import Times
from selftrain.tuning import crossfit
from selftrain.tuning.steps import asked_for
from selftrain.tuning.tuned import UNTUNED, Tuned


@dataclass
class Session:
    """One run: its settings, data, directory and processes."""

    cfg: Config
    plans: list[Plan]
    run: RunDir
    data: DataSet
    accelerator: Accelerator
    networks: Networks
    material: Material
    cache: Cache
    scale: PixelScale
    stop: Stop
    metrics: Metrics
    times: Times
    team: process.Team
    changes: list[str]  # changes of conditions since the run began

    @classmethod
    def open(cls, cfg: Config, *, tells_time: bool = True) -> "Session":
        """Check everything that can be checked before any work.

        Also write the run's settings and data to its directory, or compare with what is there, and print how
        long the run will take, unless the caller `tells_time` itself.
        """
        preflight.check(cfg)
        run = RunDir(Path(cfg.out))
        team = preflight.team_of(cfg, run)
        accelerator = preflight.accelerator_of(cfg)
        with hosts.writing(run, accelerator):
            cfg, rows = resolve.agreed(cfg, run, accelerator)
            cfg = fitting.kept(cfg, run)
            cfg = pretraining.agreed(cfg, run, decides=accelerator.is_main_process)
            recorded, cfg = cfg, shortened(cfg)
            planned = plans(cfg)
            preflight.check_processes(cfg, [*planned, *students(cfg)], accelerator.num_processes)
            data, networks, changes = cls._checked(cfg, recorded, planned, run, accelerator, rows, tells_time)
            cfg = fitting.agreed(cfg, run, decides=accelerator.is_main_process)
        accelerator.wait_for_everyone()
        if not accelerator.is_main_process:
            data = preflight.recorded_data(run, cfg)
        preflight.check_data(data, cfg)
        metrics = Metrics(run.metrics if accelerator.is_main_process else None)
        times = Times(run.times if accelerator.is_main_process else None, accelerator.num_processes)
        cache, scale = (
            Cache(cfg.data.cache_mb, run.decoded if cfg.data.tile else None),
            PixelScale.of(cfg.data.mean, cfg.data.std, accelerator.device),
        )
        tiling = Tiling.of(cfg.data.tile, cfg.data.stride, cfg.data.reject)
        material = Material(cfg.train, cfg.loss, data, accelerator, cache, scale, tiling)
        stop = Stop().listen()
        return cls(
            cfg,
            planned,
            run,
            data,
            accelerator,
            networks,
            material,
            cache,
            scale,
            stop,
            metrics,
            times,
            team,
            changes,
        )

    @staticmethod
    def _checked(
        cfg: Config,
        recorded: Config,
        planned: list[Plan],
        run: RunDir,
        accelerator: Accelerator,
        rows: list[Row],
        tells_time: bool,
    ) -> tuple[DataSet, Networks, list[str]]:
        """Data, networks and changed conditions, after all checks. `recorded` is written to config.yaml.

        Only the main process tries the networks and writes to the run directory.
        """
        data = preflight.recorded_data(run, cfg)
        hosts.check_alike(accelerator, preflight.precision_of(accelerator), data.ids)
        preflight.check_data(data, cfg)
        preflight.check_review(run, cfg, data)
        trained = [*planned, *students(cfg)]
        preflight.check_shared_memory(cfg, trained, len(data.classes), accelerator.num_processes)
        # Unknown names, impossible noise and unreachable weights fail here, before any work.
        networks = Networks(planned, cfg.model, run, data.classes, accelerator.device)
        built = [networks.initial(plan)[0] for plan in planned]
        if not accelerator.is_main_process:
            return data, networks, []
        run.sweep()
        if cfg.debug:
            say(debugging.NOTE)
        known = preflight.examine(run, cfg, data)
        if rows and not run.plan.exists():
            say(f"train.plan=auto, budget={cfg.budget}:")
            for line in resolve.lines(rows):
                say(line)
        preflight.say_where_students_shrink(built)
        preflight.say_untrained_generations(data, planned)
        preflight.say_other_pixel_scales(cfg, planned)
        each = list(zip(planned, built, strict=True))
        preflight.check_space(run, planned, space_of(cfg, each, known.data))
        begun = run.generations_begun()
        new = each[begun:]
        if new:
            seen = trial.sizes_seen(known.looks, cfg) if known.looks else trial.sizes_sampled(known.data)
            tried = partial(trial.check, networks=networks, built=new, sizes=seen, accelerator=accelerator)
            allowed = partial(preflight.check_processes, planned=trained, processes=accelerator.num_processes)
            fitting.fit(cfg, run, tried, allowed)
            recorded = fitting.kept(recorded, run)
        if tells_time and (new or not run.report.exists()):
            _tell_time(cfg, run, each, known.data, accelerator)
        resolve.keep(run, rows)
        preflight.settle(run, recorded, known)
        return known.data, networks, preflight.settle_conditions(run, cfg, accelerator)

    def evaluate(
        self,
        network: nn.Module,
        samples: list[Sample],
        stage: str = "",
        tuned: Tuned = UNTUNED,
        *,
        closely: bool = False,
    ) -> dict:
        """Score a network on samples with masks, as `predict` says.

        Progress lines begin with `stage`; without it there are none. With `closely`, see `diagnosis`.
        """
        return self.evaluated([(self.predictor(network, tuned), samples)], stage, closely=closely)

    def evaluated(
        self, parts: Sequence[tuple[Predictor, list[Sample]]], stage: str = "", *, closely: bool = False
    ) -> dict:
        """Score each predictor on its samples, and all of them together."""
        return evaluate.evaluate(
            [(predictor, self.scored(samples)) for predictor, samples in parts],
            self.data.classes,
            batch=self.cfg.train.eval_batch,
            cache=self._scored_cache,
            accelerator=self.accelerator,
            stage=stage,
            closely=closely,
        )

    @property
    def _scores_originals(self) -> bool:
        """Whether scores are computed at the size of mask files that training resizes."""
        return bool(self.cfg.data.size) and (self.cfg.predict.original or bool(self.cfg.predict.size))

    @property
    def _scored_cache(self) -> Cache:
        """The cache of the samples that are scored. The run's own cache has images of training's size."""
        return Cache(0) if self._scores_originals else self.cache

    def scored(self, samples: list[Sample]) -> list[Sample]:
        """The samples at the size at which they are scored."""
        return [sample.at_own_size() for sample in samples] if self._scores_originals else samples

    def tune(self, network: nn.Module, plain: dict, stage: str) -> crossfit.Outcome:
        """Tune on val what `predict` asks for; `plain` are the scores of the network on val."""
        predictor = self.predictor(network)
        val = crossfit.Val(
            predictor,
            self.scored(self.data.val),
            self._scored_cache,
            self.accelerator,
            batch=self.cfg.train.eval_batch,
            score=partial(self.evaluated, closely=True),
            check=lambda: self.stop.check(f"{stage} tuning"),
            stage=stage,
            shown=self.accelerator.is_main_process,
        )
        steps = asked_for(
            self.cfg.predict,
            len(self.data.val),
            predictor,
            around=crf_of(self.cfg.labels.crf),
        )
        return crossfit.tune(steps, val, plain)

    def predictor(self, network: nn.Module, tuned: Tuned = UNTUNED) -> Predictor:
        """A predictor of the run, as `predict` says, with what was tuned for the network."""
        size, own = self.cfg.predict.size, self.cfg.data.size if self._scores_originals else []
        return predictors.of(
            self.cfg,
            network,
            self.data.classes,
            self.accelerator.device,
            tuned,
            precision=self.accelerator.autocast,
            seen_size=partial(seen_size, own, size) if own or size else None,
        )

    def labelling(self, network: nn.Module) -> Predictor:
        """`predictor` as a teacher: plain views in the windows of labelling, the most probable class."""
        window, size = window_of_labels(self.cfg), self.cfg.labels.size
        return replace(
            self.predictor(network).plain(),
            window=window,
            decision=decide.argmax,
            gate=0.0,
            seen_size=partial(seen_size, [], size) if size else None,
        )

    def skipping(self, network: nn.Module, tuned: Tuned) -> dict | None:
        """The share of windows that is skipped on val, and the mIoU with and without skipping.

        None if `predict.window` skips none. "cost" is the mIoU that is lost.
        """
        every = windows.unskipped(window_of(self.cfg))
        if every is None:
            return None
        predictor = self.predictor(network, tuned)
        found = self.evaluated([(predictor, self.data.val)], "skipped windows")["miou"] or 0.0
        counts = torch.tensor([predictor.tally.seen, predictor.tally.skipped], device=self.accelerator.device)
        seen, skipped = self.accelerator.reduce(counts, "sum").tolist()
        predictor = replace(predictor, window=every)
        whole = self.evaluated([(predictor, self.data.val)], "all windows")["miou"] or 0.0
        share = skipped / max(seen + skipped, 1)
        return {"share": share, "miou": found, "miou_of_all_windows": whole, "cost": whole - found}

    def track(self) -> None:
        """Start the trackers, at the first stage that is trained in this process."""
        if self.metrics.track is None and self.accelerator.is_main_process:
            tracking.start(self.accelerator, self.cfg.trackers, self.run, flat(self.cfg))
            self.metrics.track = partial(tracking.log, self.accelerator)

    def warn(self, stage: str, alarms: list[str]) -> None:
        """Print the alarms of a stage."""
        for alarm in alarms:
            say(f"{stage}: warning: {alarm}")


def shortened(cfg: Config) -> Config:
    """The settings that a run follows: with `debug`, a small part of all steps (`debugging.steps`).

    config.yaml keeps the others, so that a resume begins with them again.
    """
    if not cfg.debug:
        return cfg
    counts = {"train.steps": cfg.train.steps, "train.warmup": cfg.train.warmup}
    counts["train.eval_every"] = cfg.train.eval_every
    own = {f"generations.{k}.steps": row.steps for k, row in enumerate(cfg.generations) if row.steps}
    return changed(cfg, {name: debugging.steps(count) for name, count in (counts | own).items()})


def space_of(cfg: Config, built: Sequence[tuple[Plan, nn.Module]], data: DataSet) -> preflight.Space:
    """The space that a run needs at most."""
    sizes = [plan.members.count * plan.method.networks * parameters(network) for plan, network in built]
    snapshots = (SNAPSHOTS - 1) * reliability.chosen(cfg.select).entry.snapshots
    return preflight.space_of(cfg, [plan for plan, _ in built], sizes, data, snapshots=snapshots)


def _tell_time(
    cfg: Config, run: RunDir, built: list[tuple[Plan, nn.Module]], data: DataSet, accelerator: Accelerator
) -> None:
    """Print how long the run will take, and let progress lines tell the time that is left."""
    seconds = files.read_json(run.forecast, "seconds")["seconds"] if run.forecast.exists() else {}
    if any(one.name not in seconds for plan, _ in built for one in plan.each):  # new, or more generations
        speeds = trial.speeds(cfg, built, len(data.classes), accelerator)
        work = forecast.work_of(data, accelerator.num_processes)
        seconds = forecast.forecast(cfg, [plan for plan, _ in built], speeds, work)
        say(forecast.told(seconds, patient=cfg.train.patience > 0))
        files.write_json(run.forecast, {"seconds": {name: round(row, 1) for name, row in seconds.items()}})
    expect(seconds)
