"""Files under one root folder, walked or read from lists; nothing outside of the root is opened."""

import os
import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from selftrain.data.images import IMAGE_SUFFIXES, Fault, open_regular
from selftrain.errors import ConfigError, DataError

# "a b.jpg c.png" in a list without tabs: the image ends at the first image suffix that white space follows.
SUFFIXES = "|".join(re.escape(suffix) for suffix in sorted(IMAGE_SUFFIXES))
TWO_COLUMNS = re.compile(rf"(.+?(?:{SUFFIXES}))\s+(\S.*)", re.IGNORECASE)


@dataclass
class Tree:
    """The files under `root` (a real path). Those with something wrong are left out and noted in `faults`."""

    root: Path
    faults: list[Fault] = field(default_factory=list)
    left_out: set[Path] = field(default_factory=set)  # files with other suffixes than a walk asked for
    _noted: set[Fault] = field(default_factory=set)
    _walked: dict[tuple[Path, frozenset[Path]], list[Path]] = field(default_factory=dict)

    def note(self, fault: Fault) -> None:
        """Adds a fault, once."""
        if fault not in self._noted:
            self._noted.add(fault)
            self.faults.append(fault)

    def folder(self, relative: str, setting: str) -> Path:
        """The folder that a setting names below the root; it may not exist. Raises where it lies outside."""
        if _leaves(relative):
            raise ConfigError(f"{setting}={relative!r} must be a path below data.root, without '..'")
        folder = Path(os.path.normpath(self.root / relative))
        if not self._holds(folder):
            raise DataError(f"{setting}: {folder} leads out of data.root; set data.root to a folder that holds both")
        return folder

    def relative(self, path: Path) -> str:
        """Path from the root, in posix form."""
        return _below(path, self.root)

    def name(self, path: Path, *, below: Path | None = None) -> str:
        """Path without suffix from the root, or from `below`, in posix form and NFC."""
        return unicodedata.normalize("NFC", os.path.splitext(_below(path, below or self.root))[0])

    def walk(self, folder: Path, suffixes: Collection[str], *, without: Collection[Path] = ()) -> list[Path]:
        """Files below a folder that have one of the suffixes, ordered by name; hidden ones are left out."""
        key = folder, frozenset(without)
        if key not in self._walked:
            self._walked[key] = sorted(self._walk(folder, without), key=lambda path: (self.name(path), path.name))
        found = self._walked[key]
        self.left_out.update(path for path in found if path.suffix.lower() not in suffixes)
        return [path for path in found if path.suffix.lower() in suffixes]

    def _walk(self, folder: Path, without: Collection[Path]) -> list[Path]:
        """Files below a folder, each by the name of the folder itself rather than by that of a link to it."""
        found, folders, links, seen = list[Path](), [folder], list[Path](), set[str]()
        while folders or links:
            here = folders.pop() if folders else links.pop(links.index(min(links)))
            real = os.path.realpath(here)
            if real in seen or here in without:
                continue
            seen.add(real)
            for entry in self._entries(here):
                path, is_link = here / entry.name, entry.is_symlink()
                if entry.name.startswith(".") or not self._sound(path, is_link=is_link):
                    continue
                # of links, only pathlib's is_dir bears those that lead to themselves
                is_folder = path.is_dir() if is_link else entry.is_dir()
                (found if not is_folder else links if is_link else folders).append(path)
        return found

    def _entries(self, folder: Path) -> list[os.DirEntry[str]]:
        """What a folder holds; nothing, and a fault noted, where it cannot be read."""
        try:
            with os.scandir(folder) as entries:
                return list(entries)
        except OSError as error:
            where = str(folder) if folder == self.root else self.relative(folder)
            self.note(Fault(where, f"cannot be read ({error.strerror})", "restore it or its permissions"))
            return []

    def _holds(self, path: Path) -> bool:
        return Path(os.path.realpath(path)).is_relative_to(self.root)

    def _sound(self, path: Path, *, is_link: bool) -> bool:
        """False, and a fault noted, for a name that cannot be shown or stored, and for a link that leaves the root."""
        relative = self.relative(path)
        if not _printable(relative):
            self.note(Fault(ascii(relative), "has a name that is not printable UTF-8", "rename it"))
            return False
        if is_link and not self._holds(path):
            remedy = "put the file itself there, or set data.root to a folder that holds both"
            self.note(Fault(relative, "is a link that leaves data.root", remedy))
            return False
        return True

    def read_list(self, file: Path) -> list[tuple[Path, Path | None]]:
        """Image and, where a second column names it, mask of each line; paths from the root.

        Columns are separated by a tab, or by white space after the image's suffix. Empty lines and #-lines are skipped.
        """
        with open_regular(file) as stream:
            raw = stream.read()
        try:
            lines = raw.decode("utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise DataError(Fault(str(file), "is not UTF-8 text", "save the list as UTF-8")) from error
        rows = []
        for number, line in enumerate(lines, start=1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            paths = [self._entry(column, f"{file.name}:{number}") for column in _columns(line)]
            image, mask = [*paths, None][:2]
            if image is not None and None not in paths:
                rows.append((image, mask))
        return rows

    def _entry(self, text: str, where: str) -> Path | None:
        """The file that a list names, or None and a fault noted."""
        if not _printable(text) or _leaves(text):
            remedy = "write paths relative to data.root, without '..'"
            self.note(Fault(where, f"names {text!r}, which is no path below data.root", remedy))
            return None
        path = Path(os.path.normpath(self.root / text))
        if not os.path.lexists(path):
            remedy = "mend the list; its paths are relative to data.root"
            self.note(Fault(where, f"names {text!r}, which does not exist", remedy))
            return None
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            remedy = f"known are {', '.join(sorted(IMAGE_SUFFIXES))}"
            self.note(Fault(where, f"names {text!r}, which has no suffix of an image", remedy))
            return None
        return path if self._sound(path, is_link=True) else None


def _below(path: Path, folder: Path) -> str:
    """Posix path from a folder that holds it; pathlib's relative_to takes seconds on large data sets."""
    text, prefix = str(path), str(folder).rstrip("/") + "/"
    assert text.startswith(prefix), (path, folder)
    return text[len(prefix) :]


def _printable(name: str) -> bool:
    """False for control characters, line ends and bytes that are not UTF-8. Spaces and joiners of any script are ordinary."""
    return not any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in name)


def _leaves(relative: str) -> bool:
    return "\0" in relative or relative.startswith("/") or ".." in PurePosixPath(relative).parts


def _columns(line: str) -> list[str]:
    if "\t" in line:
        return [column.strip() for column in line.split("\t", 1) if column.strip()]
    match = TWO_COLUMNS.fullmatch(line.strip())
    return list(match.groups()) if match else [line.strip()]
