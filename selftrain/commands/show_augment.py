"""`selftrain show-augment`: a contact sheet of a recipe's augmentation on the user's own images."""

import argparse
from dataclasses import replace
from pathlib import Path

from selftrain.commands import Commands, command, path
from selftrain.config import AUTO, Config
from selftrain.errors import ConfigError
from selftrain.log import say
from selftrain.settings.shown import DATA_FILES, OF_A_RUN, add_settings

SHEET = "augmentation.png"


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    child = command(commands, show_augment, "selftrain.yaml -o augmentation.png", settings=OF_A_RUN)
    text = "FILE.yaml, or data=NAME data.root=DIR, then recipe=NAME and settings"
    add_settings(child, text, own=DATA_FILES)
    text = f"the PNG to write (default: {SHEET}); an HTML page gets the same name"
    child.add_argument("-o", "--output", type=path, default=Path(SHEET), metavar="FILE.png", help=text)
    child.add_argument("--generation", type=int, help="whose augmentation to show (default: the last one)")


def show_augment(arguments: argparse.Namespace) -> None:
    """Show labelled images beside what the augmentation of a recipe makes of them."""
    from selftrain.data.dataset import with_levels
    from selftrain.data.load import levels_of, load
    from selftrain.datasets import check_root, spec_of
    from selftrain.settings import compose

    cfg = compose(arguments.overrides, arguments.config_dir)
    _check_output(arguments.output, cfg)
    check_root(cfg.data)
    from selftrain.inspection.augmented import write_augmented  # takes seconds to import
    from selftrain.plan import plans
    from selftrain.preflight import check

    check(cfg)
    number = len(cfg.generations) - 1 if arguments.generation is None else arguments.generation
    if not 0 <= number < len(cfg.generations):
        raise ConfigError(f"--generation {number}: the generations are 0 to {len(cfg.generations) - 1}")
    cfg = _planned(cfg)
    plan, data = plans(cfg)[number], load(spec_of(cfg.data))
    data = with_levels(data, levels_of(data, cfg.data.range))
    rows = [
        ("recipe", cfg.recipe),
        (
            "generation",
            f"{number}, {plan.online or 'stored labels'}" if plan.unlabelled_batch else f"{number}",
        ),
        ("crop", f"{cfg.train.crop}, zoom {cfg.train.scale}"),
    ]
    stem = arguments.output.with_suffix("")
    written = write_augmented(
        stem, data, plan.augmentation, rows, unlabelled=plan.unlabelled_batch > 0, seed=cfg.seed
    )
    for file in written:
        say(f"written: {file}")


def _check_output(file: Path, cfg: Config) -> None:
    """Raises ConfigError for a name of another kind, or a place among the data."""
    if file.suffix != ".png":
        raise ConfigError(f"-o {file}: the name of the file must end in .png")
    if cfg.data.root and file.resolve().is_relative_to(Path(cfg.data.root).expanduser().resolve()):
        raise ConfigError(f"-o {file} lies below data.root; choose a place outside of the data")


def _planned(cfg: Config) -> Config:
    """`cfg` with the values that train.plan=auto gives a run on this machine; no speeds are measured."""
    from accelerate import Accelerator

    from selftrain.autoplan.resolve import planned
    from selftrain.autoplan.rules import LEVELS
    from selftrain.settings.tree import changed

    if cfg.train.plan != AUTO:
        return cfg
    level = cfg.budget if cfg.budget in LEVELS else next(iter(LEVELS))
    rows = planned(replace(cfg, budget=level), Accelerator())
    return changed(cfg, {name: value for name, value, _ in rows})
