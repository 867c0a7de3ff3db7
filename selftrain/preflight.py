"""What is checked and written down before a run begins to work."""

import os
from dataclasses import asdict

import torch
from accelerate import Accelerator

from selftrain import rundir
from selftrain.config import Config
from selftrain.data import sources, verify
from selftrain.errors import ConfigError, DataError
from selftrain.labels.thresholds import THRESHOLDS
from selftrain.log import say
from selftrain.models.build import check_weights
from selftrain.rundir import RunDir
from selftrain.stages.train import SCHEDULES

PRECISIONS = ("auto", "none", "bf16", "fp16")


def check(cfg: Config) -> None:
    """Settings that no run can have. Raises ConfigError that names them."""
    train = cfg.train
    problems = {
        "generations is empty": not cfg.generations,
        f"train.schedule={train.schedule!r} is none of {', '.join(SCHEDULES)}": train.schedule not in SCHEDULES,
        f"train.precision={train.precision!r} is none of {', '.join(PRECISIONS)}": train.precision not in PRECISIONS,
        f"train.crop={train.crop} must be [height, width] in multiples of 32": len(train.crop) != 2
        or any(side < 32 or side % 32 for side in train.crop),
        f"train.scale={train.scale} must be [least, most], both above 0": len(train.scale) != 2
        or not 0 < train.scale[0] <= train.scale[1],
        "train.labelled_batch must be at least 1": train.labelled_batch < 1,
        "train.unlabelled_batch must be at least 1": train.unlabelled_batch < 1,
        "train.checkpoint_every must be at least 1": train.checkpoint_every < 1,
        f"select.threshold={cfg.select.threshold!r} is none of {', '.join(THRESHOLDS)}": cfg.select.threshold not in THRESHOLDS,
        f"select.on_empty={cfg.select.on_empty!r} is none of fail, labelled_only": cfg.select.on_empty
        not in ("fail", "labelled_only"),
        f"export.generation={cfg.export.generation!r} is none of best, last": cfg.export.generation not in ("best", "last"),
        "loss.temperature must be above 0": cfg.loss.temperature <= 0,
        "every generation needs at least 1 step": any((train.steps if g.steps is None else g.steps) < 1 for g in cfg.generations),
    }
    for problem, found in problems.items():
        if found:
            raise ConfigError(problem)
    check_weights(cfg.model.weights)


def settle(run: RunDir, cfg: Config, data: sources.DataSet) -> None:
    """Write down what the run is made of, or compare. Before a first step every file is read; unreadable ones are set aside."""
    for warning in data.warnings:
        say(f"data: {warning}")
    aside = rundir.read_json(run.data)["set_aside"] if run.data.exists() else _unreadable(data, cfg)
    run.settle(asdict(cfg), {**sources.manifest(sources.without(data, aside)), "set_aside": aside})


def _unreadable(data: sources.DataSet, cfg: Config) -> list[str]:
    """Ids of the unlabelled images to go on without. Raises DataError for any other fault of a file."""
    if cfg.data.source == "shapes":
        return []
    report = verify.verify(data, cfg.data, workers=len(os.sched_getaffinity(0)))
    if report.faults:
        more = f" (and {len(report.faults) - 1} more: selftrain verify lists all)" if len(report.faults) > 1 else ""
        raise DataError(f"{report.faults[0]}{more}")
    for sample in report.set_aside:
        say(f"data: {sample.id} cannot be read and is left out")
    return [sample.id for sample in report.set_aside]


def check_data(data: sources.DataSet) -> None:
    if not data.labelled:
        raise DataError("no labelled image to train the teacher on; see data.images and data.masks")
    if not data.val:
        raise DataError("no val image to choose by; set data.splits.val or data.splits.val_fraction")


def accelerator_of(cfg: Config) -> Accelerator:
    # Launchers set OMP_NUM_THREADS=1 and leave cores idle.
    torch.set_num_threads(cfg.train.threads or max(len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", 1)), 1))
    try:
        return Accelerator(mixed_precision=_precision(cfg.train.precision), log_with="tensorboard", project_dir=cfg.out)
    except (ValueError, ImportError) as error:
        raise ConfigError(f"train.precision={cfg.train.precision} is not possible on this machine: {error}") from None


def _precision(wanted: str) -> str:
    """accelerate's name of a precision; `auto` is what was launched with, or bf16 where the machine computes in it."""
    if wanted != "auto":
        return {"none": "no"}.get(wanted, wanted)
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if launched != "no":
        return launched
    native = torch.cuda.is_bf16_supported() if torch.cuda.is_available() else torch.cpu._is_avx512_bf16_supported()
    return "bf16" if native else "no"
