"""`selftrain train`: start a run, or one that continues another run with new masks."""

import argparse
from pathlib import Path

from selftrain.commands import Commands, begun, command, path
from selftrain.config import Config
from selftrain.errors import ConfigError
from selftrain.files import read_manifest
from selftrain.run import add_arguments, run_or_show, start
from selftrain.rundir import RunDir
from selftrain.settings.shown import OF_A_RUN


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    examples = (
        "selftrain.yaml train.plan=auto out=runs/first",
        "recipe=noisy_student data=camvid data.root=/data/camvid out=runs/camvid",
        "--from runs/first out=runs/second",
    )
    child = command(commands, train, *examples, settings=OF_A_RUN)
    add_arguments(child)
    text = "a run to continue with new masks or images; its settings hold unless others are given"
    child.add_argument("--from", dest="source", type=path, metavar="RUN", help=text)


def train(arguments: argparse.Namespace) -> None:
    """Start or resume a run; --from RUN continues RUN with new masks in a new directory."""
    if arguments.source is None:
        start(arguments)
        return
    config = continued(begun(arguments.source), arguments.overrides)
    run_or_show(config, show=arguments.show)


def continued(earlier: RunDir, overrides: list[str]) -> Config:
    """The settings of a run that continues `earlier`, changed by `overrides`.

    All generations have the network of the earlier leader, and all new masks are used. Raises ConfigError if
    no generation of `earlier` is finished.
    """
    from selftrain.base import leader_of
    from selftrain.settings.compose import given_of
    from selftrain.settings.stored import stored_tree
    from selftrain.settings.tree import with_settings

    model = read_manifest(earlier.generation(leader_of(earlier)).model)["model"]
    network = {name: model[name] for name in ("arch", "encoder", "decoder_channels")}
    tree = stored_tree(earlier.config)
    tree |= {"base": str(earlier.path.resolve()), "out": ""}
    tree["train"]["plan"] = "none"  # the earlier run's plan holds
    tree["data"]["splits"] |= {"labels": 0, "label_fraction": 1.0}
    tree["generations"] = [{**row, **network} for row in tree["generations"]]
    config = with_settings(tree, given_of(overrides))
    if config.out and RunDir(Path(config.out)).path.resolve() == earlier.path.resolve():
        raise ConfigError(
            f"out={config.out} is the run to continue, which stays as it is; choose another out="
        )
    return config
