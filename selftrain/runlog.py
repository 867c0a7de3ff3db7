"""run.log: what a run printed, with times. A resumed run appends to it; one process of a run writes it."""

import os
import re
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from selftrain import __version__
from selftrain.files import naming

STAMP = "%Y-%m-%d %H:%M:%S"  # local time, before each line
BEGINS = "process"  # the first word of each process
PROGRESS = re.compile(r"\S+ \S+  gen\d[\w. ]*?  \d+/\d+  ")  # a progress line of log.py
WAITING = 1000  # lines that wait for the file at most


@dataclass
class _Log:
    """The log of this process, and the lines that wait for it."""

    path: Path | None = None
    waiting: deque[str] = field(default_factory=lambda: deque(maxlen=WAITING))


_LOG = _Log()


def note(message: str) -> None:
    """Add lines to the log without printing them. Before `keep`, they wait."""
    _LOG.waiting.extend(f"{time.strftime(STAMP)}  {line}\n" for line in message.splitlines())
    if _LOG.path is not None:
        with naming(_LOG.path), open(_LOG.path, "a", encoding="utf-8") as file:
            while _LOG.waiting:
                file.write(_LOG.waiting.popleft())


def keep(path: Path) -> None:
    """Write what was printed so far to `path`, and from here on everything that is printed.

    Does nothing if the user has redirected standard output to this file.
    """
    with suppress(OSError, ValueError):
        if os.path.samestat(os.fstat(sys.stdout.fileno()), os.stat(path)):
            return
    _LOG.waiting.appendleft(f"{time.strftime(STAMP)}  {BEGINS} {os.getpid()}, selftrain {__version__}\n")
    _LOG.path = path
    note("")


def release() -> None:
    """Forget the file: what is printed from here on waits for the log of the next run of this process."""
    _LOG.path = None
    _LOG.waiting.clear()


@contextmanager
def noting_the_end() -> Iterator[None]:
    """If the block fails, add the reason to the log."""
    try:
        yield
    except BaseException as error:
        with suppress(OSError):
            note(f"ended: {str(error) or type(error).__name__}")
        raise


def last_progress(path: Path) -> str:
    """The last progress line of the process that writes the log, with its time; "" if there is none."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    here = max((number for number, line in enumerate(lines) if f"  {BEGINS} " in line), default=0)
    return next((line for line in reversed(lines[here:]) if PROGRESS.match(line)), "")
