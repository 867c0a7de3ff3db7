"""What the look at every file of a data set amounts to: faults, warnings and a table."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from selftrain.data.images import Fault
from selftrain.data.sources import SPLITS, DataSet, Sample

SET_ASIDE = 0.01  # share of the unlabelled images that may be unreadable


@dataclass(frozen=True)
class Look:
    """What one look at a sample's files found. `counts` (C + 1,): pixels of each class and, last, ignored ones."""

    sample: Sample
    split: str
    size: tuple[int, int] | None = None  # (height, width) of the file
    digest: bytes = b""  # of the decoded pixels
    counts: np.ndarray | None = None
    image_fault: Fault | None = None
    mask_fault: Fault | None = None


@dataclass
class Report:
    """The findings. `faults` must be mended; `set_aside` are the unlabelled samples to leave out (sources.without)."""

    classes: list[str]
    faults: list[Fault] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    set_aside: list[Sample] = field(default_factory=list)
    seen: list[Look] = field(default_factory=list)

    def pixels(self, split: str) -> np.ndarray:
        """Pixels of each class and, last, ignored ones, over a split's masks, (C + 1,)."""
        counts = [one.counts for one in self.seen if one.split == split and one.counts is not None]
        return np.sum(counts, axis=0) if counts else np.zeros(len(self.classes) + 1, np.int64)

    def rows(self) -> list[tuple[str, ...]]:
        """The table: a heading, then images, masks, sizes and the share of each class's pixels, by split."""
        of = {split: [one for one in self.seen if one.split == split] for split in SPLITS}
        shares = {split: _shares(self.pixels(split)) for split in SPLITS}
        return [
            ("", *SPLITS),
            ("images", *(str(len(of[split])) for split in SPLITS)),
            ("masks", *(str(sum(one.sample.has_mask for one in of[split])) for split in SPLITS)),
            ("size", *(_sizes(of[split]) for split in SPLITS)),
            *((name, *(shares[split][place] for split in SPLITS)) for place, name in enumerate(self.classes)),
            ("(ignored)", *(shares[split][-1] for split in SPLITS)),
        ]


def findings(data: DataSet, looks: list[Look], root: Path) -> Report:
    """Judges the `looks` at every file of `data`. Files in faults are named from `root`."""
    report = Report(data.classes, list(data.faults), list(data.warnings), seen=looks)
    _report_unreadable(report, root, count=len(data.unlabelled))
    _report_classes(report)
    _report_doubles(report)
    return report


def _report_unreadable(report: Report, root: Path, *, count: int) -> None:
    """Faults of files; of unlabelled images as long as they are few, warnings."""
    aside = [one for one in report.seen if one.split == "unlabelled" and one.image_fault is not None]
    too_many = len(aside) > SET_ASIDE * count
    for one in report.seen:
        if one.image_fault is not None:
            fault = _from_root(one.image_fault, root)
            if one.split != "unlabelled" or too_many:
                report.faults.append(fault)
            else:
                report.warnings.append(f"set aside: {fault.file}: {fault.what}")
        if one.mask_fault is not None:
            report.faults.append(_from_root(one.mask_fault, root))
    report.set_aside = [one.sample for one in aside]
    if too_many:
        what = f"{len(aside)} of {count} unlabelled images cannot be read, more than {SET_ASIDE:.0%}"
        report.faults.append(Fault("data.unlabelled", what, "replace or remove them"))


def _from_root(fault: Fault, root: Path) -> Fault:
    path = Path(fault.file)
    return replace(fault, file=path.relative_to(root).as_posix()) if path.is_relative_to(root) else fault


def _report_doubles(report: Report) -> None:
    """The same picture twice: a fault where val or test holds a copy of what is trained on or of each other."""
    first: dict[bytes, Look] = {}
    for one in report.seen:
        other = first.setdefault(one.digest, one) if one.digest else one
        if other is one:
            continue
        what = f"is the same picture as {other.sample.id} ({one.split} and {other.split})"
        if one.split != other.split and {one.split, other.split} & {"val", "test"}:
            report.faults.append(Fault(one.sample.id, what, "keep it in one split, or its score is a lie"))
        else:
            report.warnings.append(f"{one.sample.id}: {what}")


def _report_classes(report: Report) -> None:
    """Classes that a split lacks, and masks that say nothing."""
    for split, meaning in (("labelled", "it cannot be learned"), ("val", "its score there is null")):
        missing = [name for name, pixels in zip(report.classes, report.pixels(split), strict=False) if pixels == 0]
        report.warnings += [f"class {name!r} has no pixel in the {split} masks: {meaning}" for name in missing]
    for one in report.seen:
        if one.counts is not None and not one.counts[:-1].any():
            report.warnings.append(f"{one.sample.id}: every pixel of its mask is ignored")


def _shares(pixels: np.ndarray) -> list[str]:
    """Counts as percentages; "-" where there are none at all."""
    total = pixels.sum()
    return [f"{count / total:.2%}" if total else "-" for count in pixels]


def _sizes(seen: Iterable[Look]) -> str:
    """The most frequent height x width, and how many others there are."""
    sizes = Counter(one.size for one in seen if one.size is not None)
    if not sizes:
        return "-"
    (height, width), _ = sizes.most_common(1)[0]
    return f"{height}x{width}" + (f" (+{len(sizes) - 1})" if len(sizes) > 1 else "")


def print_report(report: Report) -> None:
    """The table, every warning and every fault, on stdout."""
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    heading, *rows = report.rows()
    if console.is_terminal:
        table = Table(*heading)
        for row in rows:
            table.add_row(*row)
        console.print(table)
    else:
        for row in (heading, *rows):
            print("  ".join(cell.ljust(14) for cell in row).rstrip())
    for warning in report.warnings:
        console.print(f"warning: {warning}")
    for fault in report.faults:
        console.print(f"fault: {fault}")
    console.print(f"{len(report.faults)} faults, {len(report.warnings)} warnings")
