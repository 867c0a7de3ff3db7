"""Threads, cores and waiting: chosen by hand-made environments, and seen in real processes."""

import os
import subprocess
import sys

import pytest

from selftrain import process


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    """No launcher and no choice of the user; four cores."""
    for name in (*process.LAUNCHED, *process.WAITING, "OMP_NUM_THREADS", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(process, "cores", lambda: 4)


def test_the_share_of_the_cores_is_the_default(monkeypatch):
    assert process.threads(0) == 4
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert process.threads(0) == 2
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert process.threads(0) == 1


def test_the_setting_comes_before_the_users_variable_and_both_before_what_is_recorded(monkeypatch):
    assert process.threads(0, recorded=2) == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert process.threads(0, recorded=2) == 3
    assert process.threads(1, recorded=2) == 1
    assert process.threads(6) == 6  # asked for: also more than there are cores


def test_a_recorded_number_is_cut_to_the_cores_that_are_left():
    assert process.threads(0, recorded=16) == 4


def test_one_thread_of_a_launcher_counts_as_unset(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert process.threads(0) == 1  # the user's own
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert process.threads(0) == 4  # torchrun's default
    assert process.threads(1) == 1  # asked for
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert process.threads(0) == 2  # torchrun never sets 2: the user's own


@pytest.mark.parametrize(("name", "value"), [("OMP_WAIT_POLICY", "active"), ("GOMP_SPINCOUNT", "7")])
def test_a_users_way_of_waiting_stays(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    process.prepare()
    assert {key: os.environ.get(key) for key in process.WAITING} == {
        **dict.fromkeys(process.WAITING),
        name: value,
    }


def test_openmp_is_told_how_to_wait_before_torch_is_imported():
    """libgomp reads its settings once, when it is loaded; OMP_DISPLAY_ENV makes it print them."""
    code = "import sys; from selftrain import run, cli, process; assert 'torch' not in sys.modules; process.prepare(); import torch"
    clean = {name: value for name, value in os.environ.items() if name not in process.WAITING}
    shown = subprocess.run(
        [sys.executable, "-c", code],
        env={**clean, "OMP_DISPLAY_ENV": "verbose"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"GOMP_SPINCOUNT = '{process.SPIN}'" in shown.stderr


@pytest.mark.parametrize(
    ("group", "files", "quota"),
    [
        ("0::/pod/box", {"pod/cpu.max": "150000 100000", "pod/box/cpu.max": "max 100000"}, 1.5),
        ("0::/", {"cpu.max": "400000 100000"}, 4.0),
        (
            "0::/not/mounted/here",
            {"cpu.max": "50000 100000"},
            0.5,
        ),  # a container without its own namespace of groups
        (
            "4:cpu,cpuacct:/job",
            {"cpu/job/cpu.cfs_quota_us": "300000", "cpu/job/cpu.cfs_period_us": "100000"},
            3.0,
        ),
        (
            "4:cpu,cpuacct:/job",
            {"cpu/job/cpu.cfs_quota_us": "-1", "cpu/job/cpu.cfs_period_us": "100000"},
            float("inf"),
        ),
        ("7:memory:/job", {}, float("inf")),
    ],
)
def test_a_quota_of_control_groups_is_read(tmp_path, monkeypatch, group, files, quota):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content + "\n")
    listing = tmp_path / "listing"
    listing.write_text(group + "\n")
    monkeypatch.setattr(process, "CGROUP", tmp_path)
    monkeypatch.setattr(process, "GROUPS", listing)
    assert process._quota() == quota


@pytest.mark.parametrize(("quota", "cores"), [(float("inf"), 8), (2.5, 2), (0.5, 1), (64.0, 8)])
def test_cores_are_those_of_the_affinity_within_the_quota(monkeypatch, quota, cores):
    monkeypatch.undo()
    monkeypatch.setattr(process, "CORES", frozenset(range(8)))
    monkeypatch.setattr(process, "_quota", lambda: quota)
    assert process.cores() == cores


TEAM = """
import os, threading
from selftrain import process
process.prepare()
team = process.Team.of(len(process.CORES))
mask = lambda thread: sorted(os.sched_getaffinity(thread))
with team.pinned():
    print([mask(0), *map(mask, team.workers)])
    child = os.fork()
    if not child:
        process.unpin()
        os._exit(set(os.sched_getaffinity(0)) != process.CORES)
    assert os.waitpid(child, 0)[1] == 0
print([mask(0), *map(mask, team.workers)])
with process.Team.of(1).pinned():
    print(mask(0))
"""


@pytest.mark.skipif(len(process.CORES) < 2, reason="one core: nothing to place")
def test_threads_that_take_all_cores_run_on_one_each_while_they_are_pinned():
    shown = subprocess.run([sys.executable, "-c", TEAM], capture_output=True, text=True, check=True)
    pinned, after, alone = map(eval, shown.stdout.splitlines())
    everywhere = sorted(process.CORES)
    assert pinned == [[core] for core in everywhere]
    assert after == [everywhere] * len(everywhere)
    assert alone == everywhere  # a single thread goes where there is room
