"""The tables of `selftrain evaluate`: as in a run's report, for one model on one data set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from selftrain import __version__
from selftrain.report import details
from selftrain.report.details import SCORES
from selftrain.report.page import template
from selftrain.report.reading import number

TEMPLATE = "evaluation.html.j2"


@dataclass(frozen=True)
class Shown:
    """A table: its title, the heads of its columns, its rows of text, and a note below it."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


def tables(scores: Mapping, classes: Sequence[str]) -> list[Shown]:
    """The tables for the scores of `evaluate(closely=True)`; those without a row are left out."""
    values = [(label, number(scores, name)) for name, label in SCORES.items()]
    rows = [[label, _number(value)] for label, value in values if value is not None]
    found = [Shown("Scores", ["score", "value"], rows)]
    rows = [
        [row.name, *map(_number, (number(scores, "per_class", row.name), *row.values))]
        for row in details.calibration(scores, classes)
    ]
    heads = ["class", "IoU", "boundary F1", "confidence", "right", "ECE"]
    note = (
        "of the pixels that are predicted as the class, confidence is the mean, and right the correct share"
    )
    found.append(Shown("Classes", heads, rows, note))
    grid = details.grid(scores, classes)
    if grid:
        rows = [[name, *(f"{share:.0f}" for share in shares)] for name, shares in grid.rows]
        note = "a row is a class of the masks; its cells say in per cent what its pixels are predicted as"
        found.append(Shown("Confusion", ["true class", *grid.columns], rows, note))
    failures = details.failures_of_classes(scores)
    found.append(
        Shown(
            "Where each class fails", ["class", "image", "there"], [[c, *row] for c, row in failures.items()]
        )
    )
    worst = [list(row) for row in details.failures(scores, "worst")]
    found.append(Shown("Images with the lowest scores", ["image", "there"], worst))
    return [one for one in found if one.rows]


def print_tables(shown: Sequence[Shown]) -> None:
    """Print the tables."""
    console = Console(highlight=False, markup=False)
    for one in shown:
        table = Table(*one.heads, title=one.title, title_justify="left", caption=one.note or None)
        for row in one.rows:
            table.add_row(*row)
        console.print(table)


def render(shown: Sequence[Shown], *, title: str, about: Sequence[tuple[str, str]]) -> str:
    """The tables as one page without scripts; `about` has facts by name."""
    return template(TEMPLATE).render(shown=shown, title=title, about=about, version=__version__)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
