"""Ranks that watch each other; real processes, gloo, no network."""

import os
import socket
import subprocess
import sys

import pytest

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
def test_a_rank_that_ends_first_is_not_taken_for_a_lost_one(last):
    """Rank 0 holds the store through which both watch each other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    env = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(rank), "1" if rank == last else "0"],
            env=env,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [rank.communicate(timeout=60)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], said
