"""What verify judges of the pixels and palettes of files: ranges, palettes, ignored rests."""

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from selftrain.config import DataConfig, SplitConfig
from selftrain.data import verify as verification
from selftrain.data.faults import Fault, grouped
from selftrain.data.findings import Report
from selftrain.data.load import load
from selftrain.data.verify import verify
from selftrain.datasets import spec_of
from selftrain.errors import ConfigError

pytestmark = pytest.mark.promise(
    "16-bit ranges, palettes that differ, undeclared values: said by verify, never silent"
)

RED, GREEN, BLACK, WHITE = [255, 0, 0], [0, 200, 0], [0, 0, 0], [255, 255, 255]
NAMES = [*(f"train/{i}" for i in range(4)), "val/8", "test/9"]
HALVES = np.repeat([[0, 0, 0, 1, 1, 1]], 4, axis=0).astype(np.uint8)


def image(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def indexed(path: Path, ids: np.ndarray, *colours: list[int]) -> None:
    picture = Image.fromarray(ids.astype(np.uint8)).convert("L")
    picture.putpalette(np.array(colours, np.uint8).tobytes())
    picture.save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four train images, one of val and one of test, all different, with grey masks."""
    for seed, name in enumerate(NAMES):
        pixels = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
        image(tmp_path / "images" / f"{name}.png", pixels)
        image(tmp_path / "masks" / f"{name}.png", HALVES)
    return tmp_path


def deepen(root: Path, largest: int, names: list[str] = NAMES) -> None:
    """16-bit grey in place of the images, with values up to `largest`."""
    for seed, name in enumerate(names):
        pixels = np.random.default_rng(seed).integers(0, largest, (4, 6)).astype(np.uint16)
        pixels[0, 0] = largest
        image(root / "images" / f"{name}.png", pixels)


def check(root: Path, **settings) -> Report:
    splits = SplitConfig(train="train", val="val", test="test")
    settings = {"classes": ["ground", "thing"]} | settings
    spec = spec_of(DataConfig(name="folder", format="folder", root=str(root), splits=splits, **settings))
    return verify(load(spec, strict=False), spec, workers=1)


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


# --- what is ignored because nothing declares it


def test_the_ignored_rest_is_said_with_its_share(root: Path):
    image(root / "masks/train/0.png", np.where(HALVES, 34, 0).astype(np.uint8))
    assert len(check(root).faults) == 1
    report = check(root, ignore=["rest"])
    rest = "data.ignore=[rest] ignores 8.33% of the pixels of all masks, in 1 mask"  # 12 of 6 x 24
    assert report.faults == [] and report.warnings[-1].startswith(rest)
    assert report.pixels("labelled").tolist() == [48, 36, 12]
    assert check(root, ignore=["rest"]).warnings == report.warnings


@pytest.mark.parametrize("ignore", [["others"], [255, 1.5], [True], [[255]]])
def test_other_words_and_numbers_are_refused_with_an_example(root: Path, ignore: list):
    with pytest.raises(ConfigError, match=r"data\.ignore=rest"):
        check(root, ignore=ignore)


# --- objects that are ignored by mistake

THREE = np.repeat([[0, 0, 1, 1, 2, 2]], 4, axis=0).astype(np.uint8)


def masks(root: Path, *arrays: np.ndarray) -> None:
    """The masks of the six images: the arrays in turn."""
    for place, name in enumerate(NAMES):
        image(root / "masks" / f"{name}.png", arrays[place % len(arrays)].astype(np.uint8))


def faults_of(root: Path, **settings) -> list[str]:
    return [str(fault) for fault in check(root, **settings).faults]


def test_masks_of_0_and_255_are_a_fault_whose_remedy_works(root: Path):
    masks(root, HALVES * 255)
    (fault,) = check(root).faults
    assert fault.file == "data.ignore=[255]"
    assert (
        fault.what == "class 'thing' has no pixel in any of 6 masks, while 50.00% of the pixels are ignored"
    )
    assert (
        "data.values=[0,255] data.ignore=[]" in fault.remedy
        and "take 'thing' out of data.classes" in fault.remedy
    )
    for settings in ({"values": [0, 255], "ignore": []}, {"values": [0, 255]}):
        report = check(root, **settings)
        assert report.faults == [] and report.pixels("labelled").tolist() == [48, 48, 0]


def test_masks_of_a_background_that_is_ignored_are_a_fault_too(root: Path):
    masks(root, HALVES)
    (fault,) = check(root, values=[7, 1], ignore=[0]).faults
    assert "class 'ground' has no pixel" in fault.what and "data.values=[1,0] data.ignore=[]" in fault.remedy


def test_colours_are_judged_like_values(root: Path):
    masks(root, np.array([BLACK, WHITE])[HALVES])
    (fault,) = check(root, colours=[BLACK, RED], ignore_colours=[WHITE]).faults
    assert fault.file == "data.ignore_colours=[[255,255,255]]"
    assert "data.colours=[[0,0,0],[255,255,255]] data.ignore_colours=[]" in fault.remedy
    assert faults_of(root, colours=[BLACK, WHITE]) == []


def test_the_last_of_few_classes_may_be_what_is_ignored(root: Path):
    masks(root, np.where(THREE == 2, 255, THREE))
    (fault,) = check(root, classes=["a", "b", "c"]).faults
    assert "class 'c'" in fault.what and "data.values=[0,1,255] data.ignore=[]" in fault.remedy


@pytest.mark.parametrize(
    ("pixels", "classes", "ignore"),
    [
        (THREE, 7, [255]),  # many classes: some are absent, and void is common
        (THREE * 2, 6, [255]),
        (THREE, 5, [255]),
        (np.where(THREE == 1, 2, THREE), 3, [255]),  # 255 would not stand between 0 and 2
        (THREE, 4, []),  # nothing is ignored
    ],
)
def test_absent_classes_that_void_does_not_explain_are_warnings(
    root: Path, pixels: np.ndarray, classes: int, ignore: list
):
    void = pixels.copy()
    void[0] = 255 if ignore else 0
    masks(root, void)
    report = check(root, classes=[f"c{i}" for i in range(classes)], ignore=ignore)
    assert report.faults == []
    assert sum("has no pixel in the labelled masks" in line for line in report.warnings) >= 1


def test_a_class_that_only_labelled_masks_lack_is_a_warning(root: Path):
    void = HALVES * 0
    void[0, :3] = 255
    masks(root, void, HALVES * 0, void, HALVES * 0, HALVES, HALVES)  # four of train, one of val and of test
    report = check(root)
    assert report.faults == []
    assert any(
        line == "class 'thing' has no pixel in the labelled masks: it cannot be learned"
        for line in report.warnings
    )


def test_more_classes_than_the_masks_have_values_are_named_so(root: Path):
    masks(root, HALVES * 255)
    (fault,) = check(root, classes=["a", "b", "c"]).faults
    assert "classes 'b', 'c' have no pixel" in fault.what
    assert fault.remedy.startswith(
        "name 2 classes, for the masks hold 2 values, and set data.values=[0,255] data.ignore=[]"
    )


def test_one_file_that_is_stored_with_other_values_is_a_fault(root: Path):
    image(root / "masks" / "train/2.png", HALVES * 255)
    (fault,) = faults_of(root)
    assert fault.startswith(
        "masks/train/2.png: holds one class and ignored pixels, while nearly all other masks hold several"
    )
    image(root / "masks" / "val/8.png", HALVES * 255)
    report = check(root)
    assert [fault.file for fault in report.faults] == [
        "masks/train/2.png",
        "masks/val/8.png",
    ] and report.warnings == []


def test_training_masks_that_are_stored_otherwise_than_val_are_faults(root: Path):
    masks(root, *[HALVES * 255] * 4, HALVES, HALVES)
    assert [fault.file for fault in check(root).faults] == [f"masks/train/{i}.png" for i in range(4)]


def test_a_file_of_one_class_and_void_is_a_warning_where_void_is_common(root: Path):
    void = HALVES.copy()
    void[0] = 255
    masks(root, void)
    image(root / "masks" / "train/2.png", HALVES * 255)
    report = check(root)
    assert report.faults == []
    (warning,) = report.warnings
    assert warning.startswith(
        "1 mask with one class and ignored pixels only (masks/train/2.png), while others hold several"
    )


def test_a_file_of_one_class_and_void_is_a_warning_where_one_class_is_common(root: Path):
    masks(root, HALVES, HALVES * 0)
    image(root / "masks" / "train/2.png", HALVES * 255)
    report = check(root)
    assert report.faults == [] and len(report.warnings) == 1


def test_what_was_asked_to_be_ignored_as_the_rest_is_no_mistake(root: Path):
    image(root / "masks" / "train/2.png", HALVES * 90)
    assert faults_of(root, ignore=["rest"]) == []


# --- one remedy for all files


def test_undeclared_values_of_several_files_are_one_setting(root: Path):
    masks(root, THREE * 127, HALVES * 127, HALVES * 0)  # only the last are sound by themselves
    report = check(root, classes=["a", "b", "c"])
    (group,) = grouped(report.faults)
    assert str(group) == (
        "4 masks hold values that are not declared: 127, 254 (masks/train/0.png, masks/train/1.png, masks/train/3.png and 1 "
        "more); data.values=[0,127,254] if the classes have this order, or mend the masks"
    )
    assert faults_of(root, classes=["a", "b", "c"], values=[0, 127, 254]) == []


def test_ignored_values_count_where_they_complete_the_classes(root: Path):
    masks(root, np.array([0, 127, 255])[THREE], HALVES * 255)  # the second reads as ignored
    report = check(root, classes=["a", "b", "c"])
    (group,) = grouped(report.faults)
    assert "data.values=[0,127,255] data.ignore=[] if" in str(group) and "not declared: 127 (" in str(group)
    report = check(root, classes=["a", "b"])  # or they are what they were declared to be
    assert all("data.values=[0,127] if" in fault.remedy for fault in report.faults)


def test_a_stray_value_in_one_file_keeps_its_own_message(root: Path):
    image(root / "masks" / "train/2.png", HALVES * 9)
    (fault,) = faults_of(root)
    assert "has mask values that are not declared: 9 (12 pixels)" in fault and "data.ignore=rest" in fault


def test_values_that_fit_no_setting_are_listed_and_soft_edges_are_called_so(root: Path):
    masks(root, HALVES * 3, HALVES * 5)
    assert all(
        "the masks hold 0, 3, 5: give data.values one for each of 2 classes" in text
        for text in faults_of(root)
    )
    masks(root, np.arange(24).reshape(4, 6) * 10)
    assert all("the masks hold 24 values for 2 classes: soft edges" in text for text in faults_of(root))


def test_colours_of_several_files_are_one_setting(root: Path):
    masks(root, np.array([BLACK, RED])[HALVES])
    (group,) = grouped(check(root).faults)
    assert str(group).startswith("6 masks are colour masks, but data.colours is empty (")
    assert "data.colours=[[0,0,0],[255,0,0]] if the classes have this order" in str(group)
    (group,) = grouped(check(root, colours=[BLACK, GREEN]).faults)
    assert "colours that are not declared: [255,0,0] (" in str(group)
    assert "data.colours=[[0,0,0],[255,0,0]]" in str(group)
