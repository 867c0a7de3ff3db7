import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from picture_files import fault_of, png, png_chunk, save
from PIL import Image

from selftrain.data.images import read_image
from selftrain.data.masks import MaskCode, examine_mask, read_mask, resize_mask

pytestmark = pytest.mark.promise(
    "images and masks of every kind (16-bit, CMYK, alpha, palettes, EXIF, bombs, torn): one convention, or a named fault"
)

THREE = MaskCode((0, 1, 2), (255,))
RGB = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 10  # (2, 3, 3)
IDS = np.array([[0, 1, 2], [2, 255, 0]], np.uint8)


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
    assert (
        read_image(tmp_path / "a.tif")[0, :, 0].tolist()
        == (255 - shown if photometric == 0 else shown).tolist()
    )


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_16_bits_in_several_channels_are_no_mask(tmp_path: Path, channels: int):
    colour = {2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(
        b"\0" + row.tobytes() for row in np.repeat(IDS[..., None], channels, axis=2).astype(">u2")
    )
    header = struct.pack(">IIBBBBB", 3, 2, 16, colour, 0, 0, 0)
    chunks = (png_chunk(b"IHDR", header), png_chunk(b"IDAT", zlib.compress(rows)), png_chunk(b"IEND", b""))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    fault = fault_of(read_mask, tmp_path / "a.png", THREE)
    assert "16 bits" in fault.what and "grey" in fault.remedy


def test_colour_masks_are_read_by_colour(tmp_path: Path):
    code = MaskCode((), (), ((0, 0, 0), (128, 0, 0)), ((255, 255, 255),))
    pixels = np.array([[[128, 0, 0], [0, 0, 0], [255, 255, 255]]], np.uint8)
    assert read_mask(save(tmp_path / "a.png", pixels), code).tolist() == [[1, 0, 255]]
    assert read_mask(save(tmp_path / "b.png", np.dstack([pixels, pixels[..., :1]])), code).tolist() == [
        [1, 0, 255]
    ]
    Image.fromarray(pixels).quantize(3).save(tmp_path / "p.png")
    assert read_mask(tmp_path / "p.png", code).tolist() == [[1, 0, 255]]


def test_grey_stored_as_rgb_is_read_by_value(tmp_path: Path):
    assert np.array_equal(
        read_mask(save(tmp_path / "a.png", np.repeat(IDS[..., None], 3, axis=2)), THREE), IDS
    )


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
    path = save(tmp_path / "a.tif", np.zeros((1, 1), np.float32))
    assert "mode F, which masks cannot have" in fault_of(read_mask, path, THREE).what


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


def test_masks_are_resized_to_the_nearest_pixel():
    mask = np.array([[0, 1, 2, 255]], np.uint8)
    assert resize_mask(mask, (2, 8)).tolist() == [[0, 0, 1, 1, 2, 2, 255, 255]] * 2
    assert resize_mask(np.array([[0, 1, 2]], np.uint8), (1, 1)).tolist() == [
        [1]
    ]  # the middle one, not a corner


# --- the ways up of an image and its mask


def oriented(path: Path, pixels: np.ndarray, orientation: int) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return save(path, pixels, **({"exif": exif} if orientation != 1 else {}))


@pytest.mark.parametrize("turned", ["image", "mask"])
@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_an_orientation_of_one_file_only_is_a_fault(
    tmp_path: Path, turned: str, orientation: int, suffix: str
):
    square = np.zeros((4, 4), np.uint8)
    image = oriented(tmp_path / f"image.{suffix}", square, orientation if turned == "image" else 1)
    mask = oriented(tmp_path / "mask.png", square, orientation if turned == "mask" else 1)
    fault = fault_of(read_mask, mask, THREE, image=image)
    assert (
        f"EXIF orientation {orientation}" in fault.what
        and image.name in fault.what
        and fault.file == str(mask)
    )
    assert f"exiftool -Orientation= {turned}." in fault.remedy and f"-auto-orient {turned}." in fault.remedy


def test_a_mask_of_the_stored_size_was_drawn_without_the_turn(tmp_path: Path):
    image = oriented(tmp_path / "image.jpg", RGB, 6)  # stored 2x3, upright 3x2
    fault = fault_of(read_mask, save(tmp_path / "stored.png", IDS), THREE, image=image)
    assert "as stored" in fault.what and "exiftool -Orientation= image.jpg" in fault.remedy
    assert "auto-orient" not in fault.remedy
    upright = save(
        tmp_path / "upright.png", IDS.T.copy()
    )  # its size proves that it lies on the upright image
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
    assert read_mask(path, THREE).tolist() == [[0, 2, 2]] and examine_mask(path, THREE).palette == b""


@pytest.mark.parametrize(
    "text", [b"P5 3 1 2\n\0\x01\x02", b"P2 3 1 2 0 1 2", b"P5 3 1 300\n\0\0\0\x01\0\x02"]
)
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
    found = examine_mask(
        indexed(tmp_path / "a.png", IDS * (IDS < 3), [[9, 8, 7], [1, 1, 1], [5, 0, 0], [4, 4, 4]]), THREE
    )
    assert found.used == (0, 1, 2) and found.palette[:12] == bytes([9, 8, 7, 1, 1, 1, 5, 0, 0, 4, 4, 4])
    plain = indexed(
        tmp_path / "b.png", IDS, [[i, i, i] for i in range(256)]
    )  # grey that is stored with a palette
    assert examine_mask(plain, THREE).palette == b"" and np.array_equal(read_mask(plain, THREE), IDS)


def test_several_values_may_be_one_class(tmp_path: Path):
    path = save(tmp_path / "a.png", np.array([[0, 7, 9, 255]], np.uint8))
    assert read_mask(path, MaskCode((0, (7, 9)), (255,))).tolist() == [[0, 1, 1, 255]]
    assert "declared: 0, [7, 8]" in fault_of(read_mask, path, MaskCode((0, (7, 8)), (255,))).remedy


def test_the_rest_is_ignored_and_counted_where_that_is_asked_for(tmp_path: Path):
    path = save(tmp_path / "a.png", np.array([[0, 7, 9, 255]], np.uint8))
    found = examine_mask(path, MaskCode((7, 0), (255,), rest=True))
    assert found.ids.tolist() == [[1, 0, 255, 255]] and found.rest == 1
    colours = save(tmp_path / "b.png", RGB)
    found = examine_mask(colours, MaskCode((), (), ((0, 10, 20), (30, 40, 50)), rest=True))
    assert found.ids.tolist() == [[0, 1, 255], [255, 255, 255]] and found.rest == 4
