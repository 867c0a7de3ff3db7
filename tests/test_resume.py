"""The real command, killed and started again, ends in the same bits as one that was not. Many more: tests/faults."""

import json
import signal

import pytest

from runs import SMOKE, fingerprint, kill_when, run_command
from selftrain import times


@pytest.fixture(scope="module")
def reference(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("reference") / "run"
    code, _, err = run(*SMOKE, f"out={out}")
    assert code == 0, err
    return out


@pytest.mark.parametrize(
    "places",
    [
        ["gen0/labels/shard-00000.safetensors"],
        pytest.param(
            ["gen0/checkpoints/step-000006", "gen0/labels/shard-00000.safetensors"], marks=pytest.mark.slow
        ),
    ],
    ids=["once", "twice"],
)
def test_a_killed_run_ends_in_the_same_bits_by_the_same_command(reference, tmp_path, places):
    out = tmp_path / "run"
    for place in places:
        assert kill_when(out / place, *SMOKE, f"out={out}") == -signal.SIGKILL
        assert not (out / "report.json").exists()
    code, _, err = run_command(*SMOKE, f"out={out}")
    assert code == 0, err
    assert fingerprint(out) == fingerprint(reference)


def test_training_images_are_watched_beside_val_and_the_time_of_each_stage_is_kept(reference):
    rows = [json.loads(line) for line in (reference / "metrics.jsonl").read_text().splitlines()]
    (row,) = (row for row in rows if row["stage"] == "gen1" and "val_miou" in row)
    assert row["step"] == 6 and 0 <= row["train_miou"] <= 1
    for split in ("train", "val"):
        ious = [value for name, value in row.items() if name.startswith(f"{split}_iou/")]
        assert row[f"{split}_miou"] == pytest.approx(sum(ious) / len(ious))
    report = json.loads((reference / "report.json").read_text())
    assert [g["train"]["images"] for g in report["generations"]] == [8, 8]
    stages = {row["stage"]: row["seconds"] for row in times.read(reference / "times.jsonl")}
    assert {"gen0 training", "gen0 labels", "gen1 training"} <= stages.keys() and min(stages.values()) > 0
    page = (reference / "report.html").read_text()
    assert all(
        f">{title}</h2>" in page for title in ("Confusion", "Time and cost", "Worst and best val images")
    )


def test_a_terminated_run_saves_at_once_says_so_and_resumes_to_the_same_bits(run, reference, tmp_path):
    out = tmp_path / "run"
    settings = [*SMOKE, f"out={out}", "train.checkpoint_every=1000"]
    assert kill_when(out / "metrics.jsonl", *settings, number=signal.SIGTERM) == 75
    saved = sorted(path.name for path in (out / "gen0" / "checkpoints").iterdir())
    assert len(saved) == 2 and saved[0] == "step-000000"
    code, _, err = run(*SMOKE, f"out={out}")
    assert code == 0, err
    ours, theirs = (
        {k: v for k, v in fingerprint(place).items() if "step-" not in k} for place in (out, reference)
    )
    assert ours == theirs


def test_the_same_command_after_the_end_writes_nothing(run, reference):
    def state():
        return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in reference.rglob("*")}

    before = state()
    code, said, _ = run(*SMOKE, f"out={reference}")
    assert code == 0 and "finished" in said and "test mIoU" in said
    assert state() == before
