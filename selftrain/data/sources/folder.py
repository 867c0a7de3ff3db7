"""The source data.format=folder, and its layouts. Finds the images that settings name, and their masks.

* images/ masks/ unlabelled/: a mask has the path of its image, apart from the suffix:
  images/a/1.jpg, masks/a/1.png;
* images/<split>/ masks/<split>/ with data.splits.train=<split> and so on;
* list files: one image per line, optionally its mask in a second column.

named.py says which image belongs to which split.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from selftrain.data import levels
from selftrain.data.coding import mask_code
from selftrain.data.dataset import DataSet
from selftrain.data.division import Pool, divided
from selftrain.data.faults import Fault, none_hidden, refuse
from selftrain.data.images import IMAGE_SUFFIXES, JPEG_SUFFIXES
from selftrain.data.many import joined
from selftrain.data.masks import MASK_SUFFIXES, MaskCode, jpeg_mask
from selftrain.data.sample import Copies, Sample, Source
from selftrain.data.sources.files import ImageFile, MaskFile
from selftrain.data.sources.named import Found, Layout, named_images, root_of, without_shared_ids
from selftrain.data.sources.tars import samples_of, shards_of
from selftrain.data.sources.tree import Tree, suffix_counts, unread
from selftrain.data.spec import Spec
from selftrain.errors import ConfigError, DataError


def data_set(spec: Spec, copies: Copies) -> DataSet:
    """Image and mask files under data.root. Raises ConfigError, DataError or FaultsError, like `find`."""
    _refuse_annotation_settings(spec)
    root = root_of(spec)  # checked first: it is forgotten most often
    code = mask_code(spec)
    levels.fixed(spec.range)  # refuses a wrong setting
    layout = find(spec)
    return assembled(layout, spec, copies, root, lambda found: _mask_file(found, code), code=code)


def _mask_file(found: Found, code: MaskCode) -> MaskFile | None:
    return MaskFile(found.mask, code, found.path) if found.mask else None


def assembled(
    layout: Layout,
    spec: Spec,
    copies: Copies,
    root: Path,
    mask_of: Callable[[Found], Source | None],
    *,
    code: MaskCode | None = None,
) -> DataSet:
    """The data set of a layout, divided by the settings; `mask_of` makes an image's mask.

    Raises ConfigError, DataError or FaultsError.
    """
    fixed = levels.fixed(spec.range)

    def samples(found: list[Found]) -> list[Sample]:
        return [
            Sample(one.id, ImageFile(one.path, fixed), mask_of(one), spec.target, one.name) for one in found
        ]

    bare = samples(layout.unlabelled)
    pool = Pool(
        samples(layout.train),
        joined(samples_of(layout.shards, fixed), bare) if layout.shards else bare,
        None if layout.val is None else samples(layout.val),
        None if layout.test is None else samples(layout.test),
    )
    with none_hidden(layout.faults, "data.splits"):
        division = divided(pool, len(spec.classes), spec.splits, copies)
    return DataSet(
        list(spec.classes),
        *division,
        warnings=layout.warnings,
        faults=layout.faults,
        root=root,
        code=code,
        levels=fixed,
    )


def _refuse_annotation_settings(spec: Spec) -> None:
    """Raises ConfigError for a setting that mask files do not use."""
    for name in ("annotations", "background", "order", "empty"):
        if name in spec.changed:
            raise ConfigError(
                f"data.{name}={getattr(spec, name)} is about annotation files, but data.format={spec.format} "
                "reads mask files: remove the setting, or change data.format"
            )


def find(spec: Spec) -> Layout:
    """List the files. Faults of single files are noted.

    Raises ConfigError or DataError if the settings name no files; FaultsError, with all faults, if some were
    noted.
    """
    tree = Tree(root_of(spec))
    with none_hidden(tree.faults, "data"):
        return _layout(spec, tree)


def _layout(spec: Spec, tree: Tree) -> Layout:
    named = without_shared_ids(named_images(spec, tree), tree)
    matcher = _Matcher(spec, tree)
    named = {split: matcher.match(found) for split, found in named.items()}
    orphans = matcher.orphans(named)
    bare = [found for found in named["train"] if found.mask is None]
    maskless = len(bare) == len(named["train"])
    if bare and maskless and not spec.masks_optional:
        refuse(tree.faults)
        raise DataError(_nothing_matches(spec, bare[0], orphans, matcher.unread()))
    layout = Layout(
        train=[found for found in named["train"] if found.mask],
        unlabelled=named.get("unlabelled", []),
        val=_masked(named["val"], matcher) if "val" in named else None,
        test=_masked(named["test"], matcher) if "test" in named else None,
        faults=tree.faults,
        shards=shards_of(spec, tree) if spec.unlabelled else [],
    )
    if bare and (spec.unlabelled or orphans) and not maskless:
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


# --- which mask


class _Matcher:
    """Finds masks by name.

    A mask has the same path below data.masks as its image below data.images or, failing that,
    data.unlabelled.
    """

    def __init__(self, spec: Spec, tree: Tree):
        self.tree = tree
        self.lossy = spec.nearest or spec.threshold > 0  # JPEG masks are read
        self.masks = tree.folder(spec.masks, "data.masks")
        images = tree.folder(spec.images, "data.images")
        other = (
            tree.root / spec.unlabelled if spec.unlabelled and not spec.unlabelled.startswith("/") else None
        )
        self.bases = [base for base in (images, other) if base and base.is_dir()]
        self.by_name = self._index() if spec.masks and self.masks.is_dir() else {}
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
            if self.lossy or item.mask is None or item.mask.suffix.lower() not in JPEG_SUFFIXES:
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
