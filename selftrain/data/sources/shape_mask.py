"""A mask that is drawn from the shapes of an annotation file whenever it is read."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from selftrain.data.annotations.draw import draw
from selftrain.data.annotations.shape import Described
from selftrain.data.faults import Fault
from selftrain.data.images import MAX_PIXELS, geometry
from selftrain.data.masks import Mask
from selftrain.data.sample import Source
from selftrain.errors import DataError

SCALED = "shapes were drawn at another size of the picture and are scaled"
TURNED = "shapes were drawn on the picture without its EXIF turn and are turned"
UPRIGHT = "the picture has an EXIF turn, and its shapes are taken as drawn upright"


@dataclass(frozen=True, eq=False)
class ShapeMask(Source):
    """A mask that is drawn from the shapes of an annotation file. `ids` are the classes of the shapes."""

    file: Path
    image: Path
    described: Described
    ids: tuple[int, ...]
    background: int
    order: str

    @property
    def name(self) -> str:
        own = self.file.stem == self.image.stem
        return str(self.file) if own else f"{self.file} ({self.image.name})"

    @property
    def reading(self) -> str:
        return repr((self.ids, self.background, self.order))

    @property
    def opened(self) -> tuple[Path, ...]:
        return (self.image,)

    def read(self) -> np.ndarray:
        return self.examine().ids

    def examine(self, *, alone: bool = False) -> Mask:
        """See `Source.examine`. With `alone`, the mask is empty."""
        if alone:  # without the size of the image, nothing can be drawn
            return Mask(np.zeros((0, 0), np.uint8))
        size, orientation = geometry(self.image)
        frame, turn, note = self._placed(size, orientation)
        ids = draw(
            list(zip(self.described.shapes, self.ids, strict=True)),
            size[::-1] if turn > 4 else size,
            frame=frame,
            background=self.background,
            order=self.order,
            orientation=turn,
        )
        return Mask(ids, notes=(note,) if note and self.described.shapes else ())

    def _placed(self, size: tuple[int, int], orientation: int) -> tuple[tuple[int, int], int, str]:
        """The size of the picture that the shapes belong to, the turn that follows, and a note.

        `size` (height, width) is the image's, upright. Raises DataError if the two do not agree.
        """
        given = self.described.size
        if self.described.relative or given is None:
            return (1, 1) if self.described.relative else size, 1, UPRIGHT if orientation != 1 else ""
        if given == size:
            certain = orientation == 1 or (orientation > 4 and size[0] != size[1])
            return given, 1, "" if certain else UPRIGHT
        if _alike(given, size):
            return given, 1, SCALED
        if orientation > 4 and (given == size[::-1] or _alike(given, size[::-1])):
            return given, orientation, TURNED
        what = f"describes {self.image.name} as {_shown(given)}, but it is {_shown(size)} (height x width)"
        raise DataError(Fault(self.name, what, "restore the image that was annotated, or annotate this one"))

    def fingerprint(self) -> str:
        content = [shape.content() for shape in self.described.shapes]
        return hashlib.sha256(
            repr((content, self.described.size, self.described.relative)).encode()
        ).hexdigest()


def _alike(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two sizes differ but have one aspect ratio, up to rounding to a pixel."""
    if one[0] == other[0] or one[1] == other[1] or min(one) < 1 or one[0] * one[1] > MAX_PIXELS:
        return False
    return abs(one[0] * other[1] - one[1] * other[0]) <= max(*one, *other)


def _shown(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
