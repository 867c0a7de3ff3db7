"""Commands on runs: resume, extra generations, status, run.log, and the leader of an unfinished run."""

import json
import re
import signal
import time

import numpy as np
import pytest
import yaml
from PIL import Image

from runs import SMOKE, fingerprint
from selftrain.commands.leader import export_unfinished
from selftrain.rundir import RunDir

SMALL = [
    *SMOKE,
    "train.steps=4",
    "labels.crf.enabled=false",
]
KILLED = {"do": "kill", "at": ["rename", "gen1/checkpoints/.step-000003.tmp"]}


@pytest.fixture(scope="module")
def finished(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("commands") / "run"
    code, _, err = run(*SMALL, f"out={out}")
    assert code == 0, err
    return out


@pytest.fixture
def unfinished(zygote, tmp_path):
    """A run that was killed while its student was trained."""
    out = tmp_path / "unfinished"
    assert zygote.run(*SMALL, f"out={out}", fault=KILLED).code == -signal.SIGKILL
    return out


def files(folder):
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}


def generations(out):
    return yaml.safe_load((out / "config.yaml").read_text())["generations"]


@pytest.mark.parametrize("door", ["run", "cli"])
def test_the_directory_alone_resumes_with_the_settings_of_the_run(zygote, finished, unfinished, door):
    moved = unfinished.rename(unfinished.with_name("moved, [here]"))
    words = (
        [f"out={moved}", "train.workers=1"] if door == "run" else ["resume", str(moved), "train.workers=1"]
    )
    ended = zygote.run(*words, door=door)
    assert ended.code == 0, ended.err
    assert fingerprint(moved) == fingerprint(finished)
    config = yaml.safe_load((moved / "config.yaml").read_text())
    assert config["train"]["workers"] == 1 and config["out"] == str(moved)  # as the next resume needs them


def test_a_change_of_results_is_refused_and_a_finished_run_is_left_alone(zygote, finished):
    before = files(finished)
    ended = zygote.run("resume", str(finished), "train.steps=9", door="cli")
    assert ended.code == 2 and "started with other settings (train.steps: 4 -> 9)" in ended.last
    ended = zygote.run(f"out={finished}")
    assert ended.code == 0 and "nothing to do" in ended.out
    assert files(finished) == before


def test_runs_are_compared_and_watching_training_images_changes_no_weight(zygote, finished, tmp_path):
    other = tmp_path / "other"
    assert zygote.run(*SMALL, "train.eval_every=2", "train.watch=3", f"out={other}").code == 0
    for name in ("gen0/model/model.safetensors", "gen1/model/model.safetensors"):
        assert (other / name).read_bytes() == (finished / name).read_bytes()
    before = files(finished)
    page = tmp_path / "compared.html"
    ended = zygote.run("compare", str(finished), str(other), "-o", str(page), door="cli")
    assert ended.code == 0, ended.err
    assert "train.eval_every" in ended.out and "+0.0000" in ended.out
    assert "mIoU on training images." in page.read_text() and files(finished) == before


def test_what_cannot_be_compared_is_said(zygote, finished, tmp_path):
    (tmp_path / "gone").mkdir()
    for words, said in (
        ([str(finished)], "compare takes two or more runs"),
        ([str(finished), str(tmp_path / "gone")], "is not a run directory"),
        ([str(finished), str(finished), "-o", "page.pdf"], "ends in .html"),
    ):
        ended = zygote.run("compare", *words, door="cli")
        assert ended.code == 2 and said in ended.last


def test_what_is_no_run_is_not_resumed(zygote, tmp_path):
    ended = zygote.run("resume", str(tmp_path), door="cli")
    assert ended.code == 2 and f"{tmp_path} is not a run directory" in ended.last
    assert list(tmp_path.iterdir()) == []


def test_an_extra_generation_is_like_the_last_and_is_added_to_a_finished_run(zygote, unfinished, tmp_path):
    ended = zygote.run("resume", str(unfinished), "generations.extra=1", door="cli")
    assert ended.code == 2 and f"selftrain resume {unfinished}" in ended.last
    assert zygote.run("resume", str(unfinished), door="cli").code == 0
    ended = zygote.run("resume", str(unfinished), "generations.extra=1", door="cli")
    assert ended.code == 0, ended.err
    assert "this run will take about" in ended.out
    assert "gen2" in json.loads((unfinished / "forecast.json").read_text())["seconds"]
    first, student, another = generations(unfinished)
    assert student == another != first
    assert (unfinished / "gen2" / "report.json").exists() and (unfinished / "report.json").exists()
    whole = tmp_path / "whole"
    assert zygote.run(*SMALL, "generations.extra=1", f"out={whole}").code == 0
    assert fingerprint(whole) == fingerprint(unfinished)


def test_the_test_set_is_read_only_when_it_may_be(zygote, run, tmp_path):
    out = tmp_path / "run"
    ended = zygote.run(*SMALL, "generations=[{}]", "test.read=never", f"out={out}")
    assert ended.code == 0 and "test mIoU" not in ended.out, ended.err
    report = json.loads((out / "report.json").read_text())
    assert report["test"] is report["teacher_test"] is report["exported_test"] is None
    assert json.loads((out / "export" / "card.json").read_text())["metrics"]["test"] is None
    weights = (out / "gen0" / "model" / "model.safetensors").stat().st_mtime_ns
    ended = zygote.run(f"out={out}", "test.read=end")
    assert ended.code == 0 and "test mIoU" in ended.out, ended.err
    assert json.loads((out / "report.json").read_text())["test"]["miou"] is not None
    assert (out / "gen0" / "model" / "model.safetensors").stat().st_mtime_ns == weights  # nothing was trained


LIVE = """
import shutil
from pathlib import Path
from selftrain import live, run
from selftrain.report import figures

live.SHORT = live.PAUSE = 0.0
live.SHARE = float("inf")
for name in ("promotion", "curves", "stages", "beside", "reliability"):
    setattr(figures, name, lambda *_, **__: None)
whole = live.write

def write(session, *given, **more):
    whole(session, *given, **more)
    pages = session.run.path.with_name("pages")
    pages.mkdir(exist_ok=True)
    shutil.copy(session.run.page, pages / f"{len(list(pages.iterdir())):03d}.html")

live.write = write
run.main()
"""


def test_the_page_is_written_at_every_stage_and_changes_no_bit(zygote, finished, tmp_path):
    script, out = tmp_path / "live.py", tmp_path / "run"
    script.write_text(LIVE)
    ended = zygote.run(*SMALL, f"out={out}", door=str(script))
    assert ended.code == 0 and "is not written" not in ended.out, ended.err
    assert fingerprint(out) == fingerprint(finished)
    pages = [path.read_text() for path in sorted((tmp_path / "pages").iterdir())]
    assert ['http-equiv="refresh"' in page for page in pages] == [True] * (len(pages) - 1) + [False]
    assert pages[-1] == (out / "report.html").read_text()
    first, *_, last = pages
    assert "0 teacher" in first and "generation –" in first  # during the first generation
    before = [page for page in pages if "Labels by generation 0" in page and 'data-generation="1"' in page]
    assert (
        ">not finished<" in before[0].partition('data-generation="1"')[2]
    )  # the labels are shown before anyone trains on them
    assert "Least confident" in before[0] and "Unlike every labelled image" in before[0]
    assert (
        "Changed most by refinement" not in last and ">not finished<" not in last
    )  # labels.crf.enabled=false
    assert "The worst image of each class" in last
    assert "Views that disagree most" in last


def test_the_log_tells_what_the_console_told_over_all_processes(zygote, unfinished):
    before = (unfinished / "run.log").read_text()
    assert before.count("  process ") == 1 and "gen0: val mIoU" in before and "  gen0  4/4  " in before
    ended = zygote.run("resume", str(unfinished), door="cli")
    log = (unfinished / "run.log").read_text()
    assert log.startswith(before) and log.count("  process ") == 2
    said = [line[21:].rstrip() for line in log.removeprefix(before).splitlines()[1:]]
    assert said == [line.rstrip() for line in ended.out.splitlines()] and "test mIoU" in log


def test_the_log_tells_why_a_run_ended(zygote, tmp_path):
    out = tmp_path / "run"
    fault = {
        "do": "kill",
        "at": ["rename", "gen0/checkpoints/.step-000003.tmp"],
        "number": int(signal.SIGTERM),
    }
    ended = zygote.run(*SMALL, f"out={out}", fault=fault)
    assert ended.code == 75
    assert (
        (out / "run.log")
        .read_text()
        .rstrip()
        .endswith(f"  ended: {ended.last.removeprefix('selftrain: error: ')}")
    )


def test_status_tells_whether_a_run_is_running_and_how_far_it_is(zygote, tmp_path):
    out = tmp_path / "run"
    started = zygote.start(*SMALL, f"out={out}", fault={"do": "slow_steps", "seconds": 1})
    log = RunDir(out).log
    while not (log.is_file() and re.search(r"  gen1  \d+/\d+  ", log.read_text())):
        assert not (out / "report.json").exists(), log.read_text()
        time.sleep(0.05)
    started.send(signal.SIGSTOP)  # the run must not go on while a slow machine starts `status`
    seen = zygote.run("status", str(out), door="cli").out
    assert f"\nrunning (process {started.pid})\n" in seen
    last = re.search(r"last line: \S+ \S+  gen1  \d+/\d+  .*", seen)
    assert last and "images/s" in last[0] and "left" in last[0], seen
    watching, left = (zygote.start("status", str(out), "--watch", door="cli") for _ in range(2))
    for one in (watching, left):
        while "running (process" not in (one.folder / "stdout").read_text():
            time.sleep(0.05)
    left.send(signal.SIGINT)
    assert left.wait().code == 130  # the run has not noticed
    started.send(signal.SIGKILL)
    started.wait()
    ended = watching.wait()
    assert ended.code == 75 and ended.last.endswith(f"selftrain resume {out} resumes it")
    assert ended.out.count("leader: generation 0") == 1  # lines are printed when they change
    said = zygote.run("status", str(out), door="cli").out.splitlines()
    assert said[-1] == f"not running, not finished: selftrain resume {out} resumes it"
    assert "leader: generation 0" in said and "running" not in said[-2]


@pytest.mark.parametrize("words", [["status"], ["next"], ["resume"], ["export", "-o", "there"]])
def test_a_directory_of_several_runs_is_answered_with_the_name_of_one(zygote, tmp_path, words):
    (tmp_path / "runs.json").write_text("{}")
    for name in ("fold1", "fold0"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").touch()
    ended = zygote.run(words[0], str(tmp_path), *words[1:], door="cli")
    assert ended.code == 2
    assert f"{tmp_path} holds several runs; name one of them, for example {tmp_path}/fold0" in ended.last


def test_the_leader_of_an_unfinished_run_predicts_and_is_exported(zygote, finished, unfinished, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (50, 41, 3), np.uint8)
    Image.fromarray(pixels).save(images / "a.png")
    before = files(unfinished)
    teacher, early = tmp_path / "teacher", tmp_path / "early"
    export_unfinished(RunDir(unfinished), teacher, onnx=False)
    ended = zygote.run("predict", str(unfinished), str(images), "-o", str(early), door="cli")
    assert ended.code == 0 and "is not finished: this is generation 0" in ended.out, ended.err
    assert files(unfinished) == before
    first, last = (
        json.loads((folder / "card.json").read_text()) for folder in (teacher, finished / "export")
    )
    assert first.pop("metrics")["test"] is None and last.pop("metrics")["test"] is not None
    assert first.pop("generation") == 0 and last.pop("generation") in (0, 1)
    assert first.pop("model")["params"] and last.pop("model")
    assert first == last
    kept = finished / "gen0" / "model" / "model.safetensors"
    assert (teacher / "model.safetensors").read_bytes() == kept.read_bytes()
    masks = tmp_path / "masks"
    assert zygote.run("predict", str(teacher), str(images), "-o", str(masks), door="cli").code == 0
    assert (masks / "a.png").read_bytes() == (early / "a.png").read_bytes()
    ended = zygote.run("export", str(unfinished), "-o", str(masks), "--generation", "1", door="cli")
    assert ended.code == 2 and "generation 1" in ended.last
