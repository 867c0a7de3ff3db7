import io
import os
import struct
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from selftrain.data import images
from selftrain.data.images import (
    Fault,
    MaskCode,
    read_image,
    read_mask,
    read_mask_file,
    read_stored,
    resize_image,
    resize_mask,
)
from selftrain.errors import DataError

pytestmark = pytest.mark.promise(
    "images and masks of every kind (16-bit, CMYK, alpha, palettes, EXIF, bombs, torn): one convention, or a named fault"
)

THREE = MaskCode((0, 1, 2), (255,))
RGB = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 10  # (2, 3, 3)
IDS = np.array([[0, 1, 2], [2, 255, 0]], np.uint8)


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
    body = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(rows)) + late + png_chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def tiff(path: Path, bands: list[np.ndarray], *, number: int = 1, photometric: int = 1, planar: int = 1, packed: int = 1) -> Path:
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
        rows += struct.pack("<HHI", tag, 4, len(values)) + (content if len(values) == 1 else struct.pack("<I", place))
        lists += content if len(values) > 1 else b""
    head = struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + rows + bytes(4)
    path.write_bytes((head.ljust(500, b"\0") + lists).ljust(start, b"\0") + b"".join(parts))
    return path


# --- images


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "tiff", "webp", "PNG"])
def test_lossless_formats_come_back_as_they_were(tmp_path: Path, suffix: str):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(RGB).save(path, lossless=True)
    assert np.array_equal(read_image(path), RGB)


def test_jpeg_is_read_as_rgb(tmp_path: Path):
    red = np.full((16, 16, 3), (250, 10, 20), np.uint8)
    Image.fromarray(red).save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - red).max() < 6


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
def test_exif_orientation_is_applied_to_images_and_masks(tmp_path: Path, suffix: str, orientation: int):
    stored = np.zeros((16, 32), np.uint8)
    stored[:8, :16] = 2  # the corner that the first row and column of the file hold
    stored[8:, :16] = 1
    upright = {
        1: stored, 2: stored[:, ::-1], 3: stored[::-1, ::-1], 4: stored[::-1],
        5: stored.T, 6: stored.T[:, ::-1], 7: stored.T[::-1, ::-1], 8: stored.T[::-1],
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    image, mask = tmp_path / f"image.{suffix}", tmp_path / "mask.png"
    Image.fromarray(stored * 100).save(image, exif=exif, quality=100)
    Image.fromarray(stored).save(mask, exif=exif)
    grey = read_image(image)[..., 0]
    assert grey.shape == upright.shape
    assert np.abs(grey.astype(int) - upright * 100).max() < 4
    assert np.array_equal(read_mask(mask, THREE, image=image), upright)


def test_16_bit_grey_keeps_its_high_byte(tmp_path: Path):
    deep = np.array([[0, 255, 256], [40_000, 65_279, 65_535]], np.uint16)
    for name in ("a.png", "a.tif"):
        Image.fromarray(deep).save(tmp_path / name)
        assert np.array_equal(read_image(tmp_path / name), np.repeat((deep >> 8)[..., None], 3, axis=2))


def test_16_bit_rgb_keeps_its_high_byte(tmp_path: Path):
    deep = np.array([[[0x0102, 0xFFFE, 0x80FF]]], np.uint16)
    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    body = zlib.compress(b"\0" + deep.astype(">u2").tobytes())
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b"")
    )
    assert read_image(tmp_path / "a.png").tolist() == [[[0x01, 0xFF, 0x80]]]


DEEP = np.array([[[0, 1, 256], [1000, 1001, 4095]], [[2047, 2048, 4096], [65_535, 40_000, 12]]], np.uint16)  # (2, 2, 3)


@pytest.mark.parametrize("name", ["a.png", "lzw.tif", "plain.tif", "alpha.png", "alpha.tif", "big-endian.tif"])
def test_every_bit_of_16_bit_channels_is_read_where_a_range_is_given(tmp_path: Path, name: str):
    path, pixels = tmp_path / name, DEEP[..., ::-1]  # OpenCV's order is blue, green, red
    if "alpha" in name:
        pixels = np.dstack([pixels, np.full((2, 2), 777, np.uint16)])
    if name == "big-endian.tif":
        swapped = [DEEP[..., channel].byteswap() for channel in range(3)]
        raw = tiff(path, swapped, photometric=2).read_bytes()
        tags = b"".join(struct.pack(">HHII", *struct.unpack("<HHII", raw[10 + 12 * i : 22 + 12 * i])) for i in range(11))
        lists = struct.pack(">125I", *struct.unpack("<125I", raw[500:1000]))
        head = struct.pack(">2sHIH", b"MM", 42, 8, 11) + tags
        path.write_bytes(head.ljust(500, b"\0") + lists + raw[1000:])
    else:
        cv2.imwrite(str(path), pixels, [cv2.IMWRITE_TIFF_COMPRESSION, 1] if name == "plain.tif" else [])
    assert np.array_equal(read_stored(path), DEEP)
    assert np.array_equal(read_image(path), DEEP >> 8)
    scaled = [[[0, 0, 16], [62, 62, 255]], [[127, 128, 255], [255, 255, 1]]]  # v * 255 / 4095, rounded, at most 255
    assert read_image(path, (0, 4095)).tolist() == scaled


def test_16_bit_grey_is_scaled_by_a_range_with_and_without_alpha(tmp_path: Path):
    Image.fromarray(np.array([[99, 100, 151, 200, 300]], np.uint16)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", (100, 200))[0, :, 0].tolist() == [0, 0, 130, 255, 255]
    rows = b"\0" + np.array([[100, 9], [151, 8], [200, 7]], ">u2").tobytes()
    path = png(tmp_path / "b.png", (1, 3), bits=16, colour=4, rows=rows)
    assert read_image(path, (100, 200)).tolist() == [[[0] * 3, [130] * 3, [255] * 3]]


def test_a_range_turns_with_exif_and_leaves_8_bits_alone(tmp_path: Path):
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in DEEP)
    exif = Image.Exif()
    exif[0x0112] = 3
    turned = png(tmp_path / "a.png", (2, 2), bits=16, colour=2, rows=rows, late=png_chunk(b"eXIf", exif.tobytes()[6:]))
    assert np.array_equal(read_stored(turned), DEEP[::-1, ::-1])
    Image.fromarray(RGB).save(tmp_path / "b.png")
    assert np.array_equal(read_image(tmp_path / "b.png", (0, 4095)), RGB)
    assert read_stored(tmp_path / "b.png").dtype == np.uint8


def test_16_bits_that_a_range_cannot_scale_are_refused_with_it_and_read_without(tmp_path: Path):
    path = tiff(tmp_path / "a.tif", [np.full((2, 2), 0x1234, np.uint16)] * 4, photometric=5)  # CMYK
    assert read_image(path).shape == read_stored(path).shape == (2, 2, 3)
    for fault in (fault_of(read_image, path, (0, 4095)), fault_of(read_stored, path, scaled=True)):
        assert "CMYK" in fault.what and "16-bit RGB" in fault.remedy


def test_deep_bands_one_after_the_other_are_refused_uncompressed(tmp_path: Path):
    bands = [DEEP[..., channel] for channel in range(3)]
    path = tiff(tmp_path / "a.tif", bands, photometric=2, planar=2)
    assert "16-bit bands stored one after the other" in fault_of(read_image, path).what
    shallow = tiff(tmp_path / "b.tif", [band.astype(np.uint8) for band in bands], photometric=2, planar=2)
    assert np.array_equal(read_image(shallow), DEEP.astype(np.uint8))


def test_transparency_is_dropped_and_colours_are_kept(tmp_path: Path):
    clear = np.dstack([RGB, np.full((2, 3), 7, np.uint8)])
    Image.fromarray(clear).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), RGB)
    Image.fromarray(clear[..., [0, 3]]).save(tmp_path / "grey.png")
    assert np.array_equal(read_image(tmp_path / "grey.png"), np.repeat(RGB[..., :1], 3, axis=2))


def test_palette_one_bit_and_grey_become_rgb(tmp_path: Path):
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), mode=None).convert("P")
    palette.putdata([0, 1])
    palette.putpalette([9, 8, 7, 200, 100, 50])
    palette.save(tmp_path / "p.png", transparency=bytes([0, 255]))
    assert read_image(tmp_path / "p.png").tolist() == [[[9, 8, 7], [200, 100, 50]]]
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "1.png")
    assert read_image(tmp_path / "1.png").tolist() == [[[255] * 3, [0] * 3]]
    Image.fromarray(np.array([[3, 4]], np.uint8)).save(tmp_path / "l.png")
    assert read_image(tmp_path / "l.png").tolist() == [[[3] * 3, [4] * 3]]


def test_cmyk_becomes_rgb(tmp_path: Path):
    inks = np.zeros((8, 8, 4), np.uint8)
    inks[..., 1:3] = 255  # magenta + yellow: red
    for name in ("a.tif", "a.jpg"):
        Image.fromarray(inks, mode="CMYK").save(tmp_path / name)
        assert np.abs(read_image(tmp_path / name).astype(int) - (255, 0, 0)).max() < 8


def test_one_pixel_is_an_image(tmp_path: Path):
    Image.fromarray(RGB[:1, :1]).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").shape == (1, 1, 3)


def test_32_bit_pixels_are_refused(tmp_path: Path):
    Image.fromarray(np.ones((2, 2), np.float32)).save(tmp_path / "a.tif")
    assert "32-bit" in fault_of(read_image, tmp_path / "a.tif").what


def test_files_of_several_frames_are_refused_but_for_phone_jpegs(tmp_path: Path):
    first, second = Image.fromarray(RGB), Image.fromarray(255 - RGB)
    for name in ("a.tif", "a.png", "a.webp"):
        first.save(tmp_path / name, save_all=True, append_images=[second])
        assert "2 frames" in fault_of(read_image, tmp_path / name).what
    first.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[second], quality=100)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - RGB).max() < 60  # of the first, not of its negative


def test_empty_html_and_missing_files_are_named(tmp_path: Path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "page.jpg").write_text("<!doctype html><p>404")
    for name, what in (("empty.png", "is empty"), ("page.jpg", "is no PNG"), ("none.png", "No such file")):
        fault = fault_of(read_image, tmp_path / name)
        assert what in fault.what and fault.file == str(tmp_path / name)


@pytest.mark.parametrize(
    ("kind", "head", "remedy"),
    [
        ("HTML", b"\n<!DOCTYPE html><p>404", "replace"),
        ("PDF", b"%PDF-1.7", "replace"),
        ("Git LFS pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        ("HEIC", b"\0\0\0\x18ftypheic", "save it as PNG"),
        ("AVIF", b"\0\0\0\x1cftypavif", "save it as PNG"),
        ("JPEG 2000", b"\0\0\0\x0cjP  \r\n", "save it as PNG"),
        ("DICOM", bytes(128) + b"DICM", "save it as PNG"),
        ("NIfTI", bytes(344) + b"n+1\0", "save it as PNG"),
        ("NumPy", b"\x93NUMPY\x01\0", "save it as PNG"),
    ],
)
def test_files_of_other_kinds_are_called_what_they_are(tmp_path: Path, kind: str, head: bytes, remedy: str):
    (tmp_path / "a.png").write_bytes(head)
    fault = fault_of(read_image, tmp_path / "a.png")
    assert f"picture but {kind}, whatever its name says" in fault.what and remedy in fault.remedy


def test_a_known_format_with_a_header_that_fails_is_named(tmp_path: Path):
    (tmp_path / "a.jpg").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(30))
    assert "is a PNG whose header is damaged" in fault_of(read_image, tmp_path / "a.jpg").what


@pytest.mark.parametrize(
    ("kind", "number", "bands", "says"),
    [
        ("u2", 1, 5, "5 bands of 16 bits marked as grey, which"),
        ("u2", 1, 3, "3 bands of 16 bits marked as grey, which"),
        ("i8", 2, 1, "1 band of 64-bit signed integers, which"),
        ("f8", 3, 1, "1 band of 64-bit floating-point numbers, which"),
        ("u4", 1, 3, "3 bands of 32 bits marked as grey, which"),
    ],
)
def test_tiffs_that_cannot_be_opened_are_described(tmp_path: Path, kind: str, number: int, bands: int, says: str):
    path = tiff(tmp_path / "a.tif", [np.ones((2, 3), kind)] * bands, number=number)
    for fault in (fault_of(read_image, path), fault_of(read_mask, path, THREE)):
        assert f"is a TIFF of {says}" in fault.what and "8- or 16-bit RGB or grey" in fault.remedy


def test_a_tiff_of_an_unknown_compression_is_described(tmp_path: Path):
    path = tiff(tmp_path / "a.tif", [np.ones((2, 3), np.uint8)], packed=34_712)
    assert "is a TIFF of 1 band of 8 bits in compression 34712" in fault_of(read_image, path).what


def test_signed_16_bit_images_are_called_so(tmp_path: Path):
    assert "signed 16-bit" in fault_of(read_image, tiff(tmp_path / "a.tif", [np.ones((2, 3), np.int16)], number=2)).what


def test_gif_and_pnm_are_images_too(tmp_path: Path):
    Image.fromarray(RGB).save(tmp_path / "a.ppm")
    assert np.array_equal(read_image(tmp_path / "a.ppm"), RGB)
    (tmp_path / "b.pgm").write_bytes(b"P5 2 1 4\n\0\x02")  # 2 of 4 is middle grey
    assert read_image(tmp_path / "b.pgm")[0, :, 0].tolist() == [0, 128]
    few = Image.fromarray(RGB).quantize(6)
    few.save(tmp_path / "c.gif")
    assert np.array_equal(read_image(tmp_path / "c.gif"), np.array(few.convert("RGB")))
    (tmp_path / "d.pgm").write_bytes(b"P5 1 1 4095\n\x0f\xff")
    assert "more than 8 bits" in fault_of(read_image, tmp_path / "d.pgm").what


@pytest.mark.parametrize(
    ("suffix", "options"),
    [("png", {}), ("jpg", {}), ("jpg", {"progressive": True}), ("bmp", {}), ("tif", {}), ("webp", {"lossless": True}),
     ("tif", {"compression": "tiff_lzw"})],
)  # fmt: skip
def test_a_truncated_file_is_refused_or_whole(tmp_path: Path, suffix: str, options: dict):
    picture = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    whole, cut = tmp_path / f"a.{suffix}", tmp_path / f"cut.{suffix}"
    Image.fromarray(picture).save(whole, **options)
    raw, expected = whole.read_bytes(), read_image(whole)
    refused = 0
    for length in range(0, len(raw), 29):
        cut.write_bytes(raw[:length])
        try:
            assert np.array_equal(read_image(cut), expected), length
        except DataError as error:
            refused += 1
            assert str(cut) in str(error)
    assert refused > len(raw) / 29 * 0.8


def test_a_decompression_bomb_is_refused_by_its_header(tmp_path: Path):
    path = tmp_path / "bomb.png"
    Image.new("1", (12_000, 12_000)).save(path)
    assert path.stat().st_size < 50_000
    start = time.monotonic()
    assert "too large" in fault_of(read_image, path).what
    assert time.monotonic() - start < 0.5
    header = struct.pack(">IIBBBBB", 1 << 30, 1 << 30, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", b""))
    assert "too large" in fault_of(read_image, path).what


def test_fifos_devices_and_folders_are_not_opened(tmp_path: Path):
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("/dev/zero")
    (tmp_path / "c.png").mkdir()
    for name in "abc":
        assert "no regular file" in fault_of(read_image, tmp_path / f"{name}.png").what


def test_random_bytes_behind_a_good_header_raise_only_data_errors(tmp_path: Path):
    rng = np.random.default_rng(1)
    picture = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    for suffix in ("png", "jpg", "bmp", "tif", "webp"):
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, format={"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper()))
        for _ in range(60):
            raw = bytearray(stream.getvalue())
            for place in rng.integers(0, len(raw), 8):
                raw[place] = rng.integers(0, 256)
            (tmp_path / f"a.{suffix}").write_bytes(raw)
            try:
                assert read_image(tmp_path / f"a.{suffix}").dtype == np.uint8
            except DataError as error:
                assert str(error).isprintable()


# --- masks


def save(path: Path, pixels: np.ndarray, **options) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def test_grey_masks_are_read_by_value(tmp_path: Path):
    for suffix in ("png", "bmp", "tif"):
        assert np.array_equal(read_mask(save(tmp_path / f"a.{suffix}", IDS), THREE), IDS)


def test_values_are_mapped_to_classes_in_order(tmp_path: Path):
    path = save(tmp_path / "a.png", np.array([[0, 255, 11]], np.uint8))
    assert read_mask(path, MaskCode((0, 255), (11,))).tolist() == [[0, 1, 255]]
    assert read_mask(path, MaskCode((255, 11, 0))).tolist() == [[2, 0, 1]]


def test_palette_indices_are_kept(tmp_path: Path):
    picture = Image.fromarray(IDS).convert("P")
    picture.putdata(IDS.ravel())
    picture.putpalette([200, 200, 200] * 256)  # all of one colour: only indices can tell
    for options in ({}, {"transparency": 0}):
        picture.save(tmp_path / "a.png", **options)
        assert np.array_equal(read_mask(tmp_path / "a.png", THREE), IDS)
    few = Image.fromarray(np.array([[0, 1, 2]], np.uint8)).convert("P")
    few.putdata([0, 1, 2])
    few.putpalette([5, 5, 5] * 3)
    few.save(tmp_path / "few.png", bits=2)
    assert read_mask(tmp_path / "few.png", THREE).tolist() == [[0, 1, 2]]


def test_16_bit_ids_and_one_bit_masks(tmp_path: Path):
    code = MaskCode((0, 1000, 65_535))
    for name in ("a.png", "a.tif"):
        path = save(tmp_path / name, np.array([[1000, 0, 65_535]], np.uint16))
        assert read_mask(path, code).tolist() == [[1, 0, 2]]
    assert read_mask(save(tmp_path / "b.png", np.array([[True, False]])), THREE).tolist() == [[1, 0]]


@pytest.mark.parametrize(("bits", "body"), [(2, b"\0\x1b"), (4, b"\0\x01\x23")])
def test_2_and_4_bit_grey_masks_keep_their_numbers(tmp_path: Path, bits: int, body: bytes):
    header = struct.pack(">IIBBBBB", 4, 1, bits, 0, 0, 0, 0)
    chunks = (png_chunk(b"IHDR", header), png_chunk(b"IDAT", zlib.compress(body)), png_chunk(b"IEND", b""))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    assert read_mask(tmp_path / "a.png", MaskCode((0, 1, 2, 3))).tolist() == [[0, 1, 2, 3]]
    assert read_image(tmp_path / "a.png")[0, :2, 0].tolist() == [0, 85 if bits == 2 else 17]


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("photometric", [0, 1])  # white is zero, black is zero
def test_tiffs_of_either_photometric_keep_their_numbers(tmp_path: Path, bits: int, photometric: int):
    ids = np.array([[0, 1, 1, 0, 0, 0, 1, 1]] if bits == 1 else [[0, 1, 2, 3, 0, 0, 2, 1]], np.uint8)
    most = 2**bits - 1
    unpacked = (ids[..., None] >> np.arange(bits - 1, -1, -1)) & 1  # (1, 8, bits)
    body = np.packbits(unpacked.reshape(-1).astype(np.uint8)).tobytes()
    tags = {256: 8, 257: 1, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: 1, 279: len(body)}
    padded = body + b"\0" * (len(body) % 2)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    (tmp_path / "a.tif").write_bytes(b"II*\0" + struct.pack("<I", 8 + len(padded)) + padded + directory)
    assert read_mask(tmp_path / "a.tif", MaskCode((0, 1, 2, 3))).tolist() == ids.tolist()
    shown = ids[0] * (255 // most)
    assert read_image(tmp_path / "a.tif")[0, :, 0].tolist() == (255 - shown if photometric == 0 else shown).tolist()


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_16_bits_in_several_channels_are_no_mask(tmp_path: Path, channels: int):
    colour = {2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.tobytes() for row in np.repeat(IDS[..., None], channels, axis=2).astype(">u2"))
    header = struct.pack(">IIBBBBB", 3, 2, 16, colour, 0, 0, 0)
    chunks = (png_chunk(b"IHDR", header), png_chunk(b"IDAT", zlib.compress(rows)), png_chunk(b"IEND", b""))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    fault = fault_of(read_mask, tmp_path / "a.png", THREE)
    assert "16 bits" in fault.what and "grey" in fault.remedy


def test_colour_masks_are_read_by_colour(tmp_path: Path):
    code = MaskCode((), (), ((0, 0, 0), (128, 0, 0)), ((255, 255, 255),))
    pixels = np.array([[[128, 0, 0], [0, 0, 0], [255, 255, 255]]], np.uint8)
    assert read_mask(save(tmp_path / "a.png", pixels), code).tolist() == [[1, 0, 255]]
    assert read_mask(save(tmp_path / "b.png", np.dstack([pixels, pixels[..., :1]])), code).tolist() == [[1, 0, 255]]
    Image.fromarray(pixels).quantize(3).save(tmp_path / "p.png")
    assert read_mask(tmp_path / "p.png", code).tolist() == [[1, 0, 255]]


def test_grey_stored_as_rgb_is_read_by_value(tmp_path: Path):
    assert np.array_equal(read_mask(save(tmp_path / "a.png", np.repeat(IDS[..., None], 3, axis=2)), THREE), IDS)


def test_every_unknown_value_is_listed_with_its_count(tmp_path: Path):
    fault = fault_of(read_mask, save(tmp_path / "a.png", np.array([[7, 9, 9, 0]], np.uint8)), THREE)
    assert "9 (2 pixels), 7 (1 pixel)" in fault.what
    assert "data.values" in fault.remedy and "data.ignore" in fault.remedy
    fault = fault_of(read_mask, save(tmp_path / "b.png", np.arange(200, dtype=np.uint8)[None]), THREE)
    assert "and 185 more" in fault.what


def test_unknown_colours_are_listed(tmp_path: Path):
    path = save(tmp_path / "a.png", np.array([[[1, 2, 3], [0, 0, 0]]], np.uint8))
    assert "[1, 2, 3] (1 pixel)" in fault_of(read_mask, path, MaskCode((), (), ((0, 0, 0),))).what
    fault = fault_of(read_mask, path, THREE)
    assert "colour mask" in fault.what and "data.colours" in fault.remedy and "[1, 2, 3]" in fault.what


def test_a_jpeg_is_no_mask_whatever_its_name(tmp_path: Path):
    Image.fromarray(IDS).save(tmp_path / "a.png", format="JPEG")
    assert "JPEG" in fault_of(read_mask, tmp_path / "a.png", THREE).what


def test_a_mask_of_another_size_is_refused(tmp_path: Path):
    image = save(tmp_path / "image.png", RGB)
    fault = fault_of(read_mask, save(tmp_path / "mask.png", IDS.T.copy()), THREE, image=image)
    assert "3x2" in fault.what and "2x3" in fault.what


def test_float_masks_are_refused(tmp_path: Path):
    assert "no kind of mask" in fault_of(read_mask, save(tmp_path / "a.tif", np.zeros((1, 1), np.float32)), THREE).what


# --- sizes


def test_shrinking_averages_areas_and_growing_is_bilinear():
    image = np.repeat(np.array([[0, 100], [100, 200]], np.uint8)[..., None], 3, axis=2)
    assert resize_image(image, (1, 1)).tolist() == [[[100] * 3]]
    assert resize_image(image, (2, 4))[0, :, 0].tolist() == [0, 25, 75, 100]
    assert resize_image(image, (2, 2)) is image


def test_masks_are_resized_to_the_nearest_pixel():
    mask = np.array([[0, 1, 2, 255]], np.uint8)
    assert resize_mask(mask, (2, 8)).tolist() == [[0, 0, 1, 1, 2, 2, 255, 255]] * 2
    assert resize_mask(np.array([[0, 1, 2]], np.uint8), (1, 1)).tolist() == [[1]]  # the middle one, not a corner


def test_the_limit_of_pixels_counts_the_whole_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 6)
    assert read_image(save(tmp_path / "a.png", RGB)).shape == (2, 3, 3)
    monkeypatch.setattr(images, "MAX_PIXELS", 5)
    assert "limit is 5" in fault_of(read_image, tmp_path / "a.png").what


# --- the ways up of an image and its mask


def oriented(path: Path, pixels: np.ndarray, orientation: int) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return save(path, pixels, **({"exif": exif} if orientation != 1 else {}))


@pytest.mark.parametrize("turned", ["image", "mask"])
@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_an_orientation_of_one_file_only_is_a_fault(tmp_path: Path, turned: str, orientation: int, suffix: str):
    square = np.zeros((4, 4), np.uint8)
    image = oriented(tmp_path / f"image.{suffix}", square, orientation if turned == "image" else 1)
    mask = oriented(tmp_path / "mask.png", square, orientation if turned == "mask" else 1)
    fault = fault_of(read_mask, mask, THREE, image=image)
    assert f"EXIF orientation {orientation}" in fault.what and image.name in fault.what and fault.file == str(mask)
    assert f"exiftool -Orientation= {turned}." in fault.remedy and f"-auto-orient {turned}." in fault.remedy


def test_a_mask_of_the_stored_size_was_drawn_without_the_turn(tmp_path: Path):
    image = oriented(tmp_path / "image.jpg", RGB, 6)  # stored 2x3, upright 3x2
    fault = fault_of(read_mask, save(tmp_path / "stored.png", IDS), THREE, image=image)
    assert "as stored" in fault.what and "exiftool -Orientation= image.jpg" in fault.remedy
    assert "auto-orient" not in fault.remedy
    upright = save(tmp_path / "upright.png", IDS.T.copy())  # its size proves that it lies on the upright image
    assert np.array_equal(read_mask(upright, THREE, image=image), IDS.T)
    fault = fault_of(read_mask, save(tmp_path / "other.png", np.zeros((4, 5), np.uint8)), THREE, image=image)
    assert "is 4x5 (height x width), but its image is 3x2" in fault.what


def test_two_different_turns_are_a_fault(tmp_path: Path):
    image, mask = oriented(tmp_path / "a.jpg", RGB, 6), oriented(tmp_path / "b.png", IDS, 8)
    assert "orientation 8" in fault_of(read_mask, mask, THREE, image=image).what


def test_an_orientation_behind_the_pixels_of_a_png_counts(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 3
    late = png_chunk(b"eXIf", exif.tobytes()[6:])
    image = png(tmp_path / "a.png", (1, 2), bits=8, colour=0, rows=b"\0\x05\x09", late=late)
    assert read_image(image)[0, :, 0].tolist() == [9, 5]
    mask = save(tmp_path / "mask.png", np.array([[0, 1]], np.uint8))
    assert "orientation 3" in fault_of(read_mask, mask, THREE, image=image).what


# --- more kinds of masks


@pytest.mark.parametrize("suffix", ["webp", "gif", "pgm", "pnm"])
def test_masks_of_other_lossless_formats_keep_their_numbers(tmp_path: Path, suffix: str):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(IDS).save(path, lossless=True)
    assert np.array_equal(read_mask(path, THREE), IDS)


def test_a_lossy_webp_is_no_mask(tmp_path: Path):
    large = np.zeros((32, 32), np.uint8)
    clear = Image.fromarray(np.dstack([large] * 4))  # with alpha: the pixels are not in the first chunk
    for name, picture in (("a.webp", Image.fromarray(large)), ("b.webp", clear)):
        picture.save(tmp_path / name, quality=90)
        assert "lossy WebP" in fault_of(read_mask, tmp_path / name, THREE).what
        assert read_image(tmp_path / name).shape == (32, 32, 3)
    clear.save(tmp_path / "c.webp", lossless=True)
    assert np.array_equal(read_mask(tmp_path / "c.webp", THREE), large)


def test_a_gif_of_greys_is_read_by_grey_level(tmp_path: Path):
    """Its writer numbers the levels as they appear: 0 and 2 become 0 and 1."""
    path = save(tmp_path / "a.gif", np.array([[0, 2, 2]], np.uint8))
    assert np.asarray(Image.open(path)).tolist() == [[0, 1, 1]]
    assert read_mask(path, THREE).tolist() == [[0, 2, 2]] and read_mask_file(path, THREE).palette == b""


@pytest.mark.parametrize("text", [b"P5 3 1 2\n\0\x01\x02", b"P2 3 1 2 0 1 2", b"P5 3 1 300\n\0\0\0\x01\0\x02"])
def test_a_pgm_mask_keeps_its_numbers_whatever_its_largest_is(tmp_path: Path, text: bytes):
    (tmp_path / "a.pgm").write_bytes(text)
    assert read_mask(tmp_path / "a.pgm", THREE).tolist() == [[0, 1, 2]]


def test_a_bitmap_whose_black_is_one_is_no_mask(tmp_path: Path):
    (tmp_path / "a.pnm").write_bytes(b"P1 2 1 0 1")
    assert "bitmap" in fault_of(read_mask, tmp_path / "a.pnm", THREE).what


def indexed(path: Path, indices: np.ndarray, colours: list[list[int]]) -> Path:
    picture = Image.fromarray(indices.astype(np.uint8)).convert("L")
    picture.putpalette(np.array(colours, np.uint8).tobytes())
    picture.save(path)
    return path


def test_the_palette_of_a_mask_and_what_it_uses_are_kept(tmp_path: Path):
    found = read_mask_file(indexed(tmp_path / "a.png", IDS * (IDS < 3), [[9, 8, 7], [1, 1, 1], [5, 0, 0], [4, 4, 4]]), THREE)
    assert found.used == (0, 1, 2) and found.palette[:12] == bytes([9, 8, 7, 1, 1, 1, 5, 0, 0, 4, 4, 4])
    plain = indexed(tmp_path / "b.png", IDS, [[i, i, i] for i in range(256)])  # grey that is stored with a palette
    assert read_mask_file(plain, THREE).palette == b"" and np.array_equal(read_mask(plain, THREE), IDS)


def test_several_values_may_be_one_class(tmp_path: Path):
    path = save(tmp_path / "a.png", np.array([[0, 7, 9, 255]], np.uint8))
    assert read_mask(path, MaskCode((0, (7, 9)), (255,))).tolist() == [[0, 1, 1, 255]]
    assert "declared: 0, [7, 8]" in fault_of(read_mask, path, MaskCode((0, (7, 8)), (255,))).remedy


def test_the_rest_is_ignored_and_counted_where_that_is_asked_for(tmp_path: Path):
    path = save(tmp_path / "a.png", np.array([[0, 7, 9, 255]], np.uint8))
    found = read_mask_file(path, MaskCode((7, 0), (255,), rest=True))
    assert found.ids.tolist() == [[1, 0, 255, 255]] and found.rest == 1
    colours = save(tmp_path / "b.png", RGB)
    found = read_mask_file(colours, MaskCode((), (), ((0, 10, 20), (30, 40, 50)), rest=True))
    assert found.ids.tolist() == [[0, 1, 255], [255, 255, 255]] and found.rest == 4
