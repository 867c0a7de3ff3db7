import io
import struct
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from picture_files import fault_of, png, png_chunk, save, tiff
from PIL import Image

from selftrain.data import images
from selftrain.data.images import read_image, read_stored, resize_image
from selftrain.data.masks import MaskCode, read_mask
from selftrain.errors import DataError

pytestmark = pytest.mark.promise(
    "images and masks of every kind (16-bit, CMYK, alpha, palettes, EXIF, bombs, torn): one convention, or a named fault"
)

THREE = MaskCode((0, 1, 2), (255,))
RGB = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 10  # (2, 3, 3)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "tiff", "webp", "PNG"])
def test_lossless_formats_come_back_as_they_were(tmp_path: Path, suffix: str):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(RGB).save(path, lossless=True)
    assert np.array_equal(read_image(path), RGB)


def test_jpeg_is_read_as_rgb(tmp_path: Path):
    red = np.full((16, 16, 3), (250, 10, 20), np.uint8)
    Image.fromarray(red).save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - red).max() < 6


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


DEEP = np.array(
    [[[0, 1, 256], [1000, 1001, 4095]], [[2047, 2048, 4096], [65_535, 40_000, 12]]], np.uint16
)  # (2, 2, 3)


@pytest.mark.parametrize(
    "name", ["a.png", "lzw.tif", "plain.tif", "alpha.png", "alpha.tif", "big-endian.tif"]
)
def test_every_bit_of_16_bit_channels_is_read_where_a_range_is_given(tmp_path: Path, name: str):
    path, pixels = tmp_path / name, DEEP[..., ::-1]  # OpenCV's order is blue, green, red
    if "alpha" in name:
        pixels = np.dstack([pixels, np.full((2, 2), 777, np.uint16)])
    if name == "big-endian.tif":
        swapped = [DEEP[..., channel].byteswap() for channel in range(3)]
        raw = tiff(path, swapped, photometric=2).read_bytes()
        tags = b"".join(
            struct.pack(">HHII", *struct.unpack("<HHII", raw[10 + 12 * i : 22 + 12 * i])) for i in range(11)
        )
        lists = struct.pack(">125I", *struct.unpack("<125I", raw[500:1000]))
        head = struct.pack(">2sHIH", b"MM", 42, 8, 11) + tags
        path.write_bytes(head.ljust(500, b"\0") + lists + raw[1000:])
    else:
        cv2.imwrite(str(path), pixels, [cv2.IMWRITE_TIFF_COMPRESSION, 1] if name == "plain.tif" else [])
    assert np.array_equal(read_stored(path), DEEP)
    assert np.array_equal(read_image(path), DEEP >> 8)
    scaled = [
        [[0, 0, 16], [62, 62, 255]],
        [[127, 128, 255], [255, 255, 1]],
    ]  # v * 255 / 4095, rounded, at most 255
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
    turned = png(
        tmp_path / "a.png", (2, 2), bits=16, colour=2, rows=rows, late=png_chunk(b"eXIf", exif.tobytes()[6:])
    )
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
    assert (
        np.abs(read_image(tmp_path / "a.jpg").astype(int) - RGB).max() < 60
    )  # of the first, not of its negative


def test_empty_html_and_missing_files_are_named(tmp_path: Path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "page.jpg").write_text("<!doctype html><p>404")
    for name, what in (("empty.png", "is empty"), ("page.jpg", "is not a PNG"), ("none.png", "No such file")):
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
    assert f"image but {kind}, whatever its name says" in fault.what and remedy in fault.remedy


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
def test_tiffs_that_cannot_be_opened_are_described(
    tmp_path: Path, kind: str, number: int, bands: int, says: str
):
    path = tiff(tmp_path / "a.tif", [np.ones((2, 3), kind)] * bands, number=number)
    for fault in (fault_of(read_image, path), fault_of(read_mask, path, THREE)):
        assert f"is a TIFF of {says}" in fault.what and "8- or 16-bit RGB or grey" in fault.remedy


def test_a_tiff_of_an_unknown_compression_is_described(tmp_path: Path):
    path = tiff(tmp_path / "a.tif", [np.ones((2, 3), np.uint8)], packed=34_712)
    assert "is a TIFF of 1 band of 8 bits in compression 34712" in fault_of(read_image, path).what


def test_signed_16_bit_images_are_called_so(tmp_path: Path):
    assert (
        "signed 16-bit"
        in fault_of(read_image, tiff(tmp_path / "a.tif", [np.ones((2, 3), np.int16)], number=2)).what
    )


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


def test_random_bytes_behind_a_good_header_raise_only_data_errors(tmp_path: Path):
    rng = np.random.default_rng(1)
    picture = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    for suffix in ("png", "jpg", "bmp", "tif", "webp"):
        stream = io.BytesIO()
        Image.fromarray(picture).save(
            stream, format={"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper())
        )
        for _ in range(60):
            raw = bytearray(stream.getvalue())
            for place in rng.integers(0, len(raw), 8):
                raw[place] = rng.integers(0, 256)
            (tmp_path / f"a.{suffix}").write_bytes(raw)
            try:
                assert read_image(tmp_path / f"a.{suffix}").dtype == np.uint8
            except DataError as error:
                assert str(error).isprintable()


# --- sizes


def test_shrinking_averages_areas_and_growing_is_bilinear():
    image = np.repeat(np.array([[0, 100], [100, 200]], np.uint8)[..., None], 3, axis=2)
    assert resize_image(image, (1, 1)).tolist() == [[[100] * 3]]
    assert resize_image(image, (2, 4))[0, :, 0].tolist() == [0, 25, 75, 100]
    assert resize_image(image, (2, 2)) is image


@pytest.mark.parametrize("channels", [1, 2, 3, 7])
@pytest.mark.parametrize("size", [(2, 2), (8, 8)])
def test_every_channel_is_resized_like_a_grey_image(channels: int, size: tuple[int, int]):
    image = np.random.default_rng(0).integers(0, 256, (4, 4, channels), dtype=np.uint8)
    alone = [resize_image(np.repeat(image[..., c : c + 1], 3, axis=2), size)[..., 0] for c in range(channels)]
    resized = resize_image(image, size)
    assert resized.shape == (*size, channels)
    assert (
        np.abs(resized.astype(int) - np.stack(alone, axis=2)).max() <= 1
    )  # OpenCV rounds halves by the channels


def test_the_limit_of_pixels_counts_the_whole_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 6)
    assert read_image(save(tmp_path / "a.png", RGB)).shape == (2, 3, 3)
    monkeypatch.setattr(images, "MAX_PIXELS", 5)
    assert "limit is 5" in fault_of(read_image, tmp_path / "a.png").what
