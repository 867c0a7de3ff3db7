"""`selftrain plan`: what a run will need, measured on this machine."""

import argparse
import tempfile
from pathlib import Path

from selftrain import launcher, runlog
from selftrain.commands import Commands, command
from selftrain.errors import ConfigError
from selftrain.log import say
from selftrain.run import settings_of
from selftrain.settings.shown import OF_A_RUN, add_settings

SCRATCH = ".selftrain-plan-"


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    examples = ("selftrain.yaml train.plan=auto", "recipe=noisy_student data=camvid data.root=/data/camvid")
    child = command(commands, plan, *examples, settings=OF_A_RUN)
    text = "the settings of the run, as for selftrain train; nothing is written to its out="
    add_settings(child, text, nargs="*")


def plan(arguments: argparse.Namespace) -> None:
    """Measure what a run will need on this machine: memory of training and labelling, time, disk space."""
    if launcher.processes() > 1:
        raise ConfigError("selftrain plan measures on one process; start it without a launcher")
    from selftrain.datasets import check_root

    config = settings_of(arguments.overrides, arguments.config_dir)
    out = Path(config.out or "runs/run").expanduser()
    check_root(config.data)
    from selftrain.needs import existing, needs_of  # takes seconds to import
    from selftrain.session import Session

    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=existing(out)) as scratch:
        config.out = f"{scratch}/run"
        needs = needs_of(Session.open(config, tells_time=False), Path(scratch))
        runlog.release()
    for line in needs.lines(out):
        say(line)
