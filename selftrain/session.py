"""One process's part of a run: its settings, data, directory and networks, checked and ready."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from accelerate import Accelerator
from torch import nn

from selftrain import autoplan, files, forecast, preflight, pretraining, process, trial
from selftrain.anatomy import anatomy_of
from selftrain.config import Config
from selftrain.data.cache import Cache
from selftrain.data.sample import DataSet, Sample
from selftrain.data.tiles import Tiling
from selftrain.inference import decide, windows
from selftrain.inference.pixels import PixelScale
from selftrain.inference.predictor import Predictor
from selftrain.log import Metrics, expect, say
from selftrain.material import Material
from selftrain.models.build import parameters
from selftrain.networks import SNAPSHOTS, Networks
from selftrain.plan import Plan, plans, window_of
from selftrain.rundir import RunDir
from selftrain.signals import Stop
from selftrain.stages import evaluate, reliability


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
    team: process.Team
    changes: list[str]  # changes of conditions since the run began

    @classmethod
    def open(cls, cfg: Config) -> "Session":
        """Check everything that can be checked before any work.

        Also write the run's settings and data to its directory, or compare with what is there.
        """
        preflight.check(cfg)
        run = RunDir(Path(cfg.out))
        team = preflight.team_of(cfg, run)
        accelerator = preflight.accelerator_of(cfg)
        with run.writing() if accelerator.is_main_process else nullcontext():
            cfg, rows = autoplan.agreed(cfg, run, accelerator)
            cfg = pretraining.agreed(cfg, run, decides=accelerator.is_main_process)
            planned = plans(cfg)
            preflight.check_processes(cfg, planned, accelerator.num_processes)
            data, networks, changes = cls._checked(cfg, planned, run, accelerator, rows)
        accelerator.wait_for_everyone()
        if not accelerator.is_main_process:
            data = preflight.recorded_data(run, cfg)
        preflight.check_data(data, cfg)
        metrics = Metrics(run.metrics if accelerator.is_main_process else None)
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
            team,
            changes,
        )

    @staticmethod
    def _checked(
        cfg: Config, planned: list[Plan], run: RunDir, accelerator: Accelerator, rows: list[autoplan.Row]
    ) -> tuple[DataSet, Networks, list[str]]:
        """Data, networks and changed conditions, after all checks.

        Only the main process tries the networks and writes to the run directory.
        """
        data = preflight.recorded_data(run, cfg)
        preflight.check_data(data, cfg)
        preflight.check_shared_memory(cfg, planned, len(data.classes), accelerator.num_processes)
        # Unknown names, impossible noise and unreachable weights fail here, before any work.
        networks = Networks(planned, cfg.model, run, data.classes, accelerator.device)
        built = [networks.initial(plan)[0] for plan in planned]
        if not accelerator.is_main_process:
            return data, networks, []
        run.sweep()
        known = preflight.examine(run, cfg, data)
        if rows and not run.plan.exists():
            say(f"train.plan=auto, budget={cfg.budget}:")
            for line in autoplan.lines(rows):
                say(line)
        preflight.say_where_students_shrink(built)
        preflight.say_untrained_generations(data, cfg)
        preflight.say_other_pixel_scales(cfg, planned)
        sizes = [
            len(plan.each) * plan.method.networks * parameters(network)
            for plan, network in zip(planned, built, strict=True)
        ]
        snapshots = (SNAPSHOTS - 1) * reliability.chosen(cfg.select).entry.snapshots
        preflight.check_space(run, cfg, planned, sizes, known.data, snapshots=snapshots)
        begun = run.generations_begun()
        new = list(zip(planned, built, strict=True))[begun:]
        if new:
            seen = trial.sizes_seen(known.looks, cfg) if known.looks else trial.sizes_sampled(known.data)
            trial.check(cfg, networks, new, seen, accelerator)
        if new or not run.report.exists():
            _tell_time(cfg, run, list(zip(planned, built, strict=True)), known.data, accelerator)
        autoplan.keep(run, rows)
        preflight.settle(run, cfg, known)
        return known.data, networks, preflight.settle_conditions(run, cfg, accelerator)

    def evaluate(self, network: nn.Module, samples: list[Sample], stage: str = "") -> dict:
        """Score a network on samples with masks; it predicts one plain view of each.

        Progress is shown as that of the stage, if it has a name.
        """
        return self.evaluated([(self.predictor(network), samples)], stage)

    def evaluated(self, parts: Sequence[tuple[Predictor, list[Sample]]], stage: str = "") -> dict:
        """Score each predictor on its samples, and all of them together."""
        return evaluate.evaluate(
            parts,
            self.data.classes,
            batch=self.cfg.train.eval_batch,
            cache=self.cache,
            accelerator=self.accelerator,
            stage=stage,
        )

    def predictor(self, network: nn.Module) -> Predictor:
        """A predictor of the run: one plain view per image."""
        return Predictor(
            (network,),
            self.scale,
            window_of(self.cfg),
            precision=self.accelerator.autocast,
            decision=decide.of(self.cfg.predict.decision),
            multiple=anatomy_of(network).multiple,
        )

    def labelling(self, network: nn.Module) -> Predictor:
        """`predictor` as a teacher: windows of `labels.window`, the most probable class."""
        window = windows.of(self.cfg.labels.window)
        return replace(self.predictor(network), window=window, decision=decide.argmax)

    def track(self) -> None:
        """Start TensorBoard through accelerate, at the first stage that is trained in this process."""
        if self.metrics.track is None:
            self.accelerator.init_trackers("tensorboard")
            self.metrics.track = lambda values, step: self.accelerator.log(dict(values), step=step)

    def warn(self, stage: str, alarms: list[str]) -> None:
        """Print the alarms of a stage."""
        for alarm in alarms:
            say(f"{stage}: warning: {alarm}")


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
