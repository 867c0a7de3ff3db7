"""Ranks that watch each other; real processes, gloo, no network."""

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
