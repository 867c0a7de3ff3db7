"""`selftrain sweep`: settings compared on val."""

import argparse

from selftrain.commands import Commands, command
from selftrain.settings.shown import OF_A_RUN, add_settings


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    examples = (
        "selftrain.yaml train.lr=0.001,0.003 loss.balance=0,0.5 out=runs/sweep",
        "selftrain.yaml train.lr=log:0.0001..0.01 train.weight_decay=0,0.01 out=runs/search --trials 20",
        "out=runs/sweep",
    )
    child = command(commands, sweep, *examples, settings=OF_A_RUN)
    text = "the settings of a run; several values between commas vary: train.lr=0.001,0.003; with --trials "
    text += "also a range, train.lr=log:0.0001..0.01 or loss.balance=0..1; out= alone resumes"
    add_settings(child, text)
    text = "let Optuna propose N trials, each by the scores so far (default: a grid of all values)"
    child.add_argument("--trials", type=int, metavar="N", help=text)


def sweep(arguments: argparse.Namespace) -> None:
    """Compare settings on val: a grid or a search, each trial a run of its own; the test set is not read."""
    from selftrain.sweep import asked, run

    run(asked(arguments.overrides, arguments.config_dir, arguments.trials))
