"""Trackers: curves and pictures of a run."""

import json

import numpy as np
import pytest
from accelerate import Accelerator

from selftrain import tracking
from selftrain.config import TRACKERS, Config
from selftrain.errors import ConfigError
from selftrain.report.embedded import Row
from selftrain.rundir import RunDir
from selftrain.settings.check import check as check_settings

IMAGE, MASK = np.full((8, 6, 3), 9, np.uint8), np.zeros((8, 6), np.uint8)
ROWS = [
    Row("val/0", [("image", IMAGE), ("truth", MASK)]),
    Row("val/1", [("image", IMAGE[:4]), ("truth", MASK[:4])]),
]


def tracked(name, folder, times=1):
    """Tracks two stages and two pictures in a run, by as many processes as `times` says."""
    for _ in range(times):
        accelerator, run = Accelerator(cpu=True), RunDir(folder / "run")
        run.path.mkdir(exist_ok=True)
        tracking.start(accelerator, [name], run, {"train.lr": 0.1, "data.classes": ["a", "b"]})
        tracking.log(accelerator, "gen0", 10, {"loss": 2.0})
        tracking.log(accelerator, "gen1", 5, {"loss": 1.0, "val_iou/hay (dry)": 0.5})
        tracking.pictures(accelerator, ROWS, 2, 15)
        accelerator.end_training()
    return run


def test_tensorboard_has_curves_and_pictures(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(tracked("tensorboard", tmp_path).path / "tensorboard")).Reload()
    assert [(one.step, one.value) for one in found.Scalars("gen0/loss")] == [(10, 2.0)]
    assert [one.step for one in found.Scalars("gen1/val_iou/hay (dry)")] == [5]
    first, second = (found.Images(f"predictions/{number}")[0] for number in (0, 1))
    assert (first.width, first.height, second.height, first.step) == (12, 8, 4, 15)


def test_weights_and_biases_works_offline_and_goes_on_with_a_run(tmp_path):
    pytest.importorskip("wandb")
    run = tracked("wandb", tmp_path, times=2)
    found = json.loads(run.trackers.read_text())["wandb"]
    assert len(list((run.path / "wandb").glob(f"offline-run-*-{found}"))) == 2
    assert not list(tmp_path.glob("wandb"))


def test_mlflow_has_a_store_in_the_run_directory(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = tracked("mlflow", tmp_path, times=2)
    found = mlflow.get_run(json.loads(run.trackers.read_text())["mlflow"])
    assert found.data.metrics == {"gen0/loss": 2.0, "gen1/loss": 1.0, "gen1/val_iou/hay _dry_": 0.5}
    assert found.data.params["train.lr"] == "0.1" and list(run.path.rglob("predictions/1.png"))


def test_a_tracker_that_is_not_installed_is_refused(monkeypatch):
    monkeypatch.setattr(tracking, "find_spec", lambda name: None if name == "wandb" else name)
    tracking.check(["tensorboard"])
    with pytest.raises(ConfigError, match="pip install wandb"):
        tracking.check(["tensorboard", "wandb"])


@pytest.mark.parametrize("names", [["aim"], ["tensorboard", "tensorboard"]])
def test_other_trackers_are_refused(names):
    with pytest.raises(
        ConfigError, match=r"trackers=.* must be some of tensorboard, wandb, mlflow, each once"
    ):
        check_settings(Config(trackers=names))
    assert {*TRACKERS} == {*tracking.STARTS}
