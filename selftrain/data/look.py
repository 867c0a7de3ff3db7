"""What a check found in one sample's files, and remarks on masks that were changed as they were read."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from selftrain.data.faults import Fault, counted, some
from selftrain.data.sample import Sample

Colour = tuple[int, ...]  # red, green, blue


@dataclass(frozen=True)
class Look:
    """Results of checking one sample's files.

    `split` is empty for a copy that is left out of training (load.load). `counts` (C + 1,) are the pixels of
    each class; the last entry counts ignored pixels. `palette` contains the RGB of each index if indices were
    read as ids; `used` are the indices that occur in the mask.
    """

    sample: Sample
    split: str
    size: tuple[int, int] | None = None  # (height, width) of the file
    digest: bytes = b""  # of the decoded pixels
    counts: np.ndarray | None = None
    image_fault: Fault | None = None
    mask_fault: Fault | None = None
    largest: int | None = None  # largest value in a 16-bit image; None: the image has 8 bits
    rest: int = 0  # pixels that data.ignore=[rest] ignores
    palette: bytes = b""
    used: tuple[int, ...] = ()
    repaired: int = 0  # pixels that data.nearest gave a declared value
    notes: tuple[str, ...] = ()  # how shapes of an annotation file were placed
    traits: bytes = b""  # for comparison with other pictures (likeness.traits)

    @property
    def blank(self) -> bool:
        """Whether the whole image has one colour, or nearly so."""
        return self.size is not None and not self.traits

    def colour(self, index: int) -> Colour:
        """The colour of an index of the palette."""
        return tuple(self.palette[3 * index : 3 * index + 3])

    @property
    def is_ramp(self) -> bool:
        """Whether the palette is a grey ramp that starts at black: a default that nobody chose."""
        greys = self.palette[::3]
        end = next((place for place in range(1, len(greys)) if greys[place] <= greys[place - 1]), len(greys))
        padded = len(set(greys[end:])) <= 1 and max(self.used) < end
        return greys == self.palette[1::3] == self.palette[2::3] and greys[0] == 0 and padded


def changed_masks(looks: Sequence[Look]) -> list[str]:
    """Remarks on pixels that data.ignore=[rest] ignores or data.nearest changes, and on placed shapes."""
    pixels = sum(int(one.counts.sum()) for one in looks if one.counts is not None)
    remarks = []
    for name, text in (
        ("rest", "data.ignore=[rest] ignores {}: values that no setting declares"),
        ("repaired", "data.nearest gives {} the nearest declared value"),
    ):
        numbers = [number for one in looks if (number := getattr(one, name))]
        if numbers:
            where = (
                f"{sum(numbers) / pixels:.2%} of the pixels of all masks, in {counted(len(numbers), 'mask')}"
            )
            remarks.append(text.format(where))
    for note in sorted({note for one in looks for note in one.notes}):
        names = [one.sample.id for one in looks if note in one.notes]
        remarks.append(f"{counted(len(names), 'image')}: {note} ({some(names)})")
    return remarks
