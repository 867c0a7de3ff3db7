"""Several ranks of which one dies, stops or fails; no network; the real commands."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness import SETTINGS, mismatches
from runs import ROOT, fingerprint
from test_ranks import launcher

HERE = Path(__file__).resolve().parent
CHANGED_RANKS = "a change of ranks between resumes: the same labels, marked as not exact"


def two_ranks(out, fault=None, timeout=150):
    """(exit code, stderr, seconds) of a run on two ranks."""
    env = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    if fault:
        env |= {"PYTHONPATH": str(HERE), "SELFTRAIN_FAULT": json.dumps(fault), "SELFTRAIN_FAULT_ROOT": str(out)}
    began = time.monotonic()
    command = [*launcher(), "-m", "selftrain.run", *SETTINGS, f"out={out}"]
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        _, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, err, time.monotonic() - began


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A run on two ranks that nothing happened to."""
    out = tmp_path_factory.mktemp("pair") / "run"
    code, err, _ = two_ranks(out)
    assert code == 0, err
    return out


LOST = "a rank killed, stopped or raising: all are gone within 60 s, the cause is named, exit 7; then the same bits"


@pytest.mark.promise(LOST)
@pytest.mark.parametrize(
    ("number", "said"),
    [
        (signal.SIGSTOP, "has given no sign of life"),
        pytest.param(signal.SIGKILL, "is lost", marks=pytest.mark.full),
        pytest.param(0, "a fault of this rank alone", marks=pytest.mark.full),
    ],
    ids=["stopped", "killed", "raising"],
)
def test_a_lost_rank(pair, tmp_path, number, said):
    out = tmp_path / "run"
    code, err, _ = two_ranks(out, {"do": "at_step", "n": 7, "rank": "1", "number": int(number)})
    assert code != 0 and said in err, err
    assert "exitcode  : 7" in err or number == 0, err  # torchrun's summary of the rank that saw it
    assert not alive(out)
    code, err, _ = two_ranks(out)
    assert code == 0, err
    assert fingerprint(out) == fingerprint(pair)


def alive(out):
    """Processes of a run that are still there."""
    found = subprocess.run(["pgrep", "-f", f"out={out}"], capture_output=True, text=True, check=False).stdout.split()
    return [pid for pid in found if int(pid) != os.getpid()]


@pytest.mark.full
@pytest.mark.promise(CHANGED_RANKS)
def test_ranks_that_change_between_resumes(zygote, reference, tmp_path):
    out = tmp_path / "run"
    assert zygote.go(out, fault={"do": "kill", "at": ["rename", "gen0/.model.tmp"]}).code == -signal.SIGKILL
    code, err, _ = two_ranks(out)
    assert code == 0, err
    same = [name for name in reference.bits if name.startswith("gen0")]
    assert not [name for name in mismatches(out, reference) if name in same and "report" not in name]


@pytest.mark.promise("no network: a whole run passes; pretrained weights that are not there: exit 2 within 10 s")
def test_without_a_network(tmp_path):
    offline = ["unshare", "-n", sys.executable, "-m", "selftrain.run"]
    if subprocess.run(["unshare", "-n", "true"], check=False, capture_output=True).returncode:
        pytest.skip("no network namespace may be made here")
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HOME": str(tmp_path / "cache")}
    out = tmp_path / "run"
    done = subprocess.run([*offline, *SETTINGS, f"out={out}"], cwd=ROOT, env=env, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    asked = [*offline, *SETTINGS, f"out={tmp_path / 'other'}", "model.encoder=tu-resnet18", "model.weights=imagenet"]
    done = subprocess.run(asked, cwd=ROOT, env=env, capture_output=True, text=True, timeout=100)
    assert done.returncode == 2 and "model.weights" in done.stderr.splitlines()[-1], done.stderr
