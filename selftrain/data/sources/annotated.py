"""Images with annotation files of other programs: masks are drawn from shapes as they are read.

Images and splits are found as for data.format=folder. A split may also name an annotation file: then it
contains the images that the file describes.
"""

from collections import Counter
from dataclasses import replace
from pathlib import Path

from selftrain.data.coding import REST, check_classes
from selftrain.data.dataset import DataSet
from selftrain.data.faults import Fault, counted, none_hidden, refuse, some
from selftrain.data.sample import Copies
from selftrain.data.sources.book import Book, book_of
from selftrain.data.sources.folder import assembled
from selftrain.data.sources.named import Found, Layout, Rows, named_images, root_of, without_shared_ids
from selftrain.data.sources.shape_mask import ShapeMask
from selftrain.data.sources.tars import shards_of
from selftrain.data.sources.tree import Tree
from selftrain.data.spec import Spec
from selftrain.errors import ConfigError, DataError
from selftrain.ids import IGNORE

OF_MASK_FILES = ("masks", "colours", "ignore_colours", "threshold", "nearest")
SHOWN = 12  # most categories that a message lists


def _data_set(spec: Spec, copies: Copies) -> DataSet:
    for name in OF_MASK_FILES:
        if name in spec.changed:
            raise ConfigError(
                f"data.{name}={getattr(spec, name)} is about mask files, but data.format={spec.format} "
                "draws masks from shapes: remove the setting, or change data.format"
            )
    tree = Tree(root_of(spec))
    with none_hidden(tree.faults, "data"):
        book = book_of(spec, tree)
        classes, background = _classes(spec, book)
        layout = _layout(spec, tree, book)

    def mask_of(found: Found) -> ShapeMask | None:
        if found.mask is None:
            return None
        file, described = book.pages[found.path]
        ids = [IGNORE if one.ignored else classes[one.category] for one in described.shapes]
        return ShapeMask(file, found.path, described, tuple(ids), background, spec.order)

    return assembled(layout, spec, copies, tree.root, mask_of)


def _classes(spec: Spec, book: Book) -> tuple[dict[str, int], int]:
    """The class id of each category, and of the background; IGNORE for ignored ones.

    Raises ConfigError for settings, DataError for categories that are not declared.
    """
    shapes = Counter(
        one.category for _, page in book.pages.values() for one in page.shapes if not one.ignored
    )
    check_classes(spec, hint=f"; the annotations have {some(book.categories, SHOWN)}")
    if spec.background and spec.background not in spec.classes:
        raise ConfigError(
            f"data.background={spec.background} is not in data.classes={spec.classes}: add it for the pixels "
            "outside of all shapes, or set data.background='' to ignore them"
        )
    ids = _declared(spec)
    others = [name for name in shapes if name not in ids]
    if others and REST not in spec.ignore:
        listed = some([f"{name} ({counted(shapes[name], 'shape')})" for name in others], SHOWN)
        raise DataError(
            f"data.classes: the annotations have categories that are not declared: {listed}; add them "
            "to data.classes, give them to a class by data.values, or ignore them by "
            f"data.ignore={_flow(others)} (all: data.ignore=rest)"
        )
    if others:
        ignored = sum(shapes[name] for name in others)
        book.remarks[f"shapes of {some(others)} are ignored (data.ignore=[rest])"] = ignored
    unused = [name for name in book.categories if name not in shapes and name not in ids]
    if unused:
        book.remarks[f"categories have no shape and are not used: {some(unused)}"] = len(unused)
    background = spec.classes.index(spec.background) if spec.background else IGNORE
    return {name: IGNORE for name in others} | ids, background


def _declared(spec: Spec) -> dict[str, int]:
    """The class id of each category that data.classes, data.values and data.ignore declare."""
    values = spec.values or [""] * len(spec.classes)  # '' and []: the class's own name
    if len(values) != len(spec.classes):
        count = f"{len(values)} entries for {len(spec.classes)} classes"
        raise ConfigError(
            f"data.values has {count}: give one for each, in order ('' for the class's own name)"
        )
    pairs = []
    for place, value in enumerate(values):
        names = [spec.classes[place]] if value in ("", []) else value if isinstance(value, list) else [value]
        pairs += [(str(name), place) for name in names]
    # numbers such as the default 255 are values of mask files
    pairs += [(one, IGNORE) for one in spec.ignore if isinstance(one, str) and one != REST]
    double = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    if double:
        raise ConfigError(
            f"data.classes, data.values and data.ignore name the category {double[0]!r} twice; keep one"
        )
    return dict(pairs)


def _flow(names: list[str]) -> str:
    return f"[{','.join(names)}]"


def _layout(spec: Spec, tree: Tree, book: Book) -> Layout:
    def listed(file: Path) -> Rows:
        """The images that an annotation file describes, or that a list names."""
        if file in book.of_file:
            return [(path, None) for path in book.of_file[file]]
        rows = tree.read_list(file, images=book.images, masks=book.images)
        if any(mask for _, mask in rows):
            raise ConfigError(
                f"{file} names masks, but data.format={spec.format} draws them: list images only"
            )
        return rows

    empty = {path for path, (_, page) in book.pages.items() if not page.shapes}
    described = book.pages.keys() - (empty if spec.empty == "unlabelled" else set())
    named = {
        split: [replace(one, mask=book.pages[one.path][0]) if one.path in described else one for one in found]
        for split, found in without_shared_ids(named_images(spec, tree, listed), tree).items()
    }
    train = [found for found in named["train"] if found.mask]
    if not train:
        refuse(tree.faults)
        raise DataError(
            f"no annotation file describes a training image, for instance {named['train'][0].id} is not in "
            f"{tree.relative(next(iter(book.of_file)))}; check data.images and data.splits.train"
        )
    bare = [found for found in named["train"] if not found.mask]
    left = [found for found in bare if found.path not in empty]
    noted = [*(left if spec.unlabelled else []), *named.get("val", []), *named.get("test", [])]
    for found in noted:
        if not found.mask and found.path not in empty:
            remedy = "annotate it, or move it to data.unlabelled"
            tree.note(Fault(tree.relative(found.path), "is described by no annotation file", remedy))
    layout = Layout(
        train,
        named.get("unlabelled", []) + [found for found in bare if found not in noted],
        [found for found in named["val"] if found.mask] if "val" in named else None,
        [found for found in named["test"] if found.mask] if "test" in named else None,
        faults=tree.faults,
        shards=shards_of(spec, tree) if spec.unlabelled else [],
    )
    layout.warnings += _remarks(spec, book, empty, 0 if spec.unlabelled else len(left))
    used = {found.path for members in named.values() for found in members}
    others = [tree.relative(path) for path in book.pages if path not in used]
    if others:
        what = f"{counted(len(others), 'described image')} in no split, and not used, such as {others[0]}"
        layout.warnings.append(f"{what} (data.images, data.splits)")
    return layout


def _remarks(spec: Spec, book: Book, empty: set[Path], left: int) -> list[str]:
    """Remarks on how the annotations were read."""
    shapes = sum(len(page.shapes) for _, page in book.pages.values())
    top = "the smaller one" if spec.order == "large" else "the later one"
    remarks = [f"{counted(shapes, 'shape')}: where two overlap, {top} is on top (data.order={spec.order})"]
    remarks += [f"{text} ({count:,})" for text, count in book.remarks.items()]
    if book.merged:
        remarks.append(f"several categories have the name {some(sorted(book.merged))}: they are merged")
    for names, text in (
        (book.elsewhere, "found elsewhere than the annotations say"),
        (book.missing, "described but missing, and not used"),
    ):
        if names:
            remarks.append(f"{counted(len(names), 'image')} {text}, such as {names[0]}")
    if empty and spec.empty == "background":
        remarks.append(
            f"{counted(len(empty), 'image')} described without any shape: taken as background "
            "(data.empty=unlabelled takes them as unlabelled)"
        )
    elif empty:
        remarks.append(f"{counted(len(empty), 'image')} described without any shape: taken as unlabelled")
    if left:
        remarks.append(f"{counted(left, 'image')} that no annotation file describes: taken as unlabelled")
    return remarks


def coco(spec: Spec, copies: Copies) -> DataSet:
    """Objects of COCO JSON files, as polygons or run lengths."""
    return _data_set(spec, copies)


def labelme(spec: Spec, copies: Copies) -> DataSet:
    """Shapes of labelme, a JSON file for each image."""
    return _data_set(spec, copies)


def cvat(spec: Spec, copies: Copies) -> DataSet:
    """Shapes of CVAT for images 1.1, an XML file."""
    return _data_set(spec, copies)


def labelstudio(spec: Spec, copies: Copies) -> DataSet:
    """Regions of Label Studio's JSON or JSON-MIN export."""
    return _data_set(spec, copies)


def yolo(spec: Spec, copies: Copies) -> DataSet:
    """Polygons of YOLO, a text file for each image."""
    return _data_set(spec, copies)
