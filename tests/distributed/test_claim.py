"""A directory on a file system whose locks do not reach other machines: each of them may take the lock."""

import os
import signal
import time

import pytest

from machines import TINY
from runs import fingerprint

FREE = "fcntl.lockf = lambda *_: None\nprocess.machine = lambda: sys.argv[2]\n"
HOLD = f"""
import fcntl, os, sys, time
from pathlib import Path
from selftrain import claim, process
from selftrain.rundir import RunDir

claim.BEAT, claim.STALL = 0.1, 1.0
{FREE}
RunDir(Path(sys.argv[1])).lock()
print("held", flush=True)
if sys.argv[3] == "stays":
    time.sleep(60)
"""
WRITTEN = ["generations=[{}]", "train.steps=6"]


@pytest.fixture
def hold(zygote, tmp_path):
    """hold(machine, "stays" or "ends") starts a process of that machine that holds one directory."""
    script = tmp_path / "hold.py"
    script.write_text(HOLD)

    def hold(machine, ends="ends"):
        return zygote.start(str(tmp_path / "run"), machine, ends, door=str(script))

    return hold


def holds(one):
    said = one.folder / "stdout"
    return said.exists() and "held" in said.read_text()


def until_held(one):
    while not holds(one):
        time.sleep(0.01)
    return one


def test_a_live_writer_on_another_machine_keeps_the_directory(hold, tmp_path):
    first = until_held(hold("a", "stays"))
    other = hold("b").wait(20)
    assert other.code == 73 and f"another run is writing {tmp_path / 'run'} on another machine" in other.last
    first.send(signal.SIGKILL)
    first.wait(5)
    then = hold("b").wait(20)  # after a second without a sign of life
    assert then.code == 0 and then.seconds > 1 and "another machine wrote here last" in then.out, then.err
    again = hold("c").wait(20)  # which left the directory in order
    assert again.code == 0 and "another machine" not in again.out, again.err


def test_a_writer_that_was_stopped_and_overtaken_ends_at_once(hold, tmp_path):
    first = until_held(hold("a", "stays"))
    first.send(signal.SIGSTOP)
    second = until_held(hold("b", "stays"))
    first.send(signal.SIGCONT)
    ended = first.wait(5)
    assert ended.code == 73 and "a run on another machine has taken" in ended.last, ended.err
    os.killpg(second.pid, signal.SIGKILL)
    second.wait(5)


def test_of_machines_that_begin_at_once_one_writes(hold):
    started = [hold(machine, "stays") for machine in "abc"]
    while not any(map(holds, started)):
        time.sleep(0.01)
    (one,) = filter(holds, started)
    assert [other.wait(20).code for other in started if other is not one] == [73, 73]
    os.killpg(one.pid, signal.SIGKILL)
    one.wait(5)


def test_the_same_machine_waits_for_nobody(hold):
    first = until_held(hold("a", "stays"))
    first.send(signal.SIGKILL)
    first.wait(5)
    then = hold("a").wait(20)
    assert then.code == 0 and then.seconds < 1 and "another machine" not in then.out, then.err


def test_a_damaged_claim_is_one_of_another_machine(hold, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".writer").write_bytes(b"\xff \0 " * 100)
    ended = hold("a").wait(20)
    assert ended.code == 0 and "another machine wrote here last" in ended.out, ended.err


@pytest.mark.parametrize("plant", [lambda path: path.symlink_to(path.parent.parent / "theirs"), os.mkfifo])
def test_what_was_planted_in_its_place_is_replaced(hold, tmp_path, plant):
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / "run").mkdir()
    plant(tmp_path / "run" / ".writer")
    ended = hold("a").wait(20)
    assert ended.code == 0 and "held" in ended.out, ended.err
    assert (tmp_path / "theirs").read_text() == "theirs"


@pytest.mark.slow
def test_a_run_goes_on_upon_another_machine_after_the_first_one_is_lost(zygote, tmp_path):
    """Two machines whose locks do nothing: never two writers, and the same bits as of one."""
    out, undisturbed = tmp_path / "run", tmp_path / "undisturbed"
    assert zygote.run(*TINY, *WRITTEN, f"out={undisturbed}").code == 0
    a, b = ({"do": "another_machine", "name": name, "stall": 2.0} for name in "ab")
    first = zygote.start(
        *TINY, *WRITTEN, f"out={out}", fault={**a, "then": {"do": "slow_steps", "seconds": 1}}
    )
    while not (out / "gen0/checkpoints/step-000003").is_dir():
        time.sleep(0.01)
    refused = zygote.run(*TINY, *WRITTEN, f"out={out}", fault=b)
    assert refused.code == 73, refused.err
    os.killpg(first.pid, signal.SIGKILL)
    first.wait(10)
    ended = zygote.run(*TINY, *WRITTEN, f"out={out}", fault=b)
    assert ended.code == 0, ended.err
    assert fingerprint(out) == fingerprint(undisturbed)
