"""A score, a refiner, a threshold rule and a reliability from outside the package: each does its work in a run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from runs import ROOT, SMOKE
from selftrain.labels.store import LabelStore

PROGRAM = Path(__file__).with_name("outside.py")
SETTINGS = [
    *SMOKE, "labels.refiner={flattened: {mass: 0.6}}", "select.threshold={lenient: {alpha: 0.25}}",
    "select.reliability={brightness: {dark: true}}", "select.image_share=0.5",
]  # fmt: skip


def run(*settings):
    command = [sys.executable, str(PROGRAM), *settings]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outside") / "run"
    ended = run(*SETTINGS, f"out={folder}")
    assert ended.returncode == 0, ended.stderr
    return folder


def read(path):
    return json.loads(path.read_text())


def test_a_score_is_in_the_report_of_every_split_and_on_the_page(out):
    report = read(out / "report.json")
    quality = report["generations"][0]["labels"]["quality"]
    for scores in (report["generations"][1]["val"], report["test"], quality["raw"], quality["selected"]):
        ious = [iou for iou in scores["per_class"].values() if iou is not None]
        assert scores["dice"] == pytest.approx(np.mean([2 * iou / (1 + iou) for iou in ious]))
    page = (out / "report.html").read_text()
    assert "val dice" in page and f"<td>{report['generations'][1]['val']['dice']:.3f}</td>" in page


def test_a_refiner_makes_the_labels_that_are_stored(out):
    histogram = LabelStore(out / "gen0" / "labels").histogram()
    assert np.flatnonzero(histogram.sum(axis=0)).tolist() == [153]  # 0.6 of 255


def test_a_threshold_rule_gets_its_own_setting_and_the_shared_ones(out):
    selection = read(out / "gen0" / "selection.json")
    assert selection["threshold"] == "lenient" and set(selection["thresholds"].values()) == {0.2}  # 0.25 of 0.8
    assert selection["rule"]["threshold"] == {"lenient": {"alpha": 0.25}}


def test_a_reliability_ranks_the_images(out):
    reliability = np.array(read(out / "gen0" / "reliability.json")["reliability"])
    weights = np.array(read(out / "gen0" / "selection.json")["image_weights"])
    assert len(set(reliability.tolist())) > 12 and (weights > 0).sum() == 12
    assert reliability[weights > 0].min() >= reliability[weights == 0].max()
    assert not (out / "gen0" / "snapshots").exists()


def test_a_setting_that_an_entry_does_not_have_is_refused_before_the_run(tmp_path):
    ended = run(*SMOKE, "labels.refiner={flattened: {mass: 0.2}}", f"out={tmp_path / 'run'}")
    assert ended.returncode == 2 and "labels.refiner.flattened.mass=0.2 must lie between 0.5 and 1" in ended.stderr
    assert not (tmp_path / "run" / "config.yaml").exists()
