"""The process: its cores, its threads, and the handling of freed memory."""

import ctypes
import math
import os
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")
MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # names of mallopt(3)
# The affinity at process start; `pinned` narrows single threads. errors.py refuses systems other than Linux.
CORES = frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else frozenset[int]()
TASKS = Path("/proc/self/task")
BOOT = Path("/proc/sys/kernel/random/boot_id")
GROUPS, CGROUP = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
# libgomp spins 300,000 rounds at a barrier before it sleeps. Beside other work, waiting threads then take
# the time of the thread they wait for. Sleeping at once costs a small network a quarter of its speed
# (benchmarks/busy.py).
SPIN = "10000"
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
LAUNCHED = (
    "TORCHELASTIC_RUN_ID",
    "LOCAL_WORLD_SIZE",
    "ACCELERATE_MIXED_PRECISION",
    "ACCELERATE_DYNAMO_BACKEND",
)


def prepare() -> None:
    """Set how OpenMP's threads wait. libgomp reads it once, when torch is imported.

    A user's setting is kept.
    """
    if not any(name in os.environ for name in WAITING):
        os.environ["GOMP_SPINCOUNT"] = SPIN


def threads(wanted: int, *, recorded: int | None = None) -> int:
    """The number of threads that compute together in this process.

    `wanted` (train.threads) comes first, then the user's OMP_NUM_THREADS, then the number recorded by the
    run, but at most this process's share of the cores: threads that share a core are many times slower.
    Launchers set OMP_NUM_THREADS=1, so under a launcher 1 counts as unset.
    """
    theirs = os.environ.get("OMP_NUM_THREADS", "")
    if theirs == "1" and any(name in os.environ for name in LAUNCHED):
        theirs = ""
    own = int(theirs) if theirs.isdigit() else 0
    share = max(cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1)), 1)
    return wanted or own or min(recorded or share, share)


def machine() -> str:
    """The machine of this process, by the id of its boot, which its containers share."""
    try:
        return BOOT.read_text().strip()
    except OSError:
        return socket.gethostname()


def beside(ranks: int) -> int:
    """How many of a run's `ranks` are on this machine, as the launcher says; all if it says nothing."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", ranks))


def cores() -> int:
    """Cores that this process may use: its CPU affinity when it started, and a container's CPU quota."""
    return max(int(min(len(CORES), _quota())), 1)


def _quota() -> float:
    """CPUs allowed by control groups, v2 or v1; infinite without a limit."""
    try:
        lines = GROUPS.read_text().splitlines()
    except OSError:
        return math.inf
    quotas = [math.inf]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            quotas += map(_limit, upwards(CGROUP, path, "cpu.max"))
        elif "cpu" in controllers.split(","):
            for file in upwards(CGROUP / "cpu", path, "cpu.cfs_quota_us"):
                quotas.append(_limit(file, file.with_name("cpu.cfs_period_us")))
    return min(quotas)


def upwards(root: Path, path: str, name: str) -> list[Path]:
    """The file of a control group and of each one above it.

    In a container `path` may be the host's, so the root is included.
    """
    group = root / path.strip("/")
    return [place / name for place in (group, *group.parents) if place.is_relative_to(root)]


def _limit(*files: Path) -> float:
    """Quota / period, from one file with both or from two; infinite without a limit."""
    try:
        quota, period = " ".join(file.read_text().strip() for file in files).split()
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    except (OSError, ValueError):  # no such file, or "max"
        return math.inf


@dataclass(frozen=True)
class Team:
    """The threads that compute together: the main thread and `workers` (thread ids of OpenMP)."""

    workers: tuple[int, ...] = ()

    @classmethod
    def of(cls, count: int) -> "Team":
        """Set torch to `count` threads and start them."""
        import torch

        torch.set_num_threads(count)  # starts a thread in another pool
        before = _threads_of_this_process()
        torch.zeros(1 << 20)  # the first parallel region starts the team
        started = sorted(_threads_of_this_process() - before)
        return cls(tuple(started) if len(started) == count - 1 else ())

    @contextmanager
    def pinned(self) -> Iterator[None]:
        """Pin each thread to its own core while the block runs, if the team uses all cores of the process.

        Beside other work, the scheduler may put two of them on one core, and the kernels of oneDNN spin while
        they wait for each other: training beside one busy process then keeps 0.2 of its speed instead of
        0.45.
        """
        places = sorted(CORES)
        if not self.workers or len(self.workers) + 1 != len(places):
            yield
            return
        team = (threading.get_native_id(), *self.workers)
        _place(team, [{core} for core in places])
        try:
            yield
        finally:
            _place(team, [set(CORES)] * len(team))


def mapped(pool: Executor, function: Callable[[A], B], things: Iterable[A], ahead: int = 64) -> Iterator[B]:
    """`pool.map`, but at most `ahead` calls are waiting, so that things may be many."""
    waiting = deque[Future[B]]()
    for thing in things:
        waiting.append(pool.submit(function, thing))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def unpin() -> None:
    """Let this thread or process run on every core. Children of a pinned thread are pinned as well."""
    with suppress(OSError):
        os.sched_setaffinity(0, CORES)


def _place(team: tuple[int, ...], places: list[set[int]]) -> None:
    for thread, cores in zip(team, places, strict=True):
        with suppress(OSError):  # the thread has ended, or cores were removed since
            os.sched_setaffinity(thread, cores)


def _threads_of_this_process() -> set[int]:
    try:
        return {int(entry.name) for entry in TASKS.iterdir()}
    except OSError:
        return set()


def keep_freed() -> None:
    """Make glibc keep large blocks.

    Returning and requesting them in each step costs a quarter of a step on CPUs.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(MMAP_THRESHOLD, 1 << 30)
        mallopt(TRIM_THRESHOLD, 2**31 - 1)
