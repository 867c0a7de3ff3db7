"""Describe and verify data, train, resume and inspect runs, use exports."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from selftrain import __version__, process
from selftrain.commands import (
    Commands,
    clean,
    command,
    compare,
    completion,
    convert,
    evaluate,
    folds,
    leader,
    path,
    plan,
    predict,
    propose,
    report,
    resume,
    review,
    show_augment,
    status,
    sweep,
    train,
)
from selftrain.errors import ConfigError, DataError, exit_code_of
from selftrain.log import print_any_letter, say
from selftrain.settings.names import did_you_mean
from selftrain.settings.shown import DATA_FILES, OF_A_RUN, OF_DATA, add_settings, epilog

if TYPE_CHECKING:
    from selftrain.data.faults import Fault


FAULTS = "selftrain-faults.txt"
MODULES = (
    train, resume, plan, folds, sweep, status, compare, predict, evaluate, leader, show_augment, clean,
    propose, convert, report, review, completion,
)  # fmt: skip
EXAMPLES = (
    "selftrain init /data/mine -o mine.yaml",
    "selftrain train mine.yaml train.plan=auto out=runs/first",
    "selftrain predict runs/first images/ -o masks",
)


def main() -> None:
    """Entry point of the console script; exits with the codes of docs/files.md."""
    process.prepare()
    print_any_letter()
    arguments = _arguments(sys.argv[1:])
    sys.exit(exit_code_of(lambda: arguments.run(arguments)))


def init(arguments: argparse.Namespace) -> None:
    """Inspect a folder of images and masks; write its data YAML and a contact sheet."""
    from selftrain.inspection.init import init

    init(arguments.folder, arguments.output, first=arguments.yes, answers=arguments.answer)


def verify(arguments: argparse.Namespace) -> None:
    """Check every image and mask of a data set and list all faults."""
    from selftrain.autoplan.division import divided
    from selftrain.config import AUTO
    from selftrain.data import verify
    from selftrain.data.faults import FaultsError, counted
    from selftrain.data.load import load
    from selftrain.data.printed import print_faults, print_report
    from selftrain.datasets import spec_of
    from selftrain.settings import compose

    whole = divided(compose(arguments.overrides, arguments.config_dir))
    cfg, planned = whole.data, whole.train.plan == AUTO and "train.crop" not in whole.given
    spec, crop = spec_of(cfg), [] if planned or cfg.tile else whole.train.crop
    try:
        _, report = verify.divide(load(spec, strict=False), spec, workers=arguments.workers, crop=crop)
        print_report(report)
        faults = report.faults
    except FaultsError as error:
        faults = error.faults
        print_faults(faults)
    if faults:
        place = _list_faults(faults, arguments.faults, Path(cfg.root).expanduser())
        raise DataError(f"data={cfg.name} has {counted(len(faults), 'fault')}, listed {place}")


def _list_faults(faults: "list[Fault]", file: Path | None, root: Path) -> str:
    """Write every fault to a file if requested, or if groups leave out files. Returns where the file is."""
    from selftrain.data.faults import grouped, write_list

    if file is None and not any(group.hides_files for group in grouped(faults)):
        return "above"
    target = (file or Path(FAULTS)).absolute()
    if target.resolve().is_relative_to(root.resolve()):
        if file:
            raise ConfigError(f"--faults {file} lies below data.root; choose a place outside of the data")
        return "above in part; --faults FILE writes all of them"
    try:
        write_list(faults, target)
    except OSError as error:
        if file:
            raise
        return f"above in part; --faults FILE writes all of them ({target}: {error.strerror})"
    return f"in {target}"


def import_weights(arguments: argparse.Namespace) -> None:
    """Convert another program's .pth file to safetensors for model.weights=; runs no code of the file."""
    if not arguments.source.is_file():
        raise ConfigError(f"{arguments.source}: no such file")
    from selftrain.models.build import build  # takes seconds to import
    from selftrain.models.foreign import import_weights

    arch, encoder = arguments.arch, arguments.encoder
    network = build(arch, encoder, classes=arguments.classes)
    imported = import_weights(arguments.source, arguments.output, network, arch=arch, encoder=encoder)
    for line in [f"{arguments.output} is written", *imported.lines()]:
        say(line)


def _arguments(words: list[str]) -> argparse.Namespace:
    """Parse the command line; NAME=VALUE may also follow an option, which argparse alone rejects."""
    parser = _parser()
    commands: Commands = parser.get_default("commands")
    name = next(iter(words), "-")
    if not name.startswith("-") and name not in commands.choices:
        instead = did_you_mean(name, commands.choices) or "; selftrain --help lists all"
        parser.error(f"{name}: no such command{instead}")
    arguments, rest = parser.parse_known_args(words)
    if rest and ("overrides" not in arguments or any(text.startswith("-") for text in rest)):
        options = commands.choices[name]._option_string_actions if name in commands.choices else ()
        instead = _as_setting(rest[0]) or did_you_mean(rest[0].partition("=")[0], options)
        parser.error(f"unrecognized arguments: {' '.join(rest)}{instead}")
    if rest:
        arguments.overrides += rest
    return arguments


def _as_setting(option: str) -> str:
    """Advice for a setting that was written as an option, --train.steps 10 or --train.steps=10."""
    name, _, value = option.removeprefix("--").partition("=")
    known = option.startswith("--") and ("." in name or name in ("data", "recipe", "out", "budget"))
    return f"; settings are written as {name}={value or 'VALUE'}, without dashes" if known else ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="selftrain",
        description=__doc__,
        epilog=epilog(EXAMPLES, OF_A_RUN),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"selftrain {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    parser.set_defaults(commands=commands)

    child = command(commands, init, "/data/mine -o mine.yaml")
    child.add_argument("folder", type=path, help="the folder of the data set; nothing is written to it")
    text = "the YAML file to write (default: the folder's name); the contact sheet gets the same name"
    child.add_argument("-o", "--output", type=path, metavar="FILE.yaml", help=text)
    text = "take the first choice of every question, and print it"
    child.add_argument("-y", "--yes", action="store_true", help=text)
    text = "the numbers of your choices, for the questions in their order"
    child.add_argument("--answer", type=int, nargs="+", default=[], metavar="NUMBER", help=text)

    examples = ("mine.yaml", "data=folder data.root=/data 'data.classes=[background,road]'")
    child = command(commands, verify, *examples, settings=OF_DATA)
    settings = "FILE.yaml, or data=NAME data.root=DIR 'data.classes=[A,B]' …"
    add_settings(child, settings, own=DATA_FILES)
    text = f"write every fault there (default: {FAULTS}, if the groups printed leave some out)"
    child.add_argument("--faults", type=path, metavar="FILE", help=text)
    child.add_argument("--workers", type=int, default=process.cores(), help="threads that read (all cores)")

    for module in MODULES:
        module.add(commands)

    example = "theirs.pth -o ours.safetensors --encoder tu-resnet18"
    child = command(commands, import_weights, example)
    child.add_argument("source", type=path, help="a file that torch.save wrote")
    child.add_argument("-o", "--output", type=path, required=True, help="a .safetensors file")
    child.add_argument("--arch", default="unet")
    child.add_argument("--encoder", required=True, help="as in model.encoder, e.g. tu-resnet18")
    child.add_argument("--classes", type=int, default=1, help="number of classes, if the head should fit too")
    return parser


if __name__ == "__main__":
    main()
