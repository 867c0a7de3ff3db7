"""Objects that will be needed soon are fetched into the cache by threads, while earlier ones are in use."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from os import getpid
from pathlib import Path
from typing import TypeVar

from selftrain import process
from selftrain.data import places, remote
from selftrain.data.storage import Member

THREADS = 16
AHEAD = 4  # batches that are fetched before they are needed
Item = TypeVar("Item")


def ahead(items: Iterable[Item], needed: Callable[[Item], Iterable[object]]) -> Iterator[Item]:
    """The items unchanged. The files that `needed` names for the next AHEAD items are being fetched.

    `needed` returns samples; anything without `opened` needs none. It is not asked in a process that reads no
    remote store. Errors of a fetch are left to the reader, which meets them again.
    """
    if not places.is_any_used():
        yield from items
        return
    coming: deque[Item] = deque()
    for item in items:
        coming.append(item)
        for sample in needed(item):
            for path in getattr(sample, "opened", ()):
                _waiting(getpid()).put(path)
        if len(coming) > AHEAD:
            yield coming.popleft()
    yield from coming


@lru_cache(maxsize=1)
def _waiting(pid: int) -> "queue.Queue[Path]":
    """The paths that the threads of this process are to fetch. The threads end with the process."""
    waiting: queue.Queue[Path] = queue.Queue()
    for _ in range(THREADS):
        threading.Thread(target=_fetch, args=(waiting,), name="fetcher", daemon=True).start()
    return waiting


def _fetch(waiting: "queue.Queue[Path]") -> None:
    process.unpin()
    while True:
        path, part = waiting.get(), slice(None)
        if isinstance(path, Member):
            part = slice(path.offset, path.offset + path.length)
            path = path.shard
        stored = places.behind(path)
        if stored:
            with suppress(Exception):
                remote.fetch(stored, part)
