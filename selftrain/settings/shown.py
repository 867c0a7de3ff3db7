"""The settings and examples that the help of commands shows."""

import argparse
import textwrap
from collections.abc import Sequence

from selftrain.settings.names import meaning, rules_of
from selftrain.tables import OneOf

# The ten settings that matter, by what a command does with them.
OF_A_RUN = (
    "recipe", "data", "out", "data.size", "model.encoder", "train.plan", "train.steps",
    "train.labelled_batch", "train.crop", "train.lr",
)  # fmt: skip
OF_A_RESUME = (
    "generations.extra", "test.read", "export.distill", "data.root", "data.cache_mb", "train.workers",
    "train.threads", "train.eval_batch", "train.checkpoint_every", "labels.batch",
)  # fmt: skip
OF_DATA = (
    "data", "data.root", "data.images", "data.masks", "data.unlabelled", "data.classes", "data.values",
    "data.colours", "data.ignore", "data.splits.val_fraction",
)  # fmt: skip
WIDTH = 100  # of help
DATA_FILES = "data/*.yaml"
OF_AN_EXPORT = ("export.variants", "export.opset", "export.size", "data.root")  # all that it takes
SETTINGS = """\
settings that matter, as NAME=VALUE; lists are quoted, as shells read brackets: 'train.crop=[256,320]'
(docs/settings.md has all settings)"""


def epilog(examples: Sequence[str], settings: Sequence[str] = ()) -> str:
    """The end of a help text: whole command lines, and settings with their meanings."""
    lines = ["for example:", *(f"  {line}" for line in examples)]
    if settings:
        lines += ["", SETTINGS]
    width = max(map(len, settings), default=0) + 4
    for name in settings:
        told = textwrap.wrap(_told(name).replace("`", ""), WIDTH - width)
        lines += [f"  {name:<{width - 2}}{told[0]}", *(" " * width + rest for rest in told[1:])]
    return "\n".join(lines)


def add_settings(
    parser: argparse.ArgumentParser,
    text: str | None = None,
    *,
    own: str = "recipe/*.yaml and data/*.yaml",
    nargs: str = "+",
    metavar: str = "NAME=VALUE",
) -> None:
    """Add the settings of a command line with their help `text`, and the option for `own` YAML files."""
    parser.add_argument("overrides", nargs=nargs, metavar=metavar, help=text)
    parser.add_argument("--config-dir", help=f"a folder with your own {own}")


def _told(name: str) -> str:
    """The meaning of a setting, and the words that it accepts."""
    words = [word for rule in rules_of(name) if isinstance(rule, OneOf) for word in rule.meanings]
    return meaning(name) + (f" ({', '.join(words)})" if words else "")
