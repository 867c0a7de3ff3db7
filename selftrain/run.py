"""The entry point of a run.

`accelerate launch -m selftrain.run recipe=noisy_student data=camvid data.root=… out=…`
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from selftrain import __version__, process, runlog
from selftrain.config import Config
from selftrain.errors import ConfigError, exit_code_of
from selftrain.log import print_any_letter
from selftrain.rundir import RunDir
from selftrain.settings import EXTRA, compose, read, stored
from selftrain.settings.changes import AT_THE_END, HARMLESS, ROUNDING
from selftrain.settings.shown import OF_A_RUN, add_settings, epilog

if TYPE_CHECKING:
    from selftrain.session import Session

# settings that may stand beside out= when a run is resumed with its own settings
RESUMABLE = HARMLESS | ROUNDING | AT_THE_END | {EXTRA}

EXAMPLES = (
    "python -m selftrain.run recipe=noisy_student data=camvid data.root=/data/camvid out=runs/camvid",
    "accelerate launch -m selftrain.run selftrain.yaml train.plan=auto out=runs/first",
    "accelerate launch -m selftrain.run out=runs/first        (resumes, as the whole command does)",
)


def main() -> None:
    """Compose the settings of the command line and run them, or print them."""
    process.prepare()
    print_any_letter()
    start(_parser().parse_intermixed_args())


def start(arguments: argparse.Namespace) -> None:
    """Run or print the settings of parsed arguments."""
    run_or_show(settings_of(arguments.overrides, arguments.config_dir), show=arguments.show)


def run_or_show(config: Config, *, show: bool) -> None:
    """Run `config`, or print it with all settings of the table entries that it chooses."""
    if show:
        from selftrain import choices  # takes seconds to import

        choices.check(config)
        settings = choices.completed(asdict(config))
        print(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True), end="")
        return
    launch(config)


def launch(config: Config, then: "Callable[[Session, dict], None] | None" = None) -> None:
    """Run `config` on the processes and devices that `accelerate launch` or torchrun started.

    `then` gets the session of the finished run, and its report.
    """
    if not config.out:
        raise ConfigError("out is not set; say where the run goes, e.g. out=runs/first")
    run = RunDir(Path(config.out))
    run.refuse_files_of_others()
    run.refuse_locked()
    from selftrain.datasets import check_root

    check_root(config.data)
    from selftrain import generations  # takes seconds to import; errors above are reported at once

    with runlog.noting_the_end():
        generations.run(config, then)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="selftrain.run",
        description="Semi-supervised self-training for semantic segmentation.",
        epilog=epilog(EXAMPLES, OF_A_RUN),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"selftrain {__version__}")
    add_arguments(parser)
    return parser


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a run."""
    add_settings(parser, nargs="*")
    parser.add_argument("--show", action="store_true", help="print the settings of the run and end")


def settings_of(overrides: list[str], config_dir: str | None = None) -> Config:
    """The settings of a command line.

    If it names the directory of a run that has begun, and no setting that changes results, these are the
    run's own settings.
    """
    pairs = dict(text.partition("=")[::2] for text in overrides)
    if "out" in pairs and pairs.keys() <= RESUMABLE:
        run = RunDir(Path(read("out", pairs["out"])))
        if run.config.is_file():
            return resumed(run, [text for text in overrides if not text.startswith("out=")])
    return compose(overrides, config_dir)


def resumed(run: RunDir, overrides: list[str]) -> Config:
    """The settings of a run that has begun, changed by `overrides`.

    Raises ConfigError for a directory that is not a run, and for extra generations of an unfinished one.
    """
    run.refuse_files_of_others()
    if not run.config.is_file():
        raise ConfigError(f"{run.path} is not a run directory: it has no {run.config.name}")
    if not run.report.is_file() and any(text.startswith(f"{EXTRA}=") for text in overrides):
        raise ConfigError(
            f"{EXTRA} adds generations to a finished run, and {run.path} is not finished; "
            f"first run selftrain resume {run.path}"
        )
    config = stored(run.config, overrides)
    config.out = str(run.path)
    return config


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
