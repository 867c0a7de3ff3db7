"""The files of a review (RUN/review): what a person decided about pseudo-labels, image by image.

    review.json     the names of the classes
    journal.jsonl   a line for each saved change; the last line of an image counts
    masks/*.png     two channels: class ids (255: ignored), and 255 where the id is known, 0 elsewhere

A mask is on disk before the line that names it. So after a kill, the journal describes whole masks only; at
most its last line is torn, and a torn line does not count.
"""

import hashlib
import io
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from selftrain.errors import IntegrityError
from selftrain.files import commit_directory, read_directory, read_json, read_manifest, read_regular
from selftrain.ids import IGNORE

ABOUT, JOURNAL, MASKS = "review.json", "journal.jsonl", "masks"
ACCEPT, CORRECT, REJECT, OPEN = "accept", "correct", "reject", "open"
VERDICTS = (ACCEPT, CORRECT, REJECT, OPEN)
KNOWN, UNKNOWN = 255, 0  # values of a mask's second channel
TRIES = 5  # to read a journal whose masks a reviewer replaces meanwhile
REMEDY = "restore it from a copy, or remove the whole folder to review again"

Planes = tuple[np.ndarray, np.ndarray]  # class ids (H, W) uint8, and where they are known, (H, W) bool


@dataclass(frozen=True)
class Row:
    """The state of one image: a line of the journal."""

    image: str  # the id of the sample
    version: int  # 1, 2, … for each change of this image
    verdict: str  # one of VERDICTS
    mask: str = ""  # file name below masks/; empty for images that are rejected or open
    sha256: str = ""  # of the mask's file
    partial: bool = False  # only some pixels of the mask are known
    teacher: str = ""  # sha256 of the network whose label was reviewed
    key: str = ""  # chosen by the page, so that a change that is sent twice counts once

    @property
    def line(self) -> bytes:
        return json.dumps(asdict(self), separators=(",", ":")).encode() + b"\n"


NAMES = {one.name for one in fields(Row)}


@dataclass(frozen=True)
class Review:
    """The verdicts of a review, by image, with the content of each mask."""

    classes: list[str]
    rows: dict[str, Row]
    masks: dict[str, bytes]  # PNG by its file name

    @property
    def sha256(self) -> str:
        """A hash of all that affects training: images, verdicts and masks. The order does not count."""
        told = sorted([row.image, row.verdict, row.sha256] for row in decided(self.rows.values()))
        return hashlib.sha256(json.dumps([self.classes, told]).encode()).hexdigest()

    @property
    def counts(self) -> dict[str, int]:
        """The images of each verdict; "partial" ones are corrected ones of which some pixels are known."""
        rows = decided(self.rows.values())
        found = {name: sum(row.verdict == name for row in rows) for name in (ACCEPT, CORRECT, REJECT)}
        return {**found, "partial": sum(row.partial for row in rows)}


def decided(rows: Iterable[Row]) -> list[Row]:
    """The rows with a verdict."""
    return [row for row in rows if row.verdict != OPEN]


def classes_of(folder: Path) -> list[str]:
    """The names of the classes of a review. Raises IntegrityError."""
    return list(read_json(folder / ABOUT, "classes")["classes"])


def rows_in(folder: Path) -> tuple[dict[str, Row], int]:
    """The last row of each image, and the length of the journal without a torn last line, in bytes.

    Raises IntegrityError for a damaged line, and for a version that does not follow the one before.
    """
    path, rows, end = folder / JOURNAL, dict[str, Row](), 0
    for number, line in enumerate(read_regular(path).splitlines(keepends=True) if path.exists() else []):
        if not line.endswith(b"\n"):
            break  # the process that wrote it was killed
        row = _row(line)
        before = rows[row.image].version if row and row.image in rows else 0
        if row is None or row.version != before + 1:
            raise IntegrityError(f"{path}, line {number + 1} is damaged; {REMEDY}")
        rows[row.image], end = row, end + len(line)
    return rows, end


def _row(line: bytes) -> Row | None:
    """A row of the journal; None for anything that a review does not write."""
    try:
        content = json.loads(line)
    except ValueError:
        return None
    if not isinstance(content, dict) or content.keys() != NAMES or content["verdict"] not in VERDICTS:
        return None
    row = Row(**content)
    return row if isinstance(row.version, int) and "/" not in row.mask else None


def read(folder: Path) -> Review:
    """A review with its masks, also while a person continues with it.

    Raises IntegrityError for a folder without a review, and for damaged files.
    """
    for _ in range(TRIES):
        rows, _ = rows_in(folder)
        files = {row.mask: row for row in rows.values() if row.mask}
        try:
            masks = {name: read_regular(folder / MASKS / name) for name in files}
            break
        except FileNotFoundError as error:  # the reviewer replaced this mask after its row was read
            missing = error.filename
    else:
        raise IntegrityError(f"{missing} is missing; {REMEDY}")
    for name, content in masks.items():
        if hashlib.sha256(content).hexdigest() != files[name].sha256:
            raise IntegrityError(f"{folder / MASKS / name} is damaged (other content); {REMEDY}")
    return Review(classes_of(folder), rows, masks)


def keep(review: Review, folder: Path) -> None:
    """Copy the verdicts and masks of a review to `folder`, which must not exist, in one step."""
    rows = [asdict(row) for row in decided(review.rows.values())]
    facts = {"classes": review.classes, "rows": rows, "sha256": review.sha256, "counts": review.counts}
    commit_directory(folder, review.masks, **facts)


def kept(folder: Path) -> Review:
    """The review that `keep` copied. Raises IntegrityError if it is damaged."""
    masks, facts = read_directory(folder), read_manifest(folder)
    review = Review(facts["classes"], {row["image"]: Row(**row) for row in facts["rows"]}, masks)
    if review.sha256 != facts["sha256"]:
        raise IntegrityError(f"{folder} is damaged: its verdicts differ from their hash")
    return review


def encoded(ids: np.ndarray, known: np.ndarray) -> bytes:
    """A PNG of class ids (H, W) uint8, and of where they are `known`, (H, W) bool."""
    alpha = np.where(known, np.uint8(KNOWN), np.uint8(UNKNOWN))
    content = io.BytesIO()
    Image.fromarray(np.dstack([ids, alpha])).save(content, format="PNG", compress_level=3)
    return content.getvalue()


def decoded(content: bytes, name: str, classes: int) -> Planes:
    """The class ids of a PNG, and where they are known. Raises IntegrityError with its `name`."""
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            planes = np.asarray(picture)
            fits = picture.mode == "LA"
    except (OSError, UnidentifiedImageError, ValueError) as error:
        raise IntegrityError(f"{name} cannot be read ({error}); {REMEDY}") from None
    if not fits or not is_mask(planes[..., 0], classes):
        raise IntegrityError(f"{name} is not the mask of a review, of {classes} classes; {REMEDY}")
    return planes[..., 0].copy(), planes[..., 1] == KNOWN


def is_mask(ids: np.ndarray, classes: int) -> bool:
    """Whether all ids are classes or IGNORE."""
    return bool(((ids < classes) | (ids == IGNORE)).all())
