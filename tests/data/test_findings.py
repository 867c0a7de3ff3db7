"""What verify judges of palettes, turned images and 16-bit ranges."""

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from six_images import BLACK, GREEN, HALVES, NAMES, RED, WHITE, check, image, six_images

from selftrain.data import verify as verification
from selftrain.data.faults import Fault

pytestmark = pytest.mark.promise(
    "16-bit ranges, palettes that differ, undeclared values: said by verify, never silent"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return six_images(tmp_path)


def indexed(path: Path, ids: np.ndarray, *colours: list[int]) -> None:
    picture = Image.fromarray(ids.astype(np.uint8)).convert("L")
    picture.putpalette(np.array(colours, np.uint8).tobytes())
    picture.save(path)


def deepen(root: Path, largest: int, names: list[str] = NAMES) -> None:
    """16-bit grey in place of the images, with values up to `largest`."""
    for seed, name in enumerate(names):
        pixels = np.random.default_rng(seed).integers(0, largest, (4, 6)).astype(np.uint16)
        pixels[0, 0] = largest
        image(root / "images" / f"{name}.png", pixels)


def palettes(root: Path, *rows: tuple) -> list[Fault]:
    """Faults of a data set whose first masks have the ids and palettes of `rows`."""
    for name, (ids, *colours) in zip(NAMES, rows, strict=False):
        indexed(root / "masks" / f"{name}.png", ids, *colours)
    return check(root).faults


# --- palettes


def test_palettes_that_number_the_colours_differently_are_a_fault_with_the_remedy(root: Path):
    (fault,) = palettes(root, (HALVES, BLACK, RED), (1 - HALVES, RED, BLACK))
    assert fault.file == "masks/train/1.png" and "masks/train/0.png" in fault.what
    assert "index 0 is [0, 0, 0] there and [255, 0, 0] here" in fault.what
    assert "data.colours=[[0,0,0],[255,0,0]]" in fault.remedy and "ignore_colours" not in fault.remedy


def test_the_remedy_reads_the_masks_rightly(root: Path):
    assert palettes(root, *[(HALVES, BLACK, RED), (1 - HALVES, RED, BLACK)] * 3)
    report = check(root, colours=[[0, 0, 0], [255, 0, 0]])
    assert report.faults == [] and report.pixels("labelled").tolist() == [48, 48, 0]


def test_one_colour_at_two_indices_is_a_fault(root: Path):
    (fault,) = palettes(root, (HALVES, BLACK, RED), (HALVES * 255, BLACK, GREEN, *[BLACK] * 253, RED))
    assert "[255, 0, 0] is index 1 there and 255 here" in fault.what


def test_a_mask_of_one_class_is_compared_too(root: Path):
    (fault,) = palettes(root, (HALVES * 0, BLACK, RED), (HALVES * 0, RED, BLACK))
    assert "index 0" in fault.what


def test_ignored_indices_become_ignored_colours_in_the_remedy(root: Path):
    void = np.where(HALVES, 255, 0)
    rows = (HALVES, BLACK, RED), (HALVES, RED, BLACK), (void, BLACK, RED, *[BLACK] * 253, [7, 7, 7])
    (fault,) = palettes(root, *rows)
    assert "data.colours=[[0,0,0],[255,0,0]] data.ignore_colours=[[7,7,7]]" in fault.remedy


@pytest.mark.parametrize(
    "rows",
    [
        [(HALVES, BLACK, RED), (HALVES, BLACK, RED, GREEN)],  # an entry that nothing uses
        [(HALVES, BLACK, RED), (HALVES * 0, BLACK, GREEN)],  # another one
        [(HALVES, BLACK, RED)],  # beside grey masks, which have no palette
        [(HALVES, BLACK, RED), (HALVES, *([i, i, i] for i in range(256)))],  # grey as it is
        [(HALVES, BLACK, RED), (HALVES, BLACK, WHITE)],  # grey that is stretched
        [(HALVES * 0, BLACK, BLACK), (HALVES * 0 + 1, BLACK, BLACK)],  # classes that share a colour
    ],
)
def test_palettes_that_agree_in_what_is_used_are_no_fault(root: Path, rows: list[tuple]):
    assert palettes(root, *rows) == []


def test_inverted_greys_are_a_fault(root: Path):
    assert palettes(root, (HALVES, BLACK, WHITE), (1 - HALVES, WHITE, BLACK))


def test_palettes_are_judged_again_from_the_cache(root: Path, monkeypatch: pytest.MonkeyPatch):
    first = palettes(root, (HALVES, BLACK, RED), (1 - HALVES, RED, BLACK))
    monkeypatch.setattr(verification, "_look", None)
    assert check(root).faults == first != []


# --- the way up of masks


def test_a_turned_image_with_a_plain_mask_is_a_fault_of_verify(root: Path):
    exif = Image.Exif()
    exif[0x0112] = 3
    with Image.open(root / "images/train/2.png") as picture:
        picture.save(root / "images/train/2.png", exif=exif)
    (fault,) = check(root).faults
    assert fault.file == "masks/train/2.png" and "2.png has EXIF orientation 3" in fault.what


# --- the range of 16-bit images


def test_16_bit_images_of_few_levels_are_one_warning_with_the_remedy(root: Path):
    deepen(root, 4000)
    report = check(root)
    (warning,) = report.warnings
    assert report.faults == [] and warning.startswith(
        "6 of 6 16-bit images use less than half of the 65,536 levels"
    )
    assert "largest value is 4000, 6.1% of the range" in warning  # 4001 / 65536
    assert "16 of 256 levels" in warning  # 4000 >> 8 is 15
    assert "data.range=percentile or data.range=[0,4095]" in warning
    assert check(root).warnings == report.warnings  # from the cache


def test_16_bit_images_that_use_their_range_are_no_warning(root: Path):
    deepen(root, 60_000)
    deepen(root, 4000, NAMES[:2])  # a few are dark
    assert check(root).warnings == []


def test_a_range_silences_the_warning_and_a_narrow_one_is_said(root: Path):
    deepen(root, 4000)
    assert check(root, range=[0, 4095]).warnings == check(root, range=["percentile"]).warnings == []
    assert check(root, range=[0, 3000]).warnings == [
        "data.range=[0,3000] clips 6 16-bit images of 6 with values above 3000, up to 4000"
    ]


def test_images_of_both_depths_are_a_warning(root: Path):
    deepen(root, 60_000, NAMES[:2])
    (warning,) = check(root).warnings
    assert "2 images of 16 bits and 4 of 8 bits" in warning
    assert check(root, range=[0, 65_535]).warnings == []


@pytest.mark.parametrize("setting", [["percentile"], [0, 4095]])
def test_a_range_without_16_bit_images_is_a_fault(root: Path, setting: list):
    (fault,) = check(root, range=setting).faults
    assert fault.file.startswith("data.range=") and "has none" in fault.what


def test_16_bit_images_that_cannot_be_scaled_are_faults_with_a_range_only(root: Path):
    body = np.full((4, 6, 4), 9000, "<u2").tobytes()
    tags = {256: 6, 257: 4, 258: (16, 400), 259: 1, 262: 5, 273: 500, 277: 4, 278: 4, 279: len(body)}  # CMYK
    rows = b"".join(
        struct.pack("<HHII", tag, 3, 4, value[1]) if tag == 258 else struct.pack("<HHII", tag, 4, 1, value)
        for tag, value in tags.items()
    )
    head = (struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + rows + bytes(4)).ljust(400, b"\0")
    (root / "images/train/0.png").unlink()
    (root / "images/train/0.tif").write_bytes((head + struct.pack("<4H", *[16] * 4)).ljust(500, b"\0") + body)
    deepen(root, 60_000, NAMES[1:])
    assert check(root).faults == []
    (fault,) = check(root, range=[0, 65_535]).faults
    assert fault.file == "images/train/0.tif" and "CMYK" in fault.what
