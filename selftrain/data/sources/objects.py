"""The source data.format=objects: a folder for each image, with one mask file for each object.

    CASE/images/NAME.png  CASE/masks/*.png

This is the layout of the Data Science Bowl 2018 (BBBC038). The mask of an image is the union of its files: a
pixel above 0 in any of them is the second class. `data.images` and `data.masks` name the two inner folders.
data.splits and data.unlabelled name folders below data.root that contain the folders of images.
"""

import hashlib
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from selftrain.data.coding import check_classes
from selftrain.data.dataset import DataSet
from selftrain.data.faults import Fault, counted
from selftrain.data.images import IMAGE_SUFFIXES
from selftrain.data.masks import MASK_SUFFIXES, Mask, MaskCode, read_mask
from selftrain.data.sample import Copies, Source
from selftrain.data.sources.folder import assembled
from selftrain.data.sources.named import Found, Layout, root_of
from selftrain.data.sources.tree import Tree
from selftrain.data.spec import Spec
from selftrain.data.storage import fingerprint
from selftrain.errors import ConfigError, DataError

OTHERS = ("values", "colours", "ignore", "ignore_colours", "threshold", "nearest", "annotations")
CODE = MaskCode((0, (255, *range(1, 255), *range(256, 65536))))  # predictions are written as 0 and 255


@dataclass(frozen=True)
class ObjectMasks(Source):
    """The union of the mask files of an image's objects, each of the image's size."""

    folder: Path
    masks: tuple[Path, ...]
    image: Path

    @property
    def name(self) -> str:
        return str(self.folder)

    def read(self) -> np.ndarray:
        return self.examine().ids

    @property
    def opened(self) -> tuple[Path, ...]:
        return (*self.masks, self.image)

    def examine(self, *, alone: bool = False) -> Mask:
        """See `Source.examine`. With `alone`, only the first object is read: sizes cannot be compared."""
        if alone:
            return Mask(read_mask(self.masks[0], CODE))
        return Mask(np.maximum.reduce([read_mask(file, CODE, image=self.image) for file in self.masks]))

    def fingerprint(self) -> str:
        return hashlib.sha256("".join(map(fingerprint, self.masks)).encode()).hexdigest()


def data_set(spec: Spec, copies: Copies) -> DataSet:
    """A folder for each image, with a mask file for each object (Data Science Bowl 2018, BBBC038)."""
    root = root_of(spec)
    for name in OTHERS:
        if name in spec.changed:
            raise ConfigError(
                f"data.{name}={getattr(spec, name)} has no meaning for data.format=objects, "
                "whose masks are black and white: remove the setting, or change data.format"
            )
    check_classes(spec)
    if len(spec.classes) != 2:
        raise ConfigError(
            f"data.classes={spec.classes}: data.format=objects has two classes, such as [background,cell]"
        )
    tree = Tree(root)
    files = {path: tuple(masks) for path, masks in _cases(spec, tree)}
    layout = _layout(spec, tree, files)

    def mask_of(found: Found) -> ObjectMasks | None:
        return ObjectMasks(found.mask, files[found.path], found.path) if found.mask else None

    return assembled(layout, spec, copies, root, mask_of, code=replace(CODE, values=(0, 255)))


def _cases(spec: Spec, tree: Tree) -> list[tuple[Path, list[Path]]]:
    """Each image and the mask files of its objects, in the order of their folders. Notes faults."""
    images, masks = defaultdict[Path, list[Path]](list), defaultdict[Path, list[Path]](list)
    for path in tree.walk(tree.root, IMAGE_SUFFIXES):
        if path.parent.name == spec.images:
            images[path.parent.parent].append(path)
        elif path.parent.name == spec.masks and path.suffix.lower() in MASK_SUFFIXES:
            masks[path.parent.parent].append(path)
    for case, found in images.items():
        if len(found) > 1:
            what = f"has {len(found)} images, such as {found[0].name} and {found[1].name}"
            remedy = "keep one, or set data.format=folder for one mask file per image"
            tree.note(Fault(tree.relative(case / spec.images), what, remedy))
    if not images:
        raise DataError(
            f"{tree.root} has no folder that contains {spec.images}/ and {spec.masks}/; data.images and "
            "data.masks name these two folders"
        )
    return [(found[0], masks[case]) for case, found in sorted(images.items()) if len(found) == 1]


def _layout(spec: Spec, tree: Tree, files: dict[Path, tuple[Path, ...]]) -> Layout:
    """The images of each split: by the folders that the settings name."""
    named = {split: getattr(spec.splits, split) for split in ("test", "val", "train")}
    named["unlabelled"] = spec.unlabelled
    wanted = {split: _folder(tree, split, name) for split, name in named.items() if name}
    members: dict[str, list[Found]] = {split: [] for split in named}
    for path, masks in files.items():
        case = path.parent.parent
        split = next((split for split, folder in wanted.items() if case.is_relative_to(folder)), "")
        if not split and "train" in wanted:
            continue
        mask = case / spec.masks if masks and split != "unlabelled" else None
        name = tree.relative(case)
        members[split or "train"].append(Found(path, mask, name, name))
    bare = [found for found in members["train"] if not found.mask]
    with_masks = {split: [found for found in members[split] if found.mask] for split in members}
    return Layout(
        with_masks["train"],
        members["unlabelled"] + bare,
        with_masks["val"] if "val" in wanted else None,
        with_masks["test"] if "test" in wanted else None,
        warnings=_remarks(bare, members, wanted),
        faults=tree.faults,
    )


def _folder(tree: Tree, split: str, name: str) -> Path:
    folder = tree.root / name
    if not folder.is_dir():
        setting = "data.unlabelled" if split == "unlabelled" else f"data.splits.{split}"
        raise DataError(f"{setting}={name} is not a folder below {tree.root}, as data.format=objects needs")
    return folder


def _remarks(bare: list[Found], members: dict[str, list[Found]], wanted: dict[str, Path]) -> list[str]:
    lines = [f"{counted(len(bare), 'image')} without a mask file: taken as unlabelled"] if bare else []
    for split in ("val", "test"):
        missing = sum(not found.mask for found in members[split])
        if split in wanted and missing:
            lines.append(f"{counted(missing, 'image')} of {split} without a mask file: not used")
    return lines
