"""Commands of `selftrain` on runs. A module imports what is slow to import only when its command runs."""

import argparse
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from selftrain.errors import ConfigError
from selftrain.rundir import SEVERAL, RunDir
from selftrain.settings.shown import WIDTH, epilog

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def command(
    commands: Commands,
    function: Callable[[argparse.Namespace], None],
    *examples: str,
    settings: Sequence[str] = (),
) -> argparse.ArgumentParser:
    """The parser of a new command, with the name and the docstring of `function`.

    Its help ends with the examples, which are the words after the command's name, and with the `settings`
    that matter.
    """
    name = function.__name__.replace("_", "-")
    child = commands.add_parser(
        name,
        help=function.__doc__,
        description=textwrap.fill(function.__doc__ or "", WIDTH),
        epilog=epilog([f"selftrain {name} {words}" for words in examples], settings),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    child.set_defaults(run=function)
    return child


def path(text: str) -> Path:
    """A path as it is given; `--output=~/x` arrives with its `~`."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}") from None


def begun(directory: Path) -> RunDir:
    """The run in a directory. Raises ConfigError if there is none, or if there are several."""
    run = RunDir(directory)
    refuse_several(directory)
    if not run.config.is_file():
        raise ConfigError(f"{run.path} is not a run directory: it has no {run.config.name}")
    return run


def refuse_several(directory: Path) -> None:
    """Raise ConfigError for the directory of several runs (selftrain folds), of which one has to be named."""
    if (directory / SEVERAL).is_file():
        first = next(iter(sorted(one.parent for one in directory.glob("*/config.yaml"))), "")
        example = f", for example {first}" if first else ""
        raise ConfigError(f"{directory} holds several runs; name one of them{example}")
