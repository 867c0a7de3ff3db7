"""`selftrain compare RUN…`: runs beside one another, in the terminal and on a page.

A directory of several runs, such as a sweep, stands for its runs with a finished generation.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selftrain.commands import Commands, begun, command, path
from selftrain.errors import ConfigError
from selftrain.files import read_json, read_yaml
from selftrain.log import say
from selftrain.rundir import SEVERAL, SWEEP, RunDir

if TYPE_CHECKING:
    from selftrain.report.compare import Run

PAGE = "compare.html"


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    child = command(commands, compare, "runs/first runs/second -o compare.html", "runs/sweep")
    child.add_argument(
        "run_directories", type=path, nargs="+", metavar="RUN", help="two or more runs, or a sweep"
    )
    text = f"the page to write (default: {PAGE})"
    child.add_argument("-o", "--output", type=path, default=Path(PAGE), metavar="FILE.html", help=text)


def compare(arguments: argparse.Namespace) -> None:
    """Compare runs: scores with paired differences, curves, settings that differ; also of unfinished runs."""
    directories = [run for place in arguments.run_directories for run in _runs_of(place)]
    if len(directories) < 2:
        raise ConfigError("compare takes two or more runs: selftrain compare runs/a runs/b")
    if arguments.output.suffix != ".html":
        raise ConfigError(f"--output {arguments.output}: the page needs a name that ends in .html")
    found = [begun(directory) for directory in directories]
    from selftrain.choices import completed  # takes seconds to import; errors above are reported at once
    from selftrain.report.compare import Comparison
    from selftrain.settings.compared import differing

    runs = [_read(place, run, directories) for place, run in enumerate(found)]
    comparison = Comparison(runs, differing([dict(run.settings) for run in runs], completed))
    comparison.print()
    comparison.write(arguments.output)
    say(f"page: {arguments.output}")


def _runs_of(directory: Path) -> list[Path]:
    """The run in a directory, or all runs of a directory of several; a sweep has the best one first."""
    sheet = directory / SWEEP
    if not (directory / SEVERAL).is_file():
        return [directory]
    if sheet.is_file():
        rows = [row for row in read_json(sheet, "rows")["rows"] if "val" in row]
        names = [row["run"] for row in sorted(rows, key=lambda row: -row["val"])]
    else:
        names = sorted(path.parent.name for path in directory.glob("*/config.yaml"))
    found = [directory / name for name in names]
    ready = [run for run in found if RunDir(run).generation(0).report.is_file()]
    if not ready:
        raise ConfigError(f"{directory}: none of its runs has a finished generation")
    return ready


def _read(place: int, run: RunDir, directories: Sequence[Path]) -> "Run":
    """The run at a place among the compared runs. Raises ConfigError without a finished generation."""
    from selftrain.report.compare import Run

    settings = read_yaml(run.config, "generations")
    generations = [run.generation(number) for number in range(len(settings["generations"]))]
    finished = [gen.report for gen in generations if gen.report.is_file()]
    if not finished:
        raise ConfigError(f"{run.path} has no finished generation (selftrain status {run.path})")
    data = read_json(run.data)
    same = [one for one in directories if one.resolve().name == run.path.resolve().name]
    return Run(
        place,
        run.path.resolve().name if len(same) == 1 else str(run.path),
        settings,
        [read_json(report, "val", "promoted") for report in finished],
        read_json(run.report) if run.report.is_file() else {},
        _rows(run.metrics),
        {split: data.get(split) for split in ("val", "test")},
    )


def _rows(file: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl. The last one may be torn while a run writes it."""
    rows = []
    for line in file.read_text(errors="replace").splitlines() if file.is_file() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows
