"""Output of a working run: metrics.jsonl, trackers and progress (rich on a terminal, else plain lines)."""

import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selftrain import runlog
from selftrain.files import naming, write_bytes

SCALING = 10.0  # the most that a measured stage changes the forecast of later ones
PLAIN_SECONDS = 10.0  # between two plain progress lines
Tracker = Callable[[str, int, Mapping[str, float]], None]  # a stage, its step, and values


class Metrics:
    """metrics.jsonl: one row per measurement.

    Values depend only on seeds (no times), so a resumed run writes the same rows. On every rank but the main
    one, `path` is None and nothing is written.
    """

    def __init__(self, path: Path | None):
        self.path = path
        self.track: Tracker | None = None
        self.noticed: Callable[[], None] | None = None  # called after a row is written

    def write(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        """Append a row for `step` of `stage`, and pass it to the tracker."""
        if self.path is None:
            return
        with naming(self.path), open(self.path, "a") as file:
            file.write(json.dumps({"stage": stage, "step": step, **values}) + "\n")
        if self.track:
            self.track(stage, step, values)
        if self.noticed:
            self.noticed()

    def rows(self) -> list[dict]:
        """The rows written so far."""
        if self.path is None or not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def sync(self) -> None:
        """Fsync the file. Called before a checkpoint or a report that refers to it."""
        if self.path is not None and self.path.exists():
            with open(self.path, "rb+") as file:
                os.fsync(file.fileno())

    def rewind(self, stage: str, step: int) -> None:
        """Remove rows of a stage after `step`, and rows torn by a kill or a power cut.

        They will be written again.
        """
        if self.path is None or not self.path.exists():
            return
        lines = self.path.read_text().splitlines(keepends=True)
        kept = [line for line in lines if _keep(line, stage, step)]
        if kept != lines:
            write_bytes(self.path, "".join(kept).encode())


def _keep(line: str, stage: str, step: int) -> bool:
    try:
        row = json.loads(line)
    except ValueError:
        return False
    return line.endswith("\n") and (row["stage"] != stage or row["step"] <= step)


def print_any_letter() -> None:
    """Print characters that a terminal or log cannot encode as escape codes, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(message: str) -> None:
    """Print a line for the user, and add it to the run's log."""
    print(message, flush=True)
    runlog.note(message)


_expected: dict[str, float] = {}  # the forecast of this process's run


def expect(seconds: Mapping[str, float]) -> None:
    """From now on, progress lines also tell the time left for the whole run.

    `seconds` is the forecast of each stage in order, by the name of its progress line.
    """
    _expected.clear()
    _expected.update(seconds)


def later(stage: str, whole: float) -> float | None:
    """The seconds that the stages after `stage` will take; None without a forecast.

    The forecast is scaled by that of this stage, which will take `whole` seconds in all.
    """
    if not _expected.get(stage):
        return None
    names = list(_expected)
    after = sum(_expected[name] for name in names[names.index(stage) + 1 :])
    return after * min(max(whole / _expected[stage], 1 / SCALING), SCALING)


class Progress:
    """Progress of one stage: call `show(done, note)` at any rate. A total of None is not known yet."""

    def __init__(self, stage: str, total: int | None, *, start: int = 0, per_step: int = 1):
        self.stage, self.total, self.start, self.per_step = stage, total, start, per_step
        self.began = self.said = time.monotonic()
        self.bar = _rich_bar(stage, total, start) if sys.stdout.isatty() else None

    def show(self, done: int, note: str = "") -> None:
        """Report that `done` of the total are done, with `note` beside it."""
        now = time.monotonic()
        note = f"{note}  {self.rate(done, now):.1f} images/s"
        if self.bar:
            progress, task = self.bar
            progress.update(task, completed=done, note=note)
        if now - self.said >= PLAIN_SECONDS or done == self.total:
            self.said = now
            if self.total is None:
                (runlog.note if self.bar else say)(f"{self.stage}  {done}  {note}")
                return
            each = (now - self.began) / max(done - self.start, 1)
            left, rest = each * (self.total - done), later(self.stage, each * self.total)
            run = "" if rest is None else f", {_clock(left + rest)} for the run"
            tell = runlog.note if self.bar else say
            tell(f"{self.stage}  {done}/{self.total}  {note}  {_clock(left)} left{run}")

    def rate(self, done: int, now: float) -> float:
        """Images per second since this process started or resumed the stage."""
        return (done - self.start) * self.per_step / max(now - self.began, 1e-9)

    def close(self) -> None:
        if self.bar:
            self.bar[0].stop()


@contextmanager
def progress(
    stage: str, total: int | None, *, start: int = 0, per_step: int = 1, show: bool = True
) -> Iterator[Callable[..., None]]:
    """Yield a function `show(done, note)`; it is silent if `show` is false (other ranks)."""
    if not show:
        yield lambda *_: None
        return
    bar = Progress(stage, total, start=start, per_step=per_step)
    try:
        yield bar.show
    finally:
        bar.close()


def _rich_bar(stage: str, total: int | None, start: int) -> tuple[Any, Any]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
    )
    bar = Progress(*columns, TimeRemainingColumn())
    bar.start()
    return bar, bar.add_task(stage, total=total, completed=start, note="")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
