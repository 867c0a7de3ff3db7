"""Sources of images and masks, and samples."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from selftrain.data.images import Levels, resize_image
from selftrain.data.masks import Mask, resize_mask
from selftrain.sizes import SIDES, resized

Copies = Sequence[Sequence[str]]  # groups of ids of images that are the same picture


class Source(ABC):
    """The source of one image's pixels, or of one mask's class ids: a file, a drawing, polygons.

    A new kind of source needs only the three abstract members. Loader processes get copies of sources, so
    sources must be small and picklable.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """Name for messages: the path of a file, or the id of a sample without files."""

    @abstractmethod
    def read(self) -> np.ndarray:
        """An image (H, W, C) uint8, or class ids (H, W) uint8 with IGNORE for pixels without a class.

        Raises DataError, with a Fault that names the source.
        """

    @abstractmethod
    def fingerprint(self) -> str | None:
        """A hash of the content. data.json stores it, and verify remembers sound samples by it.

        None means that the sample's id and the facts of its data set determine the content. Raises DataError.
        """

    @property
    def reading(self) -> str:
        """Everything else that affects the result of `read`, such as the mask value of each class."""
        return ""

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width), or None if it is not known without reading."""
        return None

    @property
    def opened(self) -> tuple[Path, ...]:
        """The files that `read` opens, so that remote ones can be fetched before."""
        return ()

    def within(self, levels: Levels) -> "Source":
        """The same image with its 16-bit values scaled so that `levels` become 0 and 255."""
        return self

    def of_channels(self, channels: int) -> "Source":
        """The same image, read with this number of channels; verify reports images with another number."""
        return self

    def stored(self) -> np.ndarray:
        """An image (H, W, C) with all bits of its samples, uint8 or uint16. Raises DataError."""
        return self.read()

    def examine(self, *, alone: bool = False) -> Mask:
        """A mask, with further facts for verify. With `alone`, the mask is not compared with its image.

        Raises DataError.
        """
        return Mask(self.read())


@dataclass(frozen=True)
class Sample:
    """One image and its mask, if it has one.

    For files, the `id` is the path below data.root without suffix ("images/train/0001TP_006690"). It is
    unique even if case and Unicode form are ignored. A drawn sample has an id such as "val/00003".
    """

    id: str
    image: Source
    mask: Source | None
    size: tuple[Any, int] | None = None  # what both are resized to (selftrain.sizes); None: not resized
    name: str = ""  # matched by data.splits.group
    weight: float = 1.0  # of its labelled pixels in training
    tags: tuple[int, ...] | None = None  # ids of the classes that it contains, by data.tags; None: not known
    extra: str = ""  # the name of its data set, if it comes from data.extra: then it is only trained on

    def at_own_size(self) -> "Sample":
        """The sample with image and mask as they are stored."""
        return replace(self, size=None)

    @property
    def opened(self) -> tuple[Path, ...]:
        """The files of image and mask."""
        return self.image.opened + (self.mask.opened if self.mask else ())

    def read_image(self) -> np.ndarray:
        """(H, W, C) uint8. Raises DataError."""
        image = self.image.read()
        return resize_image(image, resized(self.size, (image.shape[0], image.shape[1])))

    def read_mask(self) -> np.ndarray | None:
        """Class ids (H, W) uint8, 255 ignored; None if there is no mask.

        Raises DataError, also if mask and image differ in size.
        """
        if self.mask is None:
            return None
        mask = self.mask.read()
        return resize_mask(mask, resized(self.size, (mask.shape[0], mask.shape[1])))

    def read_size(self) -> tuple[int, int]:
        """(height, width) of `read_image`. Reads the image only if its size is unknown. Raises DataError."""
        if self.size and self.size[0] not in SIDES:
            return self.size
        height, width = self.image.size or self.image.read().shape[:2]
        return resized(self.size, (height, width))
