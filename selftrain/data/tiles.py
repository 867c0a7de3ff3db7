"""Tiles of large images: the units that training draws (data.tile). Images are labelled and predicted whole.

Tiles form a grid of steps of data.stride pixels; the last ones end at the border of the image. An image that
is smaller than a tile is one tile.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from selftrain.data.labels import Labels, Readable
from selftrain.data.sample import Sample
from selftrain.targets import Target


@dataclass(frozen=True)
class Tiling:
    """The settings of tiles."""

    tile: tuple[int, int]  # (height, width)
    stride: tuple[int, int]
    reject: float = 0.0  # probability that a background-only tile makes room for another one

    @classmethod
    def of(cls, tile: Sequence[int], stride: Sequence[int], reject: float) -> "Tiling | None":
        """The tiling of the settings; None without data.tile. An empty stride is the size of a tile."""
        if not tile:
            return None
        stride = stride or tile
        return cls((tile[0], tile[1]), (stride[0], stride[1]), reject)

    def tiles(self, samples: Sequence[Readable]) -> "list[Tile]":
        """The tiles of all samples. Raises DataError for an image whose size cannot be read."""
        return [tile for place, sample in enumerate(samples) for tile in self._of(sample, place)]

    def _of(self, sample: Readable, place: int) -> "list[Tile]":
        assert isinstance(sample, Sample)
        size = sample.read_size()
        rows, columns = map(_starts, size, self.tile, self.stride)
        height, width = map(min, size, self.tile)
        return [Tile(sample, place, size, top, left, height, width) for top, left in product(rows, columns)]


def _starts(side: int, tile: int, stride: int) -> list[int]:
    """Where tiles start along a side; the last one ends at the border."""
    last = max(side - tile, 0)
    return [*range(0, last, stride), last]


@dataclass(frozen=True)
class Tile:
    """A part of an image with its part of the mask, to be drawn like an image."""

    whole: Sample
    place: int  # of the image among the samples
    size: tuple[int, int]  # (height, width) of the image
    top: int
    left: int
    height: int
    width: int

    @property
    def id(self) -> str:
        return f"{self.whole.id}@{self.top},{self.left}"

    @property
    def opened(self) -> tuple[Path, ...]:
        return self.whole.opened

    @property
    def box(self) -> tuple[slice, slice]:
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)

    def read_image(self) -> np.ndarray:
        return self.whole.read_image()[self.box]

    def read_mask(self) -> np.ndarray | None:
        mask = self.whole.read_mask()
        return None if mask is None else mask[self.box]

    def in_whole(self, index: np.ndarray) -> np.ndarray:
        """Flat indices into the image, of flat indices into the tile; negative ones stay as they are."""
        rows, columns = np.divmod(index, self.width)
        return np.where(index < 0, index, (rows + self.top) * self.size[1] + columns + self.left)


@dataclass(frozen=True)
class Tiled:
    """The labels of images as `Labels` of their tiles."""

    labels: Labels  # of the whole images
    samples: Sequence[Tile]

    def target(self, i: int, index: np.ndarray) -> Target[np.ndarray]:
        """See `Labels.target`; `index` points into the tile."""
        tile = self.samples[i]
        return self.labels.target(tile.place, tile.in_whole(index))
