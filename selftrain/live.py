"""report.html of a run: written after every stage, refreshed while a stage goes on, and complete at the end.

It changes no other file and no result. Only the main process writes it.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from selftrain import files, runlog, times
from selftrain.errors import SelftrainError
from selftrain.log import say
from selftrain.report import details, page
from selftrain.rng import untouched
from selftrain.session import Session
from selftrain.shown import Shown, about_run, with_labels
from selftrain.stages.select import SelectedLabels
from selftrain.values import worded

SHORT = 10.0  # seconds; a stage that ends so soon after the last page, or the start, gets no page of its own
PAUSE = 60.0  # least seconds between two refreshes during a stage
SHARE = 0.02  # most of the time that refreshes may take


@dataclass
class Page:
    """The page of a run while it goes on."""

    session: Session
    shown: Shown
    reports: Sequence[dict] = ()  # of the finished generations
    labels: SelectedLabels | None = None  # on which the next generation trains
    written: float = field(default_factory=time.monotonic)
    cost: float = 0.0  # seconds that the last page took

    def stage(self, reports: Sequence[dict], labels: SelectedLabels | None = None) -> None:
        """Write the page after a stage.

        `reports` has a report for each finished generation. The next generation trains on `labels`.
        """
        self.reports, self.labels = list(reports), labels
        if self.session.accelerator.is_main_process and time.monotonic() - self.written >= SHORT:
            self._write()

    def refresh(self) -> None:
        """Write the page again if it is old. The main process calls this at any rate."""
        if time.monotonic() - self.written >= max(PAUSE, self.cost / SHARE):
            self._write()

    def _write(self) -> None:
        """Write the page. A fault of the page must not end a run that trains: it is printed."""
        began = time.monotonic()
        with untouched():
            try:
                write(self.session, self._report(), self.shown, self.labels, running=self._progress())
            except (OSError, SelftrainError):
                raise
            except Exception as error:
                said = f"{type(error).__name__}: {error}"
                say(f"{self.session.run.page.name} is not written ({said}); the run goes on")
        self.written = time.monotonic()
        self.cost = self.written - began

    def _progress(self) -> str:
        last = runlog.last_progress(self.session.run.log)
        now = f"Written at {time.strftime(runlog.STAMP)}."
        return f"{now} Last line of the log: {last}" if last else now

    def _report(self) -> dict:
        """report.json as far as it is known, with a row for the generation that comes next."""
        rows = with_labels(self.session, self.reports)
        promoted = [row["generation"] for row in self.reports if row["promoted"]]
        if len(rows) < len(self.session.plans):
            plan, labels = self.session.plans[len(rows)], self.labels
            model = {"arch": worded(plan.arch), "encoder": plan.encoder}
            teacher = labels.generation if labels else None
            rows.append({"unfinished": True, "model": model, "online": plan.online, "teacher": teacher})
        return {
            "generations": rows,
            "best": max(promoted, default=None),
            **about_run(self.session, self.reports),
        }


def write(
    session: Session,
    report: dict,
    shown: Shown,
    labels: SelectedLabels | None = None,
    *,
    running: str = "",
) -> None:
    """Write report.html for `report`, the content of report.json.

    The generation in training, if there is any, trains on `labels`. `running` says how far the run is; the
    page of a finished run has none.
    """
    taught = shown.taught(report, labels)
    html = page.render(
        report,
        classes=session.data.classes,
        metrics=session.metrics.rows(),
        predictions=shown.predictions(report),
        pseudo_labels=[row for one in taught for row in shown.spread(one)],
        extremes=shown.extremes(report),
        surroundings=details.Surroundings(
            times.read(session.run.times),
            shown.changed,
            shown.set_aside,
            {one.teacher: shown.facts(one) for one in taught},
            shown.failures(report),
            running,
        ),
    )
    files.write_bytes(session.run.page, html.encode())
