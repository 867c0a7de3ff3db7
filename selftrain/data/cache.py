"""Decoded images and masks, kept in memory, or on the disk if they are read tile by tile."""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from selftrain.columns import mapped
from selftrain.data.labels import Readable
from selftrain.data.tiles import Tile


class Cache:
    """Decoded arrays within a memory budget.

    Once the budget is used up, reads go to the source: access is random, so no eviction pays. Images that are
    read tile by tile are then decoded once, into files of `folder`, of which only the tile is read.
    """

    def __init__(self, megabytes: float, folder: Path | None = None):
        self.left, self.folder = megabytes * 2**20, folder
        self.arrays: dict[tuple[str, str], np.ndarray] = {}

    def image(self, sample: Readable) -> np.ndarray:
        if isinstance(sample, Tile):
            return self._of_tile((sample.whole.id, "image"), sample.whole.read_image)[sample.box]
        return self._get((sample.id, "image"), sample.read_image)

    def mask(self, sample: Readable) -> np.ndarray:
        """The mask of a sample that has one."""
        if isinstance(sample, Tile):
            return self.mask_of_tiles(sample.whole)[sample.box]
        return self._get((sample.id, "mask"), sample.read_mask)  # type: ignore[arg-type]

    def mask_of_tiles(self, sample: Readable) -> np.ndarray:
        """The whole mask of a sample that is read tile by tile."""
        return self._of_tile((sample.id, "mask"), sample.read_mask)  # type: ignore[arg-type]

    def clear(self) -> None:
        """Remove the files of decoded images."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _get(self, key: tuple[str, str], read: Callable[[], np.ndarray]) -> np.ndarray:
        found = self.arrays.get(key)
        if found is None:
            found = read()
            if found.nbytes <= self.left:
                self.left -= found.nbytes
                self.arrays[key] = found
        return found

    def _of_tile(self, key: tuple[str, str], read: Callable[[], np.ndarray]) -> np.ndarray:
        """The whole array of a tile: in memory, or as a file of which only the used part is read."""
        if self.folder is None or key in self.arrays:
            return self._get(key, read)
        file = self.folder / f"{hashlib.sha256(repr(key).encode()).hexdigest()}.npy"
        if not file.exists():
            found = self._get(key, read)
            if key in self.arrays:
                return found
            _write(file, found)
        self.arrays[key] = _read(file)
        return self.arrays[key]


def _read(file: Path) -> np.ndarray:
    """The array of a file, mapped into memory, without keeping the file open: images may be many."""
    with file.open("rb") as stream:
        np.lib.format.read_magic(stream)
        shape, _, kind = np.lib.format.read_array_header_1_0(stream)
        return mapped(stream)[stream.tell() :].view(kind).reshape(shape)


def _write(file: Path, array: np.ndarray) -> None:
    """Write an array as a whole; other processes may write the same file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_suffix(f".{os.getpid()}")
    with new.open("wb") as stream:
        np.save(stream, np.ascontiguousarray(array))
    new.replace(file)
