"""`selftrain folds`: a run for each fold, what they say together, and their leaders as one network."""

import json
import shutil
import signal
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from runs import SMOKE, fingerprint
from selftrain.data.load import load
from selftrain.datasets import spec_of
from selftrain.errors import ConfigError
from selftrain.fold_settings import Asked, asked
from selftrain.folds import _configs, _finished, _out_of_fold
from selftrain.inference.exported import load_export, predictor_of
from selftrain.models import saved
from selftrain.models.build import build
from selftrain.models.ensemble import joined
from selftrain.scores import confusion, miou
from selftrain.settings import compose, stored
from selftrain.settings.tree import changed
from selftrain.several import Home, train_all

TINY = [
    *SMOKE, "model.encoder=tu-test_resnet", "data.size=[32,32]", "train.crop=[32,32]", "train.steps=3",
    "data.shapes.labelled=5", "data.shapes.unlabelled=4", "data.shapes.val=1", "data.shapes.test=2",
    "labels.refiner=none", "train.eval_every=1", "k=2",
]  # fmt: skip
KILLED = {"do": "kill", "at": ["rename", "fold1/gen0/.model.tmp"]}


@pytest.fixture(scope="module")
def whole(zygote, tmp_path_factory):
    out = tmp_path_factory.mktemp("folds") / "all"
    ended = zygote.run("folds", *TINY, f"out={out}", door="cli")
    assert ended.code == 0, ended.err
    return SimpleNamespace(out=out, said=ended.out, report=json.loads((out / "report.json").read_text()))


def test_folds_are_runs_that_have_not_seen_their_val_and_read_no_test(whole):
    seen = []
    for fold, row in enumerate(whole.report["folds"]):
        run = whole.out / row["run"]
        data, report = (json.loads((run / name).read_text()) for name in ("data.json", "report.json"))
        assert yaml.safe_load((run / "config.yaml").read_text())["data"]["splits"]["fold"] == [fold, 2]
        assert report["test"] is None and report["teacher_test"] is None and row["test"] is None
        assert row["images"] == len(data["val"]) and len(data["labelled"]) + len(data["val"]) == 5
        assert row["val"] == report["generations"][row["generation"]]["val"]["miou"]
        assert [
            line for line in (run / "run.log").read_text().splitlines() if f"val is fold {1 - fold}" in line
        ] == []
        seen += [one["id"] for one in data["val"]]
    assert sorted(seen) == [f"labelled/{i:05d}" for i in range(5)]


def out_of_fold(whole, generation):
    """The mIoU of a generation over all labelled images, each predicted by the fold that has not seen it."""
    counts = 0
    for row in whole.report["folds"]:
        cfg = stored(whole.out / row["run"] / "config.yaml", [])
        _, card = load_export(whole.out / row["run"] / "export")
        network = saved.read(whole.out / row["run"] / f"gen{generation}" / "model").network
        predictor, data = predictor_of(network.eval(), card), load(spec_of(cfg.data))
        for sample in data.val:
            counts = counts + confusion(predictor.labels(sample.read_image()[None])[0], sample.read_mask(), 6)
    return miou(counts)


def test_all_labelled_images_choose_the_generation_that_leads_in_all_folds(whole):
    rows = whole.report["generations"]
    assert len(rows) == 2 and rows[0]["promoted"]
    for number, row in enumerate(rows):
        assert row["miou"] == pytest.approx(out_of_fold(whole, number), abs=0.01)  # the run is in bf16
        assert f"generation {number}, out of fold: {row['miou']:.4f}" in whole.said
    chosen = max(number for number, row in enumerate(rows) if row["promoted"])
    assert [row["generation"] for row in whole.report["folds"]] == [chosen, chosen]
    assert whole.report["out_of_fold"]["miou"] == rows[chosen]["miou"] >= rows[0]["miou"]


def test_a_student_is_compared_with_the_single_networks_of_an_ensemble():
    """As in a run: the ensemble itself would keep nearly every student from leading."""
    one, other, student = (build("unet", "tu-test_resnet", classes=2) for _ in range(3))
    together = joined([one, other], [1.0, 1.0])
    known = {one: 0.48, other: 0.52, student: 0.55, together: 0.6}
    networks = SimpleNamespace(load=lambda number: ([together, student][number], ""))
    fold = SimpleNamespace(report={"generations": [{}, {}]}, networks=networks, val=[])
    session = SimpleNamespace(
        predictor=known.get,
        evaluated=lambda parts, stage: {"miou": np.mean([score for score, _ in parts]), "miou_without": []},
    )
    rows = _out_of_fold(session, [fold, fold])
    assert [row["val"]["miou"] for row in rows] == [0.6, 0.55]
    assert [row["promoted"] for row in rows] == [True, True]


def test_the_folds_are_summed_up(whole):
    scores = [row["val"] for row in whole.report["folds"]]
    assert whole.report["mean"] == pytest.approx(np.mean(scores))
    assert whole.report["spread"] == pytest.approx(np.std(scores, ddof=1))
    assert f"mean of 2 folds: {np.mean(scores):.4f} ± {np.std(scores, ddof=1):.4f}" in whole.said
    assert "mean nothing" not in whole.said and "debug" not in whole.report
    assert f"in one confusion matrix: {whole.report['out_of_fold']['miou']:.4f}" in whole.said


def test_the_leaders_of_all_folds_are_exported_as_one_network(whole):
    network, card = load_export(whole.out / "export")
    assert card["generation"] is None and card["folds"] == whole.report["folds"]
    assert "debug" not in card and card["metrics"] == {"val": whole.report["out_of_fold"], "test": None}
    leaders = [
        saved.read(whole.out / row["run"] / f"gen{row['generation']}" / "model").network
        for row in whole.report["folds"]
    ]
    images = torch.randn(2, 3, 32, 64)
    with torch.no_grad():
        each = [leader(images).softmax(dim=1) for leader in leaders]
        assert torch.allclose(network(images).softmax(dim=1), sum(each) / 2, atol=1e-5)


def test_networks_of_different_kinds_are_rebuilt_as_one(tmp_path):
    small, large = (build("unet", name, classes=2) for name in ("tu-test_resnet", "tu-test_efficientnet"))
    rows = [
        saved.describe(one, arch="unet", encoder=name, decoder_channels=[])
        for one, name in ((small, "tu-test_resnet"), (large, "tu-test_efficientnet"))
    ]
    together = joined([small, large], [1.0, 1.0]).eval()
    saved.write(tmp_path / "model", together, saved.describe_joined(together, rows), ["a", "b"])
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(saved.read(tmp_path / "model").network(images), together(images))


def test_a_stopped_fold_resumes_to_the_same_bits_and_a_finished_directory_is_left_alone(
    zygote, whole, tmp_path
):
    out = shutil.copytree(whole.out, tmp_path / "again")
    for name in ("report.json", "fold1/report.json"):
        (out / name).unlink()
    shutil.rmtree(out / "fold1" / "gen1")
    ended = zygote.run("folds", f"out={out}", door="cli")
    assert ended.code == 0 and f"{out / 'fold0'} is finished: nothing to do" in ended.out, ended.err
    _same(out, whole)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    ended = zygote.run("folds", f"out={out}", door="cli")
    assert ended.code == 0 and "mean of 2 folds" in ended.out
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.slow
def test_folds_that_were_killed_end_in_the_same_bits(zygote, whole, tmp_path):
    out = tmp_path / "again"
    ended = zygote.run("folds", *TINY, f"out={out}", door="cli", fault=KILLED)
    assert ended.code == -signal.SIGKILL and not (out / "report.json").exists()
    assert (out / "fold0/report.json").exists() and not (out / "fold1/report.json").exists()
    ended = zygote.run("folds", f"out={out}", door="cli")
    assert ended.code == 0, ended.err
    _same(out, whole)


def _same(out, whole):
    for name in ("fold0", "fold1"):
        assert fingerprint(out / name) == fingerprint(whole.out / name)
    assert json.loads((out / "report.json").read_text()) == whole.report


@pytest.mark.slow
def test_a_fold_of_the_directory_has_the_bits_of_a_run_of_its_own(run, whole, tmp_path):
    settings = [text for text in TINY if text != "k=2"]
    code, _, err = run(*settings, "test.read=never", "data.splits.fold=[1,2]", f"out={tmp_path}/run")
    assert code == 0, err
    assert fingerprint(tmp_path / "run") == fingerprint(whole.out / "fold1")


def test_a_report_without_a_later_generation_is_written_anew(tmp_path):
    """Folds may go on with generations.extra=1, and the new generation may lead."""

    def facts(number):
        return {"run": "fold0", "generation": number}

    home, shown = Home(tmp_path), [{"miou": 0.5, "promoted": True}] * 2
    rows = [{**facts(1), "test": None}, {**facts(1), "test": None}]
    home.report.write_text(json.dumps({"folds": rows, "generations": shown}))
    for count, known in ((2, True), (3, False)):
        fold = SimpleNamespace(report={"generations": [{}] * count}, facts=facts, tested=False)
        assert (_finished(home, [fold, fold]) is not None) == known


def test_test_is_read_when_it_is_asked_for(zygote, whole, tmp_path):
    out = shutil.copytree(whole.out, tmp_path / "asked")
    ended = zygote.run("folds", f"out={out}", "test.read=end", door="cli")
    assert ended.code == 0, ended.err
    report = json.loads((out / "report.json").read_text())
    for row in report["folds"]:
        own = json.loads((out / row["run"] / "report.json").read_text())
        same = row["generation"] == own["best"]
        assert row["test"] == own["test"]["miou"] if same else row["test"] is not None
    assert report["ensemble_test"]["miou"] is not None
    assert f"test mIoU of the ensemble: {report['ensemble_test']['miou']:.4f}" in ended.out
    assert report["out_of_fold"] == whole.report["out_of_fold"]
    assert report["val_and_test"] is None  # two runs are too few


def test_what_the_first_fold_decides_holds_for_all(tmp_path):
    cfg = compose(["recipe=smoke", "train.plan=auto", "data.splits.seed=3"])
    (tmp_path / "fold0").mkdir()
    begun = asdict(changed(cfg, {"data.size": [48, 48], "data.splits.fold": [0, 3]}))
    (tmp_path / "fold0" / "config.yaml").write_text(yaml.safe_dump(begun))
    names, configs = zip(*_configs(Asked(cfg, 3, Home(tmp_path))), strict=True)
    assert names == ("fold0", "fold1", "fold2")
    assert [one.data.splits.fold for one in configs] == [[0, 3], [1, 3], [2, 3]]
    assert [(one.train.plan, one.data.size) for one in configs] == [
        ("auto", cfg.data.size),
        *[("none", [48, 48])] * 2,
    ]
    assert {one.data.splits.seed for one in configs} == {3}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["k=1", "out=x"], "k=1 must be a number of folds"),
        (["k=two", "out=x"], "k=two must be a number"),
        (["data.splits.fold=[0,2]", "out=x"], r"data\.splits\.fold: selftrain folds sets it"),
        (["k=3"], "out is not set"),
    ],
)
def test_impossible_commands_are_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        asked(["recipe=smoke", *settings])


def test_the_directory_beside_a_data_file_is_named_after_it(tmp_path):
    (tmp_path / "mine.yaml").write_text("# @package _global_\ndata: {format: shapes}\n")
    found = asked([f"data={tmp_path}/mine.yaml", "recipe=smoke"])
    assert (found.number, str(found.home.path), found.config.test.read) == (5, "runs/mine-folds", "never")


def test_directories_of_other_runs_and_several_processes_are_refused(whole, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"was begun with \{'folds': 2\}, not \{'folds': 3\}"):
        Home(whole.out).settle({"folds": 3})
    with pytest.raises(ConfigError, match=r"has files but no runs\.json"):
        Home(whole.out / "fold0").settle({"folds": 2})
    (tmp_path / "some.txt").touch()
    (tmp_path / "fold0").mkdir()
    (tmp_path / "fold0" / "config.yaml").touch()  # a run of its own
    Home(tmp_path).settle({"folds": 2})
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="start each run with accelerate launch"):
        train_all(Home(tmp_path), [], lambda *_: None)
