"""Ranks watch each other: a stopped or lost rank ends the run in seconds instead of a hang."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

from selftrain import process
from selftrain.errors import ResourceError

BEAT = 2.0  # seconds between two heartbeats
STALL = 20.0  # seconds without a heartbeat until a rank counts as lost
DONE = "done"


@contextmanager
def watching(rank: int, world: int) -> Iterator[None]:
    """Watch the other ranks in a thread while the block runs. A busy rank still sends heartbeats.

    If a rank stalls, this process names it, kills it if it is on the same machine, and exits with 7. The
    process group must outlive the block.
    """
    if world == 1:
        yield
        return
    from torch.distributed.distributed_c10d import PrefixStore, _get_default_store

    store: Any = _get_default_store()
    store = PrefixStore("selftrain/alive", store.clone())  # its own connection
    store.set(str(rank), _sign(0))
    # waits for their first heartbeats
    signs = {other: store.get(str(other)).decode() for other in range(world) if other != rank}
    over = threading.Event()
    thread = threading.Thread(target=_watch, args=(store, rank, signs, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    store.set(str(rank), DONE)  # after the last heartbeat, which would overwrite it
    if rank == 0:  # the store may live in this process, and the others still use it
        _await(store, list(signs))


def _await(store: Any, others: list[int]) -> None:
    """Wait until every other rank has left `watching`, at most STALL seconds."""
    end = time.monotonic() + STALL
    while any(store.get(str(other)).decode() != DONE for other in others) and time.monotonic() < end:
        time.sleep(0.01)


def _sign(beats: int) -> str:
    return f"{socket.gethostname()} {os.getpid()} {_place()} {beats}"


def _place() -> str:
    """Where a process id means the same process: hosts and containers may have equal names."""
    with suppress(OSError):
        return f"{process.machine()}/{os.readlink('/proc/self/ns/pid')}"
    return process.machine()


def _who(sign: str) -> str:
    """The host and the process id of a sign."""
    return " ".join(sign.split(" ")[:2])


def _watch(store: Any, rank: int, signs: dict[int, str], over: threading.Event) -> None:
    seen = {other: (sign, time.monotonic()) for other, sign in signs.items()}
    beats = 0
    with ThreadPoolExecutor(1) as pool:
        while not over.wait(BEAT):
            beats += 1
            try:
                signs = pool.submit(_exchange, store, rank, beats, list(seen)).result(STALL)
            except Exception as error:  # the store's process (launcher or rank 0) is gone or stopped
                if over.is_set():
                    return
                _lost(f"the other ranks cannot be reached ({type(error).__name__})", seen.get(0, ("", 0))[0])
            for other, sign in signs.items():
                last, since = seen[other]
                if sign != last:
                    seen[other] = (sign, time.monotonic())
                elif sign != DONE and time.monotonic() - since > STALL:
                    _lost(
                        f"rank {other} ({_who(sign)}) has given no sign of life for {STALL:.0f} s",
                        sign,
                    )


def _exchange(store: Any, rank: int, beats: int, others: list[int]) -> dict[int, str]:
    """Send a heartbeat and read the others'. May block forever: the store's timeout does not cover writes."""
    store.set(str(rank), _sign(beats))
    return {other: store.get(str(other)).decode() for other in others}


def _lost(what: str, sign: str) -> NoReturn:
    """Print `what` happened, kill the process that sent `sign` if it is on this machine, and exit."""
    print(
        f"selftrain: error: {what}; the same command resumes from the last checkpoint",
        file=sys.stderr,
        flush=True,
    )
    host, number, place, *_ = [*sign.split(" "), "", "", ""]
    if (host, place) == (socket.gethostname(), _place()):
        with suppress(OSError):
            os.kill(int(number), signal.SIGKILL)  # a stopped process ignores its launcher
    os._exit(ResourceError.exit_code)
