"""The self-training method in order: train, evaluate, promote, label, select, train the next generation.

At the end the test set is read once, and the best generation is exported and reported.
"""

import copy
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from torch import nn

from selftrain import files, preflight, process, trial, watchdog
from selftrain.anatomy import anatomy_of
from selftrain.config import Config
from selftrain.data import loading
from selftrain.data.cache import Cache
from selftrain.data.load import mask_coding
from selftrain.data.sample import DataSet, Sample
from selftrain.data.tiles import Tiling
from selftrain.inference import tta, windows
from selftrain.inference.exported import card
from selftrain.inference.pixels import PixelScale
from selftrain.inference.predictor import Predictor
from selftrain.labels.store import LabelStore
from selftrain.log import Metrics, say
from selftrain.material import Material
from selftrain.models.build import multiple_of, parameters
from selftrain.networks import SNAPSHOTS, Begun, Networks
from selftrain.plan import Plan, plans
from selftrain.report import page, summary
from selftrain.report.alarms import about_average, about_labels, about_scores
from selftrain.rng import rekey
from selftrain.rundir import RunDir
from selftrain.signals import Stop
from selftrain.stages import evaluate, export, pictures, pseudo_label, recalibrate, reliability, select, train


def run(cfg: Config) -> dict:
    """Run the whole method in `cfg.out`, from where an earlier run of the same command ended.

    Returns report.json.
    """
    method = Method.open(cfg)
    with watchdog.watching(method.accelerator.process_index, method.accelerator.num_processes):
        if method.run.report.exists():
            say(f"{method.run.path} is finished: nothing to do")
        else:
            method.work()
        report = method.show()
    method.accelerator.end_training()  # ends the store through which the ranks watch each other
    return report


@dataclass
class Method:
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
    def open(cls, cfg: Config) -> "Method":
        """Check everything that can be checked before any work.

        Also write the run's settings and data to its directory, or compare with what is there.
        """
        preflight.check(cfg)
        planned = plans(cfg)
        run = RunDir(Path(cfg.out))
        team = preflight.team_of(cfg, run)
        accelerator = preflight.accelerator_of(cfg)
        preflight.check_processes(cfg, planned, accelerator.num_processes)
        with run.writing() if accelerator.is_main_process else nullcontext():
            data, networks, changes = cls._checked(cfg, planned, run, accelerator)
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
        cfg: Config, planned: list[Plan], run: RunDir, accelerator: Accelerator
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
        preflight.say_where_students_shrink(built)
        preflight.say_untrained_generations(data, cfg)
        preflight.say_other_pixel_scales(cfg, planned)
        sizes = [
            plan.method.networks * parameters(network) for plan, network in zip(planned, built, strict=True)
        ]
        snapshots = (SNAPSHOTS - 1) * reliability.chosen(cfg.select).entry.snapshots
        preflight.check_space(run, cfg, planned, sizes, known.data, snapshots=snapshots)
        begun = run.generations_begun()
        new = list(zip(planned, built, strict=True))[begun:]
        if new:
            seen = trial.sizes_seen(known.looks, cfg) if known.looks else trial.sizes_sampled(known.data)
            trial.check(cfg, networks, new, seen, accelerator)
        preflight.settle(run, cfg, known)
        return known.data, networks, preflight.settle_conditions(run, cfg, accelerator)

    def work(self) -> None:
        """Train, measure, promote, label, select, train the next one; then test, export and report."""
        with self.team.pinned():
            reports = self._generations()
        self.finish(_leader(reports), reports)

    def _generations(self) -> list[dict]:
        """The report of each generation, including those trained by an earlier process."""
        reports: list[dict] = []
        for plan in self.plans:
            labels, teacher = None, self._teacher(reports)
            if teacher is not None and plan.needs_labels:
                labels = self.labels(teacher, plan)
                if labels is None:
                    break  # no pseudo-label to train on: the leader is the result
            reports.append(self.generation(plan, labels, teacher, reports))
        return reports

    def _teacher(self, reports: list[dict]) -> int | None:
        """The number of the generation that teaches the next one."""
        if not reports:
            return None
        return _leader(reports) if self.cfg.labels.teacher == "leader" else len(reports) - 1

    def generation(
        self, plan: Plan, labels: select.SelectedLabels | None, teacher: int | None, reports: list[dict]
    ) -> dict:
        """Train and evaluate one generation; returns its report.json, which marks it as finished.

        `reports` are the reports of the earlier generations. The new one is promoted unless its val score is
        worse than the best score of a promoted one.
        """
        gen, stage = self.run.generation(plan.number), plan.name
        if gen.report.exists():
            return files.read_json(gen.report, "generation", "val", "promoted", "model", "teacher")
        teacher = teacher if labels or plan.begins_as_teacher else None
        begun = self.begin(plan, teacher)
        trained = self.train(plan, labels, begun.network)
        if self.accelerator.is_main_process:
            self.networks.keep(plan, trained.network)
        val = self.evaluate(trained.network, self.data.val)
        self.metrics.rewind(f"{stage}/val", -1)
        self.metrics.write(f"{stage}/val", plan.steps, {"miou": val["miou"] or 0.0, "ece": val["ece"]})
        leading = reports[_leader(reports)]["val"] if reports else None
        alarms = [*about_scores(val, leading), *about_average(trained.average_distance)]
        report = {
            "generation": plan.number,
            "model": self.networks.describe(plan, trained.network),
            "steps": plan.steps,
            "weights": [asdict(taken) for taken in begun.weights],
            "teacher": teacher,
            "online": plan.online,
            "val": val,
            "promoted": not reports or not evaluate.is_worse(val, _best(reports)["val"]),
            "precision": preflight.precision_of(self.accelerator),
            "exact": not self.changes,
            "changed_conditions": self.changes,
            "empty_batches": trained.empty,
            "skipped_steps": trained.skipped,
            "alarms": alarms,
            "seconds": round(trained.seconds, 1),
        }
        if self.accelerator.is_main_process:
            self.metrics.sync()
            files.write_json(gen.report, report)
            say(f"{stage}: val mIoU {_miou(val):.4f}, {'leads' if report['promoted'] else 'does not lead'}")
            _warn(stage, alarms)
        self.accelerator.wait_for_everyone()
        return report

    def begin(self, plan: Plan, teacher: int | None) -> Begun:
        """The network of a generation before its first step, and the sources of its weights."""
        rekey(self.cfg.seed, plan.name, "init")
        begun = self.networks.begin(plan, teacher)
        if self.accelerator.is_main_process:
            for line in begun.lines:
                say(line)
        if plan.method.networks > 1:
            rekey(self.cfg.seed, plan.name, "init of the second")
            # two networks with equal weights would stay equal
            second = self.networks.begin(plan, None).network
            begun = replace(begun, network=plan.method.joined([begun.network, second]))
        return begun

    def train(self, plan: Plan, labels: select.SelectedLabels | None, network: nn.Module) -> train.Trained:
        """Train the network of a generation on labelled images and on `labels`, or online."""
        self._track()
        dataset = self.material.dataset(plan, labels, (self.cfg.seed, plan.name))
        stage = train.Stage(
            plan.name,
            self.cfg.seed,
            steps=plan.steps,
            images=sum(dataset.sizes),
            directory=self.run.generation(plan.number).checkpoints,
            accelerator=self.accelerator,
            metrics=self.metrics,
            stop=self.stop,
        )
        world = self.accelerator.num_processes
        trained = train.train(
            network,
            lambda first: loading.loader(
                dataset,
                first=first,
                steps=stage.steps,
                rank=self.accelerator.process_index,
                world=world,
                workers=self.cfg.train.workers,
                parts=self.cfg.train.accumulate,
                stopped=lambda: self.stop.ends_waiting(world),
            ),
            self.material.step(plan),
            cfg=self.cfg.train,
            stage=stage,
            evaluate=lambda network: _miou(self.evaluate(network, self.data.val)),
            keep=self._snapshots(plan),
        )
        return replace(trained, network=self._kept(plan, trained.network))

    def _kept(self, plan: Plan, network: nn.Module) -> nn.Module:
        """The network that is kept after training.

        Of two networks it is the first. If `train.statistics` is set, batch norm is recalibrated.
        """
        network = plan.method.kept(network)
        if self.cfg.train.statistics:
            seen = self.material.unnoised(plan, (self.cfg.seed, plan.name, "statistics"))
            recalibrate.recalibrate(network, seen, scale=self.scale, precision=self.accelerator.autocast)
        return network

    def evaluate(self, network: nn.Module, samples: list[Sample]) -> dict:
        """Score a network on samples with masks; it predicts one plain view of each."""
        return evaluate.evaluate(
            self.predictor(network),
            samples,
            self.data.classes,
            batch=self.cfg.train.eval_batch,
            cache=self.cache,
            accelerator=self.accelerator,
        )

    def predictor(self, network: nn.Module) -> Predictor:
        """A predictor of the run: one plain view per image."""
        window = windows.of(self.cfg.labels.window)
        multiple = anatomy_of(network).multiple
        return Predictor(
            (network,), self.scale, window, precision=self.accelerator.autocast, multiple=multiple
        )

    def _snapshots(self, plan: Plan) -> dict[int, Callable[[nn.Module], None]]:
        """The snapshots of a generation, if its agreement with itself will be measured.

        Maps a step to a callback that receives the averaged network.
        """
        if not reliability.chosen(self.cfg.select).entry.snapshots:
            return {}
        return {
            plan.steps * part // SNAPSHOTS: partial(self._keep_snapshot, plan, part)
            for part in range(1, SNAPSHOTS)
        }

    def _keep_snapshot(self, plan: Plan, part: int, network: nn.Module) -> None:
        if self.accelerator.is_main_process:
            self.networks.keep_snapshot(plan.number, part, self._kept(plan, copy.deepcopy(network)))

    def labels(self, teacher: int, student: Plan) -> select.SelectedLabels | None:
        """Label the unlabelled images with `teacher`, and select the labels that `student` may train on.

        None without unlabelled images or without accepted labels.
        """
        if not self.data.unlabelled:
            say("no unlabelled images: the teacher is the result")
            return None
        gen = self.run.generation(teacher)
        network, digest = self.networks.load(teacher)
        predictor = replace(self.predictor(network), views=tta.views(**asdict(self.cfg.labels.tta)))
        labeller = pseudo_label.Labeller(
            predictor, len(self.data.classes), self.cfg.labels, self.cache, self.accelerator
        )
        where = f"gen{teacher}"
        store = labeller.label(
            self.data.unlabelled,
            gen.labels,
            stage=where,
            teacher=digest,
            check=lambda: self.stop.check(f"{where} labels"),
        )
        selected = self._selected(teacher, student, store)
        if self.accelerator.is_main_process:
            alarms = about_labels(
                store.histogram().sum(axis=1), self.material.class_pixels, self.data.classes
            )
            files.keep_json(gen.selection, {**selected.report(), "alarms": alarms})
            _warn(where, alarms)
        self.accelerator.wait_for_everyone()
        if not selected.accepted:
            settled = self.run.has_student([plan.online for plan in self.plans])
            select.refuse_empty(self.cfg.select, gen.selection, settled=settled)
            return None
        return selected

    def finish(self, leader: int, reports: list[dict]) -> None:
        """Test, export and write report.json.

        The test set is read once, for the best generation, the first one and the exported one.
        """
        chosen = leader if self.cfg.export.generation == "best" else len(reports) - 1
        networks = {number: self.networks.load(number)[0] for number in {0, leader, chosen}}
        tests = (
            {number: self.evaluate(network, self.data.test) for number, network in networks.items()}
            if self.data.test
            else {}
        )
        if self.accelerator.is_main_process:
            self._write_results(networks, tests, leader, chosen, reports)
            self.cache.clear()
        self.accelerator.wait_for_everyone()

    def _write_results(
        self,
        networks: dict[int, nn.Module],
        tests: dict[int, dict],
        leader: int,
        chosen: int,
        reports: list[dict],
    ) -> None:
        """Write the export, the page and, last, report.json, which marks the run as finished."""
        for number, report in enumerate(reports):
            selection = self.run.generation(number).selection
            chosen_labels = files.read_json(selection) if selection.exists() else {}
            report["labels"] = {
                name: value for name, value in chosen_labels.items() if name != "image_weights"
            } or None
        report = {
            "generations": reports,
            "best": leader,
            "exported": chosen,
            "test": tests.get(leader),
            "teacher_test": tests.get(0),
            "exported_test": tests.get(chosen),
            "seed": self.cfg.seed,
            "recipe": self.cfg.recipe,
            "data": self.cfg.data.name,
            "seconds": round(sum(report["seconds"] for report in reports), 1),
        }
        export.export(networks[chosen], self.run.export, card=self._card(report), onnx=self.cfg.export.onnx)
        self._write_page(report, networks, leader)
        files.write_json(self.run.report, report)

    def show(self) -> dict:
        """Print the run's table and the paths of its results; returns report.json."""
        report = files.read_json(self.run.report, *summary.SHOWN)
        if self.accelerator.is_main_process:
            summary.print_table(report, self.run.page, self.run.export)
        return report

    def _track(self) -> None:
        """Start TensorBoard through accelerate, at the first stage that is trained in this process."""
        if self.metrics.track is None:
            self.accelerator.init_trackers("tensorboard")
            self.metrics.track = lambda values, step: self.accelerator.log(dict(values), step=step)

    def _write_page(self, report: dict, networks: dict[int, nn.Module], leader: int) -> None:
        predictors = {number: self.predictor(network) for number, network in networks.items()}
        said = pictures.predictions(predictors, self.data.val)
        read = [row for row in report["generations"] if row["teacher"] is not None and not row["online"]]
        taught = {row["teacher"]: row["generation"] for row in read}
        learnt = [
            row
            for teacher, student in taught.items()
            if self.run.generation(teacher).selection.exists()
            for row in pictures.pseudo_labels(self._selected(teacher, self.plans[student]))
        ]
        page.write(
            self.run.page,
            report,
            classes=self.data.classes,
            metrics=self.metrics.rows(),
            predictions=said,
            pseudo_labels=learnt,
        )

    def _selected(
        self, teacher: int, student: Plan, store: LabelStore | None = None
    ) -> select.SelectedLabels:
        """A teacher's labels, selected by the student's rule."""
        store = store or LabelStore(self.run.generation(teacher).labels)
        rule = student.select
        ranks = self._reliability(teacher, store) if rule.image_share < 1 or rule.weight_images else None
        return select.select(
            store,
            self.data.unlabelled,
            self.data.classes,
            rule,
            generation=teacher,
            known=self.material.class_pixels,
            reliability=ranks,
        )

    def _reliability(self, teacher: int, store: LabelStore) -> np.ndarray:
        """The reliability of a teacher's labels for each unlabelled image, (N,); slow measures are kept."""
        stage, rule = f"gen{teacher}", self.cfg.select
        subject = reliability.Subject(
            store,
            self.data.unlabelled,
            len(self.data.classes),
            teacher=lambda: self.predictor(self.networks.load(teacher)[0]),
            snapshots=lambda: [self.predictor(network) for network in self.networks.snapshots(teacher)],
            cache=self.cache,
            accelerator=self.accelerator,
            batch=self.cfg.labels.batch,
            stage=stage,
            check=lambda: self.stop.check(f"{stage} reliability"),
        )
        if not reliability.chosen(rule).entry.looks:
            return reliability.measure(rule, subject)
        kept, labelled = (
            self.run.generation(teacher).reliability,
            {"teacher": store.index.teacher, "ids": store.index.ids_sha256},
        )
        if not (kept.exists() and labelled.items() <= files.read_json(kept, "reliability").items()):
            found = reliability.measure(rule, subject)
            if self.accelerator.is_main_process:
                files.write_json(
                    kept, {**labelled, "reliability": [round(float(value), 6) for value in found]}
                )
            self.accelerator.wait_for_everyone()
        return np.array(files.read_json(kept, "reliability")["reliability"], np.float32)

    def _card(self, report: dict) -> dict:
        """The card of the export, for its users."""
        cfg, exported = self.cfg, report["generations"][report["exported"]]
        return card(
            recipe=cfg.recipe,
            data=cfg.data.name,
            classes=self.data.classes,
            mean=cfg.data.mean,
            std=cfg.data.std,
            size=cfg.data.size,
            multiple=multiple_of(exported["model"]["arch"]),
            window=cfg.labels.window,
            levels=self.data.levels,
            masks=mask_coding(self.data),
            model=exported["model"],
            generation=report["exported"],
            seed=cfg.seed,
            metrics={"val": exported["val"], "test": report["exported_test"]},
        )


def _warn(stage: str, alarms: list[str]) -> None:
    for alarm in alarms:
        say(f"{stage}: warning: {alarm}")


def _leader(reports: list[dict]) -> int:
    """The last promoted generation."""
    return max(number for number, report in enumerate(reports) if report["promoted"])


def _best(reports: list[dict]) -> dict:
    """The promoted generation with the highest mIoU on val."""
    return max((report for report in reports if report["promoted"]), key=lambda report: _miou(report["val"]))


def _miou(scores: dict) -> float:
    """mIoU for comparisons; 0 if no pixel counts."""
    return scores["miou"] or 0.0
