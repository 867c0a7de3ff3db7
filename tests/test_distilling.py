"""Networks of one training that are averaged, and one network that is distilled from the exported ensemble."""

import json
import shutil

import pytest
import torch

from runs import SMALL, fingerprint
from selftrain.diagnosis import brief
from selftrain.errors import ConfigError
from selftrain.files import read_json
from selftrain.inference.exported import load_export
from selftrain.labels.store import LabelStore
from selftrain.models import saved
from selftrain.plan import plans, student
from selftrain.preflight.settings import check
from selftrain.scores import gain
from selftrain.settings import compose

OWN = [
    *SMALL, "recipe=supervised", "train.steps=4", "train.eval_every=2", "train.checkpoint_every=1",
    "model.encoder=tu-resnet10t", "model.decoder_channels=[8,8]", "keep_checkpoints=true",
    "labels.refiner=none", "train.statistics=2",
]  # fmt: skip
EPOCHS = [*OWN, "generations.0.members={epochs: {number: 3, last: 0.75, weights: [1, 1, 2]}}"]
DISTILLED = [*EPOCHS, "export.distill=true"]


def planned(*settings):
    return plans(compose(["recipe=supervised", *settings]))[0]


def test_moments_are_evenly_spread_over_the_last_part_of_the_steps():
    plan = planned("train.steps=100", "generations.0.members={epochs: {number: 3, last: 0.3}}")
    assert plan.moments == [80, 90] and plan.zooms == [1.0] * 3 and len(plan.each) == 1
    assert planned("train.steps=100", "generations.0.members={epochs: 1}").members.several is False


def test_moments_of_cycles_are_the_ends_of_the_last_whole_cycles():
    third = "train.schedule={restarts: {first: 0.25, grow: 1}}"
    plan = planned("train.steps=90", "train.warmup=10", third, "generations.0.members={cycles: 3}")
    assert plan.moments == [50, 70]  # cycles end after 30, 50, 70 and 90 steps


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["generations.0.members={cycles: 2}"], "train.schedule=cosine has none"),
        (["generations.0.members={cycles: 5}", "train.schedule=restarts"], "has 4 whole cycles"),
        (
            ["generations.0.members={cycles: 2}", "train.schedule={restarts: {first: 0.4}}"],
            "ends after 80% of the steps",
        ),
        (["generations.0.members={epochs: 3}", "train.steps=2"], "2 steps are too few for 3"),
        (["generations.0.members={seeds: {number: 2, weights: [1, 2, 3]}}"], "each of the 2 networks, not 3"),
        (["generations.0.members={seeds: {number: 2, weights: [1, 0]}}"], "must be positive"),
        (["generations.0.members={epochs: 2}", "train.patience=1"], "set it to 0"),
        (["export.distill=true"], "no generation that may be exported has several networks"),
    ],
)
def test_members_that_cannot_be_are_refused_with_the_reason(settings, said):
    with pytest.raises(ConfigError, match=said):
        check(compose(["recipe=supervised", "model.weights=null", "data.root=x", *settings]))


def test_a_gain_is_the_difference_with_a_paired_jackknife_error():
    ours = {"miou": 0.6, "miou_without": [0.5, 0.7]}
    assert gain(ours, {"miou": 0.5, "miou_without": [0.4, 0.6]}) == {"miou": pytest.approx(0.1), "error": pytest.approx(0)}  # fmt: skip
    assert gain(ours, {"miou": 0.5, "miou_without": [0.6, 0.4]})["error"] == pytest.approx(0.2)


def test_a_student_is_one_network_with_the_settings_of_its_teacher():
    members = "generations.0.members={seeds: {number: 2, zooms: [1.5]}}"
    cfg = compose(["recipe=unimatch_v2", members, "train.crop=[64,64]"])
    own = student(cfg, 0, unlabelled=True)
    assert own.name == "gen0.student" and own.online == "" and not own.members.several and own.needs_labels
    assert own.select.confidence == 0.0 and own.augmentation.unlabelled.crop == (64, 64)
    assert own.unlabelled_batch == cfg.train.unlabelled_batch
    assert student(cfg, 0, unlabelled=False).unlabelled_batch == 0
    for number, expected in ((3, 3), (0, cfg.train.unlabelled_batch)):
        cfg.generations[0].unlabelled_batch = number
        assert student(cfg, 0, unlabelled=True).unlabelled_batch == expected


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("distilled") / "run"
    code, _, err = run(*DISTILLED, f"out={out}")
    assert code == 0, err
    return out


def test_averaged_weights_of_one_training_are_networks_of_an_ensemble(whole):
    row = read_json(whole / "report.json")["generations"][0]
    assert row["model"]["members"] == [1.0] * 3 and row["model"]["member_weights"] == [1.0, 1.0, 2.0]
    assert [one.get("steps") for one in row["members"]] == [2, 3, None] and row["steps"] == 4
    for one in row["members"]:
        assert one["gain"] == gain(row["val"], one["val"])
    together = saved.read(whole / "gen0" / "model").network
    last = saved.read(whole / "gen0" / "members" / "0" / "model").network
    images = torch.randn(1, 3, 32, 32)
    probs = [one(images).softmax(1).detach() for one in together.members]
    assert torch.equal(probs[2], last(images).softmax(1)) and not torch.equal(probs[0], probs[1])
    assert torch.allclose(together(images).exp(), (probs[0] + probs[1] + 2 * probs[2]) / 4, atol=1e-6)
    page = (whole / "report.html").read_text()
    assert "All together: more by" in page and "50.0%" in page


def test_the_exported_ensemble_has_a_student_that_is_exported_as_well(whole):
    report = read_json(whole / "report.json")["student"]
    _, card = load_export(whole / "export")
    network, own = load_export(whole / "gen0" / "student" / "export")
    assert card["network"] == "an ensemble of 3 networks"
    assert own["network"] == "one network, distilled from an ensemble of 3"
    assert "members" not in own["model"] and own["metrics"]["test"] == brief(report["test"])
    assert 3 * own["model"]["params"] == card["model"]["params"]
    assert torch.isfinite(network(torch.randn(1, 3, 32, 32))).all()
    rows = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    losses = [row for row in rows if row["stage"] == "gen0.student" and "loss" in row]
    assert losses and all(row["distill_loss"] > 0 and row["pseudo_loss"] > 0 for row in losses)
    # the teacher's labels of all images, labelled ones included
    assert (
        LabelStore(whole / "gen0" / "labels").index.teacher
        == LabelStore(whole / "gen0" / "taught").index.teacher
    )
    assert "The exported ensemble has a student" in (whole / "report.html").read_text()


def test_it_resumes_within_the_training_and_within_the_student_to_the_same_bits(run, whole, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    gen, first = out / "gen0", out / "gen0" / "members" / "0"
    for home in (gen, first, gen / "student"):
        (home / "report.json").unlink()
    (out / "report.json").unlink()
    for folder in (gen / "model", gen / "labels", gen / "taught", gen / "student" / "model"):
        shutil.rmtree(folder)
    for home in (first, gen / "student"):
        shutil.rmtree(home / "checkpoints" / "step-000004")
        assert (home / "checkpoints" / "step-000003").is_dir()
    code, _, err = run(*DISTILLED, f"out={out}")
    assert code == 0, err
    again, before = fingerprint(out), fingerprint(whole)
    del again["metrics.jsonl"], before["metrics.jsonl"]  # two stages went on, so their rows are interleaved
    assert again == before
    rows = [sorted((path / "metrics.jsonl").read_text().splitlines()) for path in (out, whole)]
    assert rows[0] == rows[1]


@pytest.mark.slow
def test_a_finished_run_takes_a_student_later(run, whole, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    shutil.rmtree(out / "gen0" / "student")
    config = (out / "config.yaml").read_text()
    (out / "config.yaml").write_text(config.replace("distill: true", "distill: false"))
    code, _, err = run(*DISTILLED, f"out={out}")
    assert code == 0, err
    theirs = (whole / "gen0" / "student" / "model" / "model.safetensors").read_bytes()
    assert (out / "gen0" / "student" / "model" / "model.safetensors").read_bytes() == theirs
