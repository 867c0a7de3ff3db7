"""Writes the files of a review (selftrain/verdicts.py): each change is on disk before it is confirmed."""

import hashlib
import os
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from selftrain.errors import ConfigError, LockedError
from selftrain.files import TEMPORARY, keep_json, write_bytes
from selftrain.rundir import RunDir
from selftrain.verdicts import (
    ABOUT,
    ACCEPT,
    CORRECT,
    JOURNAL,
    MASKS,
    OPEN,
    REJECT,
    VERDICTS,
    Planes,
    Row,
    classes_of,
    decoded,
    encoded,
    is_mask,
    rows_in,
)

LONGEST = 80  # characters of an image's name in the name of its mask


class ConflictError(Exception):
    """Another reviewer changed the image meanwhile; `row` is its present state."""

    def __init__(self, row: Row) -> None:
        super().__init__(row.image)
        self.row = row


class RefusedError(Exception):
    """A change that no page of this program sends; the message says what is wrong."""


@dataclass(frozen=True)
class Change:
    """What a reviewer wants to save. `seen` is the version of the image that the reviewer changed."""

    image: str
    seen: int
    verdict: str
    key: str
    planes: Planes | None = None  # for "accept" and "correct"


class Store:
    """The writer of a review. Only one process holds a folder; its threads take turns.

    `images` are the ids that may be reviewed. Raises LockedError if another process holds the folder,
    ConfigError for a review of other classes, IntegrityError for a damaged journal.
    """

    def __init__(self, folder: Path, classes: Sequence[str], images: Collection[str], teacher: str) -> None:
        self.folder, self.classes, self.images, self.teacher = folder, list(classes), set(images), teacher
        self._turn = threading.Lock()
        try:
            RunDir(folder).lock()
        except LockedError:
            raise LockedError(
                f"another selftrain review has {folder} open; use its page, which several people can share"
            ) from None
        if (folder / ABOUT).exists() and classes_of(folder) != self.classes:
            raise ConfigError(
                f"{folder} reviews the classes {', '.join(classes_of(folder))}, but the run has "
                f"{', '.join(classes)}; move the folder away to begin another review"
            )
        keep_json(folder / ABOUT, {"classes": self.classes})
        self.rows, length = rows_in(folder)
        self._forget_leftovers(length)

    def _forget_leftovers(self, length: int) -> None:
        """Remove what a killed process left: a torn last line, and masks without a line."""
        journal, masks = self.folder / JOURNAL, self.folder / MASKS
        if journal.exists() and journal.stat().st_size > length:
            os.truncate(journal, length)
        used = {row.mask for row in self.rows.values()}
        for file in masks.glob("*"):
            if file.name not in used:
                file.unlink()
        for file in self.folder.glob(f".*{TEMPORARY}"):
            file.unlink()

    def version(self, image: str) -> int:
        """The number of changes of an image so far."""
        return self.rows[image].version if image in self.rows else 0

    def planes(self, image: str) -> Planes | None:
        """The saved mask of an image, and where it is known; None if it has none."""
        with self._turn:
            row = self.rows.get(image)
            content = (self.folder / MASKS / row.mask).read_bytes() if row and row.mask else None
        return decoded(content, row.mask, len(self.classes)) if row and content is not None else None

    def save(self, change: Change) -> Row:
        """Save a change; returns the new state of the image. The same change, sent again, counts once.

        Raises ConflictError if the image has changed since the reviewer saw it, RefusedError for an image
        that must not be reviewed or a mask that does not fit the verdict, OSError if it cannot be written.
        """
        self._check(change)
        with self._turn:
            now = self.rows.get(change.image)
            if now and change.key == now.key:
                return now
            if change.seen != self.version(change.image):
                raise ConflictError(now or Row(change.image, 0, OPEN))
            row = self._written(change, Row(change.image, change.seen + 1, change.verdict, key=change.key))
            self._append(row.line)
            self.rows[change.image] = row
            if now and now.mask:
                (self.folder / MASKS / now.mask).unlink(missing_ok=True)
            return row

    def _check(self, change: Change) -> None:
        if change.image not in self.images:
            raise RefusedError(
                f"{change.image} is not an unlabelled image of the run; only these are reviewed"
            )
        if change.verdict not in VERDICTS or not change.key:
            raise RefusedError(f"unknown verdict {change.verdict!r}, or no key")
        if (change.planes is None) != (change.verdict in (REJECT, OPEN)):
            raise RefusedError(
                f"verdict {change.verdict} {'lacks a' if change.planes is None else 'has no'} mask"
            )
        if change.planes is None:
            return
        ids, known = change.planes
        if not is_mask(ids, len(self.classes)):
            raise RefusedError(f"the mask names a class that is none of {len(self.classes)}")
        if not (known.all() if change.verdict == ACCEPT else known.any()):
            raise RefusedError("an accepted mask is known as a whole, a corrected one in part at least")

    def _written(self, change: Change, row: Row) -> Row:
        """Write the mask of a change; returns the row with its name."""
        if change.planes is None:
            return row
        content, (_, known) = encoded(*change.planes), change.planes
        name = f"{_slug(change.image)}.{row.version}.png"
        write_bytes(self.folder / MASKS / name, content)
        digest, partial = hashlib.sha256(content).hexdigest(), change.verdict == CORRECT and not known.all()
        return replace(row, mask=name, sha256=digest, partial=bool(partial), teacher=self.teacher)

    def _append(self, line: bytes) -> None:
        """Add a line to the journal and wait until it is on disk; a line that failed leaves nothing."""
        journal = self.folder / JOURNAL
        with open(journal, "ab", buffering=0) as file:
            before = os.fstat(file.fileno()).st_size
            try:
                if file.write(line) != len(line):
                    raise OSError(f"{journal} was not written completely")
                os.fsync(file.fileno())
            except OSError:
                os.ftruncate(file.fileno(), before)
                raise


def _slug(image: str) -> str:
    """A file name for an image's mask: readable, and different for different ids."""
    last = "".join(c if c.isalnum() or c in "-_" else "_" for c in image.rpartition("/")[2])
    return f"{last[-LONGEST:]}-{hashlib.sha256(os.fsencode(image)).hexdigest()[:10]}"


def blank(label: np.ndarray) -> Planes:
    """The planes of an image that nobody has painted on: its label (H, W), of which nothing is known."""
    return label, np.zeros(label.shape, bool)
