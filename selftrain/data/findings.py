"""Results of checking every file of a data set: faults, warnings and a table."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from selftrain.data import levels as ranges
from selftrain.data.dataset import SPLITS, DataSet
from selftrain.data.declared import hidden_classes, odd_masks, values_used, with_one_remedy
from selftrain.data.faults import Fault, counted, some
from selftrain.data.look import Colour, Look, changed_masks
from selftrain.data.masks import MaskCode
from selftrain.data.sample import Sample
from selftrain.data.tags import disagreements, rows_of_tags

SET_ASIDE = 0.01  # share of the unlabelled images that may be unreadable
LEVELS = 1 << 16  # number of values of a 16-bit sample
COLOURS = 64  # most colours that a message lists
EXTRA = "extra"  # the split, in tables, of images from data.extra
COPIES = 8  # most copies of one picture that a message lists


@dataclass
class Report:
    """The findings.

    `faults` must be fixed by the user. `set_aside` are unlabelled samples to leave out (sample.without).
    `near` are pairs of places in `seen` of nearly identical pictures.
    """

    classes: list[str]
    faults: list[Fault] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    set_aside: list[Sample] = field(default_factory=list)
    seen: list[Look] = field(default_factory=list)
    parts: list[tuple[str, "Report"]] = field(default_factory=list)  # of data.extra, by setting
    near: list[tuple[int, int]] = field(default_factory=list)
    passed: int = 0  # unlabelled images without faults whose looks are not among `seen`

    @property
    def copies(self) -> list[list[str]]:
        """Groups of ids of images that are the same picture, sorted."""
        groups: dict[bytes, list[str]] = {}
        for one in self.seen:
            if one.digest:
                groups.setdefault(one.digest, []).append(one.sample.id)
        return sorted(sorted(names) for names in groups.values() if len(names) > 1)

    def pixels(self, split: str) -> np.ndarray:
        """Pixels (C + 1,) of each class over a split's masks; the last entry counts ignored pixels."""
        counts = [one.counts for one in self.seen if one.split == split and one.counts is not None]
        return np.sum(counts, axis=0) if counts else np.zeros(len(self.classes) + 1, np.int64)

    def rows(self) -> list[tuple[str, ...]]:
        """The table: a heading, then images, masks, sizes and the share of each class's pixels, by split."""
        splits = (*SPLITS, EXTRA) if any(one.split == EXTRA for one in self.seen) else SPLITS
        of = {split: [one for one in self.seen if one.split == split] for split in splits}
        shares = {split: _shares(self.pixels(split)) for split in splits}
        return [
            ("", *splits),
            ("images", *(str(len(of[one]) + self.passed * (one == "unlabelled")) for one in splits)),
            ("masks", *(str(sum(one.sample.mask is not None for one in of[split])) for split in splits)),
            ("size", *(_sizes(of[split]) for split in splits)),
            *((name, *(shares[split][place] for split in splits)) for place, name in enumerate(self.classes)),
            ("(ignored)", *(shares[split][-1] for split in splits)),
            *rows_of_tags(self.classes, {split: [one.sample for one in of[split]] for split in splits}),
        ]


def findings(data: DataSet, looks: list[Look], *, levels: Sequence[Any] = ranges.DTYPE) -> Report:
    """The report on the `looks` at every sample of `data`. `levels` is data.range."""
    report = Report(data.classes, list(data.faults), list(data.warnings), seen=looks)
    root, code = data.root, data.code
    _report_unreadable(report, root, code, count=len(data.unlabelled))
    if not _report_palettes(report, root, code):
        _report_ignored(report, root, code)
    _report_doubles(report)
    _report_levels(report, levels)
    report.warnings += changed_masks([one for one in looks if one.split != EXTRA])
    _report_absent(report)
    report.warnings += disagreements(report.classes, report.seen)
    return report


def _report_unreadable(report: Report, root: Path, code: MaskCode | None, *, count: int) -> None:
    """Report unreadable files as faults; a few unreadable unlabelled images are only warnings."""
    aside = [one for one in report.seen if one.split == "unlabelled" and one.image_fault is not None]
    too_many = len(aside) > SET_ASIDE * count
    for one in report.seen:
        if one.image_fault is not None:
            fault = _from_root(one.image_fault, root)
            if one.split != "unlabelled" or too_many:
                report.faults.append(fault)
            else:
                report.warnings.append(f"set aside: {fault.file}: {fault.what}")
    report.faults += _faults_of_masks(report, root, code)
    report.set_aside = [one.sample for one in aside]
    if too_many:
        what = f"{len(aside)} of {count} unlabelled images cannot be read, more than {SET_ASIDE:.0%}"
        report.faults.append(Fault("data.unlabelled", what, "replace or remove them"))


def _faults_of_masks(report: Report, root: Path, code: MaskCode | None) -> list[Fault]:
    """The faults of masks. Faults of undeclared values get one remedy that suits all files."""
    faults = [_from_root(one.mask_fault, root) for one in report.seen if one.mask_fault is not None]
    kinds: dict[str, list[Fault]] = {}
    for fault in faults:
        kinds.setdefault(fault.cause if fault.values else "other", []).append(fault)
    pixels = np.sum([report.pixels(split) for split in SPLITS], axis=0)
    used = values_used(pixels, code) if code else set()
    for kind, members in kinds.items():
        if code and kind != "other":
            kinds[kind] = with_one_remedy(members, used if not kind else set(), code, len(report.classes))
    return [fault for members in kinds.values() for fault in members]


def _from_root(fault: Fault, root: Path) -> Fault:
    path = Path(fault.file)
    return replace(fault, file=path.relative_to(root).as_posix()) if path.is_relative_to(root) else fault


def _mask_name(one: Look, root: Path) -> str:
    """The name of a sample's mask, for messages."""
    return _from_root(Fault(one.sample.mask.name, "", ""), root).file if one.sample.mask else one.sample.id


def _report_ignored(report: Report, root: Path, code: MaskCode | None) -> None:
    """Report objects that are ignored by mistake, and masks whose pixels are all ignored."""
    own = [one for one in report.seen if one.split != EXTRA]
    masks = [one for one in own if one.counts is not None and one.counts.any()]
    if not masks or any(one.mask_fault and one.mask_fault.values for one in report.seen):
        return  # undeclared values come first: their remedy covers ignored values
    counts = np.stack([one.counts for one in masks if one.counts is not None])  # (N, C + 1)
    hidden = hidden_classes(report.classes, counts, code)
    if hidden:
        report.faults.append(hidden)
        return
    if code and not code.rest:  # with data.ignore=rest, masks of one class are normal
        odd, certain = odd_masks(counts)
        names = [_mask_name(one, root) for one, is_odd in zip(masks, odd, strict=True) if is_odd]
        _report_odd(report, names, certain=certain)
    _report_empty(report, [one for one, row in zip(masks, counts, strict=True) if not row[:-1].any()], root)


def _report_odd(report: Report, names: list[str], *, certain: bool) -> None:
    """Report masks with one class and ignored pixels while others have more classes.

    Perhaps they were stored with other values.
    """
    if certain:
        others = "while nearly all other masks hold several classes and none"
        what, cause = (f"{start} one class and ignored pixels, {others}" for start in ("holds", "masks hold"))
        remedy = "if the ignored pixels are objects, give them the value of their class in the other masks"
        report.faults += [Fault(name, what, remedy, cause=cause) for name in names]
    elif names:
        number = f"{counted(len(names), 'mask')} with one class and ignored pixels only ({some(names)})"
        question = "are the ignored pixels void, and not objects?"
        report.warnings.append(f"{number}, while others hold several classes: {question}")


def _report_empty(report: Report, looks: list[Look], root: Path) -> None:
    """Report masks whose pixels are all ignored: a fault in labelled and val, otherwise a warning."""
    what = "every pixel of its mask is ignored"
    for one in looks:
        if one.split in ("labelled", "val"):
            remedy = "label it, or remove the mask"
            report.faults.append(Fault(_mask_name(one, root), what, remedy, cause="masks are ignored whole"))
    others = [one.sample.id for one in looks if one.split not in ("labelled", "val")]
    if others:
        report.warnings.append(f"{some(others)}: {what}")


def _report_doubles(report: Report) -> None:
    """Report copies of pictures.

    They are a fault if val or test contains a copy of a training image, or a copy of an image of the other.
    """
    copies: dict[bytes, list[Look]] = {}
    for one in report.seen:
        if one.digest and one.split:
            copies.setdefault(one.digest, []).append(one)
    harmless = []
    for looks in copies.values():
        *others, last = looks
        splits = list(dict.fromkeys(one.split for one in reversed(looks)))
        names = some([one.sample.id for one in others], COPIES)
        what = f"is the same picture as {names} ({' and '.join(splits)})"
        if len(splits) > 1 and {"val", "test"} & set(splits):
            report.faults.append(Fault(last.sample.id, what, _remedy_for_copies(splits)))
        elif others:
            harmless.append(f"{last.sample.id}: {what}")
    if harmless:
        more = f" (and {counted(len(harmless) - 1, 'picture')} more like this)" if len(harmless) > 1 else ""
        report.warnings.append(harmless[0] + more)


def _remedy_for_copies(splits: Collection[str]) -> str:
    if {"val", "test"} <= set(splits):
        return "keep it in one split, or its score is too high"
    return "keep it in one split, or set data.duplicates=drop to train without copies of val and test images"


def _report_absent(report: Report) -> None:
    """Warn of classes that a split lacks. Skipped if there are faults: then not all pixels are known."""
    if report.faults:
        return
    for split, meaning in (("labelled", "it cannot be learned"), ("val", "its score there is null")):
        if not any(one.split == split for one in report.seen):
            continue
        counts = report.pixels(split) + (report.pixels(EXTRA) if split == "labelled" else 0)
        missing = [name for name, pixels in zip(report.classes, counts, strict=False) if pixels == 0]
        report.warnings += [
            f"class {name!r} has no pixel in the {split} masks: {meaning}" for name in missing
        ]


def _report_palettes(report: Report, root: Path, code: MaskCode | None) -> bool:
    """Report masks, read by palette index, whose palettes differ: a fault. Returns whether there are any."""
    found = _palettes_that_differ([one for one in report.seen if one.palette])
    if found is None:
        return False
    first, second, difference = found
    names = [_mask_name(one, root) for one in (first, second)]
    what = f"has another palette than {names[0]} ({difference}), and masks are read by palette index"
    how = "read them by colour, in the order of data.classes and without data.values"
    remedy = f"{how}: {_colours_found(report.seen, code)}"
    report.faults.append(Fault(names[1], what, remedy))
    return True


def _palettes_that_differ(looks: list[Look]) -> tuple[Look, Look, str] | None:
    """Two looks whose used palette entries differ, and the difference as text.

    They differ in the colour of an index, or in the index of a colour.
    """
    by_index: dict[int, Look] = {}
    by_colour: dict[Colour, dict[int, Look]] = {}
    for one in looks:
        for index in one.used:
            colour = one.colour(index)
            other = one if one.is_ramp else by_index.setdefault(index, one)
            if other.colour(index) != colour:
                return (
                    other,
                    one,
                    f"index {index} is {list(other.colour(index))} there and {list(colour)} here",
                )
            for place, other in by_colour.setdefault(colour, {}).items():
                # a palette may contain a colour twice: then both palettes have it at both places
                if other.colour(index) != colour or one.colour(place) != colour:
                    return other, one, f"{list(colour)} is index {place} there and {index} here"
            by_colour[colour].setdefault(index, one)
    return None


def _colours_found(looks: list[Look], code: MaskCode | None) -> str:
    """Settings to read the masks by colour, ordered by the index that each colour has in most files."""
    files = Counter((one.colour(index), index) for one in looks if one.palette for index in one.used)
    places = {colour: index for (colour, index), _ in reversed(files.most_common())}
    ordered = sorted(places, key=lambda colour: places[colour])
    void = [colour for colour in ordered if code and places[colour] in code.ignore]
    shown = [colour for colour in ordered if colour not in void]
    rest = f" and {len(shown) - COLOURS} more" if len(shown) > COLOURS else ""
    settings = f"data.colours={_listed(shown[:COLOURS])}{rest}"
    return f"{settings} data.ignore_colours={_listed(void)}" if void else settings


def _listed(colours: list[Colour]) -> str:
    return f"[{','.join(f'[{red},{green},{blue}]' for red, green, blue in colours)}]"


def _report_levels(report: Report, setting: Sequence[Any]) -> None:
    """Warn if data.range does not suit the 16-bit images; report a fault if there are no such images."""
    seen = [one for one in report.seen if one.size is not None]
    largest = [one.largest for one in seen if one.largest is not None]
    if list(setting) == ranges.DTYPE:
        _report_dark(report, largest)
        if 0 < len(largest) < len(seen):
            counts = f"{counted(len(largest), 'image')} of 16 bits and {len(seen) - len(largest)} of 8 bits"
            report.warnings.append(
                f"{counts} in one data set: bring them to one depth if their brightness differs"
            )
        return
    if seen and not largest:
        what = "is for 16-bit images, but the data set has none"
        report.faults.append(Fault(f"data.range={ranges.shown(setting)}", what, "remove the setting"))
    fixed = ranges.fixed(setting)
    above = [value for value in largest if fixed and value > fixed[1]]
    if fixed and above:
        counts = f"{counted(len(above), '16-bit image')} of {len(largest)} with values above {fixed[1]}"
        report.warnings.append(f"data.range={ranges.shown(setting)} clips {counts}, up to {max(above)}")


def _report_dark(report: Report, largest: list[int]) -> None:
    """Warn if most 16-bit images use less than half of the range. `largest`: each image's largest value."""
    dark = [value for value in largest if value < LEVELS // 2]
    if len(dark) <= len(largest) / 2:
        return
    most = max(dark)
    report.warnings.append(
        f"{len(dark)} of {counted(len(largest), '16-bit image')} use less than half of the "
        f"{LEVELS:,} levels: the largest value is {most}, {(most + 1) / LEVELS:.1%} of the range, "
        f"which leaves {(most >> 8) + 1} of 256 levels; "
        f"set data.range=percentile or data.range=[0,{(1 << most.bit_length()) - 1}]"
    )


def _shares(pixels: np.ndarray) -> list[str]:
    """Counts as percentages; "-" if all counts are 0."""
    total = pixels.sum()
    return [f"{count / total:.2%}" if total else "-" for count in pixels]


def _sizes(seen: Iterable[Look]) -> str:
    """The most frequent height x width, and the number of other sizes."""
    sizes = Counter(one.size for one in seen if one.size is not None)
    if not sizes:
        return "-"
    (height, width), _ = sizes.most_common(1)[0]
    return f"{height}x{width}" + (f" (+{len(sizes) - 1})" if len(sizes) > 1 else "")
