"""When the page of a run is written, and what a fault of the page does."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from selftrain import live
from selftrain.rundir import RunDir


class Clock:
    now = 0.0

    def monotonic(self):
        return self.now

    def strftime(self, form):
        return form


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(live, "time", clock)
    monkeypatch.setattr(live.Page, "_report", lambda self: {"generations": self.reports})
    return clock


@pytest.fixture
def page(clock, monkeypatch, tmp_path):
    """A page whose writing takes `page.slow` seconds; `page.seen` has the reports that it was written for."""
    session = SimpleNamespace(run=RunDir(tmp_path), accelerator=SimpleNamespace(is_main_process=True))
    page = live.Page(session, None, written=clock.now)
    page.seen, page.slow, page.fault = [], 0.0, None

    def write(session, report, shown, labels, *, running):
        clock.now += page.slow
        if page.fault:
            raise page.fault
        page.seen.append((list(report["generations"]), labels))

    monkeypatch.setattr(live, "write", write)
    return page


def test_a_stage_gets_a_page_unless_the_last_one_is_seconds_old(page, clock):
    clock.now = live.SHORT - 1
    page.stage([1])
    assert page.seen == []
    clock.now = live.SHORT
    page.stage([1], "labels")
    page.stage([1, 2])
    assert page.seen == [([1], "labels")]
    clock.now += live.PAUSE
    page.refresh()
    assert page.seen[1:] == [([1, 2], None)]  # what was known by then


def test_refreshes_take_a_small_share_of_the_time(page, clock):
    page.slow = 10.0
    clock.now = live.PAUSE
    page.refresh()
    for _ in range(10):
        clock.now += 0.5 * live.PAUSE
        page.refresh()
    assert len(page.seen) == 1
    clock.now += page.slow / live.SHARE
    page.refresh()
    assert len(page.seen) == 2


def test_a_fault_of_the_page_is_printed_and_a_full_disk_is_an_error(page, clock, capsys):
    page.fault = KeyError("colour")
    clock.now = live.PAUSE
    page.refresh()
    assert "report.html is not written (KeyError: 'colour'); the run goes on" in capsys.readouterr().out
    page.fault = OSError(28, "No space left on device")
    clock.now += live.PAUSE
    with pytest.raises(OSError, match="No space"):
        page.refresh()


def test_a_rank_that_is_not_the_first_writes_nothing(page, clock):
    page.session.accelerator.is_main_process = False
    clock.now = live.SHORT
    page.stage([1])
    assert page.seen == [] and not any(Path(page.session.run.path).iterdir())
