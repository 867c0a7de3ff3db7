"""The pictures below a folder, and a quick look at some of them: photographs, or masks?"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np

from selftrain.data.bands import ARRAY, RGB, bands_of, read_all_bands
from selftrain.data.images import IMAGE_SUFFIXES, JPEG_SUFFIXES, read_stored
from selftrain.data.sources.tree import Tree
from selftrain.errors import DataError

Thing = TypeVar("Thing")
BANDED = (".tif", ".tiff", ARRAY)  # suffixes of files that may have any number of bands
FEW = 32  # most colours that cover a mask
ROWS = 256  # most rows of a picture that are counted


@dataclass(frozen=True, order=True)
class Picture:
    """A picture file: its folders below the root, its name without suffix, and its suffix in lower case."""

    folders: tuple[str, ...]
    stem: str
    suffix: str
    path: Path = field(compare=False)

    @property
    def relative(self) -> str:
        """The path below the root."""
        return "/".join((*self.folders, self.path.name))

    @property
    def folder(self) -> str:
        """The folder below the root; "." for the root itself."""
        return "/".join(self.folders) or "."

    @property
    def is_jpeg(self) -> bool:
        return self.suffix in JPEG_SUFFIXES


@dataclass(frozen=True)
class Folder:
    """The pictures below a root, and the other files."""

    root: Path
    pictures: list[Picture]
    others: list[Path]


def folder_of(root: Path) -> Folder:
    """List the files below `root`. Hidden files, system folders and thumbnails are left out."""
    tree = Tree(root)
    paths = tree.walk(root, IMAGE_SUFFIXES)
    return Folder(root, sorted(picture_of(path, root) for path in paths), sorted(tree.left_out))


def picture_of(path: Path, root: Path) -> Picture:
    """The picture of a path below the root."""
    return Picture(path.relative_to(root).parts[:-1], path.stem, path.suffix.lower(), path)


@dataclass(frozen=True)
class Look:
    """What the pixels of a picture are like.

    `even` is the share of pixels that equal their right neighbour, `few` the share of the FEW most frequent
    colours.
    """

    size: tuple[int, int]
    even: float
    few: float
    largest: int  # the largest sample of a 16-bit picture; 0 for 8 bits
    grey: bool = False  # all channels are equal

    @property
    def pixels(self) -> tuple[bool, bool]:
        """The kind of pixels: grey, and deeper than 8 bits."""
        return self.grey, self.largest > 0

    @property
    def flatness(self) -> float:
        """Near 1 for masks, clearly lower for photographs."""
        return self.even * self.few


@lru_cache(maxsize=4096)
def look(path: Path) -> Look | None:
    """Look at a picture; None if it cannot be read."""
    try:
        bands = bands_of(path) if path.suffix.lower() in BANDED else RGB
        # of several bands, three tell a photograph from a mask
        pixels = read_stored(path) if bands == RGB else _three(read_all_bands(path))  # (H, W, 3)
    except DataError:
        return None
    height, width = pixels.shape[:2]
    rows = pixels[:: max(1, height // ROWS)].astype(np.uint64)
    packed = rows[..., 0] << np.uint64(32) | rows[..., 1] << np.uint64(16) | rows[..., 2]
    counts = np.sort(np.unique(packed, return_counts=True)[1])
    even = float((packed[:, 1:] == packed[:, :-1]).mean()) if width > 1 else 1.0
    largest = int(pixels.max()) if pixels.dtype == np.uint16 else 0
    grey = bool((rows == rows[..., :1]).all())
    return Look((height, width), even, float(counts[-FEW:].sum() / counts.sum()), largest, grey)


def _three(pixels: np.ndarray) -> np.ndarray:
    """The first three bands of (H, W, C), the last one repeated if there are fewer."""
    return pixels[..., np.minimum(np.arange(RGB), pixels.shape[2] - 1)]


def some(things: Sequence[Thing], most: int) -> list[Thing]:
    """At most `most` of the things, evenly spread over their order."""
    count = min(most, len(things))
    return [things[place * len(things) // count] for place in range(count)]
