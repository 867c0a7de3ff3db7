"""Data sets as lists of samples: who is labelled, unlabelled, val and test. Layouts of files: data/folders.py."""

import hashlib
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from selftrain.config import DataConfig
from selftrain.data import faults, folders, images, levels, shapes
from selftrain.data.folders import Found, Layout
from selftrain.data.images import Fault, Levels, MaskCode, MaskFile
from selftrain.data.splits import budget, choose_labelled, group_names, hold_out, joined
from selftrain.errors import ConfigError, DataError
from selftrain.scores import class_pixels

SPLITS = ("labelled", "unlabelled", "val", "test")
DUPLICATES = ("group", "fault", "drop")
Copies = Sequence[Sequence[str]]  # ids of images that are the same picture, group by group
MAX_CLASSES = 254
HASHERS = 4  # threads
SHOWN = 4  # copies that a line names
# Settings that say nothing of drawn data
OF_FILES = ("root", "images", "masks", "unlabelled", "values", "colours", "ignore", "ignore_colours", "range", "duplicates")
REST = "rest"  # of data.ignore: every value that is not declared
OF_FILE_SPLITS = ("train", "val", "test", "val_fraction", "test_fraction", "group")


@dataclass(frozen=True)
class Sample:
    """One image and, where there is one, its mask.

    `id` is the path below data.root without suffix ("images/train/0001TP_006690"), unique even where case or Unicode
    form do not count; of drawn data "val/00003".
    """

    id: str
    image: Path | None  # None: drawn
    mask: Path | None
    size: tuple[int, int] | None = None  # (height, width) that reading brings both to
    code: MaskCode | None = None
    drawn: tuple[int, str, int] | None = None  # arguments of shapes.draw
    levels: Levels | None = None  # the values of 16-bit images that become 0 and 255; None: 0 and 65,535

    @property
    def has_mask(self) -> bool:
        return self.mask is not None or self.drawn is not None

    def read_image(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB. Raises DataError."""
        if self.drawn is not None:
            image = shapes.draw(*self.drawn)[0]
        else:
            assert self.image is not None
            image = images.read_image(self.image, self.levels)
        return images.resize_image(image, self.size) if self.size else image

    def read_stored(self) -> np.ndarray:
        """(H, W, 3) at the size and with the samples of the file, uint8 or uint16. Raises DataError."""
        if self.image is None:
            return self.read_image()
        return images.read_stored(self.image, scaled=self.levels is not None)

    def read_mask(self) -> np.ndarray | None:
        """Class ids (H, W) uint8, 255 ignored; None if there is no mask.

        Raises DataError, also where the mask's file has another size than the image's.
        """
        if self.drawn is not None:
            mask = shapes.draw(*self.drawn)[1]
        elif self.mask is not None and self.code is not None:
            mask = images.read_mask(self.mask, self.code, image=self.image)
        else:
            return None
        return images.resize_mask(mask, self.size) if self.size else mask

    def read_mask_file(self, *, alone: bool = False) -> MaskFile | None:
        """The mask at the size of its file, with what it tells beyond the ids; None if there is no mask.

        Raises DataError as read_mask does; `alone`: without a look at the image.
        """
        if self.mask is not None and self.code is not None:
            return images.read_mask_file(self.mask, self.code, image=None if alone else self.image)
        return MaskFile(shapes.draw(*self.drawn)[1]) if self.drawn is not None else None


@dataclass(frozen=True)
class DataSet:
    """Who is in which split. The masks of unlabelled samples serve to measure pseudo-labels, never to train."""

    classes: list[str]
    labelled: list[Sample]
    unlabelled: list[Sample]
    val: list[Sample]
    test: list[Sample]
    warnings: list[str] = field(default_factory=list)  # what was decided for the user, to be shown
    faults: list[Fault] = field(default_factory=list)  # of load(strict=False) only


def load(cfg: DataConfig, *, strict: bool = True, copies: Copies = ()) -> DataSet:
    """List the files and decide the splits. Masks are read only where splits.choose is "stratified".

    `copies`, which verify finds, are treated as data.duplicates says: made splits hold a picture once, and training
    does without copies of val and test images.

    Raises ConfigError for settings, DataError for files. With strict=False, files with faults of their own (a missing
    mask, a name that two files share, a link that leaves the root) are left out and listed in `faults`, for verify.
    """
    if cfg.source not in SOURCES:
        raise ConfigError(f"data.source={cfg.source!r} is none of {', '.join(SOURCES)}")
    if cfg.size and (len(cfg.size) != 2 or min(cfg.size) < 1):
        raise ConfigError(f"data.size={cfg.size} must be [height, width] in pixels, or [] for images as they are")
    if cfg.duplicates not in DUPLICATES:
        raise ConfigError(f"data.duplicates={cfg.duplicates!r} is none of {', '.join(DUPLICATES)}")
    copies = () if cfg.duplicates == "fault" else copies
    data = _without_copies(_listed(cfg, copies, strict=strict), cfg, copies)
    if strict:
        faults.refuse(data.faults)
    return data


def _listed(cfg: DataConfig, copies: Copies, *, strict: bool) -> DataSet:
    try:
        return SOURCES[cfg.source](cfg, copies)
    except DataError:
        if strict or cfg.splits.choose != "stratified":
            raise
        # Masks that stratifying cannot read are for verify to list, all of them.
        return SOURCES[cfg.source](replace(cfg, splits=replace(cfg.splits, choose="spread")), copies)


def _without_copies(data: DataSet, cfg: DataConfig, copies: Copies) -> DataSet:
    """The data set without training images that are copies of val or test images, and with a line about it.

    With data.duplicates=group only unlabelled images are left out, and only copies of images in made splits: a named
    split that shares a picture with another one is a fault of the data.
    """
    if not copies:
        return data
    split_of = {sample.id: split for split in SPLITS for sample in getattr(data, split)}
    made = {split for split in ("val", "test") if not getattr(cfg.splits, split)}
    leaving = ("labelled", "unlabelled") if cfg.duplicates == "drop" else ("unlabelled",)
    gone: dict[str, str] = {}
    for names in copies:
        held = [name for name in names if split_of.get(name) in ("val", "test")]
        if held and (cfg.duplicates == "drop" or {split_of[name] for name in held} <= made):
            gone |= {name: held[0] for name in names if split_of.get(name) in leaving}
    kept = {split: [sample for sample in getattr(data, split) if sample.id not in gone] for split in SPLITS}
    return replace(data, **kept, warnings=[*data.warnings, *_about_copies(copies, split_of, gone, made)])


def _about_copies(copies: Copies, split_of: dict[str, str], gone: dict[str, str], made: set[str]) -> list[str]:
    """What was decided about copies: which pictures stay together, which images are left out."""
    masked = [[name for name in names if split_of.get(name) in ("labelled", "val", "test")] for names in copies]
    together = [names for names in masked if len(names) > 1]
    lines = []
    if together and made:
        first = " = ".join(together[0][:SHOWN]) + (" = ..." if len(together[0]) > SHOWN else "")
        more = f" (and {len(together) - 1} more such groups)" if len(together) > 1 else ""
        lines.append(f"equal pictures stay in one split: {first}{more}")
    if gone:
        name, other = next(iter(gone.items()))
        lines.append(f"{len(gone)} copies of val or test images are left out of training, such as {name} = {other}")
    return lines


def without(data: DataSet, ids: Collection[str]) -> DataSet:
    """The data set without some unlabelled samples, such as those that verify set aside."""
    return replace(data, unlabelled=[sample for sample in data.unlabelled if sample.id not in ids])


def with_levels(data: DataSet, range_: Sequence[int] | None) -> DataSet:
    """The data set with 16-bit images read by one range (data.json has it); None: as it is."""
    if range_ is None:
        return data
    low, high = range_
    changed = {split: [replace(one, levels=(low, high)) for one in getattr(data, split)] for split in SPLITS}
    return replace(data, **changed)


def levels_of(data: DataSet, setting: Sequence[Any]) -> Levels | None:
    """What data.range comes to for this data set: two numbers, or None for dtype.

    Raises ConfigError for a wrong setting, DataError where it is to be measured and cannot be.
    """
    if list(setting) != levels.PERCENTILE:
        return levels.fixed(setting)
    measured = levels.some([*data.labelled, *data.unlabelled])
    with ThreadPoolExecutor(HASHERS) as pool:
        return levels.measure(pool.map(Sample.read_stored, measured))


def mask_coding(cfg: DataConfig, classes: Sequence[str]) -> dict[str, list]:
    """How the masks that were learnt from write the classes: their values, or their colours, in order."""
    if cfg.colours:
        return {"colours": cfg.colours}
    return {"values": cfg.values or list(range(len(classes)))}


def manifest(data: DataSet) -> dict[str, Any]:
    """What the data set consists of, for data.json: ids and sha256 of every file, or how it was drawn."""
    by_split = {split: getattr(data, split) for split in SPLITS}
    drawn = [sample.drawn for samples in by_split.values() for sample in samples if sample.drawn is not None]
    if drawn:
        return {
            "classes": data.classes,
            "drawn": {"seed": drawn[0][0]},
            **{split: [{"id": sample.id} for sample in samples] for split, samples in by_split.items()},
        }
    with ThreadPoolExecutor(HASHERS) as pool:
        return {
            "classes": data.classes,
            **{split: list(pool.map(_hashes, samples)) for split, samples in by_split.items()},
        }


def _hashes(sample: Sample) -> dict[str, str | None]:
    assert sample.image is not None
    return {"id": sample.id, "image": _sha256(sample.image), "mask": _sha256(sample.mask) if sample.mask else None}


def _sha256(path: Path) -> str:
    with images.open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- drawn data


def _drawn(cfg: DataConfig, copies: Copies) -> DataSet:
    """The embedded data set (data/shapes.py), which has no copies."""
    _refuse_file_settings(cfg)
    if cfg.classes and cfg.classes != list(shapes.CLASSES):
        raise ConfigError(f"data.classes={cfg.classes}, but data.source=shapes draws {', '.join(shapes.CLASSES)}")
    if set(cfg.shapes) != set(SPLITS) or min(cfg.shapes.values()) < 0:
        raise ConfigError(f"data.shapes={cfg.shapes} must hold a count for each of {', '.join(SPLITS)}")
    if cfg.shapes["labelled"] < 1 or cfg.shapes["val"] < 1:
        raise ConfigError("data.shapes needs at least one image in labelled and in val")
    size = _size(cfg)

    def samples(split: str) -> list[Sample]:
        return [
            Sample(f"{split}/{index:05d}", None, None, size=size, drawn=(cfg.splits.seed, split, index))
            for index in range(cfg.shapes[split])
        ]

    labelled, spared = _spend_labels(cfg, samples("labelled"), [""] * cfg.shapes["labelled"], len(shapes.CLASSES))
    return DataSet(list(shapes.CLASSES), labelled, spared + samples("unlabelled"), samples("val"), samples("test"))


def _refuse_file_settings(cfg: DataConfig) -> None:
    """Raises ConfigError for a setting that drawn data would ignore."""
    default = DataConfig()
    for name in OF_FILES:
        if getattr(cfg, name) != getattr(default, name):
            value = getattr(cfg, name)
            raise ConfigError(f"data.{name}={value} is about files, but data.source=shapes draws its images: use data=folder")
    for name in OF_FILE_SPLITS:
        if getattr(cfg.splits, name) != getattr(default.splits, name):
            raise ConfigError(f"data.splits.{name} divides files, but data.source=shapes: set the counts in data.shapes")
    if cfg.splits.seed < 0:
        raise ConfigError(f"data.splits.seed={cfg.splits.seed} must be at least 0")


def _size(cfg: DataConfig) -> tuple[int, int] | None:
    return (cfg.size[0], cfg.size[1]) if cfg.size else None


def _spend_labels(cfg: DataConfig, train: list[Sample], names: Sequence[str], classes: int) -> tuple[list[Sample], list[Sample]]:
    """The training samples whose masks are used, and the others."""
    splits = cfg.splits
    count = budget(splits.labels, splits.label_fraction, len(train))

    def content() -> np.ndarray:
        """Share of each image's labelled pixels that each class has, (N, C)."""
        with ThreadPoolExecutor(HASHERS) as pool:
            return np.stack(list(pool.map(lambda sample: class_shares(sample, classes), train)))

    chosen = set(choose_labelled(splits.choose, count, names, group=splits.group, seed=splits.seed, content=content))
    return (
        [sample for place, sample in enumerate(train) if place in chosen],
        [sample for place, sample in enumerate(train) if place not in chosen],
    )


def class_shares(sample: Sample, classes: int) -> np.ndarray:
    """Share of the pixels that are not ignored, (C,); zeros where all are."""
    mask = sample.read_mask()
    assert mask is not None
    counts = class_pixels(mask, classes)
    return counts / max(1, counts.sum())


# --- files


def _files(cfg: DataConfig, copies: Copies) -> DataSet:
    """Image and mask files under data.root (data/folders.py)."""
    folders.root_of(cfg)  # what is forgotten most comes first
    code, fixed = _mask_code(cfg), levels.fixed(cfg.range)
    layout = folders.find(cfg)
    with faults.none_hidden(layout.faults, "data.splits"):
        return _divided(cfg, layout, code, fixed, copies)


def _divided(cfg: DataConfig, layout: Layout, code: MaskCode, fixed: Levels | None, copies: Copies) -> DataSet:
    """The samples of a layout by split."""

    def samples(found: Sequence[Found]) -> list[Sample]:
        return [Sample(item.id, item.path, item.mask, size=_size(cfg), code=code, levels=fixed) for item in found]

    train, made_val, made_test = _hold_out(cfg, layout, copies)
    labelled, spared = _spend_labels(cfg, samples(train), [item.name for item in train], len(cfg.classes))
    unlabelled = samples(layout.unlabelled) + spared
    val = samples(made_val if layout.val is None else layout.val)
    if not val:
        raise DataError(f"data.splits.val={cfg.splits.val!r} holds no image with a mask, but val chooses the model")
    test = samples(made_test if layout.test is None else layout.test)
    unlabelled.sort(key=lambda sample: sample.id)
    return DataSet(list(cfg.classes), labelled, unlabelled, val, test, layout.warnings, layout.faults)


def _hold_out(cfg: DataConfig, layout: Layout, copies: Copies) -> tuple[list[Found], list[Found], list[Found]]:
    """Train, made val and made test (empty where they are named)."""
    splits = cfg.splits
    if not 0 < splits.val_fraction < 1 or not 0 <= splits.test_fraction < 1:
        raise ConfigError("data.splits.val_fraction must be above 0 and below 1, test_fraction at least 0 and below 1")
    if layout.val is not None and layout.test is not None:
        return layout.train, [], []
    fractions = [
        splits.test_fraction if layout.test is None else 0,
        splits.val_fraction if layout.val is None else 0,
    ]
    groups = group_names([item.name for item in layout.train], splits.group)
    groups = joined(groups, [item.id for item in layout.train], copies)
    test, val = hold_out(groups, fractions, seed=splits.seed)
    gone = {*test, *val}
    return (
        [item for place, item in enumerate(layout.train) if place not in gone],
        [layout.train[place] for place in val],
        [layout.train[place] for place in test],
    )


def _mask_code(cfg: DataConfig) -> MaskCode:
    """What the settings say of mask pixels. Raises ConfigError where they contradict themselves."""
    count = len(cfg.classes)
    if not 2 <= count <= MAX_CLASSES or len(set(cfg.classes)) != count:
        some = f"2 to {MAX_CLASSES} different classes, such as [background,road]"
        raise ConfigError(f"data.classes={cfg.classes} must name {some}")
    if cfg.colours or cfg.ignore_colours:
        return _colour_code(cfg)
    values = cfg.values or list(range(count))
    declared = [one for value in values for one in (value if isinstance(value, list) else [value])]
    if len(values) != count:
        raise ConfigError(f"data.values has {len(values)} entries for {count} classes: give one for each, in order")
    # The default, which nobody set, does not contradict what somebody declared.
    yields = cfg.ignore == DataConfig().ignore
    ignore = [value for value in cfg.ignore if value != REST and not (yields and value in declared)]
    both = declared + ignore
    if not all(type(value) is int and 0 <= value <= 0xFFFF for value in both) or len(set(both)) != len(both):
        raise ConfigError(
            f"data.values={values} and data.ignore={cfg.ignore} must be different numbers from 0 to 65535; "
            "where a class has the value 255, set data.ignore=[]; where it has several values, list them, such as "
            "data.values=[0,[1,2]]; data.ignore=rest ignores all others"
        )
    if [] in values:
        raise ConfigError(f"data.values={values} leaves a class without a value; give each at least one")
    coded = tuple(tuple(value) if isinstance(value, list) else value for value in values)
    return MaskCode(coded, tuple(ignore), rest=REST in cfg.ignore)


def _colour_code(cfg: DataConfig) -> MaskCode:
    both = [*cfg.colours, *cfg.ignore_colours]
    if cfg.values:
        raise ConfigError("data.values and data.colours are two ways to read masks: give one of them")
    if len(cfg.colours) != len(cfg.classes):
        counts = f"{len(cfg.colours)} entries for {len(cfg.classes)} classes"
        raise ConfigError(f"data.colours has {counts}: give one for each, in order")
    if not all(len(colour) == 3 and 0 <= min(colour) <= max(colour) <= 255 for colour in both):
        raise ConfigError("data.colours and data.ignore_colours hold [red, green, blue] from 0 to 255")
    if len({tuple(colour) for colour in both}) != len(both):
        raise ConfigError("data.colours and data.ignore_colours must be different colours")
    colours = [(red, green, blue) for red, green, blue in both]
    count = len(cfg.colours)
    return MaskCode((), (), tuple(colours[:count]), tuple(colours[count:]), rest=REST in cfg.ignore)


SOURCES: dict[str, Callable[[DataConfig, Copies], DataSet]] = {"shapes": _drawn, "folder": _files}
