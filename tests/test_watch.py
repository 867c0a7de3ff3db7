"""selftrain status --watch: what it shows of a run, on a terminal and elsewhere."""

import sys
from pathlib import Path

import pytest

from selftrain.commands import watch
from selftrain.commands.state import State
from selftrain.errors import StoppedError
from selftrain.rundir import RunDir

ABOUT = ["gen0  val mIoU 0.4312  promoted", "leader: generation 0"]
LINE = "2026-11-30 12:31:05  gen1  {}/1000  loss 0.412  85.1 images/s  2:08 left"


@pytest.fixture
def states(monkeypatch, tmp_path):
    """Shows a running run at steps 250 and 500, and then what a test adds."""
    run = RunDir(tmp_path)
    found = [State(run, ABOUT, 4211, LINE.format(step)) for step in (250, 250, 500)]
    monkeypatch.setattr(watch, "state_of", lambda _: found.pop(0))
    return found


def test_elsewhere_than_on_a_terminal_lines_are_printed_as_they_change(states, tmp_path, capsys):
    (tmp_path / "report.json").write_text("{}")
    states.append(State(RunDir(tmp_path), ABOUT, None, ""))
    watch.watch(RunDir(tmp_path), pause=0)
    lines = capsys.readouterr().out.splitlines()
    running = [f"last line: {LINE.format(250)}", "running (process 4211)", f"last line: {LINE.format(500)}"]
    assert lines == [*ABOUT, *running, "finished"] and not states


def test_a_terminal_shows_a_bar_and_an_end_before_the_end_is_an_error(states, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    states.append(State(RunDir(tmp_path), ABOUT, None, ""))
    with pytest.raises(StoppedError, match=r"selftrain resume .* resumes it"):
        watch.watch(RunDir(tmp_path), pause=0)
    said = capsys.readouterr().out
    assert ABOUT[0] in said and "━" in said


def test_a_bar_is_as_long_as_the_stage_is_done():
    def bar(progress):
        *_, last = watch._drawn(State(RunDir(Path("run")), [], 1, progress)).renderables
        return (last.completed, last.total) if hasattr(last, "completed") else None

    assert bar(LINE.format(250)) == (250, 1000)
    assert bar("2026-11-30 12:31:05  gen0.1 out of fold  3/8    9.1 images/s") == (3, 8)
    assert bar("") is None
