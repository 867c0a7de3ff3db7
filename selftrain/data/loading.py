"""Batches prepared by worker processes.

A worker that cannot prepare or send a batch ends the run; nothing hangs.

By default, torch moves a batch to shared memory in a thread of the worker. On an error, this thread prints it
and drops the batch, and the main process waits forever. So here a worker moves its batch itself, and its
errors reach the main process like read errors; if one of its threads fails, the worker exits. The main
process receives batches in a thread, since receiving a file handle may block as well, and checks signals and
workers meanwhile. Batches go through shared memory, not through a pipe: for 170 MB, a pipe costs the main
process 0.4 s a step.
"""

import errno
import multiprocessing.connection
import multiprocessing.queues
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager, suppress
from itertools import starmap
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch.utils.data import DataLoader

from selftrain import process
from selftrain.data.ahead import ahead
from selftrain.data.batches import StepDataset, places
from selftrain.data.examples import Batch, Example, Seen, collate
from selftrain.errors import (
    LOADER_ENDINGS,
    MORE_SHARED_MEMORY,
    SHARED_MEMORY,
    ResourceError,
    SelftrainError,
    naming_savings,
    resource_error,
)

PREFETCH = 2  # batches that each worker prepares in advance
POLL = 1.0  # seconds between two checks of signals and workers while waiting for a batch
IDLE = 300.0  # seconds without a batch and without CPU time until workers count as stuck
SHARED = Path("/dev/shm")
FLOAT = 4  # bytes


def loader(
    dataset: StepDataset,
    *,
    first: int,
    steps: int,
    rank: int,
    world: int,
    workers: int,
    parts: int = 1,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[Batch]:
    """Yield the batches of one rank from step `first` on, in `parts` micro-batches per step.

    Ends early if `stopped` becomes true while waiting for a batch.

    Raises ResourceError if workers cannot get memory, shared memory or file handles, or are stuck.
    """
    settings: dict[str, Any] = {"collate_fn": collate}
    if workers:
        settings = {"collate_fn": _collate_shared, "num_workers": workers, "prefetch_factor": PREFETCH}
    settings |= {"worker_init_fn": _prepare_worker, "pin_memory": torch.cuda.is_available()}
    started: list[BaseProcess] = []
    with _naming_limits(started), naming_savings("loading images"):
        lists = places(first, steps, dataset.sizes, rank, world, parts)
        coming = ahead(lists, lambda places: starmap(dataset.sample, places))
        batches = iter(DataLoader(dataset, batch_sampler=coming, **settings))
        if not workers:
            yield from batches
            return
        started += batches._workers  # type: ignore[attr-defined]
        while (batch := _next(batches, started, stopped)) is not None:
            yield batch


def most_shared(images: Sequence[tuple[int, int]], crop: Sequence[int], workers: int, parts: int = 1) -> int:
    """Bytes of all batches in memory at once. `images`: (count, bytes per pixel), `crop`: (h, w).

    Workers prepare PREFETCH batches each, and `parts` micro-batches of a step are in use.
    """
    batch = sum(count * each for count, each in images) * crop[0] * crop[1]
    return (PREFETCH * workers + parts) * batch


def bytes_per_pixel(
    classes: int, *, channels: int = 3, views: int = 0, soft: bool = False
) -> tuple[int, int]:
    """Bytes per pixel of a labelled and an unlabelled image (with soft labels, or in `views` + 1 views).

    `soft`: labelled images have soft labels, too.
    """
    image, hard, weight, inside = channels, 1, FLOAT, 1
    stored = image + hard + FLOAT * classes + weight
    online = image * (views + 1) + inside * (views + 1)  # inside of the image, and erased in a view
    return stored if soft else image + hard, online if views else stored


def check_shared(needed: int) -> None:
    """Raises ResourceError if the system has less than `needed` bytes of shared memory."""
    try:
        free = shutil.disk_usage(SHARED).free
    except OSError:  # no /dev/shm: the first batch will show whether there is enough
        return
    if free < needed:
        sizes = f"{SHARED} has {free / 2**20:.1f} MiB free, and batches may take {needed / 2**20:.1f} MiB"
        raise ResourceError(f"{sizes}; {MORE_SHARED_MEMORY}")


def _next(
    batches: Iterator[Batch], workers: Sequence[BaseProcess], stopped: Callable[[], bool]
) -> Batch | None:
    """The next batch; None after the last one, or if `stopped` becomes true before it arrives."""
    coming, began, worked = _received(batches), time.monotonic(), _seconds_of_work(workers)
    while True:
        with suppress(FutureTimeout):
            return coming.result(POLL)
        if stopped():
            return None
        waited = time.monotonic() - began
        if waited > IDLE:
            if _seconds_of_work(workers) - worked < waited / 100:
                raise ResourceError(
                    f"no batch arrived for {waited:.0f} s, and the loader processes do nothing; "
                    "set train.workers=0 or see whether the images can be read, then run the same command"
                )
            began, worked = time.monotonic(), _seconds_of_work(workers)


def _received(batches: Iterator[Batch]) -> "Future[Batch | None]":
    """A future of the next batch, or None. The receiving thread ends with the process, even if waiting."""
    coming: Future[Batch | None] = Future()

    def receive() -> None:
        try:
            coming.set_result(next(batches, None))
        except BaseException as error:
            coming.set_exception(error)

    threading.Thread(target=receive, name="receiver", daemon=True).start()
    return coming


def _seconds_of_work(workers: Sequence[BaseProcess]) -> float:
    """CPU time of the processes so far, in seconds; a process that waits for a disk counts as working."""
    total = 0.0
    for worker in workers:
        try:
            state, *fields = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended: torch will report it
            continue
        total += sum(map(int, fields[10:12])) / os.sysconf("SC_CLK_TCK") + (
            time.monotonic() if state == "D" else 0
        )
    return total


def _collate_shared(examples: list[Example | Seen]) -> Batch:
    return collate(examples).each(lambda tensor: tensor.share_memory_() if tensor.numel() else tensor)


def _prepare_worker(worker: int) -> None:
    """Ignore Ctrl-C and SIGTERM to the process group: the main process ends the workers after saving."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    process.unpin()
    # Threads that send batches and file handles: by default they only print an error, and the batch is lost.
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(lambda error, _: _give_up(error))  # type: ignore
    sys.excepthook = lambda kind, error, trace: _give_up(error)


def _give_up(error: BaseException) -> NoReturn:
    """End this worker with an exit code that gives the reason."""
    print(f"a loader process cannot send a batch: {error}", file=sys.stderr, flush=True)
    limit = str(resource_error(error) or "")
    number = error.errno if isinstance(error, OSError) and error.errno in LOADER_ENDINGS else 1
    os._exit(next((code for code, why in LOADER_ENDINGS.items() if why == limit), number))


@contextmanager
def _naming_limits(workers: Sequence[BaseProcess]) -> Iterator[None]:
    """Turn worker errors caused by a system limit into a ResourceError that names it."""
    try:
        yield
    except SelftrainError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.ENOENT) and not error.filename:
            raise ResourceError(SHARED_MEMORY) from error  # semaphores are there as well
        limit = _ending(workers, error) or resource_error(error)
        if limit is None:
            raise
        raise limit from error


def _ending(workers: Sequence[BaseProcess], error: Exception) -> ResourceError | None:
    """Why a worker has exited, if one has; its pipe may break shortly before it ends."""
    if isinstance(error, ConnectionError | EOFError):
        multiprocessing.connection.wait([worker.sentinel for worker in workers], timeout=POLL)
    codes = [worker.exitcode for worker in workers]
    return next((ResourceError(why) for code, why in LOADER_ENDINGS.items() if code in codes), None)
