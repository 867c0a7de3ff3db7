"""Commands of `selftrain` on runs. A module imports what is slow to import only when its command runs."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from selftrain.errors import ConfigError
from selftrain.rundir import RunDir

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def command(commands: Commands, function: Callable[[argparse.Namespace], None]) -> argparse.ArgumentParser:
    """The parser of a new command, with the name and the docstring of `function`."""
    name = function.__name__.replace("_", "-")
    child = commands.add_parser(name, help=function.__doc__, description=function.__doc__)
    child.set_defaults(run=function)
    return child


def path(text: str) -> Path:
    """A path as it is given; `--output=~/x` arrives with its `~`."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}") from None


def begun(directory: Path) -> RunDir:
    """The run in a directory. Raises ConfigError if there is none."""
    run = RunDir(directory)
    if not run.config.is_file():
        raise ConfigError(f"{run.path} is not a run directory: it has no {run.config.name}")
    return run
