"""From images, masks and splits to settings: folders if they say it all, otherwise list files."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from selftrain.inspection.pictures import Picture

SPLITS = ("train", "val", "test")


@dataclass
class Layout:
    """The division of a data set as it is meant. A split is "" where selftrain is to make it."""

    mask_of: dict[Picture, Picture]
    split_of: dict[Picture, str]
    unlabelled: list[Picture]
    drawn: bool = False  # masks are drawn from shapes: `mask_of` only says which images have one

    def images(self, split: str) -> list[Picture]:
        """The labelled images of a split."""
        return sorted(image for image in self.mask_of if self.split_of.get(image, "") == split)

    @property
    def splits(self) -> list[str]:
        """The splits with images."""
        return [split for split in SPLITS if self.images(split)]


@dataclass
class Written:
    """Settings of data, settings of data.splits, and the list files that they name."""

    settings: dict[str, object]
    splits: dict[str, object]
    lists: dict[Path, str] = field(default_factory=dict)


def by_folders(layout: Layout) -> Written | None:
    """Settings that name folders; None if the names do not agree.

    The settings may name too many images. Whoever uses them compares the images that they find.
    """
    base = _base_of_shapes(layout) if layout.drawn else _base_of_files(layout)
    if base is None:
        return None
    images, masks = base
    splits: dict[str, object] = {split: _common(layout.images(split), images) for split in layout.splits}
    if "" in splits.values() or len(set(splits.values())) < len(splits):
        return None
    settings: dict[str, object] = {"images": _text(images)}
    settings |= {} if layout.drawn else {"masks": _text(masks)}
    outside = [picture for picture in layout.unlabelled if picture.folders[: len(images)] != images]
    if outside and len(outside) < len(layout.unlabelled):
        return None
    settings["unlabelled"] = _shared(outside) if outside else ""
    if outside and settings["unlabelled"] == ".":
        return None
    return Written(settings, splits)


def _base_of_shapes(layout: Layout) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The folder of all images that have a mask, twice."""
    shared = _prefix([image.folders for image in layout.mask_of])
    base = tuple(shared.split("/")) if shared else ()
    return base, base


def _base_of_files(layout: Layout) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """The folders of images and masks below which every image and its mask have one path, if they differ."""
    bases = {_bases(image, mask) for image, mask in layout.mask_of.items()}
    base = bases.pop()
    return None if bases or base is None or base[0] == base[1] else base


def _bases(image: Picture, mask: Picture) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """The folders of images and masks below which both have one path."""
    if image.stem != mask.stem:
        return None
    same = 0
    while (
        same < min(len(image.folders), len(mask.folders))
        and image.folders[-1 - same] == mask.folders[-1 - same]
    ):
        same += 1
    return image.folders[: len(image.folders) - same], mask.folders[: len(mask.folders) - same]


def _common(images: Sequence[Picture], base: tuple[str, ...]) -> str:
    """The folder below `base` that contains these images."""
    below = [picture.folders[len(base) :] for picture in images]
    return _prefix(below)


def _shared(pictures: Sequence[Picture]) -> str:
    """The deepest folder that contains these pictures."""
    return _prefix([picture.folders for picture in pictures]) or "."


def _prefix(paths: Sequence[tuple[str, ...]]) -> str:
    first, last = min(paths), max(paths)
    same = next(
        (k for k in range(min(len(first), len(last))) if first[k] != last[k]), min(len(first), len(last))
    )
    return "/".join(first[:same])


def _text(folders: tuple[str, ...]) -> str:
    return "/".join(folders) or "."


def by_lists(layout: Layout, stem: Path) -> Written:
    """Settings that name list files beside the YAML file, and the content of these files."""
    settings: dict[str, object] = {"images": "."}
    if not layout.drawn:
        settings["masks"] = ""
    lists: dict[Path, str] = {}
    splits: dict[str, object] = {}
    for split in layout.splits or [""]:
        lists[_file(stem, split or "train")] = _rows(layout, layout.images(split))
        splits[split or "train"] = str(_file(stem, split or "train"))
    settings["unlabelled"] = ""
    if layout.unlabelled:
        lists[_file(stem, "unlabelled")] = _rows(layout, sorted(layout.unlabelled))
        settings["unlabelled"] = str(_file(stem, "unlabelled"))
    return Written(settings, splits, lists)


def _file(stem: Path, split: str) -> Path:
    return stem.with_name(f"{stem.name}-{split}.txt")


def _rows(layout: Layout, images: Sequence[Picture]) -> str:
    """One image per line, with its mask after a tab."""
    mask_of = {} if layout.drawn else layout.mask_of
    rows = [[one for one in (image, mask_of.get(image)) if one] for image in images]
    return "".join("\t".join(_entry(one) for one in row) + "\n" for row in rows)


def _entry(picture: Picture) -> str:
    """A path in a list. A leading # or quote would be read as something else."""
    return f"./{picture.relative}" if picture.relative[0] in "#\"'" else picture.relative
