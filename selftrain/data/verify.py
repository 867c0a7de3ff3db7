"""Checks every file of a data set in one pass and reports all faults. Writes nothing near the data.

Findings about files without faults are stored in a user cache by the hash of their bytes. So a second check
reads the files, but does not decode them.
"""

import hashlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice
from math import prod
from pathlib import Path

import numpy as np

from selftrain.data.ahead import ahead
from selftrain.data.bands import wrong_channels
from selftrain.data.dataset import SPLITS, DataSet, External, with_levels
from selftrain.data.extra import in_extra
from selftrain.data.faults import none_hidden
from selftrain.data.findings import EXTRA, Report, findings
from selftrain.data.levels import DTYPE
from selftrain.data.likeness import near, traits
from selftrain.data.load import load
from selftrain.data.look import Look
from selftrain.data.many import finder
from selftrain.data.oddities import near_groups, oddities
from selftrain.data.sample import Copies, Sample
from selftrain.data.spec import Spec
from selftrain.errors import DataError
from selftrain.ids import IGNORE
from selftrain.log import progress
from selftrain.process import mapped
from selftrain.scores import class_pixels

GROUP = 64  # samples that are looked at together
VERSION = 6  # of the findings of `_look`
MANY = 200_000  # unlabelled images, from which on not all looks are kept: a look takes about 1 kB
SEEN = 20_000  # looks that are then kept for comparisons
UNSAVED = 10_000  # findings


Job = tuple[Sample, str]  # and its split


def _groups(jobs: Iterable[Job]) -> Iterator[list[Job]]:
    """Jobs in groups: what a remote store fetches together."""
    left = iter(jobs)
    while group := list(islice(left, GROUP)):
        yield group


def verify(data: DataSet, spec: Spec, *, workers: int, crop: Sequence[int] = ()) -> Report:
    """Read every image and mask, with `workers` threads. `data` comes from load(spec, strict=False).

    `crop` is train.crop; without it, there is no warning of images far larger than the crop.
    """
    # The levels' values do not matter here: only whether images can be scaled at all.
    scaled = data if spec.range == DTYPE else with_levels(data, (0, 0xFFFF))
    parts = [(one, verify(one.data, one.spec, workers=workers)) for one in data.extra]
    many = _are_many(data, spec)
    splits = [split for split in SPLITS if split != "unlabelled"] + ["unlabelled"] if many else SPLITS
    jobs = ((sample, split) for split in splits for sample in getattr(scaled, split) if not sample.extra)
    count = sum(len(getattr(data, split)) for split in SPLITS) - sum(len(one.samples) for one in data.extra)
    known, seen, matters = Known(spec.remember), list[Look](), Matters(len(data.unlabelled) // SEEN)
    with ThreadPoolExecutor(max(1, workers)) as pool, progress("verify", count) as show:
        look = partial(_look_once, classes=len(data.classes), channels=spec.channels, known=known)
        coming = ahead(_groups(jobs), lambda group: [sample for sample, _ in group])
        looks = mapped(pool, lambda job: look(*job), chain.from_iterable(coming))
        for number, one in enumerate(looks, start=1):
            if not many or matters.to_report(one):
                seen.append(one)
            show(number)
            known.save_some()
    known.save()
    seen += [look for external, part in parts for look in _recoded(external, part, len(data.classes))]
    report = _report(data, spec, seen, near([one.traits for one in seen]), crop)
    return _joined(report, [(one.setting, part) for one, part in parts])


def _joined(report: Report, parts: list[tuple[str, Report]]) -> Report:
    """The report with the faults and warnings of data.extra, whose own reports are `parts`."""
    report.faults += [in_extra(fault, setting) for setting, part in parts for fault in part.faults]
    report.warnings += [f"{setting}: {warning}" for setting, part in parts for warning in part.warnings]
    return replace(report, parts=parts)


def _recoded(external: External, part: Report, classes: int) -> list[Look]:
    """The looks at an external data set as looks of this one: pictures to compare, and pixels by class."""
    targets = [min(target, classes) for target in (*external.table, classes)]  # the last one: ignored

    def recoded(counts: np.ndarray) -> np.ndarray:
        return np.bincount(targets, counts, classes + 1).astype(np.int64)

    return [
        replace(
            Look(sample, EXTRA, look.size, look.digest, traits=look.traits),
            counts=None if look.counts is None else recoded(look.counts),
        )
        for sample, look in zip(external.samples, part.seen, strict=True)
    ]


def _report(
    data: DataSet, spec: Spec, seen: list[Look], pairs: list[tuple[int, int]], crop: Sequence[int]
) -> Report:
    """The report on the looks at a data set; `pairs` are nearly identical pictures."""
    report = replace(findings(data, seen, levels=spec.range), near=pairs)
    report.warnings += oddities(seen, pairs, spec, crop)
    if _are_many(data, spec):
        report.passed = len(data.unlabelled) - sum(one.split == "unlabelled" for one in seen)
        report.warnings.append(
            f"of {len(data.unlabelled):,} unlabelled images, about {SEEN:,} are compared with others; all "
            "were read, and all are searched for copies of images with masks"
        )
    return report


def _are_many(data: DataSet, spec: Spec) -> bool:
    """Whether the looks at unlabelled images would take too much memory (`Matters`)."""
    return len(data.unlabelled) > MANY and spec.duplicates != "near"


def divide(data: DataSet, spec: Spec, *, workers: int, crop: Sequence[int] = ()) -> tuple[DataSet, Report]:
    """`verify`, then divide the data set again, now that copies of pictures are known (data.duplicates).

    `data` comes from load(spec) without copies. Pass `copies_of(report, spec)` to a later
    load(spec, copies=...).
    """
    report = verify(data, spec, workers=workers, crop=crop)
    copies = copies_of(report, spec)
    if not copies:
        return data, report
    with none_hidden(report.faults, "data.splits"):
        data = load(spec, strict=False, copies=copies)
    find = finder(data.unlabelled)
    split_of = {
        one.id: EXTRA if one.extra else split
        for split in ("labelled", "val", "test")
        for one in getattr(data, split)
    }
    moved = [
        replace(one, split=split_of.get(one.sample.id, "" if find(one.sample.id) is None else "unlabelled"))
        for one in report.seen
    ]
    return data, _joined(_report(data, spec, moved, report.near, crop), report.parts)


def copies_of(report: Report, spec: Spec) -> Copies:
    """Groups of ids of images that data.duplicates treats as copies of one picture."""
    if spec.duplicates == "near":
        return near_groups(report.seen, report.near)
    return report.copies if spec.duplicates != "fault" else []


@dataclass
class Matters:
    """Which of many looks a report needs. The looks at images with masks come first.

    Of unlabelled images, these are looks at faults, at copies of images with masks, at the first image of
    each size and depth, and at one of `step` others. Of more than SEEN sizes, only larger ones count.
    """

    step: int
    count: int = 0
    digests: set[bytes] = field(default_factory=set)  # of images with masks
    kinds: set[object] = field(default_factory=set)
    largest: int = 0  # pixels of an image

    def to_report(self, look: Look) -> bool:
        """Whether a look is kept; looks are asked about in order."""
        self.count += 1
        if look.split != "unlabelled":
            self.digests.add(look.digest)
            return True
        kind, pixels = (look.size, look.largest is None), prod(look.size or (0,))
        new = kind not in self.kinds and (len(self.kinds) < SEEN or pixels > self.largest)
        self.kinds |= {kind} if new else set()
        self.largest = max(self.largest, pixels)
        faulty = look.image_fault is not None or look.mask_fault is not None
        return faulty or new or look.digest in self.digests or self.count % self.step == 0


class Known:
    """Cache of findings about files without faults, by the hash of their bytes.

    If the cache cannot be stored, it is empty. With stored=False it is not looked for (data.remember).
    """

    def __init__(self, stored: bool = True) -> None:
        self.lock, self.new = threading.Lock(), dict[str, str]()
        self.base: sqlite3.Connection | None = None
        if not stored:
            return
        try:
            folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "selftrain"
            folder.mkdir(parents=True, exist_ok=True)
            self.base = sqlite3.connect(
                folder / "verified.sqlite", timeout=5, check_same_thread=False, isolation_level=None
            )
            self.base.execute(
                "CREATE TABLE IF NOT EXISTS seen (hash TEXT PRIMARY KEY, found TEXT) WITHOUT ROWID"
            )
        except (OSError, RuntimeError, sqlite3.Error):  # RuntimeError: a user without a home
            pass

    def get(self, key: str) -> dict | None:
        """The finding for a hash, or None."""
        try:
            with self.lock:
                row = (
                    self.base.execute("SELECT found FROM seen WHERE hash = ?", (key,)).fetchone()
                    if self.base
                    else None
                )
            return json.loads(row[0]) if row else None
        except (sqlite3.Error, ValueError):
            return None

    def put(self, key: str, found: dict) -> None:
        """Add a finding, to be written by `save`."""
        self.new[key] = json.dumps(found)

    def save_some(self) -> None:
        """Write new findings, if they are so many that they take memory."""
        if len(self.new) >= UNSAVED:
            self._write()

    def save(self) -> None:
        """Write new findings, and close the cache."""
        self._write()
        if self.base is not None:
            self.base.close()

    def _write(self) -> None:
        """Write new findings in one transaction."""
        with self.lock:
            new, self.new = self.new, {}
            if self.base is None:
                return
            with suppress(sqlite3.Error), self.base:
                self.base.execute("BEGIN")
                self.base.executemany("INSERT OR REPLACE INTO seen VALUES (?, ?)", new.items())
                self.base.execute("COMMIT")


def _look_once(sample: Sample, split: str, *, classes: int, channels: int, known: Known) -> Look:
    """The look at a sample, from the cache if these bytes had no faults before."""
    key = _key(sample, classes)
    found = known.get(key) if key else None
    if found:
        return _remembered(Look(sample, split), found)
    seen = _look(sample, split, classes=classes, channels=channels)
    if key and seen.image_fault is None and seen.mask_fault is None:
        known.put(key, _to_remember(seen))
    return seen


def _to_remember(seen: Look) -> dict:
    """The findings of a look without faults, as JSON."""
    counts = seen.counts.tolist() if seen.counts is not None else None
    palette = {"palette": seen.palette.hex(), "used": seen.used} if seen.palette else {}
    names = ("size", "largest", "rest", "repaired", "notes")
    plain = {name: getattr(seen, name) for name in names}
    codes = {"digest": seen.digest.hex(), "traits": seen.traits.hex()}
    return {**plain, **codes, "counts": counts, **palette}


def _remembered(empty: Look, found: dict) -> Look:
    """The look that `_to_remember` was given."""
    return replace(
        empty,
        size=tuple(found["size"]),
        digest=bytes.fromhex(found["digest"]),
        counts=np.array(found["counts"], np.int64) if found["counts"] is not None else None,
        largest=found["largest"],
        rest=found["rest"],
        traits=bytes.fromhex(found["traits"]),
        repaired=found["repaired"],
        notes=tuple(found["notes"]),
        palette=bytes.fromhex(found.get("palette", "")),
        used=tuple(found.get("used", ())),
    )


def _key(sample: Sample, classes: int) -> str:
    """A hash of a sample's content and of how it is read; "" if it has no fingerprint or is unreadable."""
    sources = [sample.image] + ([sample.mask] if sample.mask else [])
    try:
        prints = [source.fingerprint() for source in sources]
    except (DataError, OSError):
        return ""
    if None in prints:
        return ""
    read = (VERSION, classes, *prints, *[source.reading for source in sources])
    return hashlib.sha256(repr(read).encode()).hexdigest()


def _look(sample: Sample, split: str, *, classes: int, channels: int) -> Look:
    """Read a sample at its own size; errors of its sources become faults."""
    seen = Look(sample, split)
    try:
        image = sample.image.stored()
        if image.shape[2] != channels:
            raise DataError(wrong_channels(sample.image.name, image.shape[2], channels))
        digest = hashlib.sha256(f"{image.shape}".encode())
        digest.update(np.ascontiguousarray(image).data)
        height, width = image.shape[:2]
        seen = replace(seen, size=(height, width), digest=digest.digest(), traits=traits(image))
        if image.dtype == np.uint16:
            seen = replace(seen, largest=int(image.max()))
    except DataError as error:
        seen = replace(seen, image_fault=error.args[0])
    if sample.mask is None:
        return seen
    try:
        mask = sample.mask.examine(alone=seen.image_fault is not None)
    except DataError as error:
        return replace(seen, mask_fault=error.args[0])
    counts = np.append(class_pixels(mask.ids, classes), np.count_nonzero(mask.ids == IGNORE))
    return replace(
        seen,
        counts=counts,
        rest=mask.rest,
        palette=mask.palette,
        used=mask.used,
        repaired=mask.repaired,
        notes=mask.notes,
    )
