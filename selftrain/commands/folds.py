"""`selftrain folds`: cross-validation of a recipe."""

import argparse

from selftrain.commands import Commands, command
from selftrain.settings.shown import OF_A_RUN, add_settings


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    child = command(commands, folds, "selftrain.yaml k=5 out=runs/folds", settings=OF_A_RUN)
    text = "FILE.yaml, or data=NAME data.root=DIR; recipe=NAME, settings, out=DIR; k=NUMBER of folds (5)"
    add_settings(child, text)


def folds(arguments: argparse.Namespace) -> None:
    """Train a recipe once for each fold of the labelled images, score all of them, and export all as one."""
    from selftrain.fold_settings import asked

    wanted = asked(arguments.overrides, arguments.config_dir)
    from selftrain.folds import run  # takes seconds to import; errors above are reported at once

    run(wanted)
