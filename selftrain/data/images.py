"""Pixels of image files, by one convention for training, verifying and predicting.

An image is (H, W, 3) uint8 RGB, or (H, W, C) if data.channels is C:

* upright: the EXIF orientation is applied (to masks too);
* 16-bit samples keep their high byte (value >> 8), or are scaled by a range from the caller (data/levels.py);
* 32-bit and float pixels are refused;
* transparency is dropped and the stored colours are kept, as OpenCV and PIL's `convert("RGB")` do;
* palette, 1-bit, grey and CMYK pixels become RGB by PIL's conversion; colour profiles are not applied;
* of a phone's multi-picture JPEG (MPO), the first picture is read; other files of several frames are refused;
* with 1 channel, colours become grey by cv2's weights (ITU-R BT.601); with 2 or 4, alpha is a channel;
* bands of TIFF files and of arrays are read as they are stored (data/bands.py).

A picture beyond MAX_PIXELS is refused by its header, before decoding. For the meaning of masks, see
data/masks.py.
"""

import sys
import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from selftrain.data import headers
from selftrain.data.bands import ARRAY, GREY, RGB, has_bands, read_bands, size_of, wrong_channels
from selftrain.data.faults import Fault
from selftrain.data.storage import open_regular
from selftrain.errors import DataError, SelftrainError

JPEG_SUFFIXES = {".jpg", ".jpeg"}
PICTURES = {".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".pgm", ".ppm", ".pnm"} | JPEG_SUFFIXES
IMAGE_SUFFIXES = PICTURES | {ARRAY}
Result = TypeVar("Result")
Levels = tuple[int, int]  # the 16-bit values that become 0 and 255
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "PPM")  # JPEG includes MPO
READ = ("PNG", "JPEG", "BMP", "TIFF", "WebP", "GIF")  # FORMATS, by the names of headers.kind_of
MOST_AT_ONCE = 4  # channels that OpenCV averages over areas
MAX_PIXELS = 89_478_485  # PIL's own limit: 256 MiB of RGB. 12000 x 12000 zeros fit in a file of 17 kB
PHOTOMETRIC = 262  # TIFF tag: the meaning of grey values
PLANAR = 284  # TIFF tag: whether bands are stored one after the other (2)
# PIL keeps the high bytes of 16-bit channels. With the opposite byte order, it keeps the low bytes. Grey with
# alpha is read as four channels of 8 bits; the second contains the low bytes.
GREY_ALPHA = "LA;16B"
SWAPPED = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
OTHER_BYTES = {
    f"{name};16{a}": f"{name};16{b}" for name in ("RGB", "RGBA", "RGBX") for a, b in SWAPPED.items()
}
OTHER_BYTES[GREY_ALPHA] = "RGBA"

# PIL only warns of very large pictures. Here they are refused, with the file's name.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def read_image(
    path: Path, levels: Levels | None = None, channels: int = RGB, *, page: int | None = None
) -> np.ndarray:
    """The image (H, W, channels) uint8. 16-bit samples are scaled so that `levels` become 0 and 255.

    Without `levels`, 16-bit samples keep their high byte. `page` is the number of one page of several, as RGB
    or grey. Raises DataError(Fault) for a file that cannot be read completely, and for a file with other
    channels, unless it is a picture and 1 or 3 channels are wanted.
    """
    if channels != RGB or has_bands(path, channels):
        if page is not None:
            return cv2.cvtColor(read_image(path, levels, page=page), cv2.COLOR_RGB2GRAY)[..., None]
        return to_8_bits(read_stored(path, scaled=levels is not None, channels=channels), levels)
    picture = decode(path, page=page)
    if levels is None or not _is_deep(picture):
        return _rgb(path, picture)
    return _table_of_levels(levels)[_deep(path, picture, page)]


def read_stored(path: Path, *, scaled: bool = False, channels: int = RGB) -> np.ndarray:
    """The image (H, W, channels) with the file's own samples: uint16 for 16-bit files, otherwise uint8.

    Raises DataError(Fault) like read_image; with `scaled`, also for files that read_image refuses to scale by
    levels.
    """
    if has_bands(path, channels):
        return read_bands(path, channels)
    if channels == GREY:
        return cv2.cvtColor(read_stored(path, scaled=scaled), cv2.COLOR_RGB2GRAY)[..., None]
    if channels != RGB:
        return _with_alpha(path, channels)
    picture = decode(path)
    whole = scaled or picture.mode.startswith("I;16") or picture.info["raw_mode"] in OTHER_BYTES
    return _deep(path, picture) if whole and _is_deep(picture) else _rgb(path, picture)


def _rgb(path: Path, picture: Image.Image) -> np.ndarray:
    """The picture as (H, W, 3) uint8; 16-bit samples keep their high byte."""
    if picture.mode.startswith("I;16"):
        grey = (np.asarray(picture).astype(np.uint16) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)  # (H, W, 3)
    if picture.info["maximum"] > 255:
        raise DataError(
            Fault(str(path), "is a PNM of more than 8 bits a sample", "save it as 16-bit PNG or TIFF")
        )
    if picture.mode in ("I", "F"):
        bits = "signed 16-bit" if ";16" in picture.info["raw_mode"] else "32-bit"
        raise DataError(
            Fault(str(path), f"has {bits} pixels", "save it with 8 or 16 bits a channel, unsigned")
        )
    if picture.mode in ("P", "PA", "LA", "La", "RGBa"):
        picture = picture.convert("RGBA")  # PIL converts palettes with transparency only via RGBA
    return np.array(to_rgb(path, picture))


def _with_alpha(path: Path, channels: int) -> np.ndarray:
    """A picture (H, W, channels) uint8 whose alpha is one of 2 or 4 channels."""
    picture = decode(path)
    if picture.mode not in ("LA", "RGBA") or len(picture.getbands()) != channels:
        raise DataError(wrong_channels(path, len(picture.getbands()), channels))
    if _is_deep(picture):
        raise DataError(Fault(str(path), "has 16 bits a channel and alpha", "save it as TIFF or .npy"))
    return np.array(picture)


def to_8_bits(samples: np.ndarray, levels: Levels | None) -> np.ndarray:
    """Samples (H, W, C) uint8 or uint16 as uint8; without `levels`, they keep their high byte."""
    if samples.dtype == np.uint8:
        return np.array(samples)
    return (samples >> 8).astype(np.uint8) if levels is None else _table_of_levels(levels)[samples]


def _is_deep(picture: Image.Image) -> bool:
    """Whether the file has 16 bits a sample (12 in some TIFFs). Raw mode BGR;16: a BMP of 16 bits a pixel."""
    raw_mode = picture.info["raw_mode"]
    return picture.mode.startswith("I;16") or (";16" in raw_mode and not raw_mode.startswith("BGR"))


def _deep(path: Path, picture: Image.Image, page: int | None = None) -> np.ndarray:
    """All bits of the samples, (H, W, 3) uint16. PIL has no 16-bit RGB: low bytes are decoded separately."""
    if picture.mode.startswith("I;16"):
        return np.repeat(np.asarray(picture).astype(np.uint16)[..., None], 3, axis=2)
    if picture.info["raw_mode"] not in OTHER_BYTES:
        what = (
            f"has 16 bits in each channel of {picture.info['raw_mode'].split(';')[0]}, "
            "which data.range cannot scale"
        )
        raise DataError(Fault(str(path), what, "save it as 16-bit RGB or grey"))
    high, low = (np.asarray(one).astype(np.uint16) for one in (picture, decode(path, low=True, page=page)))
    lows = [1, 1, 1] if picture.info["raw_mode"] == GREY_ALPHA else [0, 1, 2]
    return high[..., :3] << 8 | low[..., lows]


@lru_cache(maxsize=8)
def _table_of_levels(levels: Levels) -> np.ndarray:
    """Lookup table (65536,) uint8 of scaled 16-bit values."""
    low, high = levels
    scaled = (np.arange(1 << 16) - low) * (255 / (high - low))
    return scaled.round().clip(0, 255).astype(np.uint8)


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W, C) -> (*size, C), by area averaging if neither side grows, otherwise bilinear."""
    height, width = size
    if image.shape[:2] == size:
        return image
    shrinks = height <= image.shape[0] and width <= image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    parts = [image[..., first : first + MOST_AT_ONCE] for first in range(0, image.shape[2], MOST_AT_ONCE)]
    resized = [cv2.resize(part, (width, height), interpolation=method) for part in parts]
    # OpenCV drops the axis of a single channel
    return np.concatenate([part.reshape(height, width, -1) for part in resized], axis=2)


def as_rgb(image: np.ndarray) -> np.ndarray:
    """An image (H, W, C) to look at, (H, W, 3): of other channels than RGB, the first one or three."""
    return image[..., :RGB] if image.shape[2] >= RGB else np.repeat(image[..., :1], RGB, axis=2)


def decode(path: Path, *, low: bool = False, page: int | None = None) -> Image.Image:
    """The decoded picture, upright. With `low`, 16-bit channels give the low bytes instead of the high bytes.

    Of a file of several pages, `page` is the number of one; without it, such files are refused.

    Its `info` gets "raw_mode", "inverted" (whether PIL inverted the grey values), "orientation" (the file's
    EXIF value, 1 to 8) and "maximum" (the largest value of a PNM, 0 for other formats).
    """

    def whole(picture: Image.Image) -> Image.Image:
        """The picture, decoded and turned upright."""
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

    return _with_picture(path, whole, page)


def _of_low_bytes(tile: Any) -> Any:
    """The tile, changed so that PIL decodes 16-bit channels to the low bytes of the samples."""
    if isinstance(tile.args, str):
        return tile._replace(args=OTHER_BYTES[tile.args])
    raw_mode, *more = tile.args
    return tile._replace(args=(OTHER_BYTES[raw_mode], *more))


def _orientation(picture: Image.Image) -> int:
    """The EXIF orientation, 1 to 8, as read so far: in a PNG, it may follow the pixels."""
    # The base class's method: PNG's own method would decode the picture.
    found = picture.getexif() if picture.format == "TIFF" else Image.Image.getexif(picture)
    orientation = found.get(ExifTags.Base.Orientation, 1)
    return orientation if orientation in range(1, 9) else 1


def _pnm_maximum(picture: Image.Image) -> int:
    """The value of white, by which PIL scales, in a PNM that is not yet decoded; 0 for other formats."""
    if picture.format != "PPM" or picture.mode in ("1", "F"):
        return 0
    arguments = picture.tile[0].args  # type: ignore[attr-defined]
    return arguments[1] if isinstance(arguments, tuple) else {"I;16B": 0xFFFF}.get(arguments, 255)


def geometry(path: Path) -> tuple[tuple[int, int], int]:
    """(height, width) upright, and the EXIF orientation.

    Decodes the picture only if it is a PNG with metadata after its pixels.
    """

    def of_header(picture: Image.Image) -> tuple[tuple[int, int], int]:
        orientation = _orientation(picture)
        turned = orientation > 4 and picture.format != "TIFF"  # TIFF's `size` is already turned
        return (picture.size if turned else (picture.height, picture.width)), orientation

    with open_regular(path) as file:
        late, kind = headers.has_late_metadata(file), headers.kind_of(file)
    if kind == "NumPy":
        return size_of(path), 1
    if not late:
        try:
            return _with_picture(path, of_header)
        except DataError:
            if kind != "TIFF":
                raise
            return size_of(path), 1  # a TIFF of several bands or pages
    upright = decode(path)
    return (upright.height, upright.width), upright.info["orientation"]


def _with_picture(path: Path, use: Callable[[Image.Image], Result], page: int | None = None) -> Result:
    """The result of `use` on the opened picture. Decoder errors become a DataError(Fault) with the file."""
    with open_regular(path) as file:
        try:
            with Image.open(file, formats=FORMATS) as picture:
                if page is not None:
                    picture.seek(page)
                _refuse_by_header(path, picture, several=page is not None)
                return use(picture)
        except (SelftrainError, MemoryError):
            raise
        except Image.DecompressionBombError as error:
            raise DataError(_too_large(path, "more than twice the limit")) from error
        except UnidentifiedImageError as error:
            raise DataError(_unidentified(path)) from error
        except Exception as error:  # decoders raise all kinds of errors on broken bytes
            what = f"cannot be decoded ({' '.join(str(error).split()) or type(error).__name__})"
            raise DataError(
                Fault(str(path), what, "it is damaged or incomplete: replace or remove it")
            ) from error


def _unidentified(path: Path) -> Fault:
    """The fault of a file that no decoder accepts, by the format that its first bytes indicate."""
    with open_regular(path) as file:
        kind = headers.kind_of(file)
        layout = headers.tiff_layout(file) if kind == "TIFF" else ""
    if layout:
        what = f"is a TIFF of {layout}, which cannot be read"
        return Fault(str(path), what, "save it as 8- or 16-bit RGB or grey")
    if kind in READ:
        return Fault(
            str(path), f"is a {kind} whose header is damaged or unusual", "save it again as PNG, or remove it"
        )
    what = f"is not a {', '.join(READ)} or PNM image{f' but {kind}' if kind else ''}, whatever its name says"
    remedy = "fetch the file itself (git lfs pull)" if kind == "Git LFS pointer" else "replace or remove it"
    return Fault(str(path), what, "save it as PNG, or remove it" if kind in headers.CONVERTIBLE else remedy)


def _refuse_by_header(path: Path, picture: Image.Image, *, several: bool = False) -> None:
    if picture.width * picture.height > MAX_PIXELS:
        raise DataError(_too_large(path, f"{picture.width}x{picture.height} pixels"))
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format != "MPO" and not several:
        raise DataError(
            Fault(str(path), f"holds {frames} frames", "save the frames that are wanted as separate files")
        )
    # PIL reads each byte of such samples as a sample
    tiles = getattr(picture, "tile", [])
    tags: Any = getattr(picture, "tag_v2", {})
    bits = max(tags.get(headers.BITS, (8,)))
    if picture.format == "TIFF" and tags.get(PLANAR) == 2 and bits > 8 and tiles[0].codec_name == "raw":
        what = f"is a TIFF of {bits}-bit bands stored one after the other, which cannot be read"
        raise DataError(
            Fault(str(path), what, "save it pixel by pixel (planar configuration 1), or compressed")
        )


def _too_large(path: Path, size: str) -> Fault:
    return Fault(
        str(path), f"is too large to decode ({size}; the limit is {MAX_PIXELS})", "cut it into tiles"
    )


def to_rgb(path: Path, picture: Image.Image) -> Image.Image:
    """`picture` as RGB. Raises DataError, naming `path`, for pixels that have no RGB form."""
    try:
        return picture if picture.mode == "RGB" else picture.convert("RGB")
    except ValueError as error:
        raise DataError(
            Fault(str(path), f"has pixels of mode {picture.mode}", "save it as RGB or grey")
        ) from error
