"""Batches made ahead by other processes. A process that cannot make or hand over a batch ends the run; nothing waits for ever.

Left to itself, torch moves a batch to shared memory in a thread of the worker. That thread prints an error and drops the batch,
and the main process waits for it for ever. So a worker moves its batch itself, where an error reaches the main process like one
of reading. Shared memory stays the way, rather than a pipe: of 170 MB, a pipe costs the main process 0.4 s a step.
"""

import errno
import multiprocessing.queues
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch.utils.data import DataLoader

from selftrain import process
from selftrain.data.batches import Batch, Example, Seen, StepDataset, collate, places
from selftrain.errors import (
    MORE_SHARED_MEMORY,
    OPEN_FILES,
    OUT_OF_MEMORY,
    SHARED_MEMORY,
    ResourceError,
    SelftrainError,
    naming_savings,
    resource_error,
)

PREFETCH = 2  # batches that each worker makes ahead
POLL = 1.0  # seconds between two looks at the signals and the workers while a batch is waited for
IDLE = 300.0  # seconds without a batch and without work after which the workers count as stuck
SHARED = Path("/dev/shm")
FLOAT = 4  # bytes
ENDINGS = {errno.ENOSPC: SHARED_MEMORY, errno.EMFILE: OPEN_FILES, errno.ENOMEM: OUT_OF_MEMORY}  # exit codes of workers, and why


def loader(
    dataset: StepDataset,
    *,
    first: int,
    steps: int,
    rank: int,
    world: int,
    workers: int,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[Batch]:
    """Batches of one rank from step `first` on. Ends early where `stopped` becomes true while a batch is waited for.

    Raises ResourceError where the workers are refused memory, shared memory or file handles, or do nothing.
    """
    sizes = (dataset.labelled_batch, dataset.pseudo_batch)
    settings: dict[str, Any] = {"collate_fn": collate}
    if workers:
        settings = {"collate_fn": _collate_shared, "num_workers": workers, "prefetch_factor": PREFETCH, "timeout": POLL}
    with _naming_limits(), naming_savings("loading images"):
        batches = iter(
            DataLoader(
                dataset,
                batch_sampler=places(first, steps, sizes, rank, world),
                worker_init_fn=_prepare_worker,
                pin_memory=torch.cuda.is_available(),
                **settings,
            )
        )
        started = [worker.pid for worker in batches._workers] if workers else []  # type: ignore[attr-defined]
        while (batch := _next(batches, started, stopped)) is not None:
            yield batch


def most_shared(images: Sequence[tuple[int, int]], crop: Sequence[int], workers: int) -> int:
    """Bytes of all batches that may exist at once, of (count, bytes per pixel) `images` of size `crop` (h, w)."""
    batch = sum(count * each for count, each in images) * crop[0] * crop[1]
    return (PREFETCH * workers + 1) * batch


def bytes_per_pixel(classes: int, *, strong: int = 0) -> tuple[int, int]:
    """Of a labelled and an unlabelled image in a batch; the latter with soft labels of `classes`, or in `strong` + 1 views."""
    image, hard, weight, inside = 3, 1, FLOAT, 1
    stored = image + hard + FLOAT * classes + weight
    return image + hard, image * (strong + 1) + inside if strong else stored


def check_shared(needed: int) -> None:
    """Raises ResourceError where the system has less than `needed` bytes of shared memory."""
    try:
        free = shutil.disk_usage(SHARED).free
    except OSError:  # not there: the first batch tells
        return
    if free < needed:
        sizes = f"{SHARED} has {free / 2**20:.1f} MiB free, and batches may take {needed / 2**20:.1f} MiB"
        raise ResourceError(f"{sizes}; {MORE_SHARED_MEMORY}")


def _next(batches: Iterator[Batch], workers: Sequence[int], stopped: Callable[[], bool]) -> Batch | None:
    """The next batch; None after the last one, and where `stopped` becomes true before it comes."""
    began, worked = time.monotonic(), _seconds_of_work(workers)
    while True:
        try:
            return next(batches, None)
        except RuntimeError as error:
            if "DataLoader timed out" not in str(error):
                raise
        if stopped():
            return None
        waited = time.monotonic() - began
        if waited > IDLE:
            if _seconds_of_work(workers) - worked < waited / 100:
                raise ResourceError(
                    f"no batch came for {waited:.0f} s, and the loader processes do nothing; "
                    "set train.workers=0 or see whether the images can be read, then run the same command"
                )
            began, worked = time.monotonic(), _seconds_of_work(workers)


def _seconds_of_work(workers: Sequence[int]) -> float:
    """What processes have computed so far; one that waits for a disk counts as working."""
    total = 0.0
    for number in workers:
        try:
            state, *fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended: torch will tell
            continue
        total += sum(map(int, fields[10:12])) / os.sysconf("SC_CLK_TCK") + (time.monotonic() if state == "D" else 0)
    return total


def _collate_shared(examples: list[Example | Seen]) -> Batch:
    return collate(examples).each(lambda tensor: tensor.share_memory_() if tensor.numel() else tensor)


def _prepare_worker(worker: int) -> None:
    """Ctrl-C and a scheduler's SIGTERM to the group are for the main process, which ends the workers after saving."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    process.unpin()
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(_give_up)  # type: ignore[attr-defined]


def _give_up(error: BaseException, _: object) -> NoReturn:
    """End this worker: it could not send a batch, which would be missing for ever."""
    print(f"a loader process cannot hand over a batch: {error}", file=sys.stderr, flush=True)
    limit = str(resource_error(error))
    os._exit(next((code for code, why in ENDINGS.items() if why in limit), 1))


@contextmanager
def _naming_limits() -> Iterator[None]:
    """Errors of workers that met a limit of the system become a ResourceError that names it."""
    try:
        yield
    except SelftrainError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.ENOENT) and not error.filename:
            raise ResourceError(SHARED_MEMORY) from error  # semaphores live there, too
        ended = re.search(r"exited unexpectedly with exit code (\d+)", str(error))
        if ended and int(ended[1]) in ENDINGS:
            raise ResourceError(ENDINGS[int(ended[1])]) from error
        limit = resource_error(error)
        if limit is None:
            raise
        raise limit from error
