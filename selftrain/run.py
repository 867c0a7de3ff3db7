"""The entry point of a run.

`accelerate launch -m selftrain.run recipe=noisy_student data=camvid data.root=… out=…`
"""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

import yaml

from selftrain import __version__, process
from selftrain.config import Config
from selftrain.errors import ConfigError, exit_code_of
from selftrain.files import read_yaml
from selftrain.log import print_any_letter
from selftrain.rundir import RunDir
from selftrain.settings import compose
from selftrain.settings.changes import differences

USAGE = """\
  recipe=NAME          noisy_student (the default) | supervised | any other of recipes/recipe
  data=NAME            shapes (drawn, the default) | folder | camvid | nuclei
  data=FILE.yaml       the file that `selftrain init` wrote; out= is then runs/<name> unless given
  data.root=DIR        where the images are
  out=DIR              the run directory; the same command again resumes
  SETTING=VALUE        any setting of docs/settings.md, e.g. train.steps=2000 \
generations.1.encoder=tu-resnet50
  'SETTING=[A,B]'      a list; quoted, as zsh reads brackets: 'data.classes=[background,road]' \
'train.crop=[256,320]'"""


def main() -> None:
    """Compose the settings of the command line and run them, or print them."""
    process.prepare()
    print_any_letter()
    start(_parser().parse_intermixed_args())


def start(arguments: argparse.Namespace) -> None:
    """Run or print the settings of parsed arguments."""
    config = compose(arguments.overrides, arguments.config_dir)
    if arguments.show:
        from selftrain import choices  # takes seconds to import

        choices.check(config)
        settings = choices.completed(asdict(config))
        print(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True), end="")
        return
    if not config.out:
        raise ConfigError("out is not set; say where the run goes, e.g. out=runs/first")
    run = RunDir(Path(config.out))
    run.refuse_files_of_others()
    _check_whole([text.partition("=")[0] for text in arguments.overrides], run, config)
    launch(config)


def launch(config: Config) -> None:
    """Run `config` on the processes and devices that `accelerate launch` or torchrun started."""
    RunDir(Path(config.out)).refuse_locked()
    from selftrain import generations  # takes seconds to import; errors above are reported at once

    generations.run(config)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="selftrain.run",
        description="Semi-supervised self-training for semantic segmentation.",
        epilog=USAGE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"selftrain {__version__}")
    add_arguments(parser)
    return parser


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a run."""
    parser.add_argument("overrides", nargs="*", metavar="NAME=VALUE")
    parser.add_argument("--config-dir", help="a folder with your own recipe/*.yaml and data/*.yaml")
    parser.add_argument("--show", action="store_true", help="print the settings of the run and end")


def _check_whole(names: list[str], run: RunDir, config: Config) -> None:
    """Raises ConfigError if `out=` alone should resume a run that was started with more settings."""
    if names != ["out"] or not run.config.is_file():
        return
    before = read_yaml(run.config, "recipe", "data", "generations")
    from selftrain.choices import completed  # takes seconds to import

    if differences(before, asdict(config), completed):
        raise ConfigError(
            f"{run.path} was started with more settings than out=; give its whole command again "
            f"(recipe={before['recipe']} data={before['data'].get('name')} …; all are in {run.config})"
        )


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
