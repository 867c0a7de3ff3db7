"""Pictures among the images that are not training images: thumbnails, and masks beside their images.

They are found by name, and a look at a few of the files confirms it.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from selftrain.data.bands import ARRAY
from selftrain.data.images import IMAGE_SUFFIXES, JPEG_SUFFIXES, read_stored
from selftrain.data.storage import open_regular
from selftrain.errors import DataError, StorageError

Thing = TypeVar("Thing")
SYSTEM = {
    "@eadir",
    "__macosx",
    "system volume information",
    "$recycle.bin",
    ".thumbnails",
    ".ipynb_checkpoints",
}
TRASH = ".trash-"  # followed by a user id
THUMBNAILS = {"thumb", "thumbs", "thumbnail", "thumbnails"}
LARGEST_THUMBNAIL = 512  # pixels of the longer side
MASK_END = re.compile(r"(?:(?i:[_.-](?:mask|masks|gt|label|labels|seg|segmentation)|\.jpe?g)|_L)$")
LONGEST_END = len("_segmentation")
LOOKS = 3  # files of a kind that are opened
SEEN = 250_000  # pixels of a file that are counted, about
FEW = 32  # most colours of a mask
NEARLY = 0.95  # share of the pixels; smoothed or compressed edges add colours


def is_system_folder(name: str) -> bool:
    """Whether systems, NAS boxes or notebooks create folders of this name, with copies of pictures."""
    lower = name.lower()
    return lower in SYSTEM or lower.startswith(TRASH)


def thumbnails(folder: Path, paths: Collection[Path]) -> set[Path]:
    """The files in a folder with a name such as thumbs, if they are thumbnails.

    They are, if they are small and each has the name of an image outside of the folder.
    """
    prefix = f"{folder}/"
    images = [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES]
    inside = [path for path in images if str(path).startswith(prefix)]
    outside = {path.stem for path in images if not str(path).startswith(prefix)}
    repeats = bool(inside) and outside.issuperset(path.stem for path in inside)
    if not repeats or not all(_is_small(path) for path in _some(inside)):
        return set()
    return {path for path in paths if str(path).startswith(prefix)}


def _is_small(path: Path) -> bool:
    try:
        with open_regular(path) as file, Image.open(file) as picture:
            return max(picture.size) <= LARGEST_THUMBNAIL
    except StorageError:
        raise
    except Exception:  # decoders raise all kinds of errors; an unreadable thumbnail is no loss
        return True


def masks_beside(paths: Sequence[Path]) -> dict[Path, Path]:
    """Masks among the images, each with its image: x_mask.png beside x.jpg, or x.png beside x.jpg."""
    names = [str(path).rpartition(".")[0] for path in paths]
    found = _called_masks(paths, names)
    if len(set(names)) < len(paths):
        by_name = defaultdict[str, list[Path]](list)
        for path, name in zip(paths, names, strict=True):
            by_name[name].append(path)
        found |= _of_two_suffixes(files for files in by_name.values() if len(files) == 2)
    return dict(sorted(found.items()))


def _called_masks(paths: Sequence[Path], names: Sequence[str]) -> dict[Path, Path]:
    """Masks named like their image, with an ending such as _mask."""
    images = dict(zip(reversed(names), reversed(paths), strict=True))
    kinds = defaultdict[str, list[tuple[Path, Path]]](list)
    for path, name in zip(paths, names, strict=True):
        match = MASK_END.search(name, max(0, len(name) - LONGEST_END))
        image = images.get(name[: match.start()]) if match else None
        if match and image:
            kinds[match.group().lower()].append((path, image))
    agreed = [pairs for pairs in kinds.values() if _all(pairs, lambda mask, _: mask.flat)]
    return {mask: image for pairs in agreed for mask, image in pairs}


def _of_two_suffixes(groups: Iterable[list[Path]]) -> dict[Path, Path]:
    """Masks whose names differ from their image only in the suffix. A JPEG is always the image."""
    kinds = defaultdict[tuple[str, str], list[tuple[Path, Path]]](list)
    for files in groups:
        for mask, image in (files, files[::-1]):
            ends = mask.suffix.lower(), image.suffix.lower()
            if ends[0] != ends[1] and ends[0] not in JPEG_SUFFIXES:
                kinds[ends].append((mask, image))
    agreed = [
        pairs
        for pairs in kinds.values()
        if _all(pairs, lambda mask, image: mask.plain and mask.count < image.count)
    ]
    return {mask: image for pairs in agreed for mask, image in pairs}


@dataclass(frozen=True)
class Colours:
    """The colours of a picture."""

    count: int
    flat: bool  # few colours cover nearly all pixels
    plain: bool  # few colours, or a palette


def _all(pairs: Sequence[tuple[Path, Path]], test: Callable[[Colours, Colours], bool]) -> bool:
    """Whether, among a few pairs, all readable ones pass a test, and at least one pair is readable."""
    looks = [(_look(mask), _look(image)) for mask, image in _some(pairs)]
    read = [(mask, image) for mask, image in looks if mask and image]
    return bool(read) and all(test(mask, image) for mask, image in read)


def _look(path: Path) -> Colours | None:
    """The colours of a picture; None if it cannot be read."""
    try:
        pixels = read_stored(path)  # (H, W, 3)
    except DataError:
        return None
    step = max(1, round((pixels[..., 0].size / SEEN) ** 0.5))
    red, green, blue = (pixels[::step, ::step, band].astype(np.uint64) for band in range(3))
    counts = np.sort(np.unique(red << np.uint64(32) | green << np.uint64(16) | blue, return_counts=True)[1])
    indexed = _has_palette(path)
    flat = indexed or counts[-FEW:].sum() >= NEARLY * counts.sum()
    return Colours(len(counts), bool(flat), indexed or len(counts) <= FEW)


def _has_palette(path: Path) -> bool:
    """Whether a picture is stored as palette indices although its format does not require it."""
    if path.suffix.lower() == ARRAY:
        return False
    with open_regular(path) as file, Image.open(file) as picture:
        return picture.mode == "P" and picture.format != "GIF"


def _some(things: Sequence[Thing]) -> list[Thing]:
    """At most LOOKS of the things, evenly spread."""
    return (
        [things[len(things) * place // LOOKS] for place in range(LOOKS)]
        if len(things) > LOOKS
        else list(things)
    )
