"""Trackers of a run: TensorBoard, Weights & Biases and MLflow, through accelerate.

All of them write below the run directory unless the environment says otherwise, and nothing is sent anywhere:
Weights & Biases works offline unless WANDB_MODE is set, and MLflow has a store of its own unless
MLFLOW_TRACKING_URI is set.
"""

import os
import re
import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker, MLflowTracker, TensorBoardTracker, WandBTracker
from PIL import Image

from selftrain import files
from selftrain.config import TRACKERS
from selftrain.errors import ConfigError
from selftrain.report.embedded import Row
from selftrain.report.palette import palette
from selftrain.rundir import RunDir

PROJECT = "selftrain"  # of Weights & Biases, and the experiment of MLflow
REFUSED = re.compile(r"[^/\w.\- ]")  # in the names of MLflow's metrics
SETTINGS = 250  # characters of a setting's value that MLflow accepts in all versions


def check(names: Sequence[str]) -> None:
    """Raises ConfigError for a tracker whose package is not installed."""
    for name in names:
        if find_spec(name) is None:
            raise ConfigError(
                f"trackers: {name} is not installed; pip install {name}, or leave it out of trackers"
            )


def start(accelerator: Accelerator, names: Sequence[str], run: RunDir, settings: Mapping[str, Any]) -> None:
    """Start the trackers of a run in its main process, or go on with them. `settings` are logged as text."""
    known = files.read_json(run.trackers) if run.trackers.exists() else {}
    shown = {name: str(value)[:SETTINGS] for name, value in settings.items()}
    accelerator.log_with = [STARTS[name](run, known.get(name), shown) for name in names]
    accelerator.init_trackers(PROJECT)
    ids = {tracker.name: _id(tracker) for tracker in accelerator.trackers if tracker.name != TRACKERS[0]}
    if ids != known:
        files.write_json(run.trackers, ids)
    for tracker in accelerator.trackers:
        if tracker.name == "mlflow" and tracker.name not in known:
            tracker.store_init_configuration(shown)


def log(accelerator: Accelerator, stage: str, step: int, values: Mapping[str, float]) -> None:
    """Log the values of a step of a stage. Each stage counts its own steps."""
    named = {f"{stage}/{name}": value for name, value in values.items()}
    for tracker in accelerator.trackers:
        if tracker.name == "wandb":  # its own step may never fall, but the steps of the next stage begin anew
            tracker.tracker.define_metric(f"{stage}/*", step_metric=f"{stage}/step")
            tracker.log({**named, f"{stage}/step": step})
        elif tracker.name == "mlflow":
            tracker.log({REFUSED.sub("_", name): value for name, value in named.items()}, step=step)
        else:
            tracker.log(named, step=step)


def pictures(accelerator: Accelerator, rows: Sequence[Row], classes: int, step: int) -> None:
    """Log each row of pictures as one picture, with class ids in the colours of the report."""
    colours = palette(classes)
    for number, row in enumerate(rows):
        drawn = np.hstack([colours[one] if one.ndim == 2 else one for _, one in row.cells])
        name = f"predictions/{number}"
        for tracker in accelerator.trackers:
            if tracker.name == "wandb":
                tracker.log_images({name: [drawn]})
            elif tracker.name == "mlflow":
                _file(tracker, f"{name}.png", drawn)
            else:
                tracker.log_images({name: drawn[None]}, step=step, dataformats="NHWC")


def _tensorboard(run: RunDir, known: str | None, settings: Mapping[str, str]) -> GeneralTracker:
    return TensorBoardTracker(TRACKERS[0], run.path)


def _wandb(run: RunDir, known: str | None, settings: Mapping[str, str]) -> GeneralTracker:
    return WandBTracker(
        PROJECT,
        id=known or uuid.uuid4().hex[:8],
        resume="allow",
        name=run.path.resolve().name,
        dir=str(run.path),
        mode=os.environ.get("WANDB_MODE", "offline"),
        config=dict(settings),
    )


def _mlflow(run: RunDir, known: str | None, settings: Mapping[str, str]) -> GeneralTracker:
    import mlflow

    if "MLFLOW_TRACKING_URI" not in os.environ:
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # newer versions ask for it
        mlflow.set_tracking_uri((run.path.resolve() / "mlruns").as_uri())
    return MLflowTracker(PROJECT, run_id=known, run_name=run.path.resolve().name)


STARTS: dict[str, Callable[[RunDir, str | None, Mapping[str, str]], GeneralTracker]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
}


def _id(tracker: GeneralTracker) -> str:
    """The id by which a tracker finds a run again."""
    begun = tracker.tracker
    return str(begun.info.run_id if tracker.name == "mlflow" else begun.id)


def _file(tracker: GeneralTracker, name: str, pixels: np.ndarray) -> None:
    """Log a picture as a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / Path(name).name
        Image.fromarray(pixels).save(path)
        tracker.log_artifact(str(path), str(Path(name).parent))
