"""`make gpu` on a CPU: its parts at a small size, and what it does with parts that fail. The GPU itself is not tested."""

import json
import re
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from runs import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import gpu
import gpu_runs
import gpu_speed
import labelling
import pictures

WRITES = """
import json, sys
from dataclasses import asdict
sys.path.insert(0, {folder!r})
from sides import below, measured

for row in {rows}:
    with open({found!r}, "a") as file:
        file.write(json.dumps(row if isinstance(row, dict) else asdict(row)) + "\\n")
{then}
"""


@pytest.fixture
def page(tmp_path):
    return Path(shutil.copy(gpu.PAGE, tmp_path / "gpu.md"))


@pytest.fixture
def parts(monkeypatch):
    """parts(name=(rows, then)): the process of a part writes these rows, then runs this code; other parts find nothing."""

    def parts(**does):
        def command(name, arguments, found):
            rows, then = does.get(name, ("[]", ""))
            facts = {"folder": str(ROOT / "benchmarks"), "found": str(found), "rows": rows, "then": then}
            return [sys.executable, "-c", WRITES.format(**facts)]

        monkeypatch.setattr(gpu, "command", command)

    return parts


def on_cpu(page, *words):
    """The exit message of the check on a CPU; empty if it succeeds."""
    try:
        gpu.main(["--device", "cpu", "--small", "--page", str(page), *words])
    except SystemExit as ended:
        return str(ended)
    return ""


def test_without_a_gpu_the_check_is_skipped(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(gpu, "DEVICES", tmp_path)
    before = gpu.PAGE.read_bytes()
    gpu.main([])
    assert capsys.readouterr().out == "no GPU: skipped\n" and gpu.PAGE.read_bytes() == before


def test_a_gpu_that_torch_cannot_use_is_no_reason_to_skip(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(gpu, "DEVICES", tmp_path)
    (tmp_path / "nvidia0").touch()
    with pytest.raises(SystemExit, match=r"has a GPU that torch .* cannot use"):
        gpu.main([])


def test_parts_that_fail_are_reported_and_do_not_stop_the_others(parts, page, monkeypatch, capsys):
    monkeypatch.setitem(gpu.LIMITS, "training", 1)
    good = "[measured('speed', 3.5, 'images/s')]"
    parts(
        bf16=(good, "raise RuntimeError('no such kernel')"),
        fp16=("[dict(skipped='fp16 needs a GPU')]", ""),
        parity=("[below('difference', 0.5, '%', 0.1)]", ""),
        training=(good, "import time; time.sleep(60)"),
        two=(good, ""),
    )
    began = time.monotonic()
    said = on_cpu(page)
    assert (
        said == "these parts failed or missed a goal: bf16, parity, training"
        and time.monotonic() - began < 30
    )
    written = page.read_text()
    assert "has not run" not in written and written.endswith(
        gpu.PAGE.read_text().partition("<!-- end -->")[2]
    )
    assert "**Failed:** exit code 1: RuntimeError: no such kernel." in written
    assert "**Failed:** stopped at its limit of 1 s." in written
    assert "Skipped: fp16 needs a GPU." in written and "| <= 0.1 % | NO |" in written
    assert written.count("| speed | 3.5 images/s |") == 3  # also of parts that failed later
    assert "no such kernel" in capsys.readouterr().err


def test_a_check_whose_parts_are_good_succeeds_and_says_where_it_ran(parts, page):
    parts(vit=("[below('steps', 0, '', 0)]", ""))
    assert on_cpu(page) == ""
    written = page.read_text()
    assert time.strftime("%Y-%m-%d") in written and f"torch {torch.__version__}" in written
    assert all(f"### {title}" in written for title in gpu.TITLES.values()) and "| <= 0  | yes |" in written


def test_some_parts_alone_leave_the_page_as_it_is(parts, page, capsys):
    parts(vit=("[measured('speed', 3.5, 'images/s')]", ""))
    before = page.read_bytes()
    assert on_cpu(page, "vit") == "" and page.read_bytes() == before
    assert "3.5 images/s" in capsys.readouterr().out
    assert "no part nothing" in on_cpu(page, "nothing")


def test_all_parts_together_have_ten_minutes_and_are_on_the_page():
    assert sum(gpu.LIMITS.values()) <= 585 and gpu.LIMITS.keys() == gpu.TITLES.keys()
    text = gpu.PAGE.read_text()
    assert all(f"`{name}`" in text for name in gpu.LIMITS)
    results = text.partition(f"<!-- {gpu.MARK} -->\n")[2].partition("<!-- end -->")[0]
    dated = re.match(r"\d{4}-\d\d-\d\d, on \d+ x ", results) and f"### {gpu.TITLES['bf16']}" in results
    assert results == "It has not run on a GPU yet.\n" or dated


@pytest.fixture
def check(zygote, tmp_path):
    return gpu_runs.Check("cpu", tmp_path, small=True, start=zygote.run, together=1)


def test_a_recipe_is_killed_and_resumes_in_the_same_bits(check):
    (row,) = gpu_runs.recipe_rows(replace(check, recipes=["supervised"]), "none")
    assert row.met and row.ours == row.reference == 0 and "(0 of" in row.what, row
    whole, other, killed = (check.folder / "supervised-none" / name for name in ("one", "other", "killed"))
    assert (killed / "run.log").read_text().count(", selftrain ") > (whole / "run.log").read_text().count(
        ", selftrain "
    )
    weights = (
        other / "gen0/model/model.safetensors"
    )  # a difference is seen, and on a GPU compared with that of whole runs
    tensors = {
        name: one * 1.01 if one.is_floating_point() else one for name, one in load_file(weights).items()
    }
    save_file(tensors, weights)
    assert gpu_runs.difference(whole, other) == pytest.approx(0.01, rel=1e-4)
    assert not gpu_runs.difference_row("", whole, whole, other, exact=True).met
    assert not gpu_runs.difference_row("", whole, whole, other, exact=False).met
    assert gpu_runs.difference_row("", whole, other, other, exact=False).met


def test_a_recipe_that_fails_has_a_row_with_the_reason(check):
    (row,) = gpu_runs.recipe_rows(replace(check, recipes=["nothing"]), "none")
    assert not row.met and row.ours == 2 and "nothing" in row.what
    with pytest.raises(gpu_runs.SkippedError):
        list(gpu_runs.recipe_rows(check, "fp16"))


def test_the_scale_of_fp16_must_be_saved_and_steps_taken(tmp_path):
    (tmp_path / "gen0").mkdir()
    (tmp_path / "gen0" / "report.json").write_text(json.dumps({"skipped_steps": 7, "steps": 8}))
    assert [row.met for row in gpu_runs.scaler_rows("", tmp_path, {"scaler": None})] == [False, False]
    (tmp_path / "gen0" / "report.json").write_text(json.dumps({"skipped_steps": 2, "steps": 8}))
    assert all(row.met for row in gpu_runs.scaler_rows("", tmp_path, {"scaler": {"scale": 1024.0}}))


def test_evaluations_that_differ_miss_their_goals(tmp_path):
    samples = pictures.draw(tmp_path / "drawn", 1, size=gpu_speed.SMALL)
    network = labelling.network().eval()
    cpu = torch.device("cpu")
    ours, reference = (gpu_speed.predictor_of(labelling.build_copy(network), cpu) for _ in range(2))
    rows = gpu_speed.parity("", ours, reference, samples, 0.1, 0.001)
    assert [row.ours for row in rows] == [0, 0, 0] and all(row.met for row in rows)
    with torch.no_grad():
        list(ours.networks[0].parameters())[-1].add_(torch.arange(pictures.CLASSES) * 10.0)
    pixels, miou, largest = gpu_speed.parity("", ours, reference, samples, 0.1, 0.001)
    assert not pixels.met and not miou.met and largest.ours > 0.5


def test_a_part_that_measures_writes_its_rows(zygote, tmp_path):
    found = tmp_path / "rows.jsonl"
    words = ["labelling", "--device", "cpu", "--small", "--found", str(found)]
    ended = zygote.run(*words, door=str(ROOT / "benchmarks" / "gpu.py"))
    assert ended.code == 0, ended.err
    rows = {row["what"]: row["ours"] for row in map(json.loads, found.read_text().splitlines())}
    assert all(value > 0 and np.isfinite(value) for value in rows.values())
    assert rows["labelling, network: 12 views"] > rows["labelling, data: reading"]
    assert {"labelling with 12 views, with the CRF", "labelling with 12 views, without the CRF"} < rows.keys()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_whole_check_runs_on_a_cpu(page, monkeypatch):
    monkeypatch.setattr(gpu, "LIMITS", dict.fromkeys(gpu.LIMITS, 240))  # the machine may do other work
    assert on_cpu(page, "--recipes", "supervised") == ""
    written = page.read_text()
    assert (
        "Skipped: fp16 needs a GPU." in written
        and "supervised, bf16: weights after kill and resume (0 of" in written
    )
    assert "2 ranks of 1 thread" in written and "million" in written
