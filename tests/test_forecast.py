"""How long a run will take."""

import json
import re
import sys
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import pytest

from runs import SMOKE
from selftrain import log
from selftrain.forecast import FEWEST, Speed, Work, clock, forecast, passes, steps_in, told
from selftrain.inference import tta
from selftrain.plan import plans, views_of_labels
from selftrain.settings import compose

WORK = Work(val=10, test=20, unlabelled=100, pixels=1000)
SPEED = Speed(train=0.01, predict=1e-6, refine=2e-6)
SMALL = ["recipe=noisy_student", "train.steps=100", "train.eval_every=25"]


def of(*settings, work=WORK):
    cfg = compose([*SMALL, *settings])
    planned = plans(cfg)
    return forecast(cfg, planned, {plan.number: SPEED for plan in planned}, work)


def test_a_stage_takes_its_steps_and_evaluations():
    seconds = of("generations=[{}]")
    assert list(seconds) == ["gen0", "test"]
    assert seconds["gen0"] == pytest.approx(100 * 1.25 * 8 * 0.01 + 4 * 10 * 1000 * 1e-6)
    assert seconds["test"] == pytest.approx(20 * 1000 * 1e-6)
    assert of()["test"] == pytest.approx(2 * 20 * 1000 * 1e-6)  # the first network is tested as well


def test_labels_take_their_views_and_the_refiner():
    seconds = of("labels.tta={scales: [1.0, 0.5], hflip: true}")
    cfg = compose([*SMALL, "labels.tta={scales: [1.0, 0.5], hflip: true}"])
    assert passes(views_of_labels(cfg), []) == pytest.approx(2.5)
    assert passes(tta.of("d4"), ["scale", 0.5]) == pytest.approx(2)
    assert list(seconds) == ["gen0", "gen1", "gen1 labels", "gen2", "gen2 labels", "gen3", "test"]
    assert seconds["gen1 labels"] == pytest.approx(100 * 1000 * (2.5e-6 + 2e-6))


def test_whole_steps_and_labels_that_were_timed_are_believed():
    cfg = compose([*SMALL, "train.eval_every=0"])
    timed = replace(SPEED, step=0.5, label=0.2)
    seconds = forecast(cfg, plans(cfg), dict.fromkeys(range(4), timed), WORK)
    assert seconds["gen1 labels"] == pytest.approx(100 * 0.2)
    assert seconds["gen1"] == pytest.approx(plans(cfg)[1].steps * 0.5 + 10 * 1000 * 1e-6)


def test_an_online_student_takes_more_than_an_offline_one():
    seconds = of()
    assert seconds["gen1"] > 1.3 * seconds["gen2"] > seconds["gen0"]


def test_several_networks_and_processes_are_counted():
    once, thrice = of(), of("generations.0.members={seeds: 3}")
    assert [name for name in thrice if name not in once] == ["gen0.1", "gen0.2"]
    assert thrice["gen0.1"] == once["gen0"]
    halved = of(work=replace(WORK, processes=2))
    assert halved["gen0"] == pytest.approx(once["gen0"] / 2)


def test_minutes_become_steps():
    short, long = {"gen0": 70.0}, {"gen0": 130.0}  # 10 s and 0.06 s a step
    assert steps_in(5, short, long, (1000, 2000)) == pytest.approx(4833, abs=1)
    assert steps_in(0.01, short, long, (1000, 2000)) == FEWEST


def test_it_is_told_in_words():
    assert [clock(value) for value in (40, 600, 7200)] == ["40 s", "10 min", "2.0 h"]
    assert told({"gen0": 600.0, "test": 1.0}) == "this run will take about 10 min (gen0 10 min, test 1 s)"


@pytest.fixture
def expected():
    """Forecasts of stages for progress lines, of this test only."""
    yield log.expect
    log.expect({})


def test_later_stages_are_scaled_by_all_stages_so_far(expected):
    expected({"gen0": 100.0, "gen0 labels": 20.0, "gen1": 180.0})  # 30 s of them count as measured
    assert log.later("gen0", 200.0, 1.0) == pytest.approx(200 * (200 + 30) / (100 + 30))
    assert log.later("gen0 labels", 50.0, 0.5) == pytest.approx(180 * (250 + 30) / (110 + 30))
    assert log.later("gen1", 50.0, 0.1) == 0.0
    assert log.later("verify", 50.0, 0.1) is None
    expected({})
    assert log.later("gen0", 200.0, 1.0) is None


def test_the_time_left_is_calm_on_a_short_run_with_a_slow_start_and_a_slow_stage(
    expected, monkeypatch, capsys
):
    now, said = [0.0], []
    monkeypatch.setattr(log, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False, raising=False)
    stages = {"gen0": (100, 0.5), "gen0 labels": (40, 0.75), "gen1": (100, 1.0)}  # steps, seconds of each
    expected({"gen0": 40.0, "gen0 labels": 6.0, "gen1": 80.0})  # labels take five times as long
    for stage, (steps, each) in stages.items():
        with log.progress(stage, steps) as show:
            now[0] += 8.0  # the first step loads and compiles
            for done in range(1, steps + 1):
                now[0] += each
                show(done)
                line = capsys.readouterr().out.strip()
                if " left" in line:
                    minutes, seconds = re.search(r", (\d+):(\d\d) for the run$", line).groups()
                    said.append((now[0], now[0] + int(minutes) * 60 + int(seconds)))
                elif line:
                    assert done < 12, line  # a line without a time: the first one of a stage
    ends = [end for _, end in said]
    assert len(said) > 15 and said[0][0] > 10
    assert all(abs(end - now[0]) < 0.3 * now[0] for end in ends), ends
    assert all(abs(after - before) < 0.25 * now[0] for before, after in pairwise(ends)), ends


def test_a_run_tells_its_time_before_the_first_step_and_in_every_line(run, tmp_path):
    code, said, err = run(*SMOKE, f"out={tmp_path}/run")
    assert code == 0, err
    lines = said.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("gen0  "))
    assert any(re.match(r"this run will take about \d", line) for line in lines[:first])
    assert re.search(r"left, \d+:\d\d for the run$", lines[first])
    seconds = json.loads((tmp_path / "run" / "forecast.json").read_text())["seconds"]
    assert list(seconds) == ["gen0", "gen0 labels", "gen1", "test"] and all(
        value >= 0 for value in seconds.values()
    )


def test_a_budget_in_minutes_becomes_steps(run, tmp_path):
    settings = ["recipe=smoke", "train.plan=auto", "budget=0.05", "train.threads=1", "export.onnx=false"]
    code, said, err = run(
        *settings, "model.encoder=tu-resnet10t", "train.crop=[32,32]", f"out={tmp_path}/run"
    )
    assert code == 0, err
    rows = {row["name"]: row for row in json.loads((tmp_path / "run" / "plan.json").read_text())["settings"]}
    steps = rows["train.steps"]["value"]
    assert 1 <= steps < 200 and "0.05 minutes" in rows["train.steps"]["reason"]
    assert rows["train.warmup"]["value"] == max(1, steps // 20)
    assert "0.05 minutes" in said
