"""`selftrain init`: from a folder to a data YAML, a contact sheet and the next command."""

import re
import shlex
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from selftrain.data.dataset import DataSet
from selftrain.data.faults import FaultsError, counted
from selftrain.data.levels import DTYPE
from selftrain.data.printed import print_faults
from selftrain.data.sample import Sample
from selftrain.data.splits import FEW_MASKS
from selftrain.errors import ConfigError, DataError
from selftrain.files import write_bytes
from selftrain.inspection.bands import pixel_scale
from selftrain.inspection.data_file import loaded, loaded_with, yaml_of
from selftrain.inspection.found import Row, find
from selftrain.inspection.layout import Layout, Written, by_folders, by_lists
from selftrain.inspection.pictures import folder_of
from selftrain.inspection.questions import Questions
from selftrain.inspection.sheet import write_sheet
from selftrain.inspection.splits import groups
from selftrain.log import say

FOLDS = 5  # that the next command proposes if there are few masks
MORE_THAN_A_FOLD = 3  # masks: with fewer, folds of two images are not possible


@dataclass(frozen=True)
class Proposal:
    """A data set as proposed: its settings and list files, and the rows to print."""

    written: Written
    rows: list[Row]
    named: Set[str]  # splits that the data set has; the others are made


def init(root: Path, output: Path | None, *, first: bool, answers: Sequence[int] = ()) -> None:
    """Inspect `root`, write the data YAML `output` and its contact sheet, and print the next command.

    `answers` are the numbers of choices, from 1, for the questions in their order. With `first`, the first
    choice of each further question is taken. Raises DataError if nothing was recognised,
    ConfigError if questions remain open or a file would be overwritten.
    """
    if ":/" in str(root) and not root.exists():  # a path has one slash where its URL has two
        raise DataError(
            f"{root} is a URL, and selftrain init reads folders: run it on a copy of a few images and masks, "
            "then set root in its YAML file to the URL"
        )
    if root.is_file():
        raise DataError(
            f"{root} is a file; give the folder of your images and masks, and unpack archives first"
        )
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; give the folder of your images and masks")
    root = root.resolve()
    file = _output(root, output)
    questions = Questions(first, list(answers))
    proposal = _proposal(root, file, questions)
    questions.refuse_open()
    settings = _write(root, file, proposal.written)
    try:
        data = loaded(file)
        if "channels" in settings:
            settings = settings | pixel_scale(data, settings.get("range", DTYPE))
            write_bytes(file, yaml_of(root, settings).encode())
    except FaultsError as error:
        print_faults(error.faults)
        raise DataError(
            f"{file} is written, but the data has {counted(len(error.faults), 'fault')}, listed above"
        ) from None
    rows = [
        *proposal.rows,
        *_rows_of_bands(settings),
        *_rows_of_splits(data, made="test" not in proposal.named),
    ]
    _print(root, rows)
    for path in (file, *proposal.written.lists, *write_sheet(file.with_suffix(""), root.name, rows, data)):
        say(f"written: {_shown(path)}")
    _print_next(file, data, made="val" not in proposal.named)


def describe(root: Path, folder: Path) -> Path:
    """Write the data YAML of `root`, and its lists, to `folder`.

    Raises ConfigError if there are questions.
    """
    file, questions = folder / "data.yaml", Questions(terminal=False)
    proposal = _proposal(root.resolve(), file, questions)
    if questions.open:
        raise ConfigError(
            f"{root} can be read in several ways; run selftrain init {shlex.quote(str(root))} -o data.yaml, "
            f"and give data.yaml instead of the folder:\n{questions.open[0]}"
        )
    _write(root.resolve(), file, proposal.written)
    return file


def _write(root: Path, file: Path, written: Written) -> dict[str, object]:
    """Write the data YAML and its lists. Returns the settings."""
    for path, text in written.lists.items():
        write_bytes(path, text.encode())
    write_bytes(file, yaml_of(root, written.settings).encode())
    return written.settings


def _output(root: Path, output: Path | None) -> Path:
    """The path of the YAML file. Raises ConfigError if it lies in the data, exists, or is no YAML file."""
    name = re.sub(r"[^\w-]+", "_", root.name).strip("_") or "data"
    file = (output or Path(f"{name}.yaml")).expanduser().absolute()
    if file.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"-o {output}: the name of the file must end in .yaml")
    if file.resolve().is_relative_to(root):
        raise ConfigError(f"{file} would lie in the data; choose another place: -o FILE.yaml")
    if file.exists():
        raise ConfigError(f"{file} exists; remove it, or choose another name: -o FILE.yaml")
    return file


def _proposal(root: Path, file: Path, questions: Questions) -> Proposal:
    """The settings for a folder."""
    found = find(folder_of(root), questions)
    base: dict[str, object] = {"name": file.stem, "root": str(root)}
    layout = found.layout
    splits: dict[str, object] = {}
    group = "" if "val" in layout.splits else _group(layout, questions)
    if group:
        splits["group"] = group
    if "val" in layout.splits and "test" not in layout.splits:
        splits["test_fraction"] = 0.0
    for way in (by_folders(layout), by_lists(layout, file.with_suffix(""))):
        if way is None:
            continue
        fixed = found.settings.get("splits")
        own = (dict(fixed) if isinstance(fixed, Mapping) else way.splits) | splits
        settings = base | way.settings | found.settings | ({"splits": own} if own else {})
        if way.lists or (not group and _same(root, settings, layout)):
            named = {str(settings.get("unlabelled")), *map(str, own.values())}
            lists = {path: text for path, text in way.lists.items() if str(path) in named}
            return Proposal(Written(settings, own, lists), found.rows, set(layout.splits))
    raise AssertionError("list files describe every layout")


def _group(layout: Layout, questions: Questions) -> str:
    """The regular expression for folders whose images stay together, if they are to."""
    images = sorted(layout.mask_of)
    pattern = groups(images)
    if not pattern:
        return ""
    found = sorted({match[1] for image in images if (match := re.match(pattern, image.relative))})
    asked = f"Images come in {len(found)} folders ({', '.join(found[:3])}, ...)."
    yes = "the images of one folder stay in one split (patients, scenes, videos)"
    return pattern if questions.confirm(asked, yes, "any image may go to any split") else ""


def _same(root: Path, settings: dict[str, object], layout: Layout) -> bool:
    """Whether settings that name folders mean exactly the images, masks and splits of the layout."""
    try:
        data = loaded_with(root, settings)
    except (DataError, ConfigError):
        return False
    if data.faults:
        return False
    train, val, test = (_masks(samples, layout) for samples in (data.labelled, data.val, data.test))
    wanted = {split: {image.path: layout.mask_of[image].path for image in layout.images(split)}
              for split in ("", "train", "val", "test")}  # fmt: skip
    if {sample.image.name for sample in data.unlabelled} != {str(one.path) for one in layout.unlabelled}:
        return False
    if train | val | test != wanted[""] | wanted["train"] | wanted["val"] | wanted["test"]:
        return False
    made = [found for found, split in ((val, "val"), (test, "test")) if not wanted[split]]
    named = [(val, "val"), (test, "test")]
    return bool(made) or all(found == wanted[split] for found, split in named)


def _masks(samples: list[Sample], layout: Layout) -> dict[Path, Path]:
    """The mask of each image; of masks that are drawn, the image itself, as in the layout."""
    return {
        Path(one.image.name): Path((one.image if layout.drawn else one.mask).name)
        for one in samples
        if one.mask
    }


def _rows_of_bands(settings: Mapping[str, object]) -> list[Row]:
    """The number of bands and their measured scale, if images are not RGB."""
    if "channels" not in settings:
        return []
    scale = f"mean {settings['mean']}, standard deviation {settings['std']}"
    return [("bands", f"{settings['channels']}; {scale}")]


def _rows_of_splits(data: DataSet, *, made: bool) -> list[Row]:
    """The numbers of images. `made`: the data set has no test split of its own."""
    counts = {"train": data.labelled, "val": data.val, "test": data.test}
    listed = ", ".join(f"{len(samples)} {name}" for name, samples in counts.items())
    masks = sum(map(len, counts.values()))
    few = made and data.test and masks < FEW_MASKS
    said = f"{masks} masks: a run with train.plan=auto spends none on a test set, and trains on more"
    return [
        ("splits", f"{listed} (images with masks)"),
        *([("remark", said)] if few else []),
        ("unlabelled", f"{len(data.unlabelled)} images"),
        *(("remark", text) for text in data.warnings),
    ]


def _print(root: Path, rows: list[Row]) -> None:
    """Print the table of what was found."""
    say(f"{root}:")
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        say(f"  {name:{width}}  {text}")


def _shown(path: Path) -> str:
    """A path relative to the current folder, if it lies below it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _print_next(file: Path, data: DataSet, *, made: bool) -> None:
    """Print the next commands. `made`: the data set has no val split of its own."""
    shown = shlex.quote(_shown(file))
    recipe = "" if data.unlabelled else " recipe=supervised"
    say("next: look at the contact sheet, then")
    say(f"  selftrain verify {shown}")
    say(f"  selftrain train {shown}{recipe}")
    if recipe:
        say("  (without unlabelled images, only recipes that learn from labels run)")
    masks = sum(map(len, (data.labelled, data.val, data.test)))
    if made and MORE_THAN_A_FOLD < masks < FEW_MASKS:
        number = min(FOLDS, masks // 2)
        say(
            f"or, as {masks} masks are few, train and validate with every one of them ({number} runs, about "
            f"{number} times as long):"
        )
        say(f"  selftrain folds {shown}{recipe} k={number}")
        say(
            "  (the students of a fold learn from its own labels only; all folds are exported as one network)"
        )
