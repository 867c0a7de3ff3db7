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

TRUST = 0.1  # the share of a whole run by which a forecast counts against what is measured
SOON = 5.0  # seconds of steps after which the time left of a stage is known
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
_measured: dict[str, tuple[float, float]] = {}  # of each stage: its seconds so far, and their forecast


def expect(seconds: Mapping[str, float]) -> None:
    """From now on, progress lines also tell the time left for the whole run.

    `seconds` is the forecast of each stage in order, by the name of its progress line.
    """
    _expected.clear()
    _measured.clear()
    _expected.update(seconds)


def later(stage: str, took: float, share: float) -> float | None:
    """The seconds that the stages after `stage` will take; None without a forecast.

    `took` seconds were spent on a `share` of the stage. The forecast is multiplied by the measured time of
    all stages so far, divided by its forecast. A tenth of the run's forecast is added to both times, so a
    single slow stage changes the rest only a little.
    """
    if not _expected.get(stage):
        return None
    _measured[stage] = (took, share * _expected[stage])
    names = list(_expected)
    after = sum(_expected[name] for name in names[names.index(stage) + 1 :])
    trusted = TRUST * sum(_expected.values())
    measured, forecast = (sum(column) for column in zip(*_measured.values(), strict=True))
    return after * (measured + trusted) / (forecast + trusted)


class Progress:
    """Progress of one stage: call `show(done, note)` at any rate. A total of None is not known yet."""

    def __init__(self, stage: str, total: int | None, *, start: int = 0, per_step: int = 1):
        self.stage, self.total, self.start, self.per_step = stage, total, start, per_step
        self.began = self.said = time.monotonic()
        self.first = (start, self.began)  # where the measurement of a step begins, and when
        self.bar = _rich_bar(stage, total, start) if sys.stdout.isatty() else None

    def show(self, done: int, note: str = "") -> None:
        """Report that `done` of the total are done, with `note` beside it."""
        now = time.monotonic()
        if self.first[0] == self.start < done:
            self.first = (done, now)  # what came before contains the start of the stage
        note = f"{note}  {self.rate(done, now):.1f} images/s"
        if self.bar:
            progress, task = self.bar
            progress.update(task, completed=done, note=note)
        if now - self.said >= PLAIN_SECONDS or done == self.total:
            self.said = now
            if self.total is None:
                (runlog.note if self.bar else say)(f"{self.stage}  {done}  {note}")
                return
            tell = runlog.note if self.bar else say
            tell(f"{self.stage}  {done}/{self.total}  {note}{self._left(done, now)}")

    def _left(self, done: int, now: float) -> str:
        """The time left for the stage and for the run, in words; "" before it can be known."""
        assert self.total is not None
        steps, seconds = done - self.first[0], now - self.first[1]
        if done == self.total:
            left, rest = 0.0, later(self.stage, now - self.began, (done - self.start) / max(self.total, 1))
        elif steps and seconds >= SOON:
            left, rest = seconds / steps * (self.total - done), later(self.stage, seconds, steps / self.total)
        else:
            return ""
        run = "" if rest is None else f", {_clock(left + rest)} for the run"
        return f"  {_clock(left)} left{run}"

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
    """Minutes and seconds. Above two minutes they are rounded to tens of seconds, as no estimate is exact."""
    exact = 1 if seconds < 120 else 10
    minutes, rest = divmod(round(seconds / exact) * exact, 60)
    return f"{minutes}:{rest:02d}"
