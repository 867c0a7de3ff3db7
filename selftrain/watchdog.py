"""Ranks that watch each other: one that is stopped or lost ends the run in seconds, with its name, instead of hanging it."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

from selftrain.errors import ResourceError

BEAT = 2.0  # seconds between two signs of life
STALL = 20.0  # seconds without one after which a rank counts as lost
DONE = "done"


@contextmanager
def watching(rank: int, world: int) -> Iterator[None]:
    """Watch the other ranks, from a thread, for as long as the block runs. A rank that is busy still gives signs of life.

    Where one stalls, this process says so, kills it if it is on the same machine, and exits with 7.
    """
    if world == 1:
        yield
        return
    from torch.distributed.distributed_c10d import PrefixStore, _get_default_store

    store: Any = _get_default_store()
    store = PrefixStore("selftrain/alive", store.clone())  # a connection of its own
    store.set_timeout(timedelta(seconds=STALL))
    over = threading.Event()
    thread = threading.Thread(target=_watch, args=(store, rank, world, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    store.set(str(rank), DONE)  # after the last beat, which would take it back


def _watch(store: Any, rank: int, world: int, over: threading.Event) -> None:
    seen = {other: ("", time.monotonic()) for other in range(world) if other != rank}
    beats = 0
    while not over.wait(BEAT):
        beats += 1
        try:
            store.set(str(rank), f"{socket.gethostname()} {os.getpid()} {beats}")
            for other, (last, since) in seen.items():
                sign = store.get(str(other)).decode() if store.check([str(other)]) else ""
                if sign != last:
                    seen[other] = (sign, time.monotonic())
                elif sign != DONE and time.monotonic() - since > STALL:
                    _lost(
                        f"rank {other} ({sign.rpartition(' ')[0] or 'never seen'}) has given no sign of life for {STALL:.0f} s",
                        sign,
                    )
        except Exception as error:  # the store's process is gone, and with it the rank that kept it
            if not over.is_set():
                _lost(f"the other ranks cannot be reached ({type(error).__name__})", "")


def _lost(what: str, sign: str) -> None:
    print(f"selftrain: error: {what}; the same command resumes from the last checkpoint", file=sys.stderr, flush=True)
    host, _, rest = sign.partition(" ")
    if host == socket.gethostname():
        with suppress(OSError):
            os.kill(int(rest.split()[0]), signal.SIGKILL)  # stopped, it would not hear its launcher either
    os._exit(ResourceError.exit_code)
