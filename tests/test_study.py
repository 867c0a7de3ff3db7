"""The study's arithmetic and how it speaks to a run; the study itself takes hours."""

import importlib
import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from runs import ROOT
from selftrain.plan import plans
from selftrain.preflight import check
from selftrain.settings import compose

sys.path.insert(0, str(ROOT / "benchmarks"))
import ablation
import accuracy
import craft
import tuning
from accuracy import ALL, Cell, Study


@pytest.mark.parametrize("name", sorted(file.stem for file in (ROOT / "benchmarks").glob("*.py")))
def test_a_benchmark_finds_what_it_measures(name):
    importlib.import_module(name)


@pytest.mark.parametrize(
    ("questions", "column"), [(tuning.QUESTIONS, "nuclei-16"), (craft.ITEMS, "camvid-23")]
)
def test_every_variant_of_a_question_is_a_run_that_may_begin(questions, column):
    for variants in questions.values():
        names = {tuning.Cell(column, variant, 0).name for variant in variants.values()}
        assert len(names) == len(variants)
        for variant in variants.values():
            settings = [one for one in tuning.Cell(column, variant, 0).settings() if "package:" not in one]
            check(compose([*settings, "model.weights=null"]))


def finish(out, cell, miou, last=None):
    where = out / cell.name
    where.mkdir(parents=True)
    tests = {"test": {"miou": miou}, "exported_test": {"miou": last if last is not None else miou}}
    (where / "report.json").write_text(json.dumps({**tests, "seconds": 120.0}))


def test_gains_are_paired_by_seed_and_the_gap_is_that_of_the_same_seeds(tmp_path):
    for seed, (alone, ours, full) in enumerate([(0.2, 0.3, 0.6), (0.4, 0.4, 0.6)]):
        finish(tmp_path, Cell("camvid", 8, "supervised", seed), alone)
        finish(tmp_path, Cell("camvid", 8, "fixmatch", seed), ours)
        finish(tmp_path, Cell("camvid", ALL, "supervised", seed), full)
    study = Study(tmp_path, seeds=3)
    rows = study.table(["supervised", "fixmatch", "cps"], ["camvid-8"])
    assert rows[2:] == [
        "| camvid | all | supervised | 0.6000 ± 0.0000 (2) |  |  |  | 2.0 |",
        "| camvid | 8 | supervised | 0.3000 ± 0.1414 (2) |  |  |  | 2.0 |",
        "| camvid | 8 | fixmatch | 0.3500 ± 0.0707 (2) | 0.0500 ± 0.0707 (2) | 17% |  | 2.0 |",
    ]
    finish(tmp_path, Cell("camvid", 8, "st", 0), 0.2, last=0.1)
    assert (
        study.row("camvid", 8, "st")
        == "| camvid | 8 | st | 0.2000 (1) | 0.0000 (1) | 0% | 0.1000 (1) | 2.0 |"
    )
    study.plot(["supervised", "fixmatch"], ["camvid-8"], tmp_path / "plot.svg")
    assert "<svg" in (tmp_path / "plot.svg").read_text()


def test_what_another_machine_has_finished_is_known_and_goes_behind_a_run_of_ones_own(tmp_path):
    here, there, record = Cell("camvid", 8, "cps", 0), Cell("camvid", 8, "cps", 1), tmp_path / "results.json"
    accuracy.note(
        record,
        {here.name: {"test": 0.1, "last": 0.1}, there.name: {"test": 0.3, "last": 0.2, "minutes": 4.0}},
    )
    finish(tmp_path, here, 0.2)
    Study(tmp_path, seeds=3, record=record).keep()
    study = Study(tmp_path / "elsewhere", seeds=3, record=record)
    assert study.scores("camvid", 8, "cps") == {0: 0.2, 1: 0.3}
    assert [result.minutes for result in study.results("camvid", 8, "cps").values()] == [2.0, 4.0]
    assert len(record.read_text().splitlines()) == 4  # a line each


def test_each_seed_has_masks_of_its_own(tmp_path, monkeypatch):
    commands = []
    monkeypatch.setattr(
        accuracy.subprocess,
        "run",
        lambda command, **_: commands.append(command) or SimpleNamespace(returncode=0),
    )
    for seed in (0, 2):
        accuracy.run(
            {"camvid": tmp_path}, tmp_path / str(seed), Cell("camvid", 8, "fixmatch", seed), ["train.steps=9"]
        )
    configs = [compose(command[3:]) for command in commands]
    assert [(config.seed, config.data.splits.seed) for config in configs] == [(0, 0), (2, 2)]


def test_an_ablation_is_the_change_against_the_whole(tmp_path):
    finish(tmp_path, Cell("camvid", 8, "noisy_student", 0), 0.5, last=0.4)
    finish(tmp_path, Cell("camvid", 8, ablation.name_of("with CRF"), 0), 0.45)
    study, known = Study(tmp_path, seeds=3), {Cell("camvid", 8, ablation.name_of("with CRF"), 1).name: 0.01}
    found = ablation.changes(study, ["camvid-8"], known)
    rows = ablation.rows(study, ["camvid-8"], ["with CRF", "without TTA"], found)
    assert rows[2:] == [
        "| whole | 0.5000 (1) |",
        "| without promotion (the student, whatever val says) | -0.1000 (1) |",
        "| with CRF | -0.0200 ± 0.0424 (2) |",
    ]


def test_a_recipe_says_what_was_measured_last(tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("# @package _global_\n# Mine.\nrecipe: mine\n")
    for last in ([[0.3]], [[0.1]]):
        accuracy.expect(recipe, accuracy.expected([[0.1]], last))
    scores = f"{accuracy.EXPECTED}\n#   selected on val: 0.1000 (1)\n"
    assert recipe.read_text() == f"# @package _global_\n# Mine.\n{scores}recipe: mine\n"


def test_an_expected_number_says_when_val_chose_a_teacher():
    assert accuracy.expected([[0.1], [0.2]], [[0.1], [0.2]]) == [
        "#   selected on val: 0.1000 (1) and 0.2000 (1)"
    ]
    assert (
        accuracy.expected([[0.1], [0.2]], [[0.1], [0.3]])[1]
        == "#   last generation: 0.1000 (1) and 0.3000 (1)"
    )


@pytest.mark.parametrize("recipe", accuracy.RECIPES)
@pytest.mark.parametrize("data", accuracy.DATA)
def test_every_cell_is_a_possible_run_of_as_many_steps(recipe, data):
    settings = accuracy.settings(recipe, 1800)
    config = compose(
        [f"recipe={recipe}", *accuracy.DATA[data], *accuracy.SETTINGS, *settings, "data.root=/nowhere"]
    )
    check(config)
    assert sum(plan.steps for plan in plans(config)) == 1800
    assert {generation.encoder for generation in config.generations} == {None}


@pytest.mark.parametrize("variant", ablation.VARIANTS)
def test_every_variant_is_a_possible_run_that_differs_from_the_whole(variant):
    generations = accuracy.flagship(1000)
    whole = ["recipe=noisy_student", *accuracy.DATA["camvid"], *accuracy.SETTINGS, "data.root=/nowhere"]
    chosen = ablation.VARIANTS[variant]
    changed = chosen.generations(generations)
    one = compose([*whole, f"generations={accuracy.shown(generations)}"])
    other = compose([*whole, f"generations={accuracy.shown(changed)}", *chosen.overrides])
    check(other)
    assert one != other
    before = [
        (
            c.generations[:-1],
            c.train,
            replace(c.loss, pseudo={"kl": {"weight": 0.0, "temperature": 1.0}, "ce": {"weight": 1.0}}),
        )
        for c in (one, other)
    ]
    assert chosen.teacher == (before[0] == before[1])
    assert chosen.labels == (one.labels == other.labels)


def test_a_teacher_is_taken_over_without_the_student_and_without_labels_that_would_differ(tmp_path):
    whole = tmp_path / "whole"
    ablation.take_over(whole, tmp_path / "too early", labels=True)
    assert not (tmp_path / "too early").exists()
    of_generations = (f"gen1/{name}" for name in ("model/weights", "labels/index.json", "selection.json"))
    for name in (
        "report.json",
        "gen0/report.json",
        *of_generations,
        "gen2/report.json",
        "data.json",
        "metrics.jsonl",
    ):
        (whole / name).parent.mkdir(parents=True, exist_ok=True)
        (whole / name).write_text(name)
    for labels, expected in ((True, {"labels", "model"}), (False, {"model"})):
        where = tmp_path / f"variant-{labels}"
        ablation.take_over(whole, where, labels=labels)
        assert {path.name for path in (where / "gen1").iterdir()} == expected
        assert {path.name for path in where.iterdir()} == {"gen0", "gen1", "data.json", "metrics.jsonl"}


def test_a_finished_cell_keeps_no_checkpoints_and_a_stopped_one_all(tmp_path, monkeypatch):
    for code, kept in ((0, False), (75, True)):
        monkeypatch.setattr(
            accuracy.subprocess, "run", lambda command, code=code, **_: SimpleNamespace(returncode=code)
        )
        where = tmp_path / str(code)
        (where / "gen0" / "checkpoints" / "step-000009").mkdir(parents=True)
        (where / "gen0" / "model").mkdir()
        accuracy.run({"camvid": tmp_path}, where, Cell("camvid", 8, "fixmatch", 0), [])
        assert (where / "gen0" / "model").exists() and (where / "gen0" / "checkpoints").exists() == kept


def test_what_is_recorded_is_not_run_again_unless_asked_for_and_then_with_what_it_is_compared_with(
    tmp_path, monkeypatch
):
    known = accuracy.cells(["supervised", "fixmatch"], ["camvid-8"], 1)
    accuracy.note(tmp_path / "results.json", {cell.name: {"test": 0.3, "last": 0.3} for cell in known})
    monkeypatch.setattr(accuracy, "RECORD", tmp_path / "results.json")
    ran = []
    monkeypatch.setattr(accuracy, "run", lambda roots, where, cell, overrides: ran.append(cell))
    command = [
        "accuracy.py",
        "--camvid",
        str(tmp_path),
        "--out",
        str(tmp_path / "out"),
        "--columns",
        "camvid-8",
        "--seeds",
        "1",
    ]
    for recipes, more, expected in (
        (["fixmatch"], [], []),
        (["fixmatch", "cps"], [], [Cell("camvid", 8, "cps", 0)]),
        (["fixmatch"], ["--again"], known),
    ):
        ran.clear()
        monkeypatch.setattr(sys, "argv", [*command, "--recipes", *recipes, *more])
        accuracy.main()
        assert sorted(ran) == sorted(expected)
