"""Class ids of mask files, and the meaning of mask pixels by the settings (MaskCode).

A mask is (H, W) uint8 class ids with IGNORE for ignored pixels. It is read by value or, if `MaskCode.colours`
is given, by RGB colour. A value is a palette index, or a grey value of 1 to 16 bits as stored in the file.
Stored values count also in a TIFF whose white is zero (photometric 0) and in a PGM of any maximal value. A
JPEG or lossy WebP is refused, because its compression invents values, unless `MaskCode` repairs undeclared
values (`threshold`, `nearest`). A GIF whose palette is all grey is read by grey
level: GIF has no other way to store grey, and programs renumber its palette from file to file.

A mask is turned upright, like its image. If only one of the two files has an EXIF orientation, that is a
fault, unless their sizes prove that they agree when upright.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from selftrain.data import headers
from selftrain.data.faults import Fault
from selftrain.data.images import JPEG_SUFFIXES, PICTURES, decode, geometry, to_rgb
from selftrain.data.storage import open_regular
from selftrain.errors import DataError
from selftrain.ids import IGNORE

MASK_SUFFIXES = PICTURES - JPEG_SUFFIXES  # only lossless WebP
MULTIPLIED = {"L;2": 85, "L;4": 17}  # PIL scales 2- and 4-bit grey to 0..255: right for images, wrong for ids
TINT = 16  # most that the channels of a lossy grey pixel differ
SHOWN = 12  # most unknown mask values that a message lists
MOST_VALUES = 256  # most values of a mask that a fault stores
COLOUR_MASKS = "masks are colour masks, but data.colours is empty"  # the cause of a fault


@dataclass(frozen=True)
class MaskCode:
    """The meaning of mask pixels.

    Class k has the value or values values[k], or the colour colours[k] if `colours` is given. With `rest`,
    all undeclared values are ignored; with `nearest`, they become the nearest declared one. With a
    `threshold` above 0, values from it on are class 1, and the others class 0.
    """

    values: tuple[int | tuple[int, ...], ...]
    ignore: tuple[int, ...] = ()
    colours: tuple[tuple[int, int, int], ...] = ()
    ignore_colours: tuple[tuple[int, int, int], ...] = ()
    rest: bool = False
    threshold: int = 0
    nearest: bool = False

    @property
    def takes_lossy(self) -> bool:
        """Whether values that a compression invented are repaired."""
        return self.nearest or self.threshold > 0

    def numbers(self) -> list[tuple[int, ...]]:
        """The values of each class."""
        return [value if isinstance(value, tuple) else (value,) for value in self.values]


@dataclass(frozen=True)
class Mask:
    """The class ids of a mask, and further facts about its file."""

    ids: np.ndarray  # (H, W) uint8
    rest: int = 0  # pixels that are ignored because their value is not declared
    palette: bytes = b""  # RGB of each index, if indices were read as ids and the palette has colours
    used: tuple[int, ...] = ()  # palette indices that occur in the mask, ascending
    repaired: int = 0  # pixels whose value is not declared, and that became the nearest declared one
    notes: tuple[str, ...] = ()  # how shapes of an annotation file were placed, for the report


def read_mask(path: Path, code: MaskCode, *, image: Path | None = None) -> np.ndarray:
    """Class ids (H, W) uint8, 255 ignored.

    Raises DataError(Fault) for a file that cannot be read completely, for pixels that `code` does not declare
    (the message lists their values), for a mask whose size differs from `image`, and for an EXIF orientation
    in only one of the two files.
    """
    return examine_mask(path, code, image=image).ids


def examine_mask(path: Path, code: MaskCode, *, image: Path | None = None) -> Mask:
    """`read_mask`, with further facts about the file."""
    picture = decode(path)
    if not code.takes_lossy and (picture.format in ("JPEG", "MPO") or path.suffix.lower() in JPEG_SUFFIXES):
        raise DataError(jpeg_mask(path))
    if not code.takes_lossy and picture.format == "WEBP" and _is_lossy_webp(path):
        raise DataError(
            replace(jpeg_mask(path), what="is a lossy WebP, whose compression invents mask values")
        )
    if image is not None:
        _check_fits(path, image, picture)
    if code.takes_lossy and not code.colours:
        picture = _without_tint(picture)
    if code.threshold:
        return _ids_by_threshold(path, picture, code.threshold)
    return _ids_by_colour(path, picture, code) if code.colours else _ids_by_value(path, picture, code)


def jpeg_mask(path: Path) -> Fault:
    """The fault of a mask stored as JPEG."""
    remedy = (
        "save masks as PNG from their source; or set data.threshold=128 (two classes, grey masks) "
        "or data.nearest=true (each pixel becomes the nearest declared value or colour)"
    )
    return Fault(str(path), "is a JPEG, whose compression invents mask values", remedy)


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) -> size by the nearest pixel, with centres aligned as in resize_image.

    OpenCV's INTER_NEAREST would be off by half a pixel.
    """
    if mask.shape == size:
        return mask
    return cv2.resize(mask, (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT)


def _check_fits(mask: Path, image: Path, picture: Image.Image) -> None:
    """Raises DataError(Fault) unless the mask `picture` has its image's size and the same orientation."""
    size, orientation = (picture.height, picture.width), picture.info["orientation"]
    other, image_orientation = geometry(image)
    quarter, image_quarter = orientation > 4, image_orientation > 4
    square = other[0] == other[1]
    if size == other and (orientation == image_orientation or (quarter != image_quarter and not square)):
        return
    stored, image_stored = size[:: -1 if quarter else 1], other[:: -1 if image_quarter else 1]
    if stored != image_stored or orientation == image_orientation:
        raise DataError(wrong_size(mask, size, other))
    raise DataError(_one_is_turned(mask, orientation, image, image_orientation, proven=size != other))


def _one_is_turned(
    mask: Path, orientation: int, image: Path, image_orientation: int, *, proven: bool
) -> Fault:
    """The fault of an image and a mask with different EXIF orientations."""
    what = f"has {_turn(orientation)}, but its image {image.name} has {_turn(image_orientation)}"
    if proven:
        reason = "their sizes agree only as stored, so the mask was drawn without that turn"
    else:
        reason = "so it cannot be told which way up the mask was drawn"
    turned = image.name if image_orientation != 1 else mask.name
    remedy = f"if the two agree as stored, run exiftool -Orientation= {turned}"
    if not proven:
        remedy += f"; if they agree upright, save {turned} upright (magick mogrify -auto-orient {turned})"
    return Fault(str(mask), f"{what}: {reason}", remedy)


def _turn(orientation: int) -> str:
    return f"EXIF orientation {orientation}" if orientation != 1 else "no EXIF orientation"


def _is_lossy_webp(path: Path) -> bool:
    with open_regular(path) as file:
        return headers.is_lossy_webp(file)


def wrong_size(mask: Path, size: tuple[int, int], image_size: tuple[int, int]) -> Fault:
    """The fault of a mask whose size (height, width) differs from its image."""
    what = f"is {size[0]}x{size[1]} (height x width), but its image is {image_size[0]}x{image_size[1]}"
    return Fault(str(mask), what, "make the mask again at the image's size, upright")


def _without_tint(picture: Image.Image) -> Image.Image:
    """An RGB picture as grey, if a lossy compression has given grey pixels a little colour."""
    if picture.mode not in ("RGB", "RGBA") or ";16" in picture.info["raw_mode"]:
        return picture
    pixels = np.asarray(picture)[..., :3].astype(np.int16)
    return picture if np.ptp(pixels, axis=2).max() > TINT else picture.convert("L")


def _ids_by_threshold(path: Path, picture: Image.Image, threshold: int) -> Mask:
    """Class 1 where the grey level is at least the threshold, otherwise class 0; 1-bit white is 255."""
    grey = picture.convert("L") if picture.mode in ("1", "P", "PA") else picture
    grey.info |= {"raw_mode": "L"} if grey is not picture else {}
    return Mask((stored_values(path, grey) >= threshold).astype(np.uint8))


def _ids_by_value(path: Path, picture: Image.Image, code: MaskCode) -> Mask:
    raw = stored_values(path, picture)  # (H, W) uint8 or uint16
    table, known = _value_table(code)
    if code.nearest:
        return Mask(table[_nearest_values(code)[raw]], repaired=int(np.count_nonzero(~known[raw])))
    rest = int(np.count_nonzero(~known[raw]))
    if rest and not code.rest:
        values, counts = np.unique(raw[~known[raw]], return_counts=True)
        listed = _listed([str(value) for value in values.tolist()], counts)
        remedy = (
            "declare them in data.values (one for each class; empty: 0, 1, 2, ...) "
            "or in data.ignore (all at once: data.ignore=rest), or mend the mask "
            f"(declared: {_brief(code.values)}; ignored: {_brief(code.ignore)})"
        )
        what = f"has mask values that are not declared: {listed}"
        raise DataError(Fault(str(path), what, remedy, values=_distinct(raw)))
    palette = stored_palette(picture)
    used = tuple(np.flatnonzero(np.bincount(raw.ravel())).tolist()) if palette else ()
    if _is_grey(palette) and all(palette[3 * index] == index for index in used):
        return Mask(table[raw], rest)
    return Mask(table[raw], rest, palette, used)


def stored_palette(picture: Image.Image) -> bytes:
    """RGB of each index that was read as an id; b"" if there is no palette or grey levels were read."""
    if picture.mode not in ("P", "PA"):
        return b""
    palette = bytes(picture.getpalette("RGB") or b"")
    return b"" if picture.format == "GIF" and _is_grey(palette) else palette.ljust(768, b"\0")


def _is_grey(palette: bytes) -> bool:
    return palette[0::3] == palette[1::3] == palette[2::3]


def stored_values(path: Path, picture: Image.Image) -> np.ndarray:
    """Grey values or palette indices (H, W), uint8 or uint16."""
    pixels = np.asarray(picture)
    maximum = picture.info["maximum"]
    if picture.format == "PPM" and picture.mode == "1":
        what = "is a bitmap (PBM), of which programs disagree whether black is 1"
        raise DataError(Fault(str(path), what, "save it as PGM or PNG"))
    if maximum not in (0, 255, 0xFFFF):  # PIL has scaled the stored values
        pixels = np.rint(pixels * (maximum / (0xFFFF if picture.mode == "I" else 255))).astype(np.uint16)
    if picture.mode == "P" and picture.format == "GIF" and not stored_palette(picture):
        levels = np.array((picture.getpalette("RGB") or [])[::3], np.uint8)
        return levels[pixels]
    if picture.mode in ("1", "L", "P"):
        pixels = ~pixels if picture.info["inverted"] else pixels
        return pixels.astype(np.uint8) // np.uint8(MULTIPLIED.get(picture.info["raw_mode"].rstrip("I"), 1))
    if picture.mode == "PA" or (picture.mode == "LA" and ";16" not in picture.info["raw_mode"]):
        return pixels[..., 0]
    if picture.mode.startswith("I;16"):
        return pixels.astype(np.uint16)
    if picture.mode == "I" and pixels.min() >= 0 and pixels.max() <= 0xFFFF:
        return pixels.astype(np.uint16)
    if picture.mode not in ("LA", "RGB", "RGBA"):
        what = f"has pixels of mode {picture.mode}, which masks cannot have"
        raise DataError(Fault(str(path), what, "save it as 8- or 16-bit grey, palette or RGB"))
    if ";16" in picture.info["raw_mode"]:  # PIL gives the high bytes: 0 for every id below 256
        raise DataError(
            Fault(str(path), "has 16 bits in each of several channels", "save it as 8- or 16-bit grey")
        )
    if (pixels[..., :1] == pixels[..., 1:3]).all():
        return pixels[..., 0]  # grey, stored as RGB
    colours, counts = np.unique(_packed(pixels), return_counts=True)
    what = (
        f"is a colour mask, but data.colours is empty; its colours: {_listed(_hex_to_rgb(colours), counts)}"
    )
    remedy = "give data.colours the [red, green, blue] of each class of data.classes, in order"
    raise DataError(Fault(str(path), what, remedy, cause=COLOUR_MASKS, values=_distinct(colours)))


def _ids_by_colour(path: Path, picture: Image.Image, code: MaskCode) -> Mask:
    if picture.mode.startswith("I") or picture.mode == "F":
        what = "has more than 8 bits a pixel, but data.colours asks for RGB"
        raise DataError(Fault(str(path), what, "save it as RGB, or use data.values"))
    if picture.mode in ("P", "PA", "LA"):
        picture = picture.convert("RGBA")
    packed = _packed(np.asarray(to_rgb(path, picture)))
    colours, ids = _colour_table(code)
    place = np.minimum(np.searchsorted(colours, packed), len(colours) - 1)  # (H, W)
    unknown = colours[place] != packed
    if code.nearest:
        place[unknown] = _nearest_colours(packed[unknown], colours)
        return Mask(ids[place], repaired=int(np.count_nonzero(unknown)))
    if unknown.any() and not code.rest:
        others, counts = np.unique(packed[unknown], return_counts=True)
        what = f"has colours that are not declared: {_listed(_hex_to_rgb(others), counts)}"
        remedy = (
            "declare them in data.colours (one for each class, in order) or data.ignore_colours, "
            "or mend the mask"
        )
        raise DataError(Fault(str(path), what, remedy, values=_distinct(packed)))
    return Mask(np.where(unknown, np.uint8(IGNORE), ids[place]), int(np.count_nonzero(unknown)))


@lru_cache(maxsize=8)
def _value_table(code: MaskCode) -> tuple[np.ndarray, np.ndarray]:
    """Class id (65536,) uint8 of each 16-bit value, and a mask (65536,) bool of the declared values."""
    table, known = np.full(1 << 16, IGNORE, np.uint8), np.zeros(1 << 16, bool)
    known[list(code.ignore)] = True
    for number, values in enumerate(code.numbers()):
        known[list(values)] = True
        table[list(values)] = number
    return table, known


@lru_cache(maxsize=8)
def _nearest_values(code: MaskCode) -> np.ndarray:
    """The nearest declared value (65536,) of each 16-bit value; of two, the lower one."""
    declared = np.array(sorted({*code.ignore, *(one for values in code.numbers() for one in values)}))
    ends = (declared[1:] + declared[:-1] + 1) / 2  # the first value that is nearer to the next declared one
    return declared[np.searchsorted(ends, np.arange(1 << 16), side="right")]


def _nearest_colours(packed: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """The places in `colours` (K,) that are nearest to colours (N,) in RGB, all packed as 0xRRGGBB."""
    found, where = np.unique(packed, return_inverse=True)
    one, other = (
        np.stack([of >> 16, of >> 8 & 255, of & 255], axis=1).astype(np.int64) for of in (found, colours)
    )
    return ((one[:, None] - other[None]) ** 2).sum(axis=2).argmin(axis=1)[where.reshape(-1)]


@lru_cache(maxsize=8)
def _colour_table(code: MaskCode) -> tuple[np.ndarray, np.ndarray]:
    """The declared colours, packed and ascending, and the class id of each."""
    packed = _packed(np.array(code.colours + code.ignore_colours, np.uint8)[None])[0]
    ids = np.array([*range(len(code.colours)), *[IGNORE] * len(code.ignore_colours)], np.uint8)
    order = np.argsort(packed)
    return packed[order], ids[order]


def _packed(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3 or 4) uint8 -> (H, W) uint32, 0xRRGGBB."""
    red, green, blue = (pixels[..., channel].astype(np.uint32) for channel in range(3))
    return red << 16 | green << 8 | blue


def _hex_to_rgb(packed: np.ndarray) -> list[str]:
    return [f"[{value >> 16}, {value >> 8 & 255}, {value & 255}]" for value in packed.tolist()]


def _listed(names: list[str], counts: np.ndarray) -> str:
    """Values with their counts, most frequent first: "3 (120 pixels), 7 (1 pixel)"."""
    order = np.argsort(-counts, kind="stable")[:SHOWN]
    shown = [f"{names[i]} ({counts[i]} pixel{'s' if counts[i] > 1 else ''})" for i in order]
    more = [f"and {len(names) - SHOWN} more"] if len(names) > SHOWN else []
    return ", ".join(shown + more)


def _distinct(pixels: np.ndarray) -> tuple[int, ...]:
    return tuple(np.unique(pixels)[:MOST_VALUES].tolist())


def _brief(values: tuple[int | tuple[int, ...], ...]) -> str:
    shown = [str(list(value) if isinstance(value, tuple) else value) for value in values[:SHOWN]]
    return ", ".join(shown + ["..."] * (len(values) > SHOWN)) or "none"
