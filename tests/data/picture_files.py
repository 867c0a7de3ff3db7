"""Image files written field by field, and the fault that reading one raises."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from selftrain.data.faults import Fault
from selftrain.errors import DataError


def fault_of(read, *args, **kwargs) -> Fault:
    with pytest.raises(DataError) as caught:
        read(*args, **kwargs)
    fault = caught.value.args[0]
    assert isinstance(fault, Fault) and fault.remedy
    assert str(caught.value).count("\n") == 0
    return fault


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(path: Path, size: tuple[int, int], *, bits: int, colour: int, rows: bytes, late: bytes = b"") -> Path:
    """A PNG of (height, width) by its own fields; `late`: chunks behind the pixels."""
    header = struct.pack(">IIBBBBB", size[1], size[0], bits, colour, 0, 0, 0)
    body = (
        png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(rows)) + late + png_chunk(b"IEND", b"")
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def tiff(
    path: Path,
    bands: list[np.ndarray],
    *,
    number: int = 1,
    photometric: int = 1,
    planar: int = 1,
    packed: int = 1,
) -> Path:
    """An uncompressed TIFF of bands (H, W), interleaved (planar 1) or one after the other (2)."""
    height, width = bands[0].shape
    count, bits = len(bands), bands[0].itemsize * 8
    parts = [band.tobytes() for band in bands] if planar == 2 else [np.stack(bands, axis=2).tobytes()]
    start = 1000  # of the pixels; the tags and their lists end before
    places = [start + sum(map(len, parts[:i])) for i in range(len(parts))]
    tags = {256: [width], 257: [height], 258: [bits] * count, 259: [packed], 262: [photometric], 273: places, 277: [count],
            278: [height], 279: [len(part) for part in parts], 284: [planar], 339: [number] * count}  # fmt: skip
    rows, lists = b"", b""
    for tag, values in tags.items():
        content = struct.pack(f"<{len(values)}I", *values)
        place = 500 + len(lists)
        rows += struct.pack("<HHI", tag, 4, len(values)) + (
            content if len(values) == 1 else struct.pack("<I", place)
        )
        lists += content if len(values) > 1 else b""
    head = struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + rows + bytes(4)
    path.write_bytes((head.ljust(500, b"\0") + lists).ljust(start, b"\0") + b"".join(parts))
    return path


def save(path: Path, pixels: np.ndarray, **options) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path
