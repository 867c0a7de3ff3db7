"""Facts from a file's header, without decoding pixels.

They name the format in faults, and reveal details that Pillow hides.
"""

import struct
from io import BufferedReader

from PIL import TiffImagePlugin

from selftrain.errors import StorageError

# Offset of a format's mark, the mark, and the name of the format.
MARKS = (
    (0, b"\x89PNG", "PNG"),
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"GIF8", "GIF"),
    (8, b"WEBP", "WebP"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "TIFF"),  # BigTIFF
    (0, b"MM\0+", "TIFF"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftypheic", "HEIC"),
    (4, b"ftypheix", "HEIC"),
    (4, b"ftypmif1", "HEIC"),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (128, b"DICM", "DICOM"),
    (344, b"n+1\0", "NIfTI"),
    (344, b"ni1\0", "NIfTI"),
    (0, b"SIMPLE  =", "FITS"),
    (0, b"v/1\x01", "OpenEXR"),
    (0, b"\x89HDF", "HDF5"),
    (0, b"\x93NUMPY", "NumPy"),
    (0, b"8BPS", "Photoshop"),
    (0, b"%PDF", "PDF"),
    (0, b"PK\x03\x04", "ZIP"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"BM", "BMP"),
)
CONVERTIBLE = (
    "AVIF", "HEIC", "JPEG 2000", "JPEG XL", "DICOM", "NIfTI", "FITS", "OpenEXR", "HDF5", "NumPy", "Photoshop",
)  # fmt: skip
LFS = b"version https://git-lfs"
LONGEST = 352  # bytes that contain all MARKS
LATE = (b"eXIf", b"iTXt", b"zTXt", b"tEXt")  # chunks of a PNG that may contain an orientation
BITS, COMPRESSION, PHOTOMETRIC, BANDS, FORMAT = 258, 259, 262, 277, 339  # tags of a TIFF
NUMBERS = {2: "signed integers", 3: "floating-point numbers", 5: "complex integers", 6: "complex numbers"}


def kind_of(file: BufferedReader) -> str:
    """The name of the format whose mark the file contains; "" for a file without any of MARKS."""
    file.seek(0)
    head = file.read(LONGEST)
    if head.startswith(LFS):
        return "Git LFS pointer"
    for place, mark, name in MARKS:
        if head[place : place + len(mark)] == mark:
            return name
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "HTML"
    return "XML" if text.startswith((b"<?xml", b"<svg")) else ""


def tiff_layout(file: BufferedReader) -> str:
    """The pixel layout of a TIFF, such as "5 bands of 16 bits"; "" if its tags cannot be read."""
    try:
        return _layout(_tags(file))
    except StorageError:
        raise
    except Exception:  # Pillow raises all kinds of errors on broken tags
        return ""


def _tags(file: BufferedReader) -> TiffImagePlugin.ImageFileDirectory_v2:
    file.seek(0)
    head = file.read(8)
    head += file.read(8) if head[2:4] in (b"+\0", b"\0+") else b""
    tags = TiffImagePlugin.ImageFileDirectory_v2(head)
    file.seek(tags.next)
    tags.load(file)
    return tags


def _layout(tags: TiffImagePlugin.ImageFileDirectory_v2) -> str:
    bands, packed, number = tags.get(BANDS, 1), tags.get(COMPRESSION, 1), tags.get(FORMAT, (1,))[0]
    bits = " and ".join(str(one) for one in sorted(set(tags.get(BITS, (1,)))))
    samples = f"{bits}-bit {NUMBERS[number]}" if number in NUMBERS else f"{bits} bits"
    marked = " marked as grey" if bands > 1 and tags.get(PHOTOMETRIC) in (0, 1) else ""
    unknown = f" in compression {packed}" if packed not in TiffImagePlugin.COMPRESSION_INFO else ""
    return f"{bands} band{'s' if bands != 1 else ''} of {samples}{marked}{unknown}"


def has_late_metadata(file: BufferedReader) -> bool:
    """Whether a PNG contains EXIF or text after its pixels, which Pillow reads only when it decodes them."""
    file.seek(0)
    if file.read(8) != b"\x89PNG\r\n\x1a\n":
        return False
    pixels = False
    while len(head := file.read(8)) == 8:
        size, kind = struct.unpack(">I4s", head)
        if pixels and kind in LATE:
            return True
        pixels |= kind == b"IDAT"
        file.seek(size + 4, 1)  # the chunk and its checksum
    return False


def is_lossy_webp(file: BufferedReader) -> bool:
    """Whether a WebP's pixels are stored with loss: its chunk is "VP8 " rather than "VP8L"."""
    file.seek(12)  # after RIFF, a length, WEBP
    while len(head := file.read(8)) == 8:
        kind, size = struct.unpack("<4sI", head)
        if kind in (b"VP8 ", b"VP8L"):
            return bool(kind == b"VP8 ")
        file.seek(size + size % 2, 1)
    return False
