"""Reading images and masks: one function each, one convention for training, verifying and predicting.

An image is (H, W, 3) uint8 RGB:

* upright: the EXIF orientation is applied (to masks too);
* 16-bit samples keep their high byte (value >> 8), never clipped; 32-bit and float pixels are refused;
* transparency is dropped and the stored colours are kept, as OpenCV and PIL's `convert("RGB")` do;
* palette, 1-bit, grey and CMYK pixels become RGB by PIL's conversion; colour profiles are not applied;
* of a phone's multi-picture JPEG (MPO) the first picture counts; other files of several frames are refused.

A mask is (H, W) uint8 class ids with 255 for ignored. It is read by value (grey of 1 to 16 bits as the numbers that
the file holds, palette index) or, where `MaskCode.colours` is given, by RGB colour. A JPEG is no mask: its compression
invents values. Of a TIFF whose white is zero (photometric 0), too, the numbers of the file are the ids.

Only regular files are opened, and a picture beyond MAX_PIXELS is refused by its header, before it is decoded.
"""

import os
import stat
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from io import BufferedReader
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from selftrain.errors import DataError

IGNORE = 255
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
MASK_SUFFIXES = {".png", ".bmp", ".tif", ".tiff"}
Result = TypeVar("Result")
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")  # JPEG includes MPO
MAX_PIXELS = 89_478_485  # PIL's own limit: 256 MiB of RGB. 12000 x 12000 zeros fit in a file of 17 kB
MULTIPLIED = {"L;2": 85, "L;4": 17}  # PIL brings 2- and 4-bit grey to 0..255: right for images, wrong for ids
PHOTOMETRIC = 262  # TIFF's tag of what grey values mean
SHOWN = 12  # unknown mask values that a message lists

# What PIL warns of is refused here, with the file's name.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@dataclass(frozen=True)
class Fault:
    """What is wrong with one file and the way out; the argument of the DataErrors raised here."""

    file: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what}; {self.remedy}"


@dataclass(frozen=True)
class MaskCode:
    """What the pixels of a mask mean: class k is values[k], or the colour colours[k] where there are colours."""

    values: tuple[int, ...]
    ignore: tuple[int, ...] = ()
    colours: tuple[tuple[int, int, int], ...] = ()
    ignore_colours: tuple[tuple[int, int, int], ...] = ()


def read_image(path: Path) -> np.ndarray:
    """The image (H, W, 3) uint8 RGB. Raises DataError(Fault) for a file that cannot be read whole."""
    picture = _decode(path)
    if picture.mode.startswith("I;16"):
        grey = (np.asarray(picture).astype(np.uint16) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)  # (H, W, 3)
    if picture.mode in ("I", "F"):
        raise DataError(Fault(str(path), "has 32-bit pixels", "save it with 8 or 16 bits a channel"))
    if picture.mode in ("P", "PA", "LA", "La", "RGBa"):
        picture = picture.convert("RGBA")  # PIL converts palettes with transparency by way of RGBA only
    return np.array(_convert(path, picture))


def read_mask(path: Path, code: MaskCode, *, image: Path | None = None) -> np.ndarray:
    """Class ids (H, W) uint8, 255 ignored.

    Raises DataError(Fault) for a file that cannot be read whole, for pixels that `code` does not know (all of them
    named), and for another size than that of `image`.
    """
    picture = _decode(path)
    if picture.format in ("JPEG", "MPO") or path.suffix.lower() in (".jpg", ".jpeg"):
        raise DataError(jpeg_mask(path))
    if image is not None:
        _check_size(path, image, (picture.height, picture.width))
    return _ids_by_colour(path, picture, code) if code.colours else _ids_by_value(path, picture, code)


def jpeg_mask(path: Path) -> Fault:
    """The fault of a mask stored as JPEG."""
    return Fault(str(path), "is a JPEG, whose compression invents mask values", "save masks as PNG from their source")


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


def _decode(path: Path) -> Image.Image:
    """The whole picture, upright; its `info` tells the raw mode and whether PIL inverted the grey values."""

    def whole(picture: Image.Image) -> Image.Image:
        """Decoded and turned upright."""
        tiles = getattr(picture, "tile", [])
        raw_mode = tiles[0].args if tiles else ""
        white_is_zero = picture.format == "TIFF" and picture.tag_v2.get(PHOTOMETRIC) == 0  # type: ignore[attr-defined]
        picture.load()
        ImageOps.exif_transpose(picture, in_place=True)
        picture.info["raw_mode"] = str(raw_mode[0] if isinstance(raw_mode, tuple) else raw_mode)
        picture.info["inverted"] = white_is_zero and picture.mode in ("1", "L")
        return picture

    return _with_picture(path, whole)


def _check_size(mask: Path, image: Path, size: tuple[int, int]) -> None:
    """Raises DataError(Fault) unless the image, upright, has the mask's (height, width)."""
    other = _with_picture(image, _header_size)
    if other != size:  # in a PNG, the orientation may follow the pixels
        upright = _decode(image)
        other = (upright.height, upright.width)
    if other != size:
        raise DataError(wrong_size(mask, size, other))


def wrong_size(mask: Path, size: tuple[int, int], image_size: tuple[int, int]) -> Fault:
    """The fault of a mask whose (height, width) is not that of its image."""
    what = f"is {size[0]}x{size[1]} (height x width), but its image is {image_size[0]}x{image_size[1]}"
    return Fault(str(mask), what, "make the mask again at the image's size, upright")


def _header_size(picture: Image.Image) -> tuple[int, int]:
    """(height, width) upright, without decoding."""
    # The method of the base class: PNG's own would decode the picture. TIFF has turned `size` already.
    orientation = Image.Image.getexif(picture).get(ExifTags.Base.Orientation, 1)
    turned = orientation in (5, 6, 7, 8) and picture.format != "TIFF"
    return picture.size if turned else (picture.height, picture.width)


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
            what = "is no PNG, JPEG, BMP, TIFF or WebP picture, whatever its name says"
            raise DataError(Fault(str(path), what, "replace or remove it")) from error
        except Exception as error:  # decoders raise what they like on broken bytes
            what = f"cannot be decoded ({' '.join(str(error).split()) or type(error).__name__})"
            raise DataError(Fault(str(path), what, "it is damaged or incomplete: replace or remove it")) from error


def _refuse_by_header(path: Path, picture: Image.Image) -> None:
    if picture.width * picture.height > MAX_PIXELS:
        raise DataError(_too_large(path, f"{picture.width}x{picture.height} pixels"))
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format != "MPO":
        raise DataError(Fault(str(path), f"holds {frames} frames", "save the frames that are wanted as separate files"))


def _too_large(path: Path, size: str) -> Fault:
    return Fault(str(path), f"is too large to decode ({size}; the limit is {MAX_PIXELS})", "cut it into tiles")


def _convert(path: Path, picture: Image.Image) -> Image.Image:
    try:
        return picture if picture.mode == "RGB" else picture.convert("RGB")
    except ValueError as error:
        raise DataError(Fault(str(path), f"has pixels of mode {picture.mode}", "save it as RGB or grey")) from error


# --- masks


def _ids_by_value(path: Path, picture: Image.Image, code: MaskCode) -> np.ndarray:
    raw = _values(path, picture)  # (H, W) uint8 or uint16
    table, known = _value_table(code)
    if not known[raw].all():
        values, counts = np.unique(raw[~known[raw]], return_counts=True)
        listed = _listed([str(value) for value in values.tolist()], counts)
        remedy = (
            "declare them in data.values (one for each class; empty: 0, 1, 2, ...) or in data.ignore, or mend the "
            f"mask (declared: {_brief(code.values)}; ignored: {_brief(code.ignore)})"
        )
        raise DataError(Fault(str(path), f"has mask values that are not declared: {listed}", remedy))
    return table[raw]


def _values(path: Path, picture: Image.Image) -> np.ndarray:
    """Grey values or palette indices (H, W), uint8 or uint16."""
    pixels = np.asarray(picture)
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
    raise DataError(Fault(str(path), what, remedy))


def _ids_by_colour(path: Path, picture: Image.Image, code: MaskCode) -> np.ndarray:
    if picture.mode.startswith("I") or picture.mode == "F":
        what = "has more than 8 bits a pixel, but data.colours asks for RGB"
        raise DataError(Fault(str(path), what, "save it as RGB, or use data.values"))
    if picture.mode in ("P", "PA", "LA"):
        picture = picture.convert("RGBA")
    packed = _packed(np.asarray(_convert(path, picture)))
    colours, ids = _colour_table(code)
    place = np.minimum(np.searchsorted(colours, packed), len(colours) - 1)  # (H, W)
    unknown = colours[place] != packed
    if unknown.any():
        others, counts = np.unique(packed[unknown], return_counts=True)
        what = f"has colours that are not declared: {_listed(_hex_to_rgb(others), counts)}"
        remedy = "declare them in data.colours (one for each class, in order) or data.ignore_colours, or mend the mask"
        raise DataError(Fault(str(path), what, remedy))
    return ids[place]


@lru_cache(maxsize=8)
def _value_table(code: MaskCode) -> tuple[np.ndarray, np.ndarray]:
    """Class id of each 16-bit value, (65536,) uint8, and which values are declared, (65536,) bool."""
    table, known = np.full(1 << 16, IGNORE, np.uint8), np.zeros(1 << 16, bool)
    known[list(code.values) + list(code.ignore)] = True
    table[list(code.values)] = np.arange(len(code.values))
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


def _brief(values: tuple[int, ...]) -> str:
    shown = [str(value) for value in values[:SHOWN]]
    return ", ".join(shown + ["..."] * (len(values) > SHOWN)) or "none"
