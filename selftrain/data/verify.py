"""Checks every file of a data set in one pass and says all that is wrong with it. Writes nothing near the data.

What was found sound is remembered by the hash of its bytes in a cache of the user's, so a second look only reads.
"""

import hashlib
import json
import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from selftrain.config import DataConfig
from selftrain.data import images
from selftrain.data.images import Fault
from selftrain.data.sources import SPLITS, DataSet, Sample
from selftrain.errors import DataError
from selftrain.log import progress

VERSION = 2  # of what `_look` finds
SET_ASIDE = 0.01  # share of the unlabelled images that may be unreadable


@dataclass(frozen=True)
class Seen:
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
    seen: list[Seen] = field(default_factory=list)

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


def verify(data: DataSet, cfg: DataConfig, *, workers: int) -> Report:
    """Reads every image and mask, with `workers` threads. `data` comes from load(cfg, strict=False)."""
    jobs = [(sample, split) for split in SPLITS for sample in getattr(data, split)]
    known, seen = Known(), []
    with ThreadPoolExecutor(max(1, workers)) as pool, progress("verify", len(jobs)) as show:
        for one in pool.map(lambda job: _look_once(*job, classes=len(data.classes), known=known), jobs):
            seen.append(one)
            show(len(seen))
    known.save()
    root = Path(cfg.root).expanduser().resolve()  # of drawn data: never named in a fault
    report = Report(data.classes, list(data.faults), list(data.warnings), seen=seen)
    _report_unreadable(report, root, count=len(data.unlabelled))
    _report_classes(report)
    _report_doubles(report)
    return report


class Known:
    """Findings about sound files by the hash of their bytes. Where the cache cannot be kept, nothing is known."""

    def __init__(self) -> None:
        self.lock, self.new = threading.Lock(), dict[str, str]()
        self.base: sqlite3.Connection | None = None
        try:
            folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "selftrain"
            folder.mkdir(parents=True, exist_ok=True)
            self.base = sqlite3.connect(folder / "verified.sqlite", timeout=5, check_same_thread=False, isolation_level=None)
            self.base.execute("CREATE TABLE IF NOT EXISTS seen (hash TEXT PRIMARY KEY, found TEXT) WITHOUT ROWID")
        except (OSError, RuntimeError, sqlite3.Error):  # RuntimeError: a user without a home
            pass

    def get(self, key: str) -> dict | None:
        """What was found under a hash, if anything was."""
        try:
            with self.lock:
                row = self.base.execute("SELECT found FROM seen WHERE hash = ?", (key,)).fetchone() if self.base else None
            return json.loads(row[0]) if row else None
        except (sqlite3.Error, ValueError):
            return None

    def put(self, key: str, found: dict) -> None:
        """Remember a finding, for `save`."""
        self.new[key] = json.dumps(found)

    def save(self) -> None:
        """Write what is new, in one transaction, and close."""
        if self.base is None:
            return
        with suppress(sqlite3.Error), self.base:
            self.base.execute("BEGIN")
            self.base.executemany("INSERT OR REPLACE INTO seen VALUES (?, ?)", self.new.items())
            self.base.execute("COMMIT")
        self.base.close()


def _look_once(sample: Sample, split: str, *, classes: int, known: Known) -> Seen:
    """What `_look` finds, from the cache where these bytes were found sound before."""
    key = _key(sample, classes)
    found = known.get(key) if key else None
    if found:
        counts = np.array(found["counts"], np.int64) if found["counts"] is not None else None
        return Seen(sample, split, tuple(found["size"]), bytes.fromhex(found["digest"]), counts)
    seen = _look(sample, split, classes=classes)
    if key and seen.image_fault is None and seen.mask_fault is None:
        counts = seen.counts.tolist() if seen.counts is not None else None
        known.put(key, {"size": seen.size, "digest": seen.digest.hex(), "counts": counts})
    return seen


def _key(sample: Sample, classes: int) -> str:
    """A hash of the bytes of a sample's files and of how they are read; "" for what is no readable file."""
    if sample.image is None:
        return ""
    digest = hashlib.sha256(repr((VERSION, classes, sample.code, sample.mask is None)).encode())
    try:
        for path in filter(None, (sample.image, sample.mask)):
            with images.open_regular(path) as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    except (DataError, OSError):
        return ""
    return digest.hexdigest()


def _look(sample: Sample, split: str, *, classes: int) -> Seen:
    """Reads a sample's files at their own size; what they raise becomes a fault."""
    seen = Seen(sample, split)
    whole = replace(sample, size=None)
    try:
        image = whole.read_image()
        digest = hashlib.sha256(f"{image.shape}".encode())
        digest.update(np.ascontiguousarray(image).data)
        seen = replace(seen, size=image.shape[:2], digest=digest.digest())
    except DataError as error:
        seen = replace(seen, image_fault=error.args[0])
    try:
        mask = whole.read_mask() if seen.image_fault is None else _mask_alone(sample)
    except DataError as error:
        return replace(seen, mask_fault=error.args[0])
    if mask is None:
        return seen
    counts = np.bincount(mask.ravel(), minlength=images.IGNORE + 1)
    return replace(seen, counts=np.append(counts[:classes], counts[images.IGNORE]))


def _mask_alone(sample: Sample) -> np.ndarray | None:
    """The mask of a sample whose image cannot be read."""
    return images.read_mask(sample.mask, sample.code) if sample.mask and sample.code else None


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
    first: dict[bytes, Seen] = {}
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


def _sizes(seen: Iterable[Seen]) -> str:
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
