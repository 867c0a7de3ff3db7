"""Image files and mask files as sources."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from selftrain.data.bands import RGB
from selftrain.data.images import Levels, geometry, read_image, read_stored
from selftrain.data.masks import Mask, MaskCode, examine_mask, read_mask
from selftrain.data.sample import Source
from selftrain.data.storage import fingerprint


@dataclass(frozen=True)
class ImageFile(Source):
    """An image file, read as RGB unless `channels` says otherwise."""

    path: Path
    # The 16-bit values that become 0 and 255; None: samples keep their high byte.
    levels: Levels | None = None
    channels: int = RGB

    @property
    def name(self) -> str:
        return str(self.path)

    @property
    def reading(self) -> str:
        channels = f"{self.channels} channels" if self.channels != RGB else ""
        return channels + ("scaled" if self.levels else "")

    @property
    def opened(self) -> tuple[Path, ...]:
        return (self.path,)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) by the header. Raises DataError."""
        return geometry(self.path)[0]

    def read(self) -> np.ndarray:
        return read_image(self.path, self.levels, self.channels)

    def stored(self) -> np.ndarray:
        return read_stored(self.path, scaled=self.levels is not None, channels=self.channels)

    def of_channels(self, channels: int) -> "ImageFile":
        return replace(self, channels=channels)

    def within(self, levels: Levels) -> "ImageFile":
        return replace(self, levels=levels)

    def fingerprint(self) -> str:
        return fingerprint(self.path)


@dataclass(frozen=True)
class MaskFile(Source):
    """A mask file. It must have the size and the orientation of its image."""

    path: Path
    code: MaskCode
    image: Path

    @property
    def name(self) -> str:
        return str(self.path)

    @property
    def opened(self) -> tuple[Path, ...]:
        return (self.path, self.image)

    @property
    def reading(self) -> str:
        return repr(self.code)

    def read(self) -> np.ndarray:
        return read_mask(self.path, self.code, image=self.image)

    def examine(self, *, alone: bool = False) -> Mask:
        return examine_mask(self.path, self.code, image=None if alone else self.image)

    def fingerprint(self) -> str:
        return fingerprint(self.path)
