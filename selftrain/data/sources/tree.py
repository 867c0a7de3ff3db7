"""Files under one root folder, walked or read from lists. Nothing outside of the root is opened."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from selftrain.data import strays
from selftrain.data.faults import Fault
from selftrain.data.images import IMAGE_SUFFIXES
from selftrain.data.storage import open_regular
from selftrain.errors import ConfigError, DataError

# Lines of a list without tabs, such as "a b.jpg c.png". The image ends at the first image suffix that is
# followed by white space (AT_BLANK) or by a comma (AT_COMMA).
SUFFIXES = "|".join(re.escape(suffix) for suffix in sorted(IMAGE_SUFFIXES))
AT_BLANK = re.compile(rf"(.+?(?:{SUFFIXES}))\s+([^\s,].*)", re.IGNORECASE)
AT_COMMA = re.compile(rf'(.+?(?:{SUFFIXES})"?)\s*,(.*)', re.IGNORECASE)
HEADING = re.compile(
    r"[a-z_ ]*(image|img|picture|photo|mask|label|annotation|file|path)[a-z_ ]*", re.IGNORECASE
)
Place = tuple[Path, tuple[Path, ...]]  # a folder, and folders in it to leave out


@dataclass
class Tree:
    """The files under `root` (a real path). Files with faults are left out and noted in `faults`."""

    root: Path
    faults: list[Fault] = field(default_factory=list)
    left_out: set[Path] = field(default_factory=set)  # files with suffixes that no walk asked for
    folders_left_out: set[Path] = field(default_factory=set)  # system folders and thumbnails
    _noted: set[Fault] = field(default_factory=set)
    _walked: dict[tuple[Path, frozenset[Path]], list[Path]] = field(default_factory=dict)
    _ends: dict[Place, dict[str, list[Path]]] = field(default_factory=dict)  # for lists of bare names
    _realpaths: dict[str, str] = field(default_factory=dict)

    def note(self, fault: Fault) -> None:
        """Add a fault, once."""
        if fault not in self._noted:
            self._noted.add(fault)
            self.faults.append(fault)

    def folder(self, relative: str, setting: str) -> Path:
        """The folder that a setting names below the root; it need not exist.

        Raises ConfigError or DataError if it lies outside of the root.
        """
        if _leaves(relative):
            raise ConfigError(f"{setting}={relative!r} must be a path below data.root, without '..'")
        folder = Path(os.path.normpath(self.root / relative))
        if not self._holds(folder):
            raise DataError(
                f"{setting}: {folder} leads out of data.root; set data.root to a folder that holds both"
            )
        return folder

    def relative(self, path: Path) -> str:
        """The path relative to the root, in posix form."""
        return _below(path, self.root)

    def name(self, path: Path, *, below: Path | None = None) -> str:
        """The path without suffix, relative to the root or to `below`, in posix form and NFC."""
        return unicodedata.normalize("NFC", os.path.splitext(_below(path, below or self.root))[0])

    def walk(self, folder: Path, suffixes: Collection[str], *, without: Collection[Path] = ()) -> list[Path]:
        """Files below a folder with one of the suffixes, sorted by name.

        Hidden files, system folders and thumbnails are left out.
        """
        key = folder, frozenset(without)
        if key not in self._walked:
            self._walked[key] = sorted(
                self._walk(folder, without), key=lambda path: (self.name(path), path.name)
            )
        found = self._walked[key]
        self.left_out.update(path for path in found if path.suffix.lower() not in suffixes)
        return [path for path in found if path.suffix.lower() in suffixes]

    def _walk(self, folder: Path, without: Collection[Path]) -> list[Path]:
        """Files below a folder, each once: by the path of its real folder rather than by a link to it."""
        found, folders, links, seen = list[Path](), [folder], list[Path](), set[str]()
        thumbs = list[Path]()
        while folders or links:
            here = folders.pop() if folders else links.pop(links.index(min(links)))
            real = os.path.realpath(here)
            if real in seen or here in without:
                continue
            seen.add(real)
            for entry in self._entries(here):
                path, is_link = here / entry.name, entry.is_symlink()
                if self._is_left_out(entry) or not self._sound(path, is_link=is_link):
                    continue
                # for links: pathlib's is_dir does not fail on links that lead to themselves
                is_folder = path.is_dir() if is_link else entry.is_dir()
                (found if not is_folder else links if is_link else folders).append(path)
                if is_folder and entry.name.lower() in strays.THUMBNAILS:
                    thumbs.append(path)
        return self._without_thumbnails(found, thumbs)

    def stream(self, suffixes: Collection[str]) -> Iterator[Path]:
        """Files below the root with one of the suffixes, in the order of the disk, while folders are read.

        Hidden files and system folders are left out. A folder is entered after its files, and each one once.
        """
        folders, seen = [self.root], set[str]()
        while folders:
            here = folders.pop()
            real = os.path.realpath(here)
            if real in seen:
                continue
            seen.add(real)
            for entry in self._each_entry(here):
                path, is_link = here / entry.name, entry.is_symlink()
                if self._is_left_out(entry) or not self._sound(path, is_link=is_link):
                    continue
                if path.is_dir() if is_link else entry.is_dir():
                    folders.append(path)
                elif path.suffix.lower() in suffixes:
                    yield path
                else:
                    self.left_out.add(path)

    def matching(self, pattern: str, setting: str) -> list[Path]:
        """The files that a pattern such as shards/*.tar names below the root.

        Hidden files and folders are left out, unless the pattern names the folder. Raises ConfigError or
        DataError if it leads out of the root or is no pattern.
        """
        self.folder(pattern, setting)
        try:
            found = [path for path in sorted(self.root.glob(pattern)) if path.is_file()]
        except ValueError:
            raise ConfigError(
                f"{setting}={pattern}: ** must stand alone between slashes, as in shards/**/*.tar"
            ) from None
        named = PurePosixPath(pattern).parts
        return [
            path
            for path in found
            if not any(part[0] == "." and part not in named for part in path.relative_to(self.root).parts)
            and self._sound(path, is_link=True)
        ]

    def _is_left_out(self, entry: os.DirEntry[str]) -> bool:
        """Whether an entry is hidden, or a folder created by a system."""
        if strays.is_system_folder(entry.name) and entry.is_dir(follow_symlinks=False):
            self.folders_left_out.add(Path(entry.path))
            return True
        return entry.name.startswith(".")

    def _without_thumbnails(self, found: list[Path], folders: list[Path]) -> list[Path]:
        small = {folder: strays.thumbnails(folder, found) for folder in folders}
        self.folders_left_out.update(folder for folder, files in small.items() if files)
        gone = set[Path]().union(*small.values())
        return [path for path in found if path not in gone] if gone else found

    def remark_on_folders(self) -> str:
        """One sentence on the folders that were left out; "" if none were."""
        if not self.folders_left_out:
            return ""
        names = sorted(self.relative(path) for path in self.folders_left_out)
        some = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        return f"folders of thumbnails or of a system were left out: {some}"

    def _entries(self, folder: Path) -> list[os.DirEntry[str]]:
        """The entries of a folder. If it cannot be read, a fault is noted and the list is empty."""
        return list(self._each_entry(folder))

    def _each_entry(self, folder: Path) -> Iterator[os.DirEntry[str]]:
        """The entries of a folder, one at a time; a fault is noted if it cannot be read."""
        try:
            with os.scandir(folder) as entries:
                yield from entries
        except OSError as error:
            where = str(folder) if folder == self.root else self.relative(folder)
            self.note(Fault(where, f"cannot be read ({error.strerror})", "restore it or its permissions"))

    def _holds(self, path: Path) -> bool:
        return Path(os.path.realpath(path)).is_relative_to(self.root)

    def _sound(self, path: Path, *, is_link: bool) -> bool:
        """Whether a path may be used; if not, a fault is noted.

        Unprintable names and links that leave the root may not be used.
        """
        relative = self.relative(path)
        if not _printable(relative):
            self.note(Fault(ascii(relative), "has a name that is not printable UTF-8", "rename it"))
            return False
        if is_link and not self._holds(path):
            remedy = "put the file itself there, or set data.root to a folder that holds both"
            self.note(Fault(relative, "is a link that leaves data.root", remedy))
            return False
        return True

    def read_list(self, file: Path, *, images: Path, masks: Path) -> list[tuple[Path, Path | None]]:
        """The image of each line, and its mask if there is a second column.

        Columns are separated by a tab, or by a comma or white space after the image's suffix. Paths are
        relative to the root. An image that is not found there is searched below `images`, a mask below
        `masks`; the suffix may then be missing. Empty lines, lines that begin with #, and a heading such as
        image,mask are skipped.
        """
        places: tuple[Place, Place] = ((images, () if images == masks else (masks,)), (masks, ()))
        lines = [(number, line.strip()) for number, line in enumerate(_text(file).splitlines(), start=1)]
        lines = [(number, line) for number, line in lines if line and not line.startswith("#")]
        rows = []
        for number, line in lines:
            columns = self._columns(line)
            if number == lines[0][0] and self._is_heading(columns, places):
                continue
            where = f"{file.name}:{number}"
            paths = [self._entry(text, where, place) for text, place in zip(columns, places, strict=False)]
            image, mask = [*paths, None][:2]
            if image is not None and None not in paths:
                rows.append((image, mask))
        return rows

    def _is_heading(self, columns: list[str], places: Collection[Place]) -> bool:
        """Whether the columns are a heading, such as image,mask, and not names of files."""
        words = len(columns) == 2 and all(HEADING.fullmatch(text) for text in columns)
        files = zip(columns, places, strict=False)
        return words and not any(self._exists(text) or self.named(text, place) for text, place in files)

    def _columns(self, line: str) -> list[str]:
        """The one or two columns of a line, without surrounding white space."""
        match = AT_BLANK.fullmatch(line)
        if "\t" in line:
            columns = line.split("\t", 1)
        elif "," in line:
            columns = self._at_comma(line, list(match.groups()) if match else [])
        else:
            columns = list(match.groups()) if match else [line]
        return [column.strip() for column in columns if column.strip()]

    def _at_comma(self, line: str, at_blank: list[str]) -> list[str]:
        """The columns of a line with commas, also in names: the longest beginning that is a file wins."""
        commas = [place for place, character in enumerate(line) if character == ","]
        ways = [
            [line],
            *([at_blank] if at_blank else []),
            *([line[:place], line[place + 1 :]] for place in commas[::-1]),
        ]
        for columns in ways:
            plain = [_unquoted(column) for column in columns]
            if self._exists(plain[0]):
                return plain
        match = AT_COMMA.fullmatch(line)
        columns = list(match.groups()) if match else at_blank or line.split(",", 1)
        return [_unquoted(column) for column in columns]

    def _exists(self, text: str) -> bool:
        return _printable(text) and any(os.path.lexists(path) for path in self._candidates(text))

    def _candidates(self, text: str) -> list[Path]:
        """The paths below the root that a text may mean: unchanged, and with Windows separators replaced."""
        found = []
        for form in dict.fromkeys((text, text.replace("\\", "/"))):
            relative = self._from_root(form) if form.startswith("/") else form
            if not _leaves(relative):
                found.append(Path(os.path.normpath(self.root / relative)))
        return found

    def _from_root(self, absolute: str) -> str:
        """An absolute path made relative to the root, through any links; unchanged if not below the root."""
        if _leaves(absolute[1:]):
            return absolute
        for parent in reversed(PurePosixPath(absolute).parents):
            if self._real(str(parent)) == str(self.root):
                return PurePosixPath(absolute).relative_to(parent).as_posix()
        return absolute

    def _real(self, folder: str) -> str:
        if folder not in self._realpaths:
            self._realpaths[folder] = os.path.realpath(folder)
        return self._realpaths[folder]

    def _entry(self, text: str, where: str, place: Place) -> Path | None:
        """The file that a list names; None, with a fault noted, if there is no such file."""
        candidates = self._candidates(text) if _printable(text) else []
        if not candidates:
            remedy = "write paths relative to data.root, without '..'"
            self.note(Fault(where, f"names {text!r}, which is not a path below data.root", remedy))
            return None
        there = [path for path in candidates if os.path.lexists(path)]
        files = [path for path in there if path.suffix.lower() in IMAGE_SUFFIXES][:1] or self.named(
            text, place
        )
        if len(files) == 1:
            return files[0] if self._sound(files[0], is_link=True) else None
        self.note(self._refusal(text, where, files, exists=bool(there)))
        return None

    def _refusal(self, text: str, where: str, files: list[Path], *, exists: bool) -> Fault:
        """The fault of an entry that names no image, or several images (`files`)."""
        if files:
            some = " and ".join(self.relative(path) for path in files[:2])
            what, remedy = (
                f"names {text!r}, which may be {some}",
                "write the path from data.root, with its suffix",
            )
        elif exists:
            known = ", ".join(sorted(IMAGE_SUFFIXES))
            what, remedy = f"names {text!r}, which has no suffix of an image", f"known are {known}"
        else:
            what = f"names {text!r}, which does not exist"
            remedy = (
                "mend the list; its paths are relative to data.root, its columns parted by a tab or a comma"
            )
        return Fault(where, what, remedy)

    def named(self, text: str, place: Place) -> list[Path]:
        """The images of a place whose path ends with the text, with or without suffix."""
        if place not in self._ends:
            self._ends[place] = self._by_end(place)
        wanted = unicodedata.normalize("NFC", text.replace("\\", "/")).removeprefix("./")
        return self._ends[place].get(wanted, [])

    def _by_end(self, place: Place) -> dict[str, list[Path]]:
        """The images of a place by each ending of their paths (1.png, 1, a/1.png, a/1)."""
        base, without = place
        ends: dict[str, list[Path]] = {}
        for path in self.walk(base, IMAGE_SUFFIXES, without=without) if base.is_dir() else []:
            name = self.name(path, below=base)
            parts = name.split("/")
            for start in range(len(parts)):
                end = "/".join(parts[start:])
                for form in (end, end + path.suffix):
                    ends.setdefault(form, []).append(path)
        return ends


def suffix_counts(paths: Collection[Path]) -> str:
    """The number of files by suffix, as text: 1 .mp4, 2 .txt."""
    suffixes = Counter(path.suffix.lower() for path in paths)
    return ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in sorted(suffixes.items()))


def unread(where: str, paths: Collection[Path], noun: str, suffixes: Collection[str]) -> str:
    """A sentence on files with suffixes that are not read."""
    return (
        f"{where} holds {suffix_counts(paths)}, which are not read; "
        f"{noun} may be {', '.join(sorted(suffixes))}"
    )


def _unquoted(column: str) -> str:
    return column.strip().removeprefix('"').removesuffix('"')


def _text(file: Path) -> str:
    with open_regular(file) as stream:
        raw = stream.read()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(Fault(str(file), "is not UTF-8 text", "save the list as UTF-8")) from error


def _below(path: Path, folder: Path) -> str:
    """The posix path relative to a folder above; pathlib's relative_to takes seconds on large data sets."""
    text, prefix = str(path), str(folder).rstrip("/") + "/"
    assert text.startswith(prefix), (path, folder)
    return text[len(prefix) :]


def _printable(name: str) -> bool:
    """Whether a name has no control characters, line ends or bytes that are not UTF-8.

    Spaces and joiners of any script are allowed.
    """
    return not any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in name)


def _leaves(relative: str) -> bool:
    return "\0" in relative or relative.startswith("/") or ".." in PurePosixPath(relative).parts
