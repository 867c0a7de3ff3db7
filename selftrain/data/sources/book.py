"""Annotation files of a data set, and the images that they describe."""

import os
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from selftrain.data.annotations import FORMATS, read
from selftrain.data.annotations.shape import Described
from selftrain.data.faults import Fault, counted, refuse, some
from selftrain.data.images import IMAGE_SUFFIXES
from selftrain.data.sources.tree import Tree
from selftrain.data.spec import Spec
from selftrain.errors import DataError


@dataclass
class Book:
    """What the annotation files describe, by image. Files and images with faults are noted in the tree."""

    tree: Tree
    images: Path
    pages: dict[Path, tuple[Path, Described]] = field(default_factory=dict)  # image -> file and description
    of_file: dict[Path, list[Path]] = field(default_factory=dict)
    categories: list[str] = field(default_factory=list)
    merged: set[str] = field(default_factory=set)
    remarks: Counter[str] = field(default_factory=Counter)
    missing: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    _stems: dict[str, list[Path]] = field(default_factory=dict)

    def add(self, name: str, file: Path, names: dict[str, str]) -> None:
        """Read a file of the format `name`; `names` are the names of categories that are numbers."""
        self.of_file[file] = []
        try:
            parsed = read(name, file)
            renamed = {one: _renamed(one, names, file) for one in parsed.categories}
        except DataError as error:
            fault = error.args[0]
            self.tree.note(replace(fault, file=self.tree.relative(file)))
            return
        self.remarks.update(parsed.remarks)
        self.merged.update(parsed.merged)
        self.categories += [one for one in renamed.values() if one not in self.categories]
        for described in parsed.described:
            image = self._image(described, file)
            if image:
                shapes = tuple(replace(one, category=renamed[one.category]) for one in described.shapes)
                self._enter(image, file, replace(described, shapes=shapes))

    def _enter(self, image: Path, file: Path, described: Described) -> None:
        other = self.pages.setdefault(image, (file, described))
        if other[1] is described:
            self.of_file[file].append(image)
            return
        where = self.tree.relative(other[0]) if other[0] != file else "the same file"
        what = f"describes {self.tree.relative(image)}, which {where} describes as well"
        remedy = "keep one of them, or name the wanted files by data.annotations"
        self.tree.note(Fault(self.tree.relative(file), what, remedy))

    def _image(self, described: Described, file: Path) -> Path | None:
        """The image that a description belongs to; None if it is missing, or if several may be meant."""
        names = [name.replace("\\", "/") for name in (described.image, *described.also)]
        for name in names:
            for base in (file.parent, self.images, self.tree.root):
                path = os.path.normpath(base / name)
                found = self._all().get(path, [])
                if len(found) == 1:
                    return found[0]
        for name in names:
            parts = PurePosixPath(name).parts
            for start in range(len(parts)):
                found = self._ending("/".join(parts[start:]))
                if len(found) > 1:
                    both = some([self.tree.relative(path) for path in found])
                    what = f"names {described.image!r}, which may be {both}"
                    self.tree.note(Fault(self.tree.relative(file), what, "write its path below data.images"))
                    return None
                if found:
                    self.elsewhere.append(f"{described.image}: {self.tree.relative(found[0])}")
                    return found[0]
        self.missing.append(names[0])
        return None

    def _all(self) -> dict[str, list[Path]]:
        """The images below the root by their paths, with and without suffix."""
        if not self._stems:
            for path in self.tree.walk(self.tree.root, IMAGE_SUFFIXES):
                self._stems.setdefault(str(path), []).append(path)
                self._stems.setdefault(os.path.splitext(path)[0], []).append(path)
        return self._stems

    def _ending(self, text: str) -> list[Path]:
        """The images whose path ends like this, below data.images or else below the root."""
        for folder in dict.fromkeys((self.images, self.tree.root)):
            for form in (text, os.path.splitext(text)[0]):
                found = self.tree.named(form, (folder, ()))
                if found:
                    return found
        return []


def _renamed(category: str, names: dict[str, str], file: Path) -> str:
    if names and category not in names:
        what = f"has objects of class {category}, but the list of names ends before it"
        raise DataError(Fault(str(file), what, "complete the names, or remove the objects"))
    return names.get(category, category)


def book_of(spec: Spec, tree: Tree) -> Book:
    """Read all annotation files that the settings name. Raises ConfigError, DataError or FaultsError."""
    form, book = FORMATS[spec.format], Book(tree, tree.folder(spec.images, "data.images"))
    files = _files(spec, tree)
    names = form.names([tree.root, *dict.fromkeys(file.parent for file in files)]) if form.names else {}
    book.categories += names.values()
    for file in files:
        book.add(spec.format, file, names)
    if not book.pages:
        refuse(tree.faults)
        named = f", such as {book.missing[0]}" if book.missing else ""
        raise DataError(
            f"{counted(len(files), 'annotation file')} of data.format={spec.format}, such as "
            f"{tree.relative(files[0])}, and none of the images that they describe is below data.root{named}"
        )
    return book


def _files(spec: Spec, tree: Tree) -> list[Path]:
    """The annotation files that data.annotations and data.splits name."""
    form = FORMATS[spec.format]
    splits = [text for text in (spec.splits.train, spec.splits.val, spec.splits.test) if text]
    found = [tree.folder(text, "data.splits") for text in splits if text.endswith(form.suffix)]
    found = [] if form.suffix == ".txt" else [path for path in found if path.is_file()]
    text = spec.annotations or ("" if found else form.folder)
    if text or not found:
        found += _below(spec, tree, text)
    if not found:
        place = text or f"*{form.suffix}"
        raise DataError(
            f"data.annotations: no {form.suffix} file is {place} below {tree.root}, or in a folder "
            f"of that name; name the files of data.format={spec.format}"
        )
    return list(dict.fromkeys(found))


def _below(spec: Spec, tree: Tree, text: str) -> list[Path]:
    """The files that data.annotations means: a file, a folder, or a name below the root."""
    form, place = FORMATS[spec.format], tree.folder(text or ".", "data.annotations")
    if place.is_file():
        return [place]
    suffixes = IMAGE_SUFFIXES | {form.suffix}
    everything = tree.walk(place if place.is_dir() else tree.root, suffixes)
    found = [
        path for path in everything if path.suffix.lower() == form.suffix and path.name not in form.lists
    ]
    if place.is_dir():
        return found
    return [path for path in found if text in PurePosixPath(tree.relative(path)).parts]
