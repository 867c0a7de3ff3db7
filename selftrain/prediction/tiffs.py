"""TIFF files as predictions read and write them: part by part, with several pages, with a georeference."""

import os
import tempfile
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile

from selftrain.data.bands import GREY, ORIENTATION, RGB, wrong_channels
from selftrain.data.faults import Fault
from selftrain.errors import DataError
from selftrain.files import TEMPORARY

SUFFIXES = {".tif", ".tiff"}
# ModelPixelScale, ModelTiepoint, ModelTransformation, GeoKeyDirectory, GeoDoubleParams and GeoAsciiParams
# (OGC GeoTIFF 1.1, 2019, requirements class TIFF)
GEO = (33550, 33922, 34264, 34735, 34736, 34737)
PLACED = {33922, 34264}  # one of them says where the pixels are
NO_DATA = 42113  # GDAL_NODATA: the value of pixels without a class
REDUCED, MASK = 1, 4  # bits of NewSubfileType
SIDE = 256  # pixels of the tiles that are written
KEPT = 128 << 20  # bytes of decoded segments that are kept
LARGE = 1 << 24  # pixels; above it, a TIFF is read part by part
BUFFER = 16 << 20  # bytes of tiles that are compressed at once
BIG = 1 << 31  # bytes; above it, a file is a BigTIFF


@dataclass(frozen=True)
class Facts:
    """The facts of a TIFF that are known before its pixels are read."""

    size: tuple[int, int]  # (height, width)
    pages: Sequence[int]  # the numbers of its images, without reduced ones and masks
    frames: int  # all of them
    geo: Sequence[tuple[Any, ...]]  # tags for the TIFFs that are written; empty without a georeference

    @property
    def pixels(self) -> int:
        return self.size[0] * self.size[1]

    @property
    def is_large(self) -> bool:
        return self.pixels > LARGE


def facts_of(path: Path) -> Facts | None:
    """The facts of a TIFF; None if tifffile cannot read them."""
    try:
        with tifffile.TiffFile(path) as file:
            every: Any = file.pages
            pages = [
                number for number, page in enumerate(every) if not int(page.subfiletype) & (REDUCED | MASK)
            ]
            page = file.pages.first
            tags = [page.tags[code] for code in GEO if code in page.tags]
            placed = any(tag.code in PLACED for tag in tags)
            geo = [(tag.code, int(tag.dtype), tag.count, tag.value, True) for tag in tags] if placed else []
            return Facts((page.imagelength, page.imagewidth), pages, len(file.pages), geo)
    except MemoryError:
        raise
    except Exception:  # readers raise all kinds of errors on broken bytes; who reads the pixels says why
        return None


class Plane:
    """The pixels of a TIFF's first page, of which any part can be read.

    Decoded tiles or strips are kept up to KEPT bytes, so a tiled file of any size takes a constant amount of
    memory. Raises DataError(Fault) for files that are not 8- or 16-bit grey, RGB or bands, upright.
    """

    def __init__(self, path: Path, channels: int):
        self.path, self.channels = path, channels
        self.file = tifffile.TiffFile(path)
        self.page: Any = self.file.pages.first
        self.kept = OrderedDict[int, np.ndarray]()
        self.bytes = 0
        try:
            self._check()
            self.whole = tifffile.memmap(path, page=0, mode="r") if self.page.is_memmappable else None
            self.read(slice(0, 1), slice(0, 1))
        except BaseException:
            self.file.close()
            raise

    def __enter__(self) -> "Plane":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.page.imagelength, self.page.imagewidth

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        """The samples (h, w, channels), uint8 or uint16, of a part; slices may reach beyond the end."""
        rows, columns = (
            slice(one.start, min(one.stop, n)) for one, n in zip((rows, columns), self.size, strict=True)
        )
        found = self._samples(rows, columns)
        bands = found.shape[2]
        if self.channels == RGB and bands <= 2:
            return np.repeat(found[..., :1], RGB, axis=2)
        if self.channels == GREY and bands >= RGB:
            return cv2.cvtColor(np.ascontiguousarray(found[..., :RGB]), cv2.COLOR_RGB2GRAY)[..., None]
        return np.ascontiguousarray(found[..., : self.channels])

    def _check(self) -> None:
        page, bands = self.page, int(self.page.samplesperpixel)
        kinds = (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.RGB)
        orientation = page.tags.get(ORIENTATION)
        if page.dtype not in (np.uint8, np.uint16) or page.photometric not in kinds:
            what = f"is a large TIFF of {page.dtype} samples, photometric {page.photometric}"
            raise DataError(Fault(str(self.path), what, "save it with 8 or 16 bits, as grey, RGB or bands"))
        if orientation is not None and orientation.value != 1:
            raise DataError(Fault(str(self.path), "is a large TIFF with an orientation", "save it upright"))
        if self.channels not in (RGB, GREY) and bands != self.channels:
            raise DataError(wrong_channels(self.path, bands, self.channels))

    def _samples(self, rows: slice, columns: slice) -> np.ndarray:
        """The samples (h, w, S) as the file has them."""
        page, bands = self.page, int(self.page.samplesperpixel)
        separate = bands > 1 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE
        if self.whole is not None:
            array = self.whole.reshape((bands, *self.size) if separate else (*self.size, bands))
            return np.moveaxis(array[:, rows, columns], 0, 2) if separate else array[rows, columns]
        height, width = (
            (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
        )
        down, across = -(-self.size[0] // height), -(-self.size[1] // width)
        found = np.zeros((rows.stop - rows.start, columns.stop - columns.start, bands), page.dtype)
        for plane in range(bands if separate else 1):
            for row in range(rows.start // height, -(-rows.stop // height)):
                for column in range(columns.start // width, -(-columns.stop // width)):
                    segment = self._segment((plane * down + row) * across + column)
                    if segment is None:
                        continue  # a hole of a sparse file
                    top, left = row * height, column * width
                    bottom, right = (
                        min(rows.stop, top + segment.shape[0]),
                        min(columns.stop, left + segment.shape[1]),
                    )
                    first, start = max(rows.start, top), max(columns.start, left)
                    part = segment[first - top : bottom - top, start - left : right - left]
                    place = (
                        slice(first - rows.start, bottom - rows.start),
                        slice(start - columns.start, right - columns.start),
                    )
                    found[(*place, slice(plane, plane + 1) if separate else slice(None))] = part
        return found

    def _segment(self, index: int) -> np.ndarray | None:
        """A decoded tile or strip (h, w, S)."""
        if index in self.kept:
            self.kept.move_to_end(index)
            return self.kept[index]
        offset, count = self.page.dataoffsets[index], self.page.databytecounts[index]
        if not count:
            return None
        try:
            self.file.filehandle.seek(offset)
            decoded = self.page.decode(
                self.file.filehandle.read(count), index, jpegtables=self.page.jpegtables
            )[0]
        except MemoryError:
            raise
        except Exception as error:  # decoders raise all kinds of errors on broken bytes
            said = " ".join(str(error).split()) or type(error).__name__
            remedy = "it is damaged or incomplete: replace or remove it"
            if "imagecodecs" in said:
                remedy = "save it without compression or with deflate, or pip install imagecodecs"
            raise DataError(Fault(str(self.path), f"cannot be decoded ({said})", remedy)) from error
        segment = np.asarray(decoded)[0]
        self.kept[index], self.bytes = segment, self.bytes + segment.nbytes
        while self.bytes > KEPT and len(self.kept) > 1:
            self.bytes -= self.kept.popitem(last=False)[1].nbytes
        return segment


class Canvas:
    """A map (H, W) or (H, W, S) that is filled part by part, on the disk of `folder` until it is written."""

    def __init__(self, shape: tuple[int, ...], dtype: Any, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.shape, self.dtype = shape, np.dtype(dtype)
        self.file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  (closed by `close`)
        self.pixel = self.dtype.itemsize * int(np.prod(shape[2:]))
        self.file.truncate(shape[0] * shape[1] * self.pixel)

    def put(self, place: tuple[slice, slice], part: np.ndarray) -> None:
        """Fill a part."""
        rows, columns = place
        for row, pixels in enumerate(np.ascontiguousarray(part, self.dtype), start=rows.start):
            self.file.seek((row * self.shape[1] + columns.start) * self.pixel)
            self.file.write(pixels.tobytes())

    def rows(self, first: int, count: int) -> np.ndarray:
        """Some whole rows, (count, W) or (count, W, S)."""
        self.file.seek(first * self.shape[1] * self.pixel)
        content = self.file.read(count * self.shape[1] * self.pixel)
        return np.frombuffer(content, self.dtype).reshape(-1, *self.shape[1:])

    def close(self) -> None:
        self.file.close()


def write_tiff(
    path: Path,
    maps: Sequence["Canvas | np.ndarray"],
    *,
    dtype: Any,
    geo: Sequence[tuple[Any, ...]] = (),
    colours: np.ndarray | None = None,
    convert: Any = None,
    samples: int = 0,
    no_data: int | None = None,
) -> None:
    """Write maps (H, W) or (H, W, S) as the pages of a tiled TIFF, compressed by deflate, atomically.

    `convert` is applied to each tile before it is written; its result has the `dtype` and, if given,
    `samples` bands. `colours` (256, 3) uint8 makes the values indices of a palette. `geo`
    and `no_data` are tags of the first page.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}{TEMPORARY}")
    size = sum(int(np.prod(one.shape[:2])) for one in maps) * max(1, samples) * np.dtype(dtype).itemsize
    tags = [*geo, *([(NO_DATA, 2, 0, str(no_data), True)] if no_data is not None and geo else [])]
    try:
        with tifffile.TiffWriter(temporary, bigtiff=size > BIG) as file:
            for one in maps:
                bands = (samples,) if samples else one.shape[2:]
                file.write(
                    _tiles(one, convert),
                    shape=(*one.shape[:2], *bands),
                    dtype=dtype,
                    tile=(SIDE, SIDE),
                    compression="zlib",
                    photometric="palette"
                    if colours is not None
                    else "rgb"
                    if bands == (RGB,)
                    else "minisblack",
                    planarconfig="contig" if bands else None,
                    colormap=None if colours is None else colours.T.astype(np.uint16) * 257,
                    extratags=tags,
                    metadata=None,
                    maxworkers=1,
                    buffersize=BUFFER,
                    software=False,
                )
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _tiles(one: "Canvas | np.ndarray", convert: Any) -> Iterator[np.ndarray]:
    """The tiles of a map, row by row."""
    for top in range(0, one.shape[0], SIDE):
        rows = one.rows(top, SIDE) if isinstance(one, Canvas) else one[top : top + SIDE]
        for left in range(0, one.shape[1], SIDE):
            tile = rows[:, left : left + SIDE]
            tile = convert(tile) if convert else tile
            padding = [(0, SIDE - tile.shape[0]), (0, SIDE - tile.shape[1])]
            yield np.pad(tile, [*padding, *[(0, 0)] * (tile.ndim - 2)])
