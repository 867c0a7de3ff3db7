"""`selftrain status RUN`: the state of a run."""

import argparse

from selftrain.commands import Commands, begun, command, path
from selftrain.commands.state import state_of
from selftrain.commands.watch import watch
from selftrain.log import say


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    child = command(commands, status, "runs/first")
    child.add_argument("run_directory", type=path)
    text = "show it again and again until the run ends; Ctrl-C ends the view, not the run"
    child.add_argument("--watch", action="store_true", help=text)


def status(arguments: argparse.Namespace) -> None:
    """Print whether a run is running, its step, rate, time left, scores and leader; reads only."""
    run = begun(arguments.run_directory)
    if arguments.watch:
        watch(run)
        return
    for line in state_of(run).lines:
        say(line)
