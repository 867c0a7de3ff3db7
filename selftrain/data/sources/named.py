"""The images that the settings name, by split.

Folders are claimed in the order test, val, train, unlabelled: an image belongs to the first split whose
folder contains it. Without data.splits.train, train gets the remaining images below data.images. A split
named by a list file contains exactly the images in the list.
"""

import os
import posixpath
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from selftrain.data.faults import Fault, refuse
from selftrain.data.images import IMAGE_SUFFIXES
from selftrain.data.mirror import mirrored
from selftrain.data.places import is_url
from selftrain.data.shards import SUFFIX, Shard
from selftrain.data.sources.tree import Tree, unread
from selftrain.data.spec import Spec
from selftrain.data.strays import masks_beside
from selftrain.errors import ConfigError, DataError

Rows = list[tuple[Path, Path | None]]  # images, and their masks
Listed = Callable[[Path], Rows]  # reads a list file
# Folder names that suggest a split, which must then be declared.
SPLIT_FOLDERS = {"val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class Found:
    """An image file, its mask if it has one, its id, and its name for data.splits.group."""

    path: Path
    mask: Path | None
    id: str
    name: str


@dataclass
class Layout:
    """The images that the settings name.

    All of `train` have masks. `val` and `test` are None if the settings do not name them.
    """

    train: list[Found]
    unlabelled: list[Found]
    val: list[Found] | None
    test: list[Found] | None
    warnings: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    shards: list[Shard] = field(default_factory=list)  # of further unlabelled images


def root_of(spec: Spec) -> Path:
    """data.root as a real path; of a URL, the local tree that stands for the store.

    Raises ConfigError if it is not given, DataError if it is not a folder, and what `mirrored` raises.
    """
    if not spec.root:
        raise ConfigError(f"data={spec.name} needs the folder that its files are in: data.root=/path")
    if is_url(spec.root):
        return mirrored(spec.root, spec.store)
    root = Path(spec.root).expanduser()
    if not root.is_dir():
        raise DataError(f"data.root={spec.root} is not a folder; give data.root=/path")
    return Path(os.path.realpath(root))


# --- which images


def named_images(spec: Spec, tree: Tree, listed: Listed | None = None) -> dict[str, list[Found]]:
    """The images of train and of each split that the settings name. Only masks from lists are set.

    `listed` reads a list file. Raises ConfigError or DataError.
    """
    listed = listed or partial(_read_list, spec, tree)
    settings = [
        ("test", "data.splits.test", spec.splits.test, spec.images),
        ("val", "data.splits.val", spec.splits.val, spec.images),
        ("train", "data.splits.train", spec.splits.train, spec.images),
        ("unlabelled", "data.unlabelled", spec.unlabelled, ""),
    ]
    if not spec.splits.train:
        settings.append(("train", "data.images", ".", spec.images))
        _refuse_undeclared(spec, tree.folder(spec.images, "data.images"))
    named: dict[str, list[Found]] = {}
    owner: dict[Path, str] = {}  # the setting that claimed an image
    for split, setting, text, base in settings:
        if split == "unlabelled" and text.endswith(SUFFIX):
            named[split] = []  # tars.shards_of
        elif text and (tree.root / text).is_file():
            named[split] = _from_list(spec, tree, setting, listed(tree.root / text), owner)
        elif text:
            named[split] = _from_folder(spec, tree, setting, posixpath.join(base, text), owner, named)
    if not named["train"] and not (spec.masks_optional and named.get("unlabelled")):
        refuse(tree.faults)
        raise DataError(_nothing_left(spec, tree))
    return named


def _nothing_left(spec: Spec, tree: Tree) -> str:
    """The message for a training split without images."""
    if spec.splits.train and (tree.root / spec.splits.train).is_file():
        return f"data.splits.train={spec.splits.train} names no image; list one a line, relative to data.root"
    folder = tree.folder(posixpath.join(spec.images, spec.splits.train or "."), "data.images")
    what = f"no image below {folder} is left for train"
    left_out = [path for path in tree.left_out if path.is_relative_to(folder)]
    if left_out:
        return f"{what}: {unread('it', left_out, 'images', IMAGE_SUFFIXES)}"
    return f"{what}; known suffixes: {', '.join(sorted(IMAGE_SUFFIXES))}"


def _from_folder(
    spec: Spec, tree: Tree, setting: str, text: str, owner: dict[Path, str], named: dict[str, list[Found]]
) -> list[Found]:
    """The images below a folder that no setting has claimed yet.

    Masks that lie among them are noted and left out.
    """
    folder, masks = tree.folder(text, setting), tree.folder(spec.masks, "data.masks")
    if not folder.is_dir():
        raise DataError(
            f"{setting}: there is no folder {folder}, nor a list file of the name that the setting gives; "
            f"make it, name another, or {setting}='' for none"
        )
    if folder == masks:
        raise ConfigError(f"{setting} and data.masks name the same folder: use list files with two columns")
    taken = owner.keys() | {item.mask for found in named.values() for item in found}
    paths = [path for path in tree.walk(folder, IMAGE_SUFFIXES, without=[masks]) if path not in taken]
    paths = _without_masks(spec, tree, paths)
    owner.update(dict.fromkeys(paths, setting))
    return [Found(path, None, tree.name(path), tree.name(path, below=folder)) for path in paths]


def _without_masks(spec: Spec, tree: Tree, paths: list[Path]) -> list[Path]:
    """The images without the masks among them. The masks are noted as faults."""
    beside = masks_beside(paths)
    remedy = (
        f"move the masks to {spec.masks}/ (data.masks), "
        "or name images and masks in a list file with two columns"
    )
    for mask, image in beside.items():
        what = f"lies among the images and looks like the mask of {tree.relative(image)}"
        tree.note(Fault(tree.relative(mask), what, remedy))
    return [path for path in paths if path not in beside]


def _read_list(spec: Spec, tree: Tree, file: Path) -> Rows:
    images, masks = tree.folder(spec.images, "data.images"), tree.folder(spec.masks, "data.masks")
    return tree.read_list(file, images=images, masks=masks)


def _from_list(spec: Spec, tree: Tree, setting: str, rows: Rows, owner: dict[Path, str]) -> list[Found]:
    """The images of a list's rows. An image that was already named is noted and left out."""
    images = tree.folder(spec.images, "data.images")
    found = []
    for path, mask in rows:
        if path in owner:
            also = "twice" if owner[path] == setting else f"and {owner[path]}"
            tree.note(Fault(tree.relative(path), f"is named by {setting} {also}", "name it once"))
            continue
        owner[path] = setting
        name = tree.name(path, below=images if path.is_relative_to(images) else None)
        found.append(Found(path, mask, tree.name(path), name))
    return sorted(found, key=lambda item: item.id)


def _refuse_undeclared(spec: Spec, images: Path) -> None:
    """Raises ConfigError if train would include a folder with a name such as val or test."""
    declared = {
        spec.splits.val,
        spec.splits.test,
        os.path.relpath(spec.unlabelled, spec.images) if spec.unlabelled else "",
    }
    undeclared = [name for name in SPLIT_FOLDERS if (images / name).is_dir() and name not in declared]
    if undeclared:
        train = "train" if (images / "train").is_dir() else "."
        overrides = " ".join(f"data.splits.{SPLIT_FOLDERS[name]}={name}" for name in undeclared)
        raise ConfigError(
            f"{images} holds folders called {', '.join(undeclared)} that no setting names: add "
            f"data.splits.train={train} {overrides}, or data.splits.train=. to take all images as one pool"
        )


def without_shared_ids(named: dict[str, list[Found]], tree: Tree) -> dict[str, list[Found]]:
    """Leave out and note images that share their id with another image; case and Unicode form are ignored."""
    first: dict[str, Found] = {}
    kept: dict[str, list[Found]] = {}
    for split, found in named.items():
        kept[split] = []
        for item in found:
            other = first.setdefault(unicodedata.normalize("NFC", item.id.casefold()), item)
            if other is item:
                kept[split].append(item)
                continue
            what = (
                f"shares its name with {tree.relative(other.path)} "
                "(suffix, case and Unicode form do not count)"
            )
            tree.note(Fault(tree.relative(item.path), what, "rename one of them"))
    return kept
