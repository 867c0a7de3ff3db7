"""Files under one root folder; nothing outside of the root is opened."""

import os
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from selftrain.data.faults import some
from selftrain.data.images import IMAGE_SUFFIXES, Fault
from selftrain.errors import ConfigError, DataError

# Files and folders that file managers, servers and archives add; what begins with a dot is also left out.
SYSTEM = {
    "@eadir", "__macosx", "$recycle.bin", "system volume information", "lost+found", "thumbs.db", "desktop.ini",
    "thumbs", "thumbnails", "_thumbs", "_thumbnails",
}  # fmt: skip
# Why a file is left out, as the subject of a sentence
OTHER_SUFFIX = "files that are no images"
MASKS = "masks of images beside them"
OF_SYSTEM = "hidden files, thumbnails and files of the system"
REASONS = (OTHER_SUFFIX, MASKS, OF_SYSTEM)


@dataclass
class Tree:
    """The files under `root` (a real path). Those with something wrong are left out and noted in `faults`."""

    root: Path
    faults: list[Fault] = field(default_factory=list)
    left_out: dict[Path, str] = field(default_factory=dict)  # what walks passed over, and why
    _noted: set[Fault] = field(default_factory=set)
    _walked: dict[tuple[Path, frozenset[Path]], list[Path]] = field(default_factory=dict)

    def note(self, fault: Fault) -> None:
        """Adds a fault, once."""
        if fault not in self._noted:
            self._noted.add(fault)
            self.faults.append(fault)

    def folder(self, relative: str, setting: str) -> Path:
        """The folder that a setting names below the root; it may not exist. Raises where it lies outside."""
        if leaves(relative):
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
        self.left_out.update((path, OTHER_SUFFIX) for path in found if path.suffix.lower() not in suffixes)
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
                if _is_of_system(entry.name):
                    self._leave_out(path, is_folder=entry.is_dir(follow_symlinks=False))
                    continue
                if not self.sound(path, is_link=is_link):
                    continue
                # of links, only pathlib's is_dir bears those that lead to themselves
                is_folder = path.is_dir() if is_link else entry.is_dir()
                (found if not is_folder else links if is_link else folders).append(path)
        return found

    def _leave_out(self, path: Path, *, is_folder: bool) -> None:
        """Remembers a file of the system, unless it is hidden and no image (.DS_Store): nobody misses these."""
        if is_folder or not path.name.startswith(".") or path.suffix.lower() in IMAGE_SUFFIXES:
            self.left_out[path] = OF_SYSTEM

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

    def sound(self, path: Path, *, is_link: bool) -> bool:
        """False, and a fault noted, for a name that cannot be shown or stored, and for a link that leaves the root."""
        relative = self.relative(path)
        if not printable(relative):
            self.note(Fault(ascii(relative), "has a name that is not printable UTF-8", "rename it"))
            return False
        if is_link and not self._holds(path):
            remedy = "put the file itself there, or set data.root to a folder that holds both"
            self.note(Fault(relative, "is a link that leaves data.root", remedy))
            return False
        return True

    def passed_over(self) -> dict[str, str]:
        """What was left out: the reason, and files or their number."""
        passed = {}
        for reason in REASONS:
            paths = sorted(path for path, why in self.left_out.items() if why == reason)
            if paths:
                names = some([self.relative(path) for path in paths])
                passed[reason] = _kinds(paths) if reason == OTHER_SUFFIX else names
        return passed

    def unread(self, folder: Path, suffixes: Collection[str], noun: str) -> str:
        """ "masks/ holds 8 .xyz, which are not read; masks may be .bmp, .png"; empty if there are no such files."""
        unread = [path for path, reason in self.left_out.items() if reason == OTHER_SUFFIX]
        paths = [path for path in unread if path.is_relative_to(folder)]
        if not paths:
            return ""
        known = ", ".join(sorted(suffixes))
        return f"{self.relative(folder)}/ holds {_kinds(paths)}, which are not read; {noun} may be {known}"


def _kinds(paths: Sequence[Path]) -> str:
    """ "1 .gif, 2 .txt"."""
    suffixes = Counter(path.suffix.lower() for path in paths)
    return ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in sorted(suffixes.items()))


def _is_of_system(name: str) -> bool:
    """Whether programs made the file or folder for themselves, not a person."""
    return name.startswith(".") or name.casefold() in SYSTEM


def _below(path: Path, folder: Path) -> str:
    """Posix path from a folder that holds it; pathlib's relative_to takes seconds on large data sets."""
    text, prefix = str(path), str(folder).rstrip("/") + "/"
    assert text.startswith(prefix), (path, folder)
    return text[len(prefix) :]


def printable(name: str) -> bool:
    """False for control characters, line ends and bytes that are not UTF-8. Spaces and joiners of any script are ordinary."""
    return not any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in name)


def leaves(relative: str) -> bool:
    return "\0" in relative or relative.startswith("/") or ".." in PurePosixPath(relative).parts
