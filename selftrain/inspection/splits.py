"""Which images train, validate and test: by the names of folders, or by list files."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from selftrain.data.storage import open_regular
from selftrain.errors import DataError
from selftrain.inspection.names import split_word
from selftrain.inspection.pictures import Picture

LISTS = {".txt", ".lst", ".csv", ".list", ".tsv"}
LARGEST = 20_000_000  # bytes of a list
NAMED = 0.9  # least share of a list's lines that name images
SEVERAL = 5  # folders of scenes or patients


def by_folder(images: Iterable[Picture]) -> dict[Picture, str]:
    """The split that each image's folders name; "" for none. A deeper folder counts more."""
    cache = dict[tuple[str, ...], str]()
    for picture in images:
        if picture.folders not in cache:
            words = [split_word(name) for name in picture.folders]
            cache[picture.folders] = next(filter(None, reversed(words)), "")
    return {picture: cache[picture.folders] for picture in images}


@dataclass
class Lists:
    """The list files of one folder, and the images that they name, by split."""

    folder: Path
    files: dict[str, Path] = field(default_factory=dict)
    images: dict[str, list[Picture]] = field(default_factory=dict)

    def named(self) -> set[Picture]:
        return {picture for images in self.images.values() for picture in images}


def lists(others: Sequence[Path], images: Sequence[Picture], masks: dict[Picture, Picture]) -> list[Lists]:
    """The list files among the other files, by folder; the folder that names most images first.

    `masks` are the images by mask: lists may name masks, too.
    """
    ends = _ends(masks) | _ends(images)
    found = defaultdict[Path, Lists](lambda: Lists(Path()))
    for path in others:
        split = split_word(path.stem)
        if path.suffix.lower() not in LISTS or not split:
            continue
        listed = _read(path, ends)
        if listed:
            entry = found[path.parent]
            entry.folder = path.parent
            whole = "trainval" in path.stem.lower() or {"train", "val"} <= set(
                re.findall(r"[a-z]+", path.stem.lower())
            )
            _put(entry, split, path, list(dict.fromkeys(masks.get(one, one) for one in listed)), whole=whole)
    return sorted(found.values(), key=lambda entry: (-len(entry.named()), entry.folder))


def _put(entry: Lists, split: str, path: Path, images: list[Picture], *, whole: bool) -> None:
    """Add a list. trainval.txt counts only if there is no train.txt; of two lists, the longer one counts."""
    if split in entry.files:
        other_whole = "trainval" in entry.files[split].stem.lower()
        if whole or (not other_whole and len(images) <= len(entry.images[split])):
            return
    entry.files[split], entry.images[split] = path, images


def _ends(pictures: Iterable[Picture]) -> dict[str, Picture | None]:
    """The pictures by each ending of their paths, with and without suffix; None where several have it."""
    ends = dict[str, Picture | None]()
    for picture in pictures:
        for start in range(len(picture.folders) + 1):
            for name in (picture.stem, picture.path.name):
                end = "/".join((*picture.folders[start:], name))
                ends[end] = picture if ends.get(end, picture) == picture else None
    return ends


def _read(path: Path, ends: dict[str, Picture | None]) -> list[Picture]:
    """The images that a list names; empty if it is no list of these images."""
    try:
        with open_regular(path) as file:
            text = file.read(LARGEST).decode("utf-8-sig")
    except (DataError, UnicodeDecodeError):
        return []
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    found = [_named(line, ends) for line in lines]
    known = [picture for picture in found if picture]
    return known if known and len(known) >= NAMED * (len(lines) - 1) else []


def _named(line: str, ends: dict[str, Picture | None]) -> Picture | None:
    """The image of a line: of the whole line, or of its first column."""
    for text in (line, *re.split(r"[\t,;]|\s+", line)[:1]):
        name = os.path.normpath(text.strip("\"' ").replace("\\", "/")).lstrip("/")
        parts = name.split("/")
        for start in range(len(parts)):
            found = ends.get("/".join(parts[start:]))
            if found:
                return found
    return None


def groups(images: Sequence[Picture]) -> str:
    """A regular expression for images that come in folders of a scene or patient; "" if they do not.

    It matches the folders of an image's path below the root.
    """
    per_folder = Counter(picture.folders for picture in images)
    if len(per_folder) < SEVERAL or per_folder.total() < 2 * len(per_folder):
        return ""
    depths = {len(folders) for folders in per_folder}
    level = _level(list(per_folder)) if len(depths) == 1 else None
    if level is None:
        return ""
    return "^" + "[^/]+/" * level + "([^/]+)/"


def _level(folders: Sequence[tuple[str, ...]]) -> int | None:
    """The place, from the root, of the folder whose name varies most; None if SEVERAL names do not occur."""
    counts = [len({path[level] for path in folders}) for level in range(len(folders[0]))]
    most = max(counts, default=0)
    return counts.index(most) if most >= SEVERAL else None
