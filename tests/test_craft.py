"""Losses, schedules, Lookahead, SWA and early stopping together: they act in a run, and a killed run resumes."""

import json
import signal

import pytest

from runs import SMOKE, fingerprint, kill_when, run_command
from selftrain.files import read_yaml
from selftrain.optim.schedules import waited

ALL = [
    *SMOKE, "train.eval_every=2", "train.patience=1", "train.checkpoint_every=1", "train.lookahead=2",
    "train.schedule={restarts: {first: 0.2, grow: 2, floor: 0.1}}",
    "train.average={swa: {start: 0.25, period: 2, lr: 0.5}}",
    "loss.labelled={ce: 0.2, focal: 0.2, jaccard: 0.2, tversky: {weight: 0.2, exponent: 0.75}, lovasz: 0.2, boundary: 0.01}",
    "loss.pseudo={kl: 0.5, focal: 0.2, jaccard: 0.2, tversky: 0.2, lovasz: 0.2, boundary: 0.01}",
    "loss.class_weights={disc: 2}", "loss.distill={kl: {weight: 0.5, temperature: 2}}",
]  # fmt: skip


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("craft") / "run"
    code, _, err = run(*ALL, f"out={out}")
    assert code == 0, err
    return out


def test_each_generation_ends_at_the_first_evaluation_that_is_no_new_best(whole):
    rows = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    report = json.loads((whole / "report.json").read_text())
    ended = []
    for row in report["generations"]:
        scores = {one["step"]: one["val_miou"] for one in rows if one["stage"] == f"gen{row['generation']}" and "val_miou" in one}  # fmt: skip
        seen = list(scores.values())
        early = [step for i, step in enumerate(scores) if waited(seen[: i + 1]) >= 1]
        assert row["steps"] == (early[0] if early else 12) and len(early) <= 1
        ended.append(row["steps"])
    assert min(ended) < 12


def test_the_settings_of_the_entries_are_recorded(whole):
    known = read_yaml(whole / "config.yaml", "train", "loss")
    assert known["train"]["average"] == {"swa": {"start": 0.25, "period": 2, "lr": 0.5}}
    assert known["loss"]["labelled"]["boundary"] == {"weight": 0.01}


def test_students_learn_from_their_teachers_labels_of_labelled_images(run, tmp_path):
    out = tmp_path / "run"
    code, _, err = run(*SMOKE, "loss.distill={kl: {weight: 0.5}}", f"out={out}")
    assert code == 0, err
    assert json.loads((out / "gen0" / "taught" / "index.json").read_text())["count"] == 8
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    losses = {
        stage: [row for row in rows if row["stage"] == stage and "loss" in row] for stage in ("gen0", "gen1")
    }
    assert losses["gen0"] and not any("distill_loss" in row for row in losses["gen0"])
    assert losses["gen1"] and all(row["distill_loss"] > 0 for row in losses["gen1"])


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_bits(whole, tmp_path):
    out = tmp_path / "run"
    places = (
        "gen0/checkpoints/step-000003",
        "gen0/taught/shard-00000.safetensors",
        "gen1/checkpoints/step-000001",
    )
    for place in places:
        assert kill_when(out / place, *ALL, f"out={out}") == -signal.SIGKILL
    code, _, err = run_command(*ALL, f"out={out}")
    assert code == 0, err
    assert fingerprint(out) == fingerprint(whole)
