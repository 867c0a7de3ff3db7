"""Reading images and masks: one function each, one convention for training, verifying and predicting.

An image is (H, W, 3) uint8 RGB:

* upright: the EXIF orientation is applied (to masks too); where only one of an image and its mask has one, that is a
  fault, unless their sizes prove that they agree when upright;
* 16-bit samples keep their high byte (value >> 8), or are scaled by the range that the caller gives (data/levels.py);
  32-bit and float pixels are refused;
* transparency is dropped and the stored colours are kept, as OpenCV and PIL's `convert("RGB")` do;
* palette, 1-bit, grey and CMYK pixels become RGB by PIL's conversion; colour profiles are not applied;
* of a phone's multi-picture JPEG (MPO) the first picture counts; other files of several frames are refused.

A mask is (H, W) uint8 class ids with 255 for ignored. It is read by value (grey of 1 to 16 bits as the numbers that
the file holds, palette index) or, where `MaskCode.colours` is given, by RGB colour. A JPEG or lossy WebP is no mask:
its compression invents values. The numbers of the file are the ids also in a TIFF whose white is zero (photometric 0)
and in a PGM of any maximal value. A GIF whose palette is all grey is read by grey level: GIF has no other way to store
grey, and programs renumber its palette from file to file.

Only regular files are opened, and a picture beyond MAX_PIXELS is refused by its header, before it is decoded.
"""

import os
import stat
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from io import BufferedReader
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from selftrain.data import headers
from selftrain.errors import DataError

IGNORE = 255
MASK_SUFFIXES = {".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".pgm", ".ppm", ".pnm"}  # WebP: lossless ones
IMAGE_SUFFIXES = MASK_SUFFIXES | {".jpg", ".jpeg"}
Result = TypeVar("Result")
Levels = tuple[int, int]  # the 16-bit values that become 0 and 255
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "PPM")  # JPEG includes MPO
READ = ("PNG", "JPEG", "BMP", "TIFF", "WebP", "GIF")  # FORMATS by the names of headers.kind_of
MAX_PIXELS = 89_478_485  # PIL's own limit: 256 MiB of RGB. 12000 x 12000 zeros fit in a file of 17 kB
MULTIPLIED = {"L;2": 85, "L;4": 17}  # PIL brings 2- and 4-bit grey to 0..255: right for images, wrong for ids
PHOTOMETRIC = 262  # TIFF's tag of what grey values mean
PLANAR = 284  # TIFF's tag of whether bands are stored one after the other (2)
SHOWN = 12  # unknown mask values that a message lists
MOST_VALUES = 256  # of a mask, that a fault keeps
COLOUR_MASKS = "masks are colour masks, but data.colours is empty"  # the cause of a fault
# PIL keeps the high bytes of 16-bit channels. Told that the bytes stand in the other order, it keeps the low ones; of
# grey with alpha, read as four channels of 8 bits, the second holds them.
GREY_ALPHA = "LA;16B"
SWAPPED = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
OTHER_BYTES = {f"{name};16{a}": f"{name};16{b}" for name in ("RGB", "RGBA", "RGBX") for a, b in SWAPPED.items()}
OTHER_BYTES[GREY_ALPHA] = "RGBA"

# What PIL warns of is refused here, with the file's name.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@dataclass(frozen=True)
class Fault:
    """What is wrong with one file and the way out; the argument of the DataErrors raised here.

    `cause` is what the files of equal faults have in common, to be read after their number ("masks have no image").
    `values` are the grey values of a mask that has undeclared ones, or its colours as 0xRRGGBB; at most MOST_VALUES.
    """

    file: str
    what: str
    remedy: str
    cause: str = ""
    values: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{self.file}: {self.what}; {self.remedy}"


@dataclass(frozen=True)
class MaskCode:
    """What the pixels of a mask mean.

    Class k is values[k], one number or several, or the colour colours[k] where there are colours. With `rest`,
    whatever is not declared is ignored.
    """

    values: tuple[int | tuple[int, ...], ...]
    ignore: tuple[int, ...] = ()
    colours: tuple[tuple[int, int, int], ...] = ()
    ignore_colours: tuple[tuple[int, int, int], ...] = ()
    rest: bool = False

    def numbers(self) -> list[tuple[int, ...]]:
        """The values of each class."""
        return [value if isinstance(value, tuple) else (value,) for value in self.values]


@dataclass(frozen=True)
class MaskFile:
    """A mask, and what of its file the ids do not show."""

    ids: np.ndarray  # (H, W) uint8
    rest: int = 0  # pixels that are ignored because nothing declares their value
    palette: bytes = b""  # RGB of each index, where indices were read as ids and the palette shows colours
    used: tuple[int, ...] = ()  # indices of the palette that the mask uses, ascending


def read_image(path: Path, levels: Levels | None = None) -> np.ndarray:
    """The image (H, W, 3) uint8 RGB; 16-bit samples scaled so that `levels` become 0 and 255 (None: high bytes).

    Raises DataError(Fault) for a file that cannot be read whole.
    """
    picture = _decode(path)
    if levels is None or not _is_deep(picture):
        return _rgb(path, picture)
    return _table_of_levels(levels)[_deep(path, picture)]


def read_stored(path: Path, *, scaled: bool = False) -> np.ndarray:
    """The image (H, W, 3) with the samples of its file: uint16 of 16-bit grey and RGB, else uint8.

    Raises DataError(Fault) as read_image does; with `scaled`, also for what it refuses where it is given levels.
    """
    picture = _decode(path)
    whole = scaled or picture.mode.startswith("I;16") or picture.info["raw_mode"] in OTHER_BYTES
    return _deep(path, picture) if whole and _is_deep(picture) else _rgb(path, picture)


def read_mask(path: Path, code: MaskCode, *, image: Path | None = None) -> np.ndarray:
    """Class ids (H, W) uint8, 255 ignored.

    Raises DataError(Fault) for a file that cannot be read whole, for pixels that `code` does not know (all of them
    named), for another size than that of `image`, and for an EXIF orientation that only one of the two files has.
    """
    return read_mask_file(path, code, image=image).ids


def read_mask_file(path: Path, code: MaskCode, *, image: Path | None = None) -> MaskFile:
    """`read_mask`, with what the file tells beyond the ids."""
    picture = _decode(path)
    if picture.format in ("JPEG", "MPO") or path.suffix.lower() in (".jpg", ".jpeg"):
        raise DataError(jpeg_mask(path))
    if picture.format == "WEBP" and _is_lossy_webp(path):
        raise DataError(replace(jpeg_mask(path), what="is a lossy WebP, whose compression invents mask values"))
    if image is not None:
        _check_fits(path, image, picture)
    return _ids_by_colour(path, picture, code) if code.colours else _ids_by_value(path, picture, code)


def jpeg_mask(path: Path) -> Fault:
    """The fault of a mask stored as JPEG."""
    return Fault(str(path), "is a JPEG, whose compression invents mask values", "save masks as PNG from their source")


def _rgb(path: Path, picture: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8; of 16-bit samples the high bytes."""
    if picture.mode.startswith("I;16"):
        grey = (np.asarray(picture).astype(np.uint16) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)  # (H, W, 3)
    if picture.info["maximum"] > 255:
        raise DataError(Fault(str(path), "is a PNM of more than 8 bits a sample", "save it as 16-bit PNG or TIFF"))
    if picture.mode in ("I", "F"):
        bits = "signed 16-bit" if ";16" in picture.info["raw_mode"] else "32-bit"
        raise DataError(Fault(str(path), f"has {bits} pixels", "save it with 8 or 16 bits a channel, unsigned"))
    if picture.mode in ("P", "PA", "LA", "La", "RGBa"):
        picture = picture.convert("RGBA")  # PIL converts palettes with transparency by way of RGBA only
    return np.array(_convert(path, picture))


def _is_deep(picture: Image.Image) -> bool:
    """Whether the file has 16 bits a sample (12 in some TIFFs). Raw mode BGR;16 is a BMP of 16 bits a pixel."""
    raw_mode = picture.info["raw_mode"]
    return picture.mode.startswith("I;16") or (";16" in raw_mode and not raw_mode.startswith("BGR"))


def _deep(path: Path, picture: Image.Image) -> np.ndarray:
    """All bits of the samples, (H, W, 3) uint16. PIL has no 16-bit RGB: the low bytes are decoded apart."""
    if picture.mode.startswith("I;16"):
        return np.repeat(np.asarray(picture).astype(np.uint16)[..., None], 3, axis=2)
    if picture.info["raw_mode"] not in OTHER_BYTES:
        what = f"has 16 bits in each channel of {picture.info['raw_mode'].split(';')[0]}, which data.range cannot scale"
        raise DataError(Fault(str(path), what, "save it as 16-bit RGB or grey"))
    high, low = (np.asarray(one).astype(np.uint16) for one in (picture, _decode(path, low=True)))
    lows = [1, 1, 1] if picture.info["raw_mode"] == GREY_ALPHA else [0, 1, 2]
    return high[..., :3] << 8 | low[..., lows]


@lru_cache(maxsize=8)
def _table_of_levels(levels: Levels) -> np.ndarray:
    """What each 16-bit value becomes, (65536,) uint8."""
    low, high = levels
    scaled = (np.arange(1 << 16) - low) * (255 / (high - low))
    return scaled.round().clip(0, 255).astype(np.uint8)


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) -> (*size, 3); areas are averaged where both sides shrink, else bilinear."""
    height, width = size
    if image.shape[:2] == size:
        return image
    shrinks = height <= image.shape[0] and width <= image.shape[1]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) -> size by the nearest pixel, centres aligned as in resize_image (INTER_NEAREST is half a pixel off)."""
    if mask.shape == size:
        return mask
    return cv2.resize(mask, (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT)


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file; raises DataError(Fault) for anything else (a FIFO would hang, a device might act)."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise DataError(Fault(str(path), "is no regular file", "remove it"))
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        what = f"cannot be opened ({error.strerror})"
        raise DataError(Fault(str(path), what, "restore it or its permissions")) from error
    file = os.fdopen(descriptor, "rb")
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_size > 0:
        return file
    file.close()
    what = "is empty (0 bytes)" if stat.S_ISREG(status.st_mode) else "is no regular file"
    raise DataError(Fault(str(path), what, "replace or remove it"))


def _decode(path: Path, *, low: bool = False) -> Image.Image:
    """The whole picture, upright. With `low`, of 16-bit channels the low bytes in place of the high ones.

    Its `info` gets "raw_mode", "inverted" (whether PIL inverted the grey values), "orientation" (EXIF, 1 to 8, as the
    file has it) and "maximum" (the largest value of a PNM, 0 for other formats).
    """

    def whole(picture: Image.Image) -> Image.Image:
        """Decoded and turned upright."""
        if low:
            picture.tile = [_of_low_bytes(tile) for tile in picture.tile]  # type: ignore[attr-defined]
        tiles = getattr(picture, "tile", [])
        raw_mode = tiles[0].args if tiles else ""
        white_is_zero = picture.format == "TIFF" and picture.tag_v2.get(PHOTOMETRIC) == 0  # type: ignore[attr-defined]
        turns_itself, maximum = picture.format == "TIFF", _pnm_maximum(picture)
        before = _orientation(picture) if turns_itself else 1
        picture.load()
        picture.info["orientation"] = before if turns_itself else _orientation(picture)
        ImageOps.exif_transpose(picture, in_place=True)
        picture.info["raw_mode"] = str(raw_mode[0] if isinstance(raw_mode, tuple) else raw_mode)
        picture.info["inverted"] = white_is_zero and picture.mode in ("1", "L")
        picture.info["maximum"] = maximum
        return picture

    return _with_picture(path, whole)


def _of_low_bytes(tile: Any) -> Any:
    """A tile of 16-bit channels that PIL decodes to the low bytes of the samples."""
    if isinstance(tile.args, str):
        return tile._replace(args=OTHER_BYTES[tile.args])
    raw_mode, *more = tile.args
    return tile._replace(args=(OTHER_BYTES[raw_mode], *more))


def _orientation(picture: Image.Image) -> int:
    """EXIF's orientation, 1 to 8, as far as it is read by now: in a PNG, it may follow the pixels."""
    # The method of the base class: PNG's own would decode the picture.
    found = picture.getexif() if picture.format == "TIFF" else Image.Image.getexif(picture)
    orientation = found.get(ExifTags.Base.Orientation, 1)
    return orientation if orientation in range(1, 9) else 1


def _pnm_maximum(picture: Image.Image) -> int:
    """The value of white in a PNM that is not yet decoded, by which PIL scales; 0 for other formats."""
    if picture.format != "PPM" or picture.mode in ("1", "F"):
        return 0
    arguments = picture.tile[0].args  # type: ignore[attr-defined]
    return arguments[1] if isinstance(arguments, tuple) else {"I;16B": 0xFFFF}.get(arguments, 255)


def _check_fits(mask: Path, image: Path, picture: Image.Image) -> None:
    """Raises DataError(Fault) unless the mask `picture` has its image's size and lies on it the same way up."""
    size, orientation = (picture.height, picture.width), picture.info["orientation"]
    other, image_orientation = _geometry(image)
    quarter, image_quarter = orientation > 4, image_orientation > 4
    square = other[0] == other[1]
    if size == other and (orientation == image_orientation or (quarter != image_quarter and not square)):
        return
    stored, image_stored = size[:: -1 if quarter else 1], other[:: -1 if image_quarter else 1]
    if stored != image_stored or orientation == image_orientation:
        raise DataError(wrong_size(mask, size, other))
    raise DataError(_one_is_turned(mask, orientation, image, image_orientation, proven=size != other))


def _one_is_turned(mask: Path, orientation: int, image: Path, image_orientation: int, *, proven: bool) -> Fault:
    """The fault of an image and a mask whose EXIF turns them differently."""
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


def _geometry(path: Path) -> tuple[tuple[int, int], int]:
    """(height, width) upright, and the EXIF orientation; decodes only a PNG that may tell it behind its pixels."""

    def of_header(picture: Image.Image) -> tuple[tuple[int, int], int]:
        orientation = _orientation(picture)
        turned = orientation > 4 and picture.format != "TIFF"  # TIFF has turned `size` already
        return (picture.size if turned else (picture.height, picture.width)), orientation

    with open_regular(path) as file:
        late = headers.has_late_metadata(file)
    if not late:
        return _with_picture(path, of_header)
    upright = _decode(path)
    return (upright.height, upright.width), upright.info["orientation"]


def _is_lossy_webp(path: Path) -> bool:
    with open_regular(path) as file:
        return headers.is_lossy_webp(file)


def wrong_size(mask: Path, size: tuple[int, int], image_size: tuple[int, int]) -> Fault:
    """The fault of a mask whose (height, width) is not that of its image."""
    what = f"is {size[0]}x{size[1]} (height x width), but its image is {image_size[0]}x{image_size[1]}"
    return Fault(str(mask), what, "make the mask again at the image's size, upright")


def _with_picture(path: Path, use: Callable[[Image.Image], Result]) -> Result:
    """use(the opened picture), with every complaint of a decoder as a DataError(Fault) that names the file."""
    with open_regular(path) as file:
        try:
            with Image.open(file, formats=FORMATS) as picture:
                _refuse_by_header(path, picture)
                return use(picture)
        except (DataError, MemoryError):
            raise
        except Image.DecompressionBombError as error:
            raise DataError(_too_large(path, "more than twice the limit")) from error
        except UnidentifiedImageError as error:
            raise DataError(_unidentified(path)) from error
        except Exception as error:  # decoders raise what they like on broken bytes
            what = f"cannot be decoded ({' '.join(str(error).split()) or type(error).__name__})"
            raise DataError(Fault(str(path), what, "it is damaged or incomplete: replace or remove it")) from error


def _unidentified(path: Path) -> Fault:
    """The fault of a file that no decoder takes, by what its first bytes say that it is."""
    with open_regular(path) as file:
        kind = headers.kind_of(file)
        layout = headers.tiff_layout(file) if kind == "TIFF" else ""
    if layout:
        what = f"is a TIFF of {layout}, which cannot be read"
        return Fault(str(path), what, "save it as 8- or 16-bit RGB or grey")
    if kind in READ:
        return Fault(str(path), f"is a {kind} whose header is damaged or unusual", "save it again as PNG, or remove it")
    what = f"is no {', '.join(READ)} or PNM picture{f' but {kind}' if kind else ''}, whatever its name says"
    remedy = "fetch the file itself (git lfs pull)" if kind == "Git LFS pointer" else "replace or remove it"
    return Fault(str(path), what, "save it as PNG, or remove it" if kind in headers.CONVERTIBLE else remedy)


def _refuse_by_header(path: Path, picture: Image.Image) -> None:
    if picture.width * picture.height > MAX_PIXELS:
        raise DataError(_too_large(path, f"{picture.width}x{picture.height} pixels"))
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format != "MPO":
        raise DataError(Fault(str(path), f"holds {frames} frames", "save the frames that are wanted as separate files"))
    # PIL takes the bytes of such samples for samples
    tiles = getattr(picture, "tile", [])
    tags: Any = getattr(picture, "tag_v2", {})
    bits = max(tags.get(headers.BITS, (8,)))
    if picture.format == "TIFF" and tags.get(PLANAR) == 2 and bits > 8 and tiles[0].codec_name == "raw":
        what = f"is a TIFF of {bits}-bit bands stored one after the other, which cannot be read"
        raise DataError(Fault(str(path), what, "save it pixel by pixel (planar configuration 1), or compressed"))


def _too_large(path: Path, size: str) -> Fault:
    return Fault(str(path), f"is too large to decode ({size}; the limit is {MAX_PIXELS})", "cut it into tiles")


def _convert(path: Path, picture: Image.Image) -> Image.Image:
    try:
        return picture if picture.mode == "RGB" else picture.convert("RGB")
    except ValueError as error:
        raise DataError(Fault(str(path), f"has pixels of mode {picture.mode}", "save it as RGB or grey")) from error


# --- masks


def _ids_by_value(path: Path, picture: Image.Image, code: MaskCode) -> MaskFile:
    raw = _values(path, picture)  # (H, W) uint8 or uint16
    table, known = _value_table(code)
    rest = int(np.count_nonzero(~known[raw]))
    if rest and not code.rest:
        values, counts = np.unique(raw[~known[raw]], return_counts=True)
        listed = _listed([str(value) for value in values.tolist()], counts)
        remedy = (
            "declare them in data.values (one for each class; empty: 0, 1, 2, ...) or in data.ignore (all at once: "
            f"data.ignore=rest), or mend the mask (declared: {_brief(code.values)}; ignored: {_brief(code.ignore)})"
        )
        what = f"has mask values that are not declared: {listed}"
        raise DataError(Fault(str(path), what, remedy, values=_distinct(raw)))
    palette = _palette(picture)
    used = tuple(np.flatnonzero(np.bincount(raw.ravel())).tolist()) if palette else ()
    if _is_grey(palette) and all(palette[3 * index] == index for index in used):
        return MaskFile(table[raw], rest)
    return MaskFile(table[raw], rest, palette, used)


def _palette(picture: Image.Image) -> bytes:
    """RGB of each index that was read as an id; b"" where there is no palette, or grey levels were read."""
    if picture.mode not in ("P", "PA"):
        return b""
    palette = bytes(picture.getpalette("RGB") or b"")
    return b"" if picture.format == "GIF" and _is_grey(palette) else palette.ljust(768, b"\0")


def _is_grey(palette: bytes) -> bool:
    return palette[0::3] == palette[1::3] == palette[2::3]


def _values(path: Path, picture: Image.Image) -> np.ndarray:
    """Grey values or palette indices (H, W), uint8 or uint16."""
    pixels = np.asarray(picture)
    maximum = picture.info["maximum"]
    if picture.format == "PPM" and picture.mode == "1":
        what = "is a bitmap (PBM), of which programs disagree whether black is 1"
        raise DataError(Fault(str(path), what, "save it as PGM or PNG"))
    if maximum not in (0, 255, 0xFFFF):  # PIL has scaled what the file holds
        pixels = np.rint(pixels * (maximum / (0xFFFF if picture.mode == "I" else 255))).astype(np.uint16)
    if picture.mode == "P" and picture.format == "GIF" and not _palette(picture):
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
        what = f"has pixels of mode {picture.mode}, which is no kind of mask"
        raise DataError(Fault(str(path), what, "save it as 8- or 16-bit grey, palette or RGB"))
    if ";16" in picture.info["raw_mode"]:  # PIL gives the high bytes: 0 for every id below 256
        raise DataError(Fault(str(path), "has 16 bits in each of several channels", "save it as 8- or 16-bit grey"))
    if (pixels[..., :1] == pixels[..., 1:3]).all():
        return pixels[..., 0]  # grey, stored as RGB
    colours, counts = np.unique(_packed(pixels), return_counts=True)
    what = f"is a colour mask, but data.colours is empty; its colours: {_listed(_hex_to_rgb(colours), counts)}"
    remedy = "give data.colours the [red, green, blue] of each class of data.classes, in order"
    raise DataError(Fault(str(path), what, remedy, cause=COLOUR_MASKS, values=_distinct(colours)))


def _ids_by_colour(path: Path, picture: Image.Image, code: MaskCode) -> MaskFile:
    if picture.mode.startswith("I") or picture.mode == "F":
        what = "has more than 8 bits a pixel, but data.colours asks for RGB"
        raise DataError(Fault(str(path), what, "save it as RGB, or use data.values"))
    if picture.mode in ("P", "PA", "LA"):
        picture = picture.convert("RGBA")
    packed = _packed(np.asarray(_convert(path, picture)))
    colours, ids = _colour_table(code)
    place = np.minimum(np.searchsorted(colours, packed), len(colours) - 1)  # (H, W)
    unknown = colours[place] != packed
    if unknown.any() and not code.rest:
        others, counts = np.unique(packed[unknown], return_counts=True)
        what = f"has colours that are not declared: {_listed(_hex_to_rgb(others), counts)}"
        remedy = "declare them in data.colours (one for each class, in order) or data.ignore_colours, or mend the mask"
        raise DataError(Fault(str(path), what, remedy, values=_distinct(packed)))
    return MaskFile(np.where(unknown, np.uint8(IGNORE), ids[place]), int(np.count_nonzero(unknown)))


@lru_cache(maxsize=8)
def _value_table(code: MaskCode) -> tuple[np.ndarray, np.ndarray]:
    """Class id of each 16-bit value, (65536,) uint8, and which values are declared, (65536,) bool."""
    table, known = np.full(1 << 16, IGNORE, np.uint8), np.zeros(1 << 16, bool)
    known[list(code.ignore)] = True
    for number, values in enumerate(code.numbers()):
        known[list(values)] = True
        table[list(values)] = number
    return table, known


@lru_cache(maxsize=8)
def _colour_table(code: MaskCode) -> tuple[np.ndarray, np.ndarray]:
    """Declared colours, packed and ascending, and the class id of each."""
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
    """ "3 (120 pixels), 7 (1 pixel)", the most frequent first."""
    order = np.argsort(-counts, kind="stable")[:SHOWN]
    shown = [f"{names[i]} ({counts[i]} pixel{'s' if counts[i] > 1 else ''})" for i in order]
    more = [f"and {len(names) - SHOWN} more"] if len(names) > SHOWN else []
    return ", ".join(shown + more)


def _distinct(pixels: np.ndarray) -> tuple[int, ...]:
    return tuple(np.unique(pixels)[:MOST_VALUES].tolist())


def _brief(values: tuple[int | tuple[int, ...], ...]) -> str:
    shown = [str(list(value) if isinstance(value, tuple) else value) for value in values[:SHOWN]]
    return ", ".join(shown + ["..."] * (len(values) > SHOWN)) or "none"
