"""A run that is killed and started again ends in the same bits as one that was not."""

import shutil
import signal

import pytest
from runs import SMOKE, fingerprint, kill_when, run


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    out = tmp_path_factory.mktemp("reference") / "run"
    code, _, err = run(*SMOKE, f"out={out}")
    assert code == 0, err
    return out


@pytest.mark.parametrize(
    "places",
    [
        ["gen0/checkpoints/step-000003", "gen0/checkpoints/step-000009"],  # mid-training, twice
        ["gen0/model", "gen0/labels/shard-00000.safetensors"],  # between training and its report, mid-labelling
        ["gen0/labels/index.json", "gen1/checkpoints/step-000006"],  # between generations, in the student
        ["gen1/report.json"],  # before test and export
    ],
    ids=["training", "labelling", "student", "end"],
)
def test_killed_anywhere_the_same_command_ends_in_the_same_bits(reference, tmp_path, places):
    out = tmp_path / "run"
    for place in places:
        assert kill_when(out / place, *SMOKE, f"out={out}") == -signal.SIGKILL
        assert not (out / "report.json").exists()
    code, _, err = run(*SMOKE, f"out={out}")
    assert code == 0, err
    assert fingerprint(out) == fingerprint(reference)


def test_a_terminated_run_saves_at_once_says_so_and_resumes_to_the_same_bits(reference, tmp_path):
    out = tmp_path / "run"
    settings = [*SMOKE, f"out={out}", "train.checkpoint_every=1000"]
    assert kill_when(out / "metrics.jsonl", *settings, number=signal.SIGTERM) == 75
    saved = [path.name for path in (out / "gen0" / "checkpoints").iterdir()]
    assert len(saved) == 1
    code, _, err = run(*SMOKE, f"out={out}")
    assert code == 0, err
    ours, theirs = ({k: v for k, v in fingerprint(place).items() if "step-" not in k} for place in (out, reference))
    assert ours == theirs


def test_the_same_command_after_the_end_writes_nothing(reference):
    def state():
        return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in reference.rglob("*")}

    before = state()
    code, said, _ = run(*SMOKE, f"out={reference}")
    assert code == 0 and "finished" in said and "test mIoU" in said
    assert state() == before


def test_a_run_directory_can_be_moved_and_a_harmless_setting_changed(reference, tmp_path):
    moved = tmp_path / "moved ünïcode"
    shutil.copytree(reference, moved)
    (moved / "report.json").unlink()
    code, _, err = run(*SMOKE, f"out={moved}", "train.workers=2")
    assert code == 0, err
    assert fingerprint(moved) == fingerprint(reference)


def test_changed_settings_and_foreign_teachers_are_refused(reference, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(reference, out)
    code, _, err = run(*SMOKE, f"out={out}", "train.lr=0.5")
    assert code == 2 and "-> 0.5" in err.splitlines()[-1] and "Traceback" not in err
    (out / "report.json").unlink()
    shutil.rmtree(out / "gen0" / "model")
    shutil.copytree(out / "gen1" / "model", out / "gen0" / "model")
    (out / "gen1" / "report.json").unlink()
    code, _, err = run(*SMOKE, f"out={out}")
    assert code == 6 and "Traceback" not in err


def test_a_damaged_checkpoint_costs_steps_not_the_result(reference, tmp_path):
    out = tmp_path / "run"
    kill_when(out / "gen0" / "checkpoints" / "step-000006", *SMOKE, f"out={out}")
    newest = max((out / "gen0" / "checkpoints").glob("step-*[0-9]"))
    weights = newest / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-3])
    code, _, err = run(*SMOKE, f"out={out}")
    assert code == 0, err
    assert newest.with_name(newest.name + ".corrupt").is_dir()
    shutil.rmtree(newest.with_name(newest.name + ".corrupt"))
    assert fingerprint(out) == fingerprint(reference)
