"""Ranks that watch each other; real processes, gloo, no network."""

import os
import signal
from pathlib import Path

import pytest

from harness import of_two

RANK = """
import sys, time
import torch.distributed as dist
from selftrain import watchdog

watchdog.BEAT = 0.005
rank, stays = int(sys.argv[1]), float(sys.argv[2])
dist.init_process_group("gloo", rank=rank, world_size=2)
with watchdog.watching(rank, 2):
    time.sleep(stays)
dist.destroy_process_group()
"""


@pytest.mark.parametrize("last", [0, 1])
def test_a_rank_that_ends_first_is_not_taken_for_a_lost_one(zygote, tmp_path, last):
    """Rank 0 holds the store through which both watch each other."""
    script = tmp_path / "rank.py"
    script.write_text(RANK)
    ranks = [
        zygote.start(
            environment["RANK"],
            "1" if environment["RANK"] == str(last) else "0",
            door=str(script),
            **environment,
        )
        for environment in of_two()
    ]
    ended = [rank.wait(60) for rank in ranks]
    assert [rank.code for rank in ended] == [0, 0], [rank.err for rank in ended]


LOST = """
import socket, subprocess, sys
from selftrain import watchdog

here = watchdog._sign(0).split(" ")
victim = subprocess.Popen(["sleep", "60"])
print(victim.pid, flush=True)
host, place = (one or other for one, other in zip(sys.argv[1:], (here[0], here[2])))
watchdog._lost("rank 1 is lost", f"{host} {victim.pid} {place} 3")
"""


@pytest.mark.parametrize(
    ("host", "place", "killed"), [("", "", True), ("other", "", False), ("", "boot/pid:[1]", False)]
)
def test_only_a_process_of_this_machine_is_killed(zygote, tmp_path, host, place, killed):
    """Hosts may have equal names, and process ids belong to a container."""
    script = tmp_path / "lost.py"
    script.write_text(LOST)
    ended = zygote.run(host, place, door=str(script))
    assert ended.code == 7 and "rank 1 is lost; the same command resumes" in ended.last, ended.err
    victim = int(ended.out)
    state = Path(f"/proc/{victim}/stat")
    alive = state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"
    if alive:
        os.kill(victim, signal.SIGKILL)
    assert alive != killed
