"""The source data.source=folder, and its layouts. Finds the images that settings name, and their masks.

* images/ masks/ unlabelled/: a mask has the path of its image, apart from the suffix:
  images/a/1.jpg, masks/a/1.png;
* images/<split>/ masks/<split>/ with data.splits.train=<split> and so on;
* list files: one image per line, optionally its mask in a second column.

Folders are claimed in the order test, val, train, unlabelled: an image belongs to the first split whose
folder contains it. Without data.splits.train, train gets the remaining images below data.images. A split
named by a list file contains exactly the images in the list.
"""

import os
import posixpath
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from selftrain.data import levels
from selftrain.data.division import Pool, divided
from selftrain.data.faults import Fault, none_hidden, refuse
from selftrain.data.images import IMAGE_SUFFIXES, JPEG_SUFFIXES, Levels
from selftrain.data.masks import MASK_SUFFIXES, MaskCode, jpeg_mask, mask_code
from selftrain.data.sample import Copies, DataSet, Sample
from selftrain.data.sources.files import ImageFile, MaskFile
from selftrain.data.sources.tree import Tree, suffix_counts, unread
from selftrain.data.spec import Spec
from selftrain.data.strays import masks_beside
from selftrain.errors import ConfigError, DataError

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


def data_set(spec: Spec, copies: Copies) -> DataSet:
    """Image and mask files under data.root. Raises ConfigError, DataError or FaultsError, like `find`."""
    root = root_of(spec)  # checked first: it is forgotten most often
    code, fixed = mask_code(spec), levels.fixed(spec.range)
    layout = find(spec)
    with none_hidden(layout.faults, "data.splits"):
        division = divided(_pool(layout, spec, code, fixed), len(spec.classes), spec.splits, copies)
    return DataSet(
        list(spec.classes),
        *division,
        warnings=layout.warnings,
        faults=layout.faults,
        root=root,
        code=code,
        levels=fixed,
    )


def _pool(layout: "Layout", spec: Spec, code: MaskCode, fixed: Levels | None) -> Pool:
    """The samples of a layout."""

    def sample(found: Found) -> Sample:
        mask = MaskFile(found.mask, code, found.path) if found.mask else None
        return Sample(found.id, ImageFile(found.path, fixed), mask, spec.target, found.name)

    def samples(found: list[Found] | None) -> list[Sample] | None:
        return None if found is None else [sample(one) for one in found]

    train, unlabelled = ([sample(one) for one in found] for found in (layout.train, layout.unlabelled))
    return Pool(train, unlabelled, samples(layout.val), samples(layout.test))


def find(spec: Spec) -> Layout:
    """List the files. Faults of single files are noted.

    Raises ConfigError or DataError if the settings name no files; FaultsError, with all faults, if some were
    noted.
    """
    tree = Tree(root_of(spec))
    with none_hidden(tree.faults, "data"):
        return _layout(spec, tree)


def _layout(spec: Spec, tree: Tree) -> Layout:
    named = _without_shared_ids(_named(spec, tree), tree)
    matcher = _Matcher(spec, tree)
    named = {split: matcher.match(found) for split, found in named.items()}
    orphans = matcher.orphans(named)
    bare = [found for found in named["train"] if found.mask is None]
    if bare and len(bare) == len(named["train"]):
        refuse(tree.faults)
        raise DataError(_nothing_matches(spec, bare[0], orphans, matcher.unread()))
    layout = Layout(
        train=[found for found in named["train"] if found.mask],
        unlabelled=named.get("unlabelled", []),
        val=_masked(named["val"], matcher) if "val" in named else None,
        test=_masked(named["test"], matcher) if "test" in named else None,
        faults=tree.faults,
    )
    if bare and (spec.unlabelled or orphans):
        for item in bare:
            tree.note(matcher.missing(item))
    else:
        layout.unlabelled = layout.unlabelled + bare
    # With fewer, no split can be made, and that error would hide why there are so few.
    made = (layout.val is None) + (layout.test is None and spec.splits.test_fraction > 0)
    if len(layout.train) <= made:
        refuse(tree.faults)
    layout.warnings += _remarks(spec, matcher, orphans, bare)
    return layout


def root_of(spec: Spec) -> Path:
    """data.root as a real path. Raises ConfigError if it is not given, DataError if it is not a folder."""
    if not spec.root:
        raise ConfigError(f"data={spec.name} needs the folder that its files are in: data.root=/path")
    root = Path(spec.root).expanduser()
    if not root.is_dir():
        raise DataError(f"data.root={spec.root} is not a folder; give data.root=/path")
    return Path(os.path.realpath(root))


# --- which images


def _named(spec: Spec, tree: Tree) -> dict[str, list[Found]]:
    """The images of train and of each split that the settings name. Only masks from lists are set."""
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
        if text and (tree.root / text).is_file():
            named[split] = _from_list(spec, tree, setting, tree.root / text, owner)
        elif text:
            named[split] = _from_folder(spec, tree, setting, posixpath.join(base, text), owner, named)
    if not named["train"]:
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


def _from_list(spec: Spec, tree: Tree, setting: str, file: Path, owner: dict[Path, str]) -> list[Found]:
    """The images that a list names. An image that was already named is noted and left out."""
    images, masks = tree.folder(spec.images, "data.images"), tree.folder(spec.masks, "data.masks")
    found = []
    for path, mask in tree.read_list(file, images=images, masks=masks):
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


def _without_shared_ids(named: dict[str, list[Found]], tree: Tree) -> dict[str, list[Found]]:
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


# --- which mask


class _Matcher:
    """Finds masks by name.

    A mask has the same path below data.masks as its image below data.images or, failing that,
    data.unlabelled.
    """

    def __init__(self, spec: Spec, tree: Tree):
        self.tree = tree
        self.masks = tree.folder(spec.masks, "data.masks")
        images = tree.folder(spec.images, "data.images")
        other = (
            tree.root / spec.unlabelled if spec.unlabelled and not spec.unlabelled.startswith("/") else None
        )
        self.bases = [base for base in (images, other) if base and base.is_dir()]
        self.by_name = self._index() if self.masks.is_dir() else {}
        self.all_images = tree.walk(images, IMAGE_SUFFIXES, without=[self.masks]) if images.is_dir() else []
        self.claimed = {tree.name(path, below=images) for path in self.all_images}

    def _index(self) -> dict[str, Path]:
        by_name: dict[str, Path] = {}
        for path in self.tree.walk(self.masks, MASK_SUFFIXES | JPEG_SUFFIXES):
            other = by_name.setdefault(self.tree.name(path, below=self.masks), path)
            if other is path:
                continue
            pair = sorted((other, path), key=lambda mask: mask.suffix.lower() in JPEG_SUFFIXES)
            by_name[self.tree.name(path, below=self.masks)] = pair[0]
            if pair[1].suffix.lower() not in JPEG_SUFFIXES:
                what = f"is a second mask beside {self.tree.relative(pair[0])}"
                self.tree.note(Fault(self.tree.relative(pair[1]), what, "remove or rename one of them"))
        return by_name

    def unread(self) -> list[Path]:
        """Files below data.masks whose suffixes are not read."""
        return [path for path in self.tree.left_out if path.is_relative_to(self.masks)]

    def match(self, found: list[Found]) -> list[Found]:
        """The images with their masks. Images whose mask is a JPEG are left out and noted."""
        matched = [
            replace(item, mask=item.mask or self.by_name.get(self.key(item.path) or "")) for item in found
        ]
        sound = []
        for item in matched:
            if item.mask is None or item.mask.suffix.lower() not in JPEG_SUFFIXES:
                sound.append(item)
            else:
                self.tree.note(replace(jpeg_mask(item.mask), file=self.tree.relative(item.mask)))
        return sound

    def key(self, path: Path) -> str | None:
        """The name of the image's mask below data.masks."""
        for place, base in enumerate(self.bases):
            if str(path).startswith(f"{base}/"):
                name = self.tree.name(path, below=base)
                # images/1.jpg and unlabelled/1.jpg may both exist; masks/1.png then belongs to images/1.jpg
                return None if place > 0 and name in self.claimed else name
        return None

    def missing(self, found: Found) -> Fault:
        """The fault of an image without a mask."""
        key = self.key(found.path)
        file = f"{self.tree.relative(self.masks / key)}.png" if key else "in the second column of the list"
        remedy = f"it was expected at {file}; or move the image to data.unlabelled"
        return Fault(self.tree.relative(found.path), "has no mask", remedy)

    def orphans(self, named: dict[str, list[Found]]) -> list[str]:
        """Masks below data.masks that belong to no image, as paths relative to the root."""
        used = {item.mask for found in named.values() for item in found}
        return [
            self.tree.relative(path)
            for name, path in self.by_name.items()
            if name not in self.claimed and path not in used and path.suffix.lower() not in JPEG_SUFFIXES
        ]


def _masked(found: list[Found], matcher: _Matcher) -> list[Found]:
    """The images with a mask; the others are noted as faults."""
    for item in found:
        if item.mask is None:
            matcher.tree.note(matcher.missing(item))
    return [item for item in found if item.mask is not None]


def _nothing_matches(spec: Spec, image: Found, orphans: list[str], unread_masks: list[Path]) -> str:
    if unread_masks and not orphans:
        what = unread(f"{spec.masks}/", unread_masks, "masks", MASK_SUFFIXES)
        return f"no training image has a mask, for instance {image.id} has none: {what}"
    found = f"there are masks such as {orphans[0]}" if orphans else f"no mask was found below {spec.masks}/"
    return (
        f"no training image has a mask, for instance {image.id} has none; {found}. "
        "Below data.masks, a mask has its image's path and name, suffix aside; "
        "where names differ, use list files with the mask in a second column"
    )


def _remarks(spec: Spec, matcher: _Matcher, orphans: list[str], bare: Sequence[Found]) -> list[str]:
    """Remarks for the user on how the files were interpreted."""
    remarks, tree = list[str](), matcher.tree
    without_mask = {matcher.key(found.path) for found in bare}
    unread_masks = [path for path in matcher.unread() if tree.name(path, below=matcher.masks) in without_mask]
    if unread_masks:
        remarks.append(unread(f"{spec.masks}/", unread_masks, "masks", MASK_SUFFIXES))
    if bare and not (spec.unlabelled or orphans):
        remarks.append(f"{_count(bare, 'image')} below {spec.images}/ without a mask: taken as unlabelled")
    if orphans:
        remarks.append(f"{_count(orphans, 'mask')} without an image, for instance {orphans[0]}: not used")
    if tree.left_out:
        remarks.append(f"files that are not images were left out: {suffix_counts(tree.left_out)}")
    remarks += filter(None, [tree.remark_on_folders()])
    return remarks


def _count(things: Sequence[object], noun: str) -> str:
    return f"{len(things)} {noun}{'s' if len(things) != 1 else ''}"
