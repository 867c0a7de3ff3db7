"""What the values or colours of masks mean: class ids, grey values, palettes, colours, or soft edges."""

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from selftrain.data.coding import MAX_CLASSES
from selftrain.data.images import decode, to_rgb
from selftrain.data.masks import stored_palette, stored_values
from selftrain.errors import DataError
from selftrain.inspection.pictures import Picture, some

READ = 2000  # most masks that are read
READERS = 4  # threads
MANY = 32  # values; with more, edges may be soft
EXTREME = 0.1  # share of the range of values at each end that counts as black or white
EXTREMES = 0.8  # least share of black and white pixels in masks with soft edges
EVEN = 1 / 16  # share of the range by which neighbours in an even area may differ, in JPEGs
SOFT = 0.5  # most share of the other pixels that equal both neighbours, in masks with soft edges
NEAR, BLUR = 32, 96  # distance of values that are one value in a JPEG, and of values that may be its blur
BLURRED, MUCH = 0.004, 15  # least share of a class in JPEGs; its blur is less frequent by this factor
SMALL = 32  # side to which masks are reduced to compare them
SAME = 0.9  # overlap (IoU) of masks that show the frame rather than objects
NO_CLASS = 255  # by convention, beside ids that are clearly smaller
FAR_BELOW = 64


@dataclass(frozen=True)
class Content:
    """The values of one mask, or its colours as 0xRRGGBB, with their pixels."""

    counts: dict[int, int]
    by_colour: bool
    palette: dict[int, int] = field(default_factory=dict)  # colours of used indices
    lone: int = 0  # pixels that are neither black nor white, and differ from a neighbour
    small: bytes = b""  # the mask at SMALL x SMALL, black or not


@dataclass(frozen=True)
class Survey:
    """The values of many masks together."""

    counts: Counter[int]
    masks: Counter[int]  # masks with each value
    by_colour: bool
    read: int
    of: int  # masks, of which `read` were read
    palette: dict[int, int]  # empty if there is none
    palettes_differ: bool
    soft: bool  # black and white with edges in between
    jpeg: bool
    same: bool  # the masks are nearly equal
    unread: int  # masks that could not be read

    @property
    def values(self) -> list[int]:
        return sorted(self.counts)

    @property
    def top(self) -> int:
        """White, for masks with soft edges."""
        return 0xFFFF if max(self.counts, default=0) > 255 else 255

    def share(self, value: int) -> float:
        return self.counts[value] / max(1, self.counts.total())

    @property
    def form(self) -> str:
        """What the masks contain, in a few words."""
        count = len(self.counts)
        noun = "colours" if self.by_colour else "palette indices" if self.palette else "values"
        if self.soft:
            return f"black and white with {count - 2} values in between"
        listed = "" if self.by_colour or count > 12 else f": {', '.join(map(str, self.values))}"
        return f"{count} {noun}{listed}" + (" in JPEGs" if self.jpeg else "")


def survey(masks: Sequence[Picture], most: int = READ) -> Survey:
    """Read up to `most` of the masks, evenly spread. Raises DataError if none can be read."""
    chosen = some(masks, most)
    with ThreadPoolExecutor(READERS) as pool:
        contents = list(pool.map(_content, chosen))
    read = [content for content in contents if content]
    if not read:
        raise DataError(f"{chosen[0].path}: no mask of its kind can be read; selftrain verify says why")
    by_colour = any(content.by_colour for content in read)
    counts, masks_with = Counter[int](), Counter[int]()
    palette, differ = dict[int, int](), False
    for content in read:
        found = _as_colours(content) if by_colour else content.counts
        counts.update(found)
        masks_with.update(found.keys())
        differ |= any(
            palette.setdefault(index, colour) != colour for index, colour in content.palette.items()
        )
    differ |= len(set(palette.values())) < len(palette)
    if differ and not by_colour and all(content.palette for content in read):
        coloured = [replace(content, counts=_as_colours(content), by_colour=True) for content in read]
        counts = sum((Counter(content.counts) for content in coloured), Counter[int]())
        masks_with = Counter(value for content in coloured for value in content.counts)
        by_colour, palette = True, {}
    return Survey(
        counts,
        masks_with,
        by_colour,
        len(read),
        len(masks),
        {} if by_colour else palette,
        differ,
        soft=not by_colour and _is_soft(counts, sum(content.lone for content in read)),
        jpeg=any(picture.is_jpeg for picture in chosen),
        same=_are_same([content.small for content in read]),
        unread=len(contents) - len(read),
    )


def _content(mask: Picture) -> Content | None:
    """The content of a mask; None if it cannot be read."""
    try:
        picture = decode(mask.path)
        values = _values(mask, picture)
        by_colour = values is None
        if values is None:
            if picture.mode in ("P", "PA", "LA"):
                picture = picture.convert("RGBA")
            values = packed(np.asarray(to_rgb(mask.path, picture)))
    except DataError:
        return None
    found, counts = np.unique(values, return_counts=True)
    palette = dict[int, int]()
    if not by_colour:
        colours = stored_palette(picture)
        palette = {index: int.from_bytes(colours[3 * index : 3 * index + 3]) for index in found.tolist()}
        palette = palette if colours and any(_not_grey(i, c) for i, c in palette.items()) else {}
    counted = dict(zip(found.tolist(), counts.tolist(), strict=True))
    small = cv2.resize((values > 0).astype(np.uint8), (SMALL, SMALL), interpolation=cv2.INTER_NEAREST)
    return Content(counted, by_colour, palette, 0 if by_colour else _lone(values), small.tobytes())


def _not_grey(index: int, colour: int) -> bool:
    return colour != index * 0x010101


def _values(mask: Picture, picture: object) -> np.ndarray | None:
    """The stored values (H, W); None for colours."""
    try:
        return stored_values(mask.path, picture)  # type: ignore[arg-type]
    except DataError as error:
        if getattr(error.args[0], "values", ()):
            return None
        raise


def packed(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3 or 4) uint8 -> (H, W) uint32, 0xRRGGBB."""
    red, green, blue = (pixels[..., channel].astype(np.uint32) for channel in range(3))
    return red << 16 | green << 8 | blue


def _lone(values: np.ndarray) -> int:
    """Pixels between black and white that clearly differ from the pixel to their left or right."""
    top = 0xFFFF if values.max(initial=0) > 255 else 255
    between = (values > EXTREME * top) & (values < (1 - EXTREME) * top)
    unequal = np.abs(np.diff(values.astype(np.int32), axis=1)) > EVEN * top
    edge = np.zeros(values.shape, bool)
    edge[:, 1:] |= unequal
    edge[:, :-1] |= unequal
    return int(np.count_nonzero(between & edge))


def _as_colours(content: Content) -> dict[int, int]:
    """The counts by colour: grey values and palette indices are converted."""
    if content.by_colour:
        return content.counts
    found = Counter[int]()
    for value, count in content.counts.items():
        found[content.palette.get(value, min(value, 255) * 0x010101)] += count
    return dict(found)


def _is_soft(counts: Counter[int], lone: int) -> bool:
    """Whether black and white cover most pixels, and values in between occur at edges only."""
    if len(counts) < 3:
        return False
    top = 0xFFFF if max(counts) > 255 else 255
    low, high = EXTREME * top, (1 - EXTREME) * top
    between = sum(count for value, count in counts.items() if low < value < high)
    white = sum(count for value, count in counts.items() if value >= high)
    spread = len(counts) > MANY or (0 in counts and top in counts and len(counts) > 8)
    ends = counts.total() - between
    return bool(white) and spread and ends >= EXTREMES * counts.total() and lone >= (1 - SOFT) * between


def _are_same(small: Sequence[bytes]) -> bool:
    """Whether masks hardly differ from the usual one: they show a frame or a region, and no objects."""
    if len(small) < 3:
        return False
    stack = np.stack([np.frombuffer(one, np.uint8) > 0 for one in small])
    usual = stack.mean(axis=0) > 0.5
    common, either = (stack & usual).sum(axis=1), (stack | usual).sum(axis=1)
    return not usual.all() and bool((common / np.maximum(either, 1)).mean() >= SAME)


@dataclass(frozen=True)
class Coding:
    """The classes of masks: a value (or a colour as 0xRRGGBB) for each, and the values without a class."""

    values: list[int]
    ignore: list[int]
    by_colour: bool = False
    threshold: int = 0
    nearest: bool = False

    def settings(self) -> dict[str, object]:
        """The settings of data that describe the masks."""
        if self.threshold:
            return {"threshold": self.threshold}
        more: dict[str, object] = {"nearest": True} if self.nearest else {}
        if self.by_colour:
            colours: dict[str, object] = {"colours": [list(rgb(one)) for one in self.values]}
            return colours | {"ignore_colours": [list(rgb(one)) for one in self.ignore]} | more
        plain = self.values == list(range(len(self.values)))
        return ({} if plain else {"values": list(self.values)}) | {"ignore": list(self.ignore)} | more

    def without(self, gone: Iterable[int]) -> "Coding":
        """The coding with some classes turned into ignored values."""
        gone = set(gone)
        kept = [value for value in self.values if value not in gone]
        return replace(self, values=kept, ignore=sorted({*self.ignore, *gone}))


def codings(found: Survey) -> list[tuple[str, Coding]]:
    """The ways in which the masks can be read, the most likely first, each with its description.

    Raises DataError if they contain too few or too many values.
    """
    values = found.values
    if found.soft:
        middle = (found.top + 1) // 2
        return [(f"two classes, divided at {middle}", Coding([0, found.top], [], threshold=middle))]
    if found.jpeg:
        coding = _coding_of_jpegs(found)
        listed = ", ".join(shown_value(value, coding) for value in coding.values)
        return [(f"each pixel has the nearest value of {listed}", coding)]
    if len(values) < 2:
        raise DataError(f"all masks have the value {_shown(values[0], found.by_colour)} only")
    if len(values) > MAX_CLASSES + 1:
        noun = "colours" if found.by_colour else "values"
        raise DataError(
            f"the masks have {len(values):,} different {noun}, which are not classes: objects with a number "
            "each, or soft edges; give masks with one value a class"
        )
    if found.by_colour:
        return [("one class for each colour", Coding(values, [], by_colour=True))]
    others = [value for value in values if value != NO_CLASS]
    if NO_CLASS in values and len(others) >= 2:
        ids = others == list(range(len(others))) or found.palette
        ways = [
            (f"{NO_CLASS} is ignored (the usual meaning)", Coding(others, [NO_CLASS])),
            (f"{NO_CLASS} is a class", Coding(values, [])),
        ]
        return ways if ids or max(others) < FAR_BELOW else ways[::-1]
    return [("one class for each value", Coding(values, []))]


def _coding_of_jpegs(found: Survey) -> Coding:
    """The coding of JPEG masks of several values: frequent values, to which the others are nearest.

    A frequent value takes all values near to it. What remains is a class if it is frequent as well, and no
    blur of a much more frequent one. Raises DataError if no few values stand out.
    """
    left = dict(sorted(found.counts.items(), key=lambda entry: -entry[1]))
    masses = dict[int, int]()
    while left and len(masses) < MANY:
        peak = next(iter(left))
        near = [value for value in left if _distance(value, peak, found.by_colour) <= NEAR]
        masses[peak] = sum(left.pop(value) for value in near)
    least = BLURRED * found.counts.total()
    kept = [
        value
        for value, mass in masses.items()
        if mass >= least
        and not any(
            mass * MUCH < other_mass and _distance(value, other, found.by_colour) <= BLUR
            for other, other_mass in masses.items()
        )
    ]
    if len(kept) < 2:
        raise DataError(
            "the masks are JPEGs whose compression has mixed their values; save them as PNG from their source"
        )
    return Coding(sorted(kept), [], by_colour=found.by_colour, nearest=True)


def share_of(value: int, found: Survey, coding: Coding) -> float:
    """The share of the pixels that a value of the coding gets."""
    if not coding.nearest:
        return found.share(value)
    mine = [
        count
        for other, count in found.counts.items()
        if min(coding.values, key=lambda one: _distance(one, other, found.by_colour)) == value
    ]
    return sum(mine) / found.counts.total()


def _distance(one: int, other: int, by_colour: bool) -> int:
    if not by_colour:
        return abs(one - other)
    return max(abs(a - b) for a, b in zip(rgb(one), rgb(other), strict=True))


def rgb(colour: int) -> tuple[int, int, int]:
    """0xRRGGBB -> (red, green, blue)."""
    return colour >> 16, colour >> 8 & 255, colour & 255


def _shown(value: int, by_colour: bool) -> str:
    return str(list(rgb(value))) if by_colour else str(value)


def shown_value(value: int, coding: Coding) -> str:
    """A value, or a colour in brackets."""
    return _shown(value, coding.by_colour)
