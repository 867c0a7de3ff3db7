"""`selftrain resume RUN`: continue a run, or add generations to it."""

import argparse

from selftrain.commands import Commands, begun, command, path
from selftrain.run import launch, resumed
from selftrain.settings.shown import OF_A_RESUME


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    examples = (
        "runs/first",
        "runs/first generations.extra=1",
        "runs/first train.workers=4 data.root=/new/place",
    )
    child = command(commands, resume, *examples, settings=OF_A_RESUME)
    child.add_argument("run_directory", type=path)
    text = "settings that a resume may change, e.g. train.workers=4, generations.extra=1"
    child.add_argument("overrides", nargs="*", metavar="NAME=VALUE", help=text)


def resume(arguments: argparse.Namespace) -> None:
    """Continue a run with its own settings; add a generation to a finished one: generations.extra=1."""
    launch(resumed(begun(arguments.run_directory), arguments.overrides))
