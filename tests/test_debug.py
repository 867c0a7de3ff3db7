"""`debug=true`: the whole path on a small part of the data and steps."""

import json
import shutil

import pytest
import yaml

from runs import SMOKE, fingerprint
from selftrain import debugging
from selftrain.data.few import few
from selftrain.data.load import load
from selftrain.datasets import spec_of
from selftrain.inference.exported import load_export
from selftrain.session import shortened
from selftrain.settings import compose

DEBUG = [
    *SMOKE, "debug=true", "model.encoder=tu-test_resnet", "train.steps=100", "train.eval_every=40",
    "data.shapes.labelled=60", "data.shapes.unlabelled=200", "data.shapes.val=10", "data.shapes.test=50",
    "labels.refiner=none",
]  # fmt: skip


def test_a_twentieth_of_the_images_is_used_but_enough_to_work():
    assert [debugging.images("labelled", count) for count in (1, 10, 40, 100)] == [1, 2, 2, 5]
    assert [debugging.images("unlabelled", count) for count in (3, 60, 1000)] == [3, 4, 50]
    assert [debugging.steps(count) for count in (0, 2, 30, 100, 1000)] == [0, 2, 3, 5, 50]
    data = load(spec_of(compose(DEBUG).data))
    some = few(data, 0)
    assert [len(getattr(some, split)) for split in ("labelled", "unlabelled", "val", "test")] == [3, 10, 2, 2]
    ids = [one.id for one in some.unlabelled]
    assert ids == sorted(ids) == [one.id for one in few(data, 0).unlabelled]
    assert ids != [one.id for one in few(data, 1).unlabelled]


def test_all_counts_of_steps_become_smaller_together():
    cfg = compose(["recipe=noisy_student", "debug=true", "generations.1.steps=2000", "train.warmup=100"])
    short = shortened(cfg)
    assert (short.train.steps, short.generations[1].steps) == (cfg.train.steps // 20, 100)
    assert (short.train.warmup, short.train.eval_every) == (5, 12)
    plain = compose(["recipe=noisy_student"])
    assert shortened(plain) is plain


@pytest.fixture(scope="module")
def debugged(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("debug") / "run"
    code, said, err = run(*DEBUG, f"out={out}")
    assert code == 0, err
    return out, said


def test_the_whole_path_runs_and_says_that_its_numbers_mean_nothing(debugged):
    out, said = debugged
    report, data = (json.loads((out / name).read_text()) for name in ("report.json", "data.json"))
    assert [row["steps"] for row in report["generations"]] == [5, 5]
    assert [len(data[split]) for split in ("labelled", "unlabelled", "val", "test")] == [3, 10, 2, 2]
    assert said.count("the numbers mean nothing") == 2 and report["debug"] == debugging.NOTE
    assert f"{debugging.NOTE}." in (out / "report.html").read_text()
    assert load_export(out / "export")[1]["debug"] == debugging.NOTE
    assert yaml.safe_load((out / "config.yaml").read_text())["train"]["steps"] == 100


def test_a_debug_run_resumes_as_such_and_never_becomes_a_real_one(run, debugged, tmp_path):
    out, _ = debugged
    again = shutil.copytree(out, tmp_path / "run")
    (again / "report.json").unlink()
    shutil.rmtree(again / "gen1")
    code, _, err = run(f"out={again}")
    assert code == 0 and fingerprint(again) == fingerprint(out), err
    code, _, err = run(*[text for text in DEBUG if text != "debug=true"], f"out={again}")
    assert code == 2 and "debug: True -> False" in err
