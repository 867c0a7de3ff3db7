"""A whole run that tunes everything on val."""

import json
import shutil
from contextlib import nullcontext

import pytest

from runs import SMALL, SMOKE, fingerprint
from selftrain.errors import ConfigError
from selftrain.inference.exported import load_export, predictor_of
from selftrain.models import saved
from selftrain.preflight import check, check_data, recorded_data
from selftrain.rundir import RunDir
from selftrain.settings import compose

EVERY = ["predict.decision=thresholds", "predict.refine=crf", "select.decision=tuned"]
RUN = [
    *SMOKE,
    "data.shapes={labelled: 8, unlabelled: 8, val: 20, test: 4}",
    "generations.0.members={seeds: 2}",
    "predict.average=fitted",
    "predict.views={product: {hflip: true}}",
    *EVERY,
    "train.eval_every=0",
]


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("tuned") / "run"
    code, said, err = run(*RUN, f"out={out}")
    assert code == 0, err
    return out, said + err


def test_reports_state_the_plain_and_the_crossfitted_score(whole):
    out, said = whole
    rows = json.loads((out / "report.json").read_text())["generations"]
    for row in rows:
        plain, steps = row["tuned"]["plain"]["miou"], row["tuned"]["steps"]
        scores = [plain, *(step["cross_fitted"] for step in steps if step["kept"])]
        assert steps[0]["before"] == plain and scores == sorted(scores) and row["val"]["miou"] == scores[-1]
    assert [step["setting"] for step in rows[0]["tuned"]["steps"]] == [
        "predict.average of networks",
        "predict.average of views",
        "predict.refine",
        "predict.decision",
    ]
    assert len(rows[1]["tuned"]["steps"]) == 3  # a single network has no weights
    line = f"{rows[0]['tuned']['steps'][3]['cross_fitted']:.4f} cross-fitted"
    assert line in said.replace("\n", " ") and line in (out / "report.html").read_text()


def test_the_export_has_what_was_tuned_for_its_generation(whole):
    out, _ = whole
    report = json.loads((out / "report.json").read_text())
    network, card = load_export(out / "export")
    row = report["generations"][report["exported"]]
    values = row["tuned"]["values"]
    assert card["decision"]["thresholds"]["each"] == values.get("thresholds", [])
    assert (card["refine"] or {}).get("crf") == values.get("crf")
    assert row["model"].get("member_weights", []) == values.get("members", [])
    assert card["views"]["product"]["weights"] == values.get("views", [])
    asked = predictor_of(network, card)
    assert (asked.refiner is not None) == ("crf" in values)


def test_fitted_weights_are_part_of_the_kept_network(whole):
    out, _ = whole
    first = json.loads((out / "gen0" / "report.json").read_text())
    kept = saved.read(out / "gen0" / "model").network
    assert kept.weights == first["tuned"]["values"].get("members", [])


def test_what_is_tuned_is_the_same_after_a_kill(whole, run, tmp_path):
    out, _ = whole
    before = fingerprint(out)
    again = tmp_path / "run"
    shutil.copytree(out, again)
    for path in ("report.json", "gen0/report.json", "gen0/model", "gen0/labels", "gen1", "export"):
        place = again / path
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    code, _, err = run(*RUN, f"out={again}")
    assert code == 0, err
    assert fingerprint(again) == before


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["predict.average=fitted"], "several networks or views"),
        (["select.decision=tuned"], "set predict.decision=thresholds"),
        (["select.decision=tuned", "predict.decision={thresholds: {each: [0.5, 0.5]}}"], "none are tuned"),
        (["predict.refine=crf", "data.channels=4"], "takes grey images and RGB"),
    ],
)
def test_tuning_that_cannot_act_is_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        check(compose(["recipe=supervised", *settings]))


def test_given_thresholds_are_as_many_as_the_classes(tmp_path):
    for each, wrong in (([0.1] * 6, False), ([0.5, 0.5], True)):
        cfg = compose([*SMALL, f"predict.decision={{thresholds: {{each: {each}}}}}"])
        data = recorded_data(RunDir(tmp_path), cfg)
        with pytest.raises(ConfigError, match="each of the 6 classes") if wrong else nullcontext():
            check_data(data, cfg)
