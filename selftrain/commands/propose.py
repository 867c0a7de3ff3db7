"""`selftrain next RUN`: the unlabelled images to label next."""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from selftrain.commands import Commands, command, path, refuse_several
from selftrain.errors import ConfigError, DataError
from selftrain.log import say
from selftrain.rundir import RunDir
from selftrain.settings.shown import DATA_FILES, OF_DATA, add_settings

if TYPE_CHECKING:
    from selftrain.commands.asked import Question
    from selftrain.config import Config
    from selftrain.proposals.page import Proposal
    from selftrain.proposals.preannotations import Drawn

FOLDER, MASKS = "next", "masks"
COUNT = 20


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    examples = ("runs/first -n 20 --copy to-label", "selftrain.yaml -n 20")
    child = command(commands, next, *examples, settings=OF_DATA)
    text = "a run; without a model: FILE.yaml, other settings of a data set, or a folder of images"
    add_settings(child, text, own=DATA_FILES, metavar="RUN|FILE.yaml")
    text = f"number of images to propose (default: {COUNT})"
    child.add_argument("-n", "--count", type=int, default=COUNT, help=text)
    text = f"folder for the list, the CSV and the gallery (default: {FOLDER}/ of the run, or ./{FOLDER})"
    child.add_argument("-o", "--output", type=path, metavar="DIR", help=text)
    text = "measures: entropy, margin, past, members (default: all that are possible), each as NAME or"
    text += " NAME=WEIGHT; none: diversity alone"
    child.add_argument("--uncertainty", nargs="+", default=[], metavar="NAME", help=text)
    text = "copy the image files to this folder; files that are there are never replaced"
    child.add_argument("--copy", type=path, metavar="DIR", help=text)
    text = f"write the model's masks to {MASKS}/ of the output, to start from; png: values as in your masks"
    child.add_argument("--preannotate", metavar="FORMAT", help=text)


def next(arguments: argparse.Namespace) -> None:
    """Propose which images to label next: the model is unsure of them, and they are unlike one another."""
    if arguments.count < 1:
        raise ConfigError(f"-n {arguments.count}: propose at least one image")
    first = arguments.overrides[0]
    if "=" not in first and not path(first).exists():
        raise ConfigError(f"{first}: no such run, folder of images or YAML file of a data set")
    refuse_several(path(first))
    run = RunDir(path(first))
    has_model = run.config.is_file()
    alone = path(first) if len(arguments.overrides) == 1 and path(first).is_dir() else None
    cfg = None if has_model else _settings([] if alone else arguments.overrides, arguments.config_dir)
    from selftrain.commands import asked  # takes seconds to import; errors above are reported at once
    from selftrain.proposals import page
    from selftrain.proposals.uncertainty import OPTION

    folder = arguments.output or (run.path / FOLDER if has_model else Path(FOLDER))
    for option, given in ((OPTION, arguments.uncertainty), ("--preannotate", arguments.preannotate)):
        if given and not has_model:
            raise ConfigError(f"{option} needs a model: name a run instead of {first}")
    question = (
        asked.of_data(cfg, alone, folder)
        if cfg
        else asked.of_run(run, arguments.overrides[1:], arguments.uncertainty)
    )
    _check(question, arguments, folder)
    found = proposals(question, arguments.count)
    copies = page.copies_of(found, arguments.copy) if arguments.copy else {}
    title = f"Images of {question.name} to label next"
    written = page.write(folder, title, question.rows, found, question.data.classes, question.surveyor.jury)
    say(f"{len(found)} images to label next: {', '.join(map(str, written))}")
    page.copy(copies)
    if copies:
        say(f"{len(copies)} images are in {arguments.copy}")
    if arguments.preannotate:
        _preannotate(question, found, arguments.preannotate, folder / MASKS)


def _settings(overrides: Sequence[str], config_dir: str | None) -> "Config":
    """The settings of a data set. Raises ConfigError or DataError if it is not there; takes no time."""
    from selftrain.datasets import check_root
    from selftrain.settings import compose

    cfg = compose(list(overrides), config_dir)
    check_root(cfg.data)
    return cfg


def _check(question: "Question", arguments: argparse.Namespace, folder: Path) -> None:
    """Raises ConfigError or DataError for what cannot be done, before the networks see an image."""
    from selftrain.proposals.page import file_of
    from selftrain.proposals.preannotations import PREANNOTATIONS

    root = question.data.root
    for option, place in (("-o", folder), ("--copy", arguments.copy)):
        if place and root != Path() and place.resolve().is_relative_to(root.resolve()):
            raise ConfigError(f"{option} {place} lies below data.root; choose a place outside of the data")
    if arguments.preannotate and arguments.preannotate not in PREANNOTATIONS:
        raise ConfigError(f"--preannotate {arguments.preannotate} must be one of {', '.join(PREANNOTATIONS)}")
    unlabelled = question.data.unlabelled if arguments.copy else []
    drawn = [sample.id for sample in unlabelled if file_of(sample) is None]
    if drawn:
        raise ConfigError(
            f"--copy {arguments.copy}: {drawn[0]} is not a file; {question.name} is drawn in code"
        )
    refuse_nothing(question)


def refuse_nothing(question: "Question") -> None:
    """Raises DataError if there is no unlabelled image."""
    if not question.data.unlabelled:
        raise DataError(
            f"{question.name} has no unlabelled image to choose from; see data.unlabelled, or give a folder"
        )


def proposals(question: "Question", count: int) -> "list[Proposal]":
    """The images to label next, the first one first. Raises DataError if none can be read."""
    from selftrain.proposals import choose, page, uncertainty
    from selftrain.proposals.survey import survey

    surveyor = question.surveyor
    labelled = survey(question.data.labelled, replace(surveyor, entries=()), "labelled images").features
    seen = survey(question.data.unlabelled, surveyor, "unlabelled images")
    if not seen.samples:
        raise DataError(f"none of the unlabelled images of {question.name} can be read (listed above)")
    levels = seen.levels
    unsure = uncertainty.together(levels, surveyor.entries)
    picked = choose.chosen(seen.features, labelled, unsure, count)
    names = page.names_of([seen.samples[i] for i, _ in picked])
    measures = [one.name for one in surveyor.entries]
    return [
        page.Proposal(
            seen.samples[i],
            name,
            rank,
            distance,
            float(unsure[i]),
            dict(zip(measures, map(float, levels[i]), strict=True)),
        )
        for rank, ((i, distance), name) in enumerate(zip(picked, names, strict=True), start=1)
    ]


def _preannotate(question: "Question", found: "Sequence[Proposal]", form: str, folder: Path) -> None:
    """Write the model's masks of the proposed images, at the size of the image files."""
    from selftrain.data.load import mask_coding
    from selftrain.proposals.preannotations import PREANNOTATIONS, Coding

    coding = Coding(question.data.classes, mask_coding(question.data))
    written = PREANNOTATIONS[form](folder, _drawn(question, found), coding)
    kept = len(found) - written
    say(f"{written} masks are in {folder}" + (f"; {kept} that were there are kept" if kept else ""))


def _drawn(question: "Question", found: "Sequence[Proposal]") -> "Iterator[Drawn]":
    from selftrain.proposals.preannotations import Drawn

    assert question.labeller
    for one in found:
        image = one.sample.at_own_size().read_image()
        yield Drawn(one.name, one.sample.image.name, question.labeller.label([image])[0])
