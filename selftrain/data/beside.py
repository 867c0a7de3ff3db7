"""Masks that lie among the images, recognised by name (u.jpg and u_mask.png) and by content (few colours)."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from selftrain.data.images import read_image
from selftrain.errors import DataError

MARKS = ("masks?", "gt", "ground_?truth", "labels?", "label_?ids?", "seg", "segmentation", "anno", "annotations?", "l")
MARK = re.compile(rf"(.+)[ ._-](?:{'|'.join(MARKS)})", re.IGNORECASE)
SIDE = 256  # pixels of each side that are looked at
FEW, SHARE = 16, 0.9  # as many colours make up this share of a mask's pixels


def masks_among(candidates: Sequence[Path], files: Sequence[Path]) -> dict[Path, Path]:
    """Those of the candidates that are masks of other `files` in the same folder, each with its image."""
    by_stem: dict[Path, list[Path]] = {}
    for file in files:
        by_stem.setdefault(file.with_suffix(""), []).append(file)
    names = set(files)
    found = {}
    for file in candidates:
        images = _images_by_name(file, by_stem, names)
        if images and looks_like_mask(file):
            found[file] = images[0]
    # Of two that lie on one another only one can be the mask.
    return {mask: image for mask, image in found.items() if image not in found}


def _images_by_name(file: Path, by_stem: dict[Path, list[Path]], names: set[Path]) -> list[Path]:
    """The images that a file would be a mask of, by its name."""
    stem = file.with_suffix("")
    same = [other for other in by_stem[stem] if other != file]
    match = MARK.fullmatch(stem.name)
    marked = by_stem.get(stem.with_name(match[1]), []) if match else []
    return [*marked, *([stem] if stem in names else []), *same]


def looks_like_mask(file: Path) -> bool:
    """Whether few colours make up nearly all of the picture."""
    try:
        pixels = read_image(file)
    except DataError:
        return False
    rows, columns = (max(1, length // SIDE) for length in pixels.shape[:2])
    red, green, blue = (pixels[::rows, ::columns, channel].astype(np.uint32).ravel() for channel in range(3))
    _, counts = np.unique(red << 16 | green << 8 | blue, return_counts=True)
    return bool(np.sort(counts)[-FEW:].sum() >= SHARE * counts.sum())
