"""What verify judges of pixels that no class declares, and of classes that no pixel has."""

from pathlib import Path

import numpy as np
import pytest
from six_images import BLACK, GREEN, HALVES, NAMES, RED, WHITE, check, image, six_images

from selftrain.data.faults import grouped
from selftrain.errors import ConfigError

pytestmark = pytest.mark.promise(
    "16-bit ranges, palettes that differ, undeclared values: said by verify, never silent"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return six_images(tmp_path)


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
