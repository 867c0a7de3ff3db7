"""Several runs beside one another: a table in the terminal, and a page with overlaid curves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from selftrain import __version__, files
from selftrain.report import figures
from selftrain.report.details import SCORES
from selftrain.report.page import clock, points_of, template
from selftrain.report.reading import number, pick
from selftrain.scores import paired

Changed = Sequence[tuple[str, Sequence[str]]]  # settings that differ, with the value of each run
TEMPLATE = "compare.html.j2"
SPLITS = ("val", "test")


@dataclass(frozen=True)
class Run:
    """What is compared of a run, which need not be finished.

    `reports` has a report for each finished generation, at least one. `report` is report.json, or {}.
    `images` has the entries of data.json for val and test, by which runs are known to have the same images.
    """

    place: int  # among the runs; it chooses colour and dashes
    label: str
    settings: Mapping[str, Any]
    reports: Sequence[Mapping[str, Any]]
    report: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]]
    images: Mapping[str, Any]

    @property
    def leader(self) -> int:
        """The last promoted generation."""
        return max(k for k, row in enumerate(self.reports) if row.get("promoted") or not k)

    @property
    def seconds(self) -> float:
        return sum(number(row, "seconds") or 0.0 for row in self.reports)

    @property
    def colour(self) -> str:
        return figures.colour(self.place)

    @property
    def dashes(self) -> str:
        return figures.dashes(self.place)

    def scores(self, split: str) -> Mapping[str, Any]:
        """The leader's scores on val or test; {} if they are not known."""
        return (pick(self.reports[self.leader], "val") if split == "val" else pick(self.report, "test")) or {}

    def points(self, name: str, *keys: str) -> list[tuple[float, float]]:
        """A logged score by optimizer step, counted over all generations.

        At the end of each generation there is the score of its finished network, at `keys` of its report.
        """
        points, before = list[tuple[float, float]](), 0.0
        for k, row in enumerate(self.reports):
            points += [(before + step, value) for step, value in points_of(self.metrics, f"gen{k}", name)]
            before += number(row, "steps") or 0.0
            last = number(row, *keys) if keys else None
            points += [] if last is None else [(before, last)]
        return points


@dataclass(frozen=True)
class Difference:
    """A run's mIoU minus the first run's on the same images, and the standard error; or why there is none."""

    value: float | None = None
    error: float | None = None
    reason: str = ""

    def __str__(self) -> str:
        if self.value is None:
            return self.reason
        return f"{self.value:+.4f} ± {self.error:.4f}".replace("-", "−")


def difference(run: Run, first: Run, split: str) -> Difference:
    """The paired difference of two runs' leaders on a split, with its error over blocks of images."""
    mine, other = run.scores(split), first.scores(split)
    if run is first or not mine or not other:
        return Difference()
    if run.images.get(split) != first.images.get(split):
        return Difference(reason=f"other {split} images")
    try:
        return Difference(*paired(mine, other))
    except ValueError:  # another number of blocks: another version's report
        return Difference(reason="not comparable")


@dataclass(frozen=True)
class Comparison:
    """Runs, compared with the first of them, and the settings that differ."""

    runs: Sequence[Run]
    changed: Changed

    @cached_property
    def differences(self) -> dict[str, list[Difference]]:
        """By split, for each run."""
        return {split: [difference(run, self.runs[0], split) for run in self.runs] for split in SPLITS}

    @property
    def classes(self) -> list[str]:
        """The names of all classes, in the order in which they appear."""
        named = [name for run in self.runs for name in pick(run.scores("val"), "per_class") or {}]
        return list(dict.fromkeys(named))

    def table(self) -> list[list[str]]:
        """A row of text for each run, without its settings; the first row has the heads."""
        rows = [["run", "leader"]]
        for split in SPLITS:
            rows[0] += [f"{split} mIoU", f"{split} minus first"]
        rows[0].append("training")
        for place, run in enumerate(self.runs):
            row = [run.label, f"gen{run.leader} of {len(run.reports)}"]
            for split in SPLITS:
                row += [_four(number(run.scores(split), "miou")), str(self.differences[split][place])]
            rows.append([*row, clock(run.seconds) or ""])
        return rows

    def print(self) -> None:
        """Print the table and the settings that differ."""
        console = Console(highlight=False, markup=False)
        heads, *rows = self.table()
        table = Table(*heads)
        for row in rows:
            table.add_row(*row)
        console.print(table)
        if self.changed:
            settings = Table("setting", *(run.label for run in self.runs))
            for name, values in self.changed:
                settings.add_row(name, *values)
            console.print(settings)

    def write(self, path: Path) -> None:
        """Write the page: one file without scripts."""
        files.write_bytes(path, self.page().encode())

    def page(self) -> str:
        """The page as text."""
        curves = {
            "val": ("val_miou", "val", "miou"),
            "train": ("train_miou", "train", "miou"),
            "loss": ("labelled_loss",),
            "lr": ("lr",),
        }
        plots = {
            plot: figures.curves(
                {run.place: run.points(name, *keys) for run in self.runs}, smooth=plot == "loss"
            )
            for plot, (name, *keys) in curves.items()
        }
        heads, *rows = self.table()
        return template(TEMPLATE).render(
            version=__version__,
            runs=self.runs,
            heads=heads,
            rows=rows,
            scores=_known(SCORES, [run.scores("val") for run in self.runs]),
            classes=_known(
                {name: name for name in self.classes},
                [pick(run.scores("val"), "per_class") or {} for run in self.runs],
            ),
            changed=self.changed,
            plots=plots,
        )


def _known(
    labels: Mapping[str, str], trees: Sequence[Mapping[str, Any]]
) -> list[tuple[str, list[float | None]]]:
    """Rows of a label and the number of each tree; rows without any number are left out."""
    rows = [(label, [number(tree, name) for tree in trees]) for name, label in labels.items()]
    return [row for row in rows if any(value is not None for value in row[1])]


def _four(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
