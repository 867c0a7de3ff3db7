"""Unlabelled images in tar shards: which shards data.unlabelled names.

* a .tar file;
* a pattern that ends with .tar, such as shards/train-*.tar;
* a folder that contains .tar files and no images.
"""

import unicodedata
from dataclasses import replace
from functools import partial

from selftrain.data.dataset import within
from selftrain.data.faults import Fault
from selftrain.data.images import IMAGE_SUFFIXES, Levels
from selftrain.data.many import Many
from selftrain.data.shards import SUFFIX, Shard, opened
from selftrain.data.sources.tree import Tree
from selftrain.data.spec import Spec
from selftrain.errors import DataError


def shards_of(spec: Spec, tree: Tree) -> list[Shard]:
    """The shards that data.unlabelled names, sorted by id; [] if it names something else.

    Shards with faults are noted and left out, and so are members. Raises ConfigError or DataError if a
    pattern or a file names none.
    """
    text = spec.unlabelled
    if not text.endswith(SUFFIX) and (tree.root / text).is_file():
        return []  # a list of images
    if text.endswith(SUFFIX):
        paths = tree.matching(text, "data.unlabelled")
        if not paths:
            raise DataError(
                f"data.unlabelled={text} matches no file below {tree.root}; a pattern may contain *, ** and ?"
            )
    else:
        folder = tree.folder(text, "data.unlabelled")
        if not folder.is_dir() or tree.walk(folder, IMAGE_SUFFIXES):
            return []
        paths = tree.walk(folder, {SUFFIX})
        tree.left_out.difference_update(paths)
    prefixes = [unicodedata.normalize("NFC", f"{tree.relative(path)}/") for path in paths]
    found = list[Shard]()
    for one in opened(paths, prefixes, remember=spec.remember):
        if isinstance(one, DataError):
            fault = one.args[0]
            tree.note(replace(fault, file=fault.file.removeprefix(f"{tree.root}/")))
            continue
        for fault in one.faults:
            tree.note(fault)
        found.append(replace(one, target=spec.target))
    return _apart(sorted(found, key=lambda shard: shard.prefix), tree)


def _apart(shards: list[Shard], tree: Tree) -> list[Shard]:
    """The shards without those whose names differ from another one only in case."""
    first: dict[str, Shard] = {}
    for shard in shards:
        other = first.setdefault(shard.prefix.casefold(), shard)
        if other is not shard:
            what = f"shares its name with {other.prefix.rstrip('/')} (case and Unicode form do not count)"
            tree.note(Fault(shard.prefix.rstrip("/"), what, "rename one of them"))
    return list(first.values())


def samples_of(shards: list[Shard], levels: Levels | None) -> Many:
    """The images of shards; `levels` as in ImageFile."""
    found = Many(tuple(shards))
    return found.changed(partial(within, levels)) if levels else found
