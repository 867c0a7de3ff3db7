"""`selftrain sweep`: settings compared on val, each trial a run of its own that never reads test."""

import json
import shlex
import shutil
import sys
from types import SimpleNamespace

import pytest
import yaml

from runs import SMOKE, fingerprint
from selftrain import several, sweep
from selftrain.errors import ConfigError, LearningError, StorageError
from selftrain.run import settings_of
from selftrain.several import Home, train_all
from selftrain.sweep import Asked, Interval, asked

TINY = [
    *SMOKE, "model.encoder=tu-test_resnet", "train.steps=3", "data.shapes.labelled=4", "data.shapes.unlabelled=0",
    "data.shapes.val=2", "data.shapes.test=2", "generations=[{}]", "train.eval_every=0", "train.watch=0",
    "train.statistics=0",
]  # fmt: skip
VARIED = "train.lr=0.001,0.01"


@pytest.fixture(scope="module")
def whole(zygote, tmp_path_factory):
    out = tmp_path_factory.mktemp("sweep") / "lr"
    ended = zygote.run("sweep", *TINY, VARIED, f"out={out}", door="cli")
    assert ended.code == 0, ended.err
    return SimpleNamespace(out=out, said=ended.out, report=json.loads((out / "report.json").read_text()))


def rows_of(out):
    return json.loads((out / "sweep.json").read_text())["rows"]


def test_each_trial_is_a_run_that_reads_no_test(whole):
    rows = rows_of(whole.out)
    assert [row["settings"] for row in rows] == [{"train.lr": "0.001"}, {"train.lr": "0.01"}]
    for row, lr in zip(rows, (0.001, 0.01), strict=True):
        run = whole.out / row["run"]
        report = json.loads((run / "report.json").read_text())
        settings = yaml.safe_load((run / "config.yaml").read_text())
        assert settings["train"]["lr"] == lr and settings["test"]["read"] == "never"
        assert report["test"] is report["teacher_test"] is report["exported_test"] is None
        assert row["val"] == report["generations"][report["best"]]["val"]["miou"]


def test_a_table_on_val_is_printed_with_the_command_of_the_best_setting(whole):
    best, other = whole.report["trials"]
    assert best["val"] >= other["val"] and whole.report["best"] == best["run"]
    assert (
        f"{best['val']:.4f}" in whole.said
        and f"{other['val'] - best['val']:+.4f} ±".replace("-", "−") in whole.said
    )
    assert whole.report["command"] in whole.said
    words = shlex.split(whole.report["command"])
    config = settings_of(words[2:])
    assert words[:2] == ["selftrain", "train"] and config.train.lr == float(best["settings"]["train.lr"])
    assert config.out == f"{whole.out}-best" and config.test.read == "end"


def test_a_killed_sweep_resumes_and_finished_trials_are_not_run_again(zygote, whole, tmp_path):
    out = shutil.copytree(whole.out, tmp_path / "again")
    sheet = json.loads((out / "sweep.json").read_text())
    del sheet["rows"][1]["val"]
    (out / "sweep.json").write_text(json.dumps(sheet))
    for name in ("report.json", "trial1/report.json", "trial1/gen0/report.json"):
        (out / name).unlink()
    before = {path: path.stat().st_mtime_ns for path in (out / "trial0").rglob("*")}
    ended = zygote.run("sweep", f"out={out}", door="cli")
    assert ended.code == 0 and "trial0: train.lr=0.001: finished before" in ended.out, ended.err
    assert {path: path.stat().st_mtime_ns for path in (out / "trial0").rglob("*")} == before
    assert fingerprint(out / "trial1") == fingerprint(whole.out / "trial1")
    assert rows_of(out) == rows_of(whole.out)


def test_compare_reads_a_sweep_with_the_best_trial_first(zygote, whole, tmp_path):
    ended = zygote.run("compare", str(whole.out), "-o", str(tmp_path / "page.html"), door="cli")
    assert ended.code == 0, ended.err
    best, other = (ended.out.index(row["run"]) for row in whole.report["trials"])
    assert best < other and "train.lr" in ended.out


@pytest.mark.slow
def test_a_search_proposes_from_the_scores_so_far(zygote, whole, tmp_path):
    pytest.importorskip("optuna")
    out, varied = tmp_path / "search", "train.lr=log:0.0001..0.01"
    first = zygote.run("sweep", *TINY, varied, f"out={out}", "--trials", "2", door="cli")
    assert first.code == 0, first.err
    begun = rows_of(out)
    ended = zygote.run("sweep", f"out={out}", "--trials", "3", door="cli")
    assert ended.code == 0 and rows_of(out)[:2] == begun and len(rows_of(out)) == 3, ended.err


def search(rows=(), seed=0, **axes):
    axes = axes or {"train.lr": Interval(1e-4, 1e-2, log=True, whole=False), "loss.balance": ("0", "0.5")}
    return sweep._proposed(Asked([f"seed={seed}", "recipe=smoke"], axes, Home(None), 9), rows)


def test_proposals_are_a_function_of_the_seed_and_of_the_trials_so_far():
    pytest.importorskip("optuna")
    first = search()
    assert 1e-4 <= float(first["train.lr"]) <= 1e-2 and first["loss.balance"] in ("0", "0.5")
    assert search() == first and search(seed=1) != first
    rows = [
        {"run": "trial0", "settings": first, "val": 0.5},
        {"run": "trial1", "settings": first, "failed": "no"},
    ]
    assert search(rows) == search(rows) != first
    whole = {"train.steps": Interval(10, 12, log=False, whole=True)}
    assert search(**whole)["train.steps"] in ("10", "11", "12")


def test_a_search_without_optuna_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"pip install 'selftrain\[sweep\]'"):
        search()


def test_what_varies_is_written_between_commas_or_as_a_range():
    words = ["train.crop=[64,64],[32,32]", "train.schedule=poly,{restarts: {first: 0.2}}", "data.classes=a,b"]
    found = asked([*words, "train.steps=10..20", "loss.balance=0..1", "out=x"], trials=3)
    assert found.axes == {
        "train.crop": ("[64,64]", "[32,32]"),
        "train.schedule": ("poly", "{restarts: {first: 0.2}}"),
        "train.steps": Interval(10, 20, log=False, whole=True),
        "loss.balance": Interval(0, 1, log=False, whole=False),
    }
    assert found.words == ["data.classes=a,b"] and found.count == 3
    assert asked(["train.lr=1,2", "loss.balance=0,0.5,1", "out=x"]).count == 6


@pytest.mark.parametrize(
    ("words", "trials", "said"),
    [
        (["train.lr=0.1"], None, "nothing varies"),
        (["train.lr=0.1,0.2", "test.read=end"], None, "never reads the test set"),
        (["data=shapes,camvid"], None, "data cannot vary"),
        (["train.lr=log:0.1..0.2"], None, "a range needs --trials"),
        (["train.lr=log:0..0.2"], 4, "from less to more, both above 0"),
        (["train.lr=0.1,0.1"], None, "a value twice"),
        (["train.lr=0.1,fast"], None, "train.lr=fast: expected a number"),
        (["train.lr=0.1,0.2"], 0, "--trials 0"),
    ],
)
def test_impossible_sweeps_are_refused(words, trials, said):
    with pytest.raises(ConfigError, match=said):
        asked(["recipe=smoke", "out=x", *words], trials=trials)


def test_a_grid_with_an_impossible_combination_is_refused_before_the_first_trial(tmp_path):
    words = ["recipe=smoke", "train.schedule=cosine,sunny", f"out={tmp_path / 'sweep'}"]
    with pytest.raises(ConfigError, match=r"train\.schedule: there is no 'sunny'"):
        sweep.run(asked(words))
    assert not (tmp_path / "sweep").exists()


def test_settings_that_a_plan_decides_are_decided_by_the_first_trial(tmp_path):
    found = asked(["recipe=smoke", "train.plan=auto", VARIED, f"out={tmp_path}"])
    (tmp_path / "trial0").mkdir()
    rows = [
        {"name": "data.size", "value": ["longest", 96], "reason": ""},
        {"name": "train.lr", "value": 1, "reason": ""},
    ]
    (tmp_path / "trial0" / "plan.json").write_text(json.dumps({"settings": rows}))
    sweep._keep(found, [{"run": "trial0", "settings": {"train.lr": "0.001"}}])
    first, second = (sweep._config(found, {"train.lr": lr}) for lr in ("0.001", "0.01"))
    assert first.train.plan == "auto" and (second.train.plan, second.data.size) == ("none", ["longest", 96])
    assert second.train.lr == 0.01


def test_a_trial_that_cannot_learn_does_not_end_the_others(tmp_path, monkeypatch):
    errors, seen = {"b": LearningError("no finite gradients"), "d": StorageError("disk full")}, []

    def launch(config, then):
        name = config.out.rpartition("/")[2]
        if name in errors:
            raise errors[name]
        then(None, {})

    monkeypatch.setattr(several, "launch", launch)
    configs = [(name, SimpleNamespace(out="")) for name in "abcd"]
    with pytest.raises(StorageError):
        train_all(
            Home(tmp_path),
            configs,
            lambda name, *_: seen.append(name),
            lambda name, error: seen.append(error),
        )
    assert seen == ["a", errors["b"], "c"]
    with pytest.raises(LearningError):
        train_all(Home(tmp_path), configs, lambda *_: None)
