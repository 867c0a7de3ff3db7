"""`selftrain report RUN`: the table of a run, and its page."""

import argparse
import webbrowser
from pathlib import Path

from selftrain.commands import Commands, begun, command, path
from selftrain.errors import ConfigError, ResourceError
from selftrain.files import read_json
from selftrain.rundir import RunDir


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    child = command(commands, report, "runs/first", "runs/first --open")
    child.add_argument("run_directory", type=path)
    child.add_argument("--open", action="store_true", help="open report.html in the browser")


def report(arguments: argparse.Namespace) -> None:
    """Print the table of a run, as far as it has come; with --open, open its page in a browser."""
    from selftrain.report.summary import SHOWN, print_table

    run = begun(arguments.run_directory)
    if run.report.is_file():
        found = read_json(run.report, *SHOWN)
        print_table(found, run.page, run.export, run.student_export(found))
    else:
        print_table(_so_far(run), run.page)
    if arguments.open:
        _open(run.page)


def _so_far(run: RunDir) -> dict:
    """The finished generations of a run that goes on. Raises ConfigError if there is none."""
    rows, number = list[dict](), 0
    while run.generation(number).report.is_file():
        rows.append(
            read_json(run.generation(number).report, "generation", "model", "steps", "val", "promoted")
        )
        number += 1
    if not rows:
        raise ConfigError(
            f"{run.path} has no finished generation yet (selftrain status {run.path}); its page is "
            f"{run.page if run.page.is_file() else 'written after the first stage'}"
        )
    leader = max(row["generation"] for row in rows if row["promoted"])
    return {"generations": rows, "best": leader, "test": None, "teacher_test": None}


def _open(page: Path) -> None:
    """Raises ConfigError without a page, ResourceError without a browser."""
    if not page.is_file():
        raise ConfigError(f"{page} is not written yet: the first one comes after the first stage")
    if not webbrowser.open(page.absolute().as_uri()):
        raise ResourceError(f"no browser was found; open {page} in one, or set BROWSER")
