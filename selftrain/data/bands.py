"""Images as arrays of any number of channels: TIFF files of several bands, and NumPy arrays (.npy).

Bands are the last axis or the first one, whichever is shorter; a TIFF may also have one page for each band.
Samples are unsigned, of 8 or 16 bits.
"""

from pathlib import Path

import numpy as np
import tifffile

from selftrain.data import headers
from selftrain.data.faults import Fault
from selftrain.data.storage import open_regular, readable
from selftrain.errors import DataError, SelftrainError

ARRAY = ".npy"  # suffix of NumPy arrays
RGB, GREY = 3, 1  # numbers of channels to which pictures are converted
ORIENTATION = 274  # TIFF tag
WIDTHS = "save it as unsigned 8- or 16-bit numbers, and set data.range for their range"


def has_bands(path: Path, channels: int) -> bool:
    """Whether a file is read by `read_bands`: an array, or a TIFF if images are neither RGB nor grey."""
    return path.suffix.lower() == ARRAY or (channels not in (RGB, GREY) and _kind(path) == "TIFF")


def read_bands(path: Path, channels: int) -> np.ndarray:
    """The samples (H, W, channels) uint8 or uint16 of a file.

    An array (H, W) has three equal channels if `channels` is 3. Raises DataError(Fault) for files that cannot
    be read, and for other numbers of channels.
    """
    found = read_all_bands(path)
    bands = found.shape[2]
    if bands == GREY and channels == RGB:
        return np.repeat(found, RGB, axis=2)
    if bands != channels:
        raise DataError(wrong_channels(path, bands, channels))
    return found


def wrong_channels(path: Path | str, bands: int, channels: int) -> Fault:
    """The fault of an image with `bands` channels, where `channels` are wanted."""
    what = f"has {bands} channel{'s' if bands != 1 else ''}, but data.channels={channels}"
    return Fault(str(path), what, f"save it with {channels}, or set data.channels={bands}")


def size_of(path: Path) -> tuple[int, int]:
    """(height, width) of an array or of a TIFF, without reading its samples. Raises DataError(Fault)."""
    if _kind(path) == "NumPy":
        height, width = _array(path).shape[:2]
        return height, width
    shape, place = _layout(path, _series(path))
    height, width = np.delete(shape, place)
    return int(height), int(width)


def read_all_bands(path: Path) -> np.ndarray:
    """The samples (H, W, C) uint8 or uint16 of a file; an array stays on the disk until it is used.

    Raises DataError(Fault) for files that cannot be read.
    """
    found = _array(path) if _kind(path) == "NumPy" else _pages(path)
    if found.dtype not in (np.uint8, np.uint16):
        raise DataError(Fault(str(path), f"has samples of {found.dtype}", WIDTHS))
    return found


def bands_of(path: Path) -> int:
    """The number of bands of an array, or of a TIFF whose further bands mean no transparency; otherwise RGB.

    A TIFF in CMYK has three. Raises DataError(Fault) for files that cannot be read.
    """
    kind = _kind(path)
    if kind == "NumPy":
        return 1 if _array(path).ndim == 2 else read_all_bands(path).shape[2]
    if kind != "TIFF":
        return RGB
    shape, place = _layout(path, _series(path))
    with tifffile.TiffFile(readable(path)) as file:
        page = file.pages.first
        inks = page.photometric == tifffile.PHOTOMETRIC.SEPARATED
        alpha = sum(1 for one in page.extrasamples if one != tifffile.EXTRASAMPLE.UNSPECIFIED)
    return RGB if inks else shape[place] - alpha


def _kind(path: Path) -> str:
    with open_regular(path) as file:
        kind = headers.kind_of(file)
    if path.suffix.lower() == ARRAY and kind != "NumPy":
        raise DataError(Fault(str(path), "is no NumPy array, whatever its name says", "replace or remove it"))
    return kind


def _array(path: Path) -> np.ndarray:
    try:
        file = readable(path)
        found = np.load(file, mmap_mode="r" if file is path else None, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise _undecodable(path, error) from error
    if found.dtype.byteorder == ">":
        found = found.astype(found.dtype.newbyteorder("="))
    return _bands_last(path, found, _place_of_bands(found.shape))


def _pages(path: Path) -> np.ndarray:
    """The samples of a TIFF, whose bands may be stored in any order."""
    series = _series(path)
    shape, place = _layout(path, series)
    try:
        return _bands_last(path, tifffile.imread(readable(path), series=0).reshape(shape), place)
    except (SelftrainError, MemoryError):
        raise
    except Exception as error:  # decoders raise all kinds of errors on broken bytes
        raise _undecodable(path, error) from error


def _series(path: Path) -> tuple[tuple[int, ...], str]:
    """The shape and the axes of the pixels of a TIFF, without axes of length 1."""
    try:
        with tifffile.TiffFile(readable(path)) as file:
            series, tags = file.series[0], file.pages.first.tags
            orientation = tags.get(ORIENTATION)
            turned = orientation is not None and orientation.value != 1
            pairs = [(size, axis) for size, axis in zip(series.shape, series.axes, strict=True) if size > 1]
    except (SelftrainError, MemoryError):
        raise
    except Exception as error:
        raise _undecodable(path, error) from error
    if turned:
        raise DataError(Fault(str(path), "has an orientation besides several bands", "save it upright"))
    return tuple(size for size, _ in pairs), "".join(axis for _, axis in pairs)


def _layout(path: Path, series: tuple[tuple[int, ...], str]) -> tuple[tuple[int, ...], int]:
    """The shape of the pixels, and the axis of the bands; an axis is added for a single band."""
    shape, axes = series
    if len(shape) == 2:
        return (*shape, 1), 2
    place = axes.find("S") if "S" in axes else _place_of_bands(shape)
    if len(shape) != 3:
        raise DataError(_no_image(path, shape))
    return shape, place


def _place_of_bands(shape: tuple[int, ...]) -> int:
    return 0 if len(shape) == 3 and shape[0] < shape[2] else 2


def _bands_last(path: Path, found: np.ndarray, place: int) -> np.ndarray:
    """`found` as (H, W, C). Raises DataError(Fault) for arrays that are no image."""
    if found.ndim not in (2, 3) or not found.size:
        raise DataError(_no_image(path, found.shape))
    return found[..., None] if found.ndim == 2 else np.moveaxis(found, place, 2)


def _no_image(path: Path, shape: tuple[int, ...]) -> Fault:
    what = f"has the shape {' x '.join(map(str, shape)) or 'of a number'}, which is no image"
    return Fault(str(path), what, "save it as height x width x channels")


def _undecodable(path: Path, error: Exception) -> DataError:
    said = " ".join(str(error).strip("'\"").split()) or type(error).__name__
    remedy = "it is damaged or incomplete: replace or remove it"
    if "imagecodecs" in said:
        remedy = "save it without compression or with deflate, or pip install imagecodecs"
    return DataError(Fault(str(path), f"cannot be decoded ({said})", remedy))
