"""`selftrain status RUN --watch`: the state of a run until it ends."""

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from selftrain.commands.state import State, state_of
from selftrain.errors import StoppedError
from selftrain.log import say
from selftrain.rundir import RunDir

if TYPE_CHECKING:
    from rich.console import Group

PAUSE = 1.0  # seconds between two looks
DONE = re.compile(r"  (?P<stage>gen\d\S*.*?)  (?P<done>\d+)/(?P<of>\d+)  ")  # in a progress line
Show = Callable[[State], None]


def watch(run: RunDir, *, pause: float = PAUSE) -> None:
    """Show the state of a run until no process works on it; reads only.

    On a terminal the view is refreshed. Elsewhere, lines are printed as they change. Raises StoppedError if
    the run ends before it is finished, KeyboardInterrupt for Ctrl-C.
    """
    with _on_terminal() if sys.stdout.isatty() else _as_lines() as show:
        while True:
            state = state_of(run)
            show(state)
            if not state.running:
                break
            time.sleep(pause)
    if not state.finished:
        raise StoppedError(state.ended)


@contextmanager
def _as_lines() -> Iterator[Show]:
    """Print lines that the last state did not have."""
    before: list[str] = []

    def show(state: State) -> None:
        for line in state.lines:
            if line not in before:
                say(line)
        before[:] = state.lines

    yield show


@contextmanager
def _on_terminal() -> Iterator[Show]:
    """Draw each state over the last one."""
    from rich.live import Live

    with Live(auto_refresh=False, vertical_overflow="visible") as live:
        yield lambda state: live.update(_drawn(state), refresh=True)


def _drawn(state: State) -> "Group":
    """The lines of a state, with a bar for the stage that goes on."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    parts: list[Text | ProgressBar] = [Text(line) for line in state.lines]
    found = DONE.search(state.progress) if state.running else None
    if found:
        parts.append(ProgressBar(total=float(found["of"]), completed=float(found["done"]), width=60))
    return Group(*parts)
