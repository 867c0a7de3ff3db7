"""The images to label, of folders of any size and single files, with the names of their masks."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path, PurePath

from selftrain.data.faults import Fault
from selftrain.data.images import IMAGE_SUFFIXES
from selftrain.data.sources.tree import Tree, suffix_counts, unread
from selftrain.data.strays import MASK_END, masks_beside
from selftrain.errors import ConfigError, DataError

AT_ONCE = 10_000  # images of a folder that are listed before the first one is labelled
ENDS = tuple(end for suffix in sorted(IMAGE_SUFFIXES) for end in (suffix, suffix.upper()))
Named = tuple[Path, PurePath]  # an image file, and the path of its mask below the output folder


@dataclass
class Inputs:
    """Image files with the names of their masks, which may be listed while the first ones are labelled."""

    files: Iterator[Named]
    count: int | None  # None: the folder is too large to be listed first
    faults: list[Fault] = field(default_factory=list)  # grows while `files` are listed
    remarks: Callable[[], Iterable[str]] = tuple  # what was passed over, once `files` are listed

    @classmethod
    def of(cls, paths: Sequence[Path]) -> "Inputs":
        """The images of folders and single files. Of several paths, folders keep their names in the output.

        Raises DataError if there is no image, ConfigError for two paths of one name.
        """
        lone = len(paths) == 1
        if lone and paths[0].is_dir():
            return _folder(paths[0])
        refuse_missing(paths)
        paths = [Path(os.path.abspath(path)) for path in paths]  # so that none is called ".."
        if any(path.is_dir() and not path.name for path in paths):
            raise ConfigError("the root folder has no name for its masks; give it alone")
        names = Counter(path.name for path in paths)
        twice = [name for name, count in names.items() if count > 1]
        if twice:
            raise ConfigError(f"two of the paths are called {twice[0]}; predict them into two folders")
        single = [path for path in paths if not path.is_dir()]
        given = output_names([PurePath(file.name) for file in single])
        own = [(file, given[PurePath(file.name)]) for file in single]
        folders = [(PurePath(path.name), _folder(path)) for path in paths if path.is_dir()]
        below = ((file, name / mask) for name, one in folders for file, mask in one.files)
        counts = [one.count for _, one in folders]
        whole = None if None in counts else len(own) + sum(count or 0 for count in counts)
        # the lists of faults grow while the folders are listed
        found = cls(iter(()), whole, remarks=lambda: chain.from_iterable(one.remarks() for _, one in folders))

        def files() -> Iterator[Named]:
            yield from chain(own, below)
            found.faults += [fault for _, one in folders for fault in one.faults]

        found.files = files()
        return found


def refuse_missing(paths: Sequence[Path]) -> None:
    """Raise DataError for a path that leads nowhere."""
    for path in paths:
        if not path.exists():
            raise _missing(path)


def _missing(path: Path) -> DataError:
    return DataError(f"{path} is neither a folder nor a file; give folders of images, images or videos")


def _folder(images: Path) -> Inputs:
    """The images below a folder: sorted, if there are not too many to be listed first."""
    tree = Tree(images.resolve())
    stream = tree.stream(IMAGE_SUFFIXES)
    first = list(islice(stream, AT_ONCE))
    if len(first) == AT_ONCE:
        return _large(tree, chain(first, stream))
    root, files, faults, remarks = images_in(images)
    names = output_names([file.relative_to(root) for file in files])
    named = ((file, names[file.relative_to(root)]) for file in files)
    return Inputs(named, len(files), faults, lambda: remarks)


def _large(tree: Tree, files: Iterator[Path]) -> Inputs:
    """The images of a large folder, in the order of the disk. Each is compared with the files beside it."""
    beside = _Beside(tree)

    def named() -> Iterator[Named]:
        for file in files:
            others = list(_siblings(file))
            if not beside.is_mask(file, others):
                yield file, beside.name(file, alone=not others)

    return Inputs(named(), None, tree.faults, lambda: _remarks_on(tree, beside.masks, beside.count))


@dataclass
class _Beside:
    """What the files beside an image say about it, without a list of all files."""

    tree: Tree
    kinds: dict[object, bool] = field(default_factory=dict)  # whether files of a kind are masks
    masks: dict[Path, Path] = field(default_factory=dict)  # the first mask, and its image
    count: int = 0

    def is_mask(self, file: Path, others: Sequence[Path]) -> bool:
        """Whether a file is a mask beside its image. A look at the first pair of a kind decides.

        `others` are the images that differ from it in the suffix only.
        """
        for kind, image in self._candidates(file, others):
            if kind not in self.kinds:
                self.kinds[kind] = file in masks_beside([file, image])
            if self.kinds[kind]:
                self.count += 1
                if not self.masks:
                    self.masks[file] = image
                return True
        return False

    @staticmethod
    def _candidates(file: Path, others: Sequence[Path]) -> Iterator[tuple[object, Path]]:
        ending = MASK_END.search(file.stem)
        if ending:
            kind = ending.group().lower()
            yield from ((kind, one) for one in _siblings(file.with_name(file.stem[: ending.start()] + ".x")))
        ends = file.suffix.lower()
        yield from (((ends, one.suffix.lower()), one) for one in others)

    def name(self, file: Path, *, alone: bool) -> PurePath:
        """The name of a file's mask; other images of its stem would share it, so then it keeps its suffix.

        An image that is called like another one with a suffix keeps its suffix as well.
        """
        own = file.relative_to(self.tree.root)
        regular = file.suffix in (file.suffix.lower(), file.suffix.upper())
        stem = PurePath(file.stem)
        like_another = stem.suffix.lower() in IMAGE_SUFFIXES and file.with_name(file.stem).exists()
        short = alone and regular and not like_another
        return own.with_suffix(".png") if short else own.with_name(f"{file.name}.png")


def _siblings(file: Path) -> Iterator[Path]:
    """The images beside a file that differ from it in the suffix only."""
    stem, own = os.path.splitext(file)
    for end in ENDS:
        if end != own and os.path.exists(stem + end):
            yield Path(stem + end)


def output_names(files: Sequence[PurePath]) -> dict[PurePath, PurePath]:
    """Unique output names: a/b.jpg -> a/b.png, or a/b.jpg.png if several files would share a/b.png."""
    names = {file: file.with_suffix(".png") for file in files}
    while shared := {name for name, count in Counter(names.values()).items() if count > 1}:
        names |= {file: file.with_name(f"{file.name}.png") for file, name in names.items() if name in shared}
    return names


def images_in(images: Path) -> tuple[Path, list[Path], list[Fault], list[str]]:
    """The folder, its image files sorted by name, faults, and remarks. Raises DataError if there is no image.

    `images` is a folder, or one file.
    """
    if images.is_file():
        file = images.absolute()
        return file.parent, [file], [], []
    if not images.is_dir():
        raise _missing(images)
    tree = Tree(images.resolve())
    files = tree.walk(tree.root, IMAGE_SUFFIXES)
    beside = masks_beside(files)
    if not files and tree.faults:
        raise DataError(tree.faults[0])
    if not files and tree.left_out:
        raise DataError(unread(str(images), tree.left_out, "images", IMAGE_SUFFIXES))
    if not files:
        raise DataError(f"{images} contains no image ({', '.join(sorted(IMAGE_SUFFIXES))})")
    remarks = list(_remarks_on(tree, beside, len(beside)))
    return tree.root, [file for file in files if file not in beside], tree.faults, remarks


def _remarks_on(tree: Tree, beside: dict[Path, Path], count: int) -> Iterator[str]:
    """One line for each kind of file that was passed over.

    `beside` maps masks, of `count`, to the images beside them.
    """
    if tree.left_out:
        yield f"skipped, since they are not images: {suffix_counts(tree.left_out)}"
    if tree.folders_left_out:
        yield tree.remark_on_folders()
    if beside:
        mask, image = next(iter(beside.items()))
        files = f"{count} file{'s' if count > 1 else ''}"
        such = f"such as {tree.relative(mask)} of {tree.relative(image)}"
        yield f"skipped, since they are masks beside their images: {files}, {such}"
