"""List files: one image a line and, if there is a second column, its mask.

Columns are separated by a tab, a comma, a semicolon or white space; without a tab, a line is divided where both parts
name files. An entry is a path from data.root (or an absolute path below it), a path or file name below data.images
(masks: data.masks), or such a name without suffix. Backslashes separate folders where that names a file.
"""

import os
import re
import unicodedata
from pathlib import Path

from selftrain.data.faults import some
from selftrain.data.images import IMAGE_SUFFIXES, Fault, open_regular
from selftrain.data.listing import Tree, leaves, printable
from selftrain.errors import DataError

SEPARATOR = re.compile(r"\s*[,;]\s*|\s+")
SUFFIXES = "|".join(re.escape(suffix) for suffix in sorted(IMAGE_SUFFIXES))
AFTER_SUFFIX = re.compile(rf"(.+?(?:{SUFFIXES}))(?:\s*[,;]\s*|\s+)(\S.*)", re.IGNORECASE)
HEADINGS = {"image", "images", "img", "file", "filename", "file_name", "path", "image_path", "img_path"}
Names = dict[str, list[Path]]


class ListReader:
    """Reads list files of one data set; what is wrong with their lines is noted in the tree."""

    def __init__(self, tree: Tree, images: Path, masks: Path):
        self.tree, self.images, self.masks = tree, images, masks
        self._names: dict[Path, tuple[Names, Names]] = {}

    def read(self, file: Path) -> list[tuple[Path, Path | None]]:
        """Image and, where a second column names it, mask of each line. Empty lines and #-lines are skipped."""
        rows, first = [], True
        for number, line in enumerate(_lines(file), start=1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            is_heading, first = first and self._is_heading(line), False
            row = None if is_heading else self._row(line, f"{file.name}:{number}")
            if row is not None:
                rows.append(row)
        return rows

    def _is_heading(self, line: str) -> bool:
        name = SEPARATOR.split(line.strip())[0].strip('"').casefold()
        return name in HEADINGS and not self._meanings(name, self.images)

    def _row(self, line: str, where: str) -> tuple[Path, Path | None] | None:
        """The files of a line, or None and a fault noted."""
        ways = self._ways(line)
        if len(ways) > 1:
            shown = " or as ".join(" and ".join(repr(column) for column in way) for way in ways[:2])
            self.tree.note(Fault(where, f"can be read as {shown}", "separate the columns by a tab"))
            return None
        columns = (ways or [_by_suffix(line)])[0]
        paths = [self._entry(column, where, folder) for column, folder in zip(columns, self._folders(), strict=False)]
        if not paths or None in paths:
            return None
        image, mask = [*paths, None][:2]
        assert image is not None
        return image, mask

    def _folders(self) -> tuple[Path, Path]:
        """Where the names of the first and of the second column are looked for."""
        return self.images, self.masks

    def _ways(self, line: str) -> list[list[str]]:
        """The columns, as far as they name files; several where the line can be divided in several places."""
        if "\t" in line:
            return [[text for text in map(_unquoted, line.split("\t", 1)) if text]]
        text = _unquoted(line)
        if self._meanings(text, self.images):
            return [[text]]
        ways = []
        for match in SEPARATOR.finditer(text):
            columns = [_unquoted(text[: match.start()]), _unquoted(text[match.end() :])]
            named = [self._meanings(*pair) for pair in zip(columns, self._folders(), strict=True)]
            if named[0] and (named[1] or not columns[1]):
                ways.append([column for column in columns if column])
        return ways

    def _entry(self, text: str, where: str, folder: Path) -> Path | None:
        """The file that a column names, or None and a fault noted."""
        found = self._meanings(text, folder)
        if len(found) == 1:
            return found[0] if self.tree.sound(found[0], is_link=True) else None
        self.tree.note(self._unclear(text, where, found))
        return None

    def _unclear(self, text: str, where: str, found: list[Path]) -> Fault:
        """The fault of an entry that names no file, or several."""
        if found:
            names = some([self.tree.relative(path) for path in found])
            return Fault(where, f"names {text!r}, which may be one of ({names})", "write its path from data.root")
        if not printable(text) or self._below_root(text) is None:
            remedy = "write paths relative to data.root, without '..'"
            return Fault(where, f"names {text!r}, which is no path below data.root", remedy)
        if os.path.lexists(self.tree.root / text):
            remedy = f"known are {', '.join(sorted(IMAGE_SUFFIXES))}"
            return Fault(where, f"names {text!r}, which has no suffix of an image", remedy)
        remedy = "mend the list; its paths are relative to data.root, its names are looked for below data.images"
        return Fault(where, f"names {text!r}, which does not exist", remedy)

    def _meanings(self, text: str, folder: Path) -> list[Path]:
        """The files that an entry can mean: one, none, or several of one name in different folders."""
        if not printable(text):
            return []
        for form in dict.fromkeys((text, text.replace("\\", "/"))):
            path = self._below_root(form)
            if path and path.suffix.lower() in IMAGE_SUFFIXES and os.path.lexists(path):
                return [path]
            for names in self._names_below(folder):
                if form and form in names:
                    return names[form]
        return []

    def _below_root(self, text: str) -> Path | None:
        """The path that an entry is from the root; None for one that leads elsewhere."""
        root = self.tree.root
        if not text.startswith("/"):
            return None if leaves(text) or not text else Path(os.path.normpath(root / text))
        folder, name = os.path.split(os.path.normpath(text))
        for path in (Path(folder, name), Path(os.path.realpath(folder), name)):
            if path.is_relative_to(root):
                return path
        return None

    def _names_below(self, folder: Path) -> tuple[Names, Names]:
        """Files below a folder by their path from it, and by their name; both with and without suffix."""
        if folder not in self._names:
            paths, names = Names(), Names()
            without = [] if folder == self.masks else [self.masks]
            for file in self.tree.walk(folder, IMAGE_SUFFIXES, without=without) if folder.is_dir() else []:
                path, name = self.tree.name(file, below=folder), unicodedata.normalize("NFC", file.stem)
                for key in (path + file.suffix, path):
                    paths.setdefault(key, []).append(file)
                for key in (name + file.suffix, name):
                    names.setdefault(key, []).append(file)
            self._names[folder] = paths, names
        return self._names[folder]


def _lines(file: Path) -> list[str]:
    with open_regular(file) as stream:
        raw = stream.read()
    try:
        return raw.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(Fault(str(file), "is not UTF-8 text", "save the list as UTF-8")) from error


def _unquoted(text: str) -> str:
    text = text.strip()
    return text[1:-1] if text.count('"') == 2 and text[0] == text[-1] == '"' else text


def _by_suffix(line: str) -> list[str]:
    """The columns of a line whose files are not found, for the message: the image ends at its suffix."""
    match = AFTER_SUFFIX.fullmatch(line.strip())
    return [_unquoted(column) for column in match.groups()] if match else [_unquoted(line)]
