"""Annotation files of other programs: their format, their categories and the images that they describe."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from selftrain.data.annotations import FORMATS, read
from selftrain.data.annotations.shape import Parsed
from selftrain.data.faults import counted
from selftrain.errors import DataError
from selftrain.inspection.names import without_splits
from selftrain.inspection.pictures import Folder, some

PROBED = 8  # files of one folder and suffix that are tried in every format
ONE_FILE_FOR_MANY = ("coco", "cvat", "labelstudio")


@dataclass
class Annotated:
    """Annotation files of one format."""

    form: str
    files: list[Path]
    shapes: Counter[str] = field(default_factory=Counter)  # by category
    images: int = 0
    categories: list[str] = field(default_factory=list)  # in the order of the files

    def __str__(self) -> str:
        return (
            f"{self.form}: {counted(len(self.files), 'file')} such as {self.files[0].name}, "
            f"{counted(self.images, 'image')}, {counted(self.shapes.total(), 'shape')} "
            f"of {len(self.shapes)} {'category' if len(self.shapes) == 1 else 'categories'}"
        )


def annotated(folder: Folder) -> list[Annotated]:
    """The annotation files below a folder, by format and kind; the kind that describes most images first."""
    groups = dict[tuple[Path, str], list[Path]]()
    for path in folder.others:
        groups.setdefault((path.parent, path.suffix.lower()), []).append(path)
    found = dict[tuple[str, str], Annotated]()
    stems = {picture.stem for picture in folder.pictures}
    for (_, suffix), paths in sorted(groups.items()):
        form = _form(suffix, paths, stems)
        for path, parsed in _read(form, paths, stems) if form else ():
            kind = _kind(form, path)
            group = found.setdefault((form, kind), Annotated(form, []))
            group.files.append(path)
            group.images += len(parsed.described)
            group.categories += [one for one in parsed.categories if one not in group.categories]
            group.shapes.update(
                one.category for page in parsed.described for one in page.shapes if not one.ignored
            )
    return sorted(
        (one for one in found.values() if one.shapes), key=lambda one: (-one.images, one.form, one.files)
    )


def _form(suffix: str, paths: Sequence[Path], stems: set[str]) -> str:
    """The format of most of the files of a folder that can be read in some format; "" for none."""
    votes = Counter[str]()
    for path in some(paths, PROBED):
        for name, form in FORMATS.items():
            if form.suffix == suffix and _parsed(name, path, stems):
                votes[name] += 1
                break
    return votes.most_common(1)[0][0] if votes else ""


def _read(form: str, paths: Iterable[Path], stems: set[str]) -> list[tuple[Path, Parsed]]:
    read_ = [(path, _parsed(form, path, stems)) for path in paths]
    return [(path, parsed) for path, parsed in read_ if parsed]


def _parsed(form: str, path: Path, stems: set[str]) -> Parsed | None:
    """The content of a file; None if it is of another format, or describes no picture."""
    if form == "yolo" and path.stem not in stems:
        return None
    try:
        parsed = read(form, path)
    except DataError:
        return None
    return parsed if parsed.described else None


def _kind(form: str, path: Path) -> str:
    """What files of one purpose have in common: instances_train2017 and instances_val2017 are "instances"."""
    if form not in ONE_FILE_FOR_MANY:
        return ""
    return re.sub(r"[\W\d_]+", " ", without_splits(path.stem)).strip()


def place(root: Path, found: Annotated, all_files: Sequence[Path]) -> str | None:
    """The value of data.annotations that means these files, and no others; None if there is none.

    `all_files` are all files below the root that are not pictures.
    """
    form, files = FORMATS[found.form], set(found.files)
    same = [path for path in all_files if path.suffix.lower() == form.suffix and path.name not in form.lists]
    if len(files) == 1:
        return found.files[0].relative_to(root).as_posix()
    names = {path.name for path in files}
    if len(names) == 1 and {path for path in same if path.name in names} == files:
        return names.pop()
    for folder in _common_folders(found.files, root):
        if {path for path in same if path.is_relative_to(folder)} == files:
            return folder.relative_to(root).as_posix()
    for part in sorted(set.intersection(*(set(path.relative_to(root).parts) for path in found.files))):
        if {path for path in same if part in path.relative_to(root).parts} == files:
            return part
    return None


def _common_folders(files: Sequence[Path], root: Path) -> list[Path]:
    """The folders that contain all files, the deepest first."""
    parents = [set(path.parents) for path in files]
    shared = set.intersection(*parents)
    return sorted((one for one in shared if one.is_relative_to(root)), key=lambda one: -len(one.parts))
