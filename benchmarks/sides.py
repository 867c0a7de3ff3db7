"""Shared by the benchmarks: two sides in turns, rows of results, their table and JSON."""

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One measured thing. `ours` and `reference` in `unit`; `ratio` is how many times better ours is."""

    what: str
    ours: float
    reference: float | None
    unit: str
    ratio: float | None
    goal: str
    met: bool


def in_turns(sides: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each side.

    Sides take turns, so that noise affects all alike; a first round is not counted.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, side in sides.items():
            began = time.perf_counter()
            side()
            if number:
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


@contextmanager
def apart(make: Callable[..., Callable[[], object]], *arguments: object) -> Iterator[Callable[[], object]]:
    """A side in a separate process, independent of this one's settings.

    `make(*arguments)` gives the called function.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, make, arguments))  # may have loader processes
    process.start()
    there.close()  # so that its end is noticed here

    def call() -> object:
        here.send(True)
        return here.recv()

    try:
        yield call
    finally:
        here.close()
        process.join()


def _serve(connection: Connection, make: Callable[..., Callable[[], object]], arguments: tuple) -> None:
    side = make(*arguments)
    with suppress(EOFError):
        while connection.recv():
            connection.send(side())


def faster(what: str, ours: float, reference: float, unit: str, goal: float) -> Row:
    """A row of two rates; ours should be `goal` times the reference."""
    return Row(what, ours, reference, unit, ours / reference, f">= {goal:g}x", ours / reference >= goal)


def below(what: str, value: float, unit: str, limit: float) -> Row:
    """A row of one number that should not exceed `limit`."""
    return Row(what, value, None, unit, None, f"<= {limit:g} {unit}", value <= limit)


def measured(what: str, value: float, unit: str) -> Row:
    """A row of one number without a goal."""
    return Row(what, value, None, unit, None, "", True)


def parser(text: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the rows to this file, as JSON")
    parser.add_argument("--rounds", type=int, default=3)
    return parser


def finish(rows: list[Row], out: Path | None) -> None:
    """Print the rows and save them."""
    print(table(rows), flush=True)
    if out:
        out.write_text(json.dumps([asdict(row) for row in rows], indent=1))


def table(rows: list[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| what | ours | reference | ratio | goal | met |", "| --- | --- | --- | --- | --- | --- |"]
    for row in rows:
        reference = "" if row.reference is None else f"{row.reference:.4g} {row.unit}"
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}x"
        met = ("yes" if row.met else "NO") if row.goal else ""
        lines.append(
            f"| {row.what} | {row.ours:.4g} {row.unit} | {reference} | {ratio} | {row.goal} | {met} |"
        )
    return "\n".join(lines)


def put(page: Path, mark: str, text: str) -> None:
    """Replace the text of `page` between <!-- mark --> and the next <!-- end -->."""
    begin, end = f"<!-- {mark} -->\n", "<!-- end -->\n"
    before, found, rest = page.read_text().partition(begin)
    assert found, f"{page} has no {begin!r}"
    page.write_text(f"{before}{begin}{text}\n{end}{rest.partition(end)[2]}")


def cpu() -> str:
    """The CPU's name and its relevant instruction sets."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    facts = {line.partition(":")[0].strip(): line.partition(":")[2].strip() for line in lines}
    flags = facts.get("flags", "").split()
    wide = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags]
    return f"{facts.get('model name', 'an unknown CPU')} ({' '.join(wide)})"
