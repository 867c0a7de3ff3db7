import os
import unicodedata
from pathlib import Path

import pytest
from drawn_folders import NAMED, everyone, fault, ids, mask, pairs, picture, put, spec

from selftrain.data.dataset import SPLITS
from selftrain.data.faults import FaultsError
from selftrain.data.load import load
from selftrain.errors import ConfigError, DataError

pytestmark = pytest.mark.promise(
    "layouts and names of files (doubles, case, Unicode, links, missing masks): handled, or a fault that names them"
)


# --- layouts


def test_images_and_masks_are_matched_and_splits_made(tmp_path: Path):
    pairs(tmp_path, [f"{i}" for i in range(10)])
    pairs(tmp_path, ["x"], "deeper/down")
    picture(tmp_path / "unlabelled" / "u1.JPG")
    data = load(spec(tmp_path, unlabelled="unlabelled"))
    assert [len(getattr(data, split)) for split in SPLITS] == [7, 1, 2, 2]
    assert ids(data)["unlabelled"] == ["unlabelled/u1"]
    assert len(set(everyone(data))) == 12
    assert "images/deeper/down/x" in everyone(data)
    for sample in data.labelled + data.val + data.test:
        image, labels = sample.read_image(), sample.read_mask()
        assert image.shape == (4, 6, 3) and labels is not None
        assert (labels == image[..., 0] % 2).all()  # its own mask
    assert data.unlabelled[0].read_mask() is None
    assert data.warnings == [] and data.faults == []


def test_splits_by_folders(by_folders: Path):
    assert ids(load(spec(by_folders, splits=NAMED))) == {
        "labelled": [f"images/train/{name}" for name in ("a_1", "a_2", "b_1", "b_2")],
        "unlabelled": [],
        "val": ["images/val/c_1"],
        "test": ["images/test/d_1", "images/test/d_2"],
    }


def test_split_folders_that_no_setting_names_are_refused_with_the_settings(by_folders: Path):
    with pytest.raises(
        ConfigError, match=r"data\.splits\.train=train data\.splits\.val=val data\.splits\.test=test"
    ):
        load(spec(by_folders))
    assert len(load(spec(by_folders, splits={"train": "."})).labelled) == 5


def test_splits_by_list_files(tmp_path: Path):
    for name in ("train/1", "train/2", "my photo", "odd"):
        picture(tmp_path / "pics" / f"{name}.jpg")
    for name in ("train/1", "train/2", "my photo"):
        mask(tmp_path / "labels" / f"{name}.png")
    mask(tmp_path / "elsewhere" / "o d d_mask.png")
    (tmp_path / "train.txt").write_text("# mine\npics/train/2.jpg\n\npics/train/1.jpg\n")
    (tmp_path / "val.txt").write_bytes(b"\xef\xbb\xbfpics/my photo.jpg\r\n")
    (tmp_path / "test.txt").write_text("pics/odd.jpg\telsewhere/o d d_mask.png\n")
    splits = {"train": "train.txt", "val": "val.txt", "test": "test.txt"}
    data = load(spec(tmp_path, images="pics", masks="labels", splits=splits))
    assert ids(data) == {
        "labelled": ["pics/train/1", "pics/train/2"], "unlabelled": [], "val": ["pics/my photo"], "test": ["pics/odd"],
    }  # fmt: skip
    assert data.test[0].mask.path == tmp_path / "elsewhere" / "o d d_mask.png"
    assert data.labelled[0].mask.path == tmp_path / "labels" / "train" / "1.png"
    (tmp_path / "test.txt").write_text(
        "pics/odd.jpg elsewhere/o d d_mask.png\n"
    )  # a blank after the suffix also parts
    assert (
        load(spec(tmp_path, images="pics", masks="labels", splits=splits)).test[0].mask == data.test[0].mask
    )


def test_a_list_may_lie_outside_of_the_root(tmp_path: Path):
    pairs(tmp_path / "root", ["1", "2", "3", "4"])
    (tmp_path / "mine.txt").write_text("images/1.png\n")
    splits = {"train": str(tmp_path / "mine.txt"), "val_fraction": 0.3, "test_fraction": 0.3}
    with pytest.raises(DataError, match="cannot be divided"):
        load(spec(tmp_path / "root", splits=splits))
    (tmp_path / "mine.txt").write_text("images/1.png\nimages/2.png\nimages/4.png")
    assert len(load(spec(tmp_path / "root", splits=splits)).labelled) == 1


def test_unlabelled_folder_means_what_no_split_names(tmp_path: Path):
    pairs(tmp_path, [f"{i}" for i in range(6)])
    (tmp_path / "few.txt").write_text("images/0.png\nimages/1.png\nimages/2.png\n")
    data = load(spec(tmp_path, unlabelled="images", splits={"train": "few.txt"}))
    assert ids(data)["unlabelled"] == ["images/3", "images/4", "images/5"]
    assert (
        len(data.labelled) == 1 and data.unlabelled[0].read_mask() is not None
    )  # known, to measure pseudo-labels


def test_masks_beside_unlabelled_images_are_found_unless_they_belong_to_others(tmp_path: Path):
    pairs(tmp_path, ["1", "2", "3"])
    picture(tmp_path / "unlabelled" / "1.png")
    picture(tmp_path / "unlabelled" / "7.png")
    mask(tmp_path / "masks" / "7.png")
    data = load(spec(tmp_path, unlabelled="unlabelled"))
    assert [sample.mask is not None for sample in data.unlabelled] == [False, True]


def test_images_without_masks_count_as_unlabelled_and_it_is_said(tmp_path: Path):
    pairs(tmp_path, ["1", "2", "3"])
    picture(tmp_path / "images" / "bare.png")
    data = load(spec(tmp_path))
    assert ids(data)["unlabelled"] == ["images/bare"]
    assert "1 image below images/ without a mask" in data.warnings[0]


def test_missing_masks_are_faults_where_unlabelled_images_are_declared(tmp_path: Path):
    pairs(tmp_path, ["1", "2", "3"])
    picture(tmp_path / "images" / "bare.png")
    picture(tmp_path / "unlabelled" / "u.png")
    with pytest.raises(DataError, match=r"images/bare\.png: has no mask.*masks/bare\.png"):
        load(spec(tmp_path, unlabelled="unlabelled"))


def test_missing_masks_beside_orphans_are_faults(tmp_path: Path):
    pairs(tmp_path, ["1", "2", "3"])
    picture(tmp_path / "images" / "4.png")
    mask(tmp_path / "masks" / "04.png")
    with pytest.raises(DataError, match=r"images/4\.png: has no mask"):
        load(spec(tmp_path))


def test_missing_masks_of_val_are_faults(by_folders: Path):
    picture(by_folders / "images" / "val" / "bare.png")
    with pytest.raises(DataError, match=r"images/val/bare\.png: has no mask"):
        load(spec(by_folders, splits=NAMED))


def test_orphan_masks_are_told(by_folders: Path):
    mask(by_folders / "masks" / "train" / "lost.png")
    assert "masks/train/lost.png" in load(spec(by_folders, splits=NAMED)).warnings[0]


def test_no_match_at_all_says_how_names_are_matched(tmp_path: Path):
    picture(tmp_path / "images" / "1.png")
    mask(tmp_path / "masks" / "1_mask.png")
    with pytest.raises(DataError, match=r"images/1 has none; there are masks such as masks/1_mask\.png"):
        load(spec(tmp_path))


def test_other_files_are_left_out_and_counted(tmp_path: Path):
    pairs(tmp_path, ["1", "2", "3"])
    for name in ("notes.txt", "a.mp4", ".DS_Store", "._1.png"):
        (tmp_path / "images" / name).write_bytes(b"x")
    assert load(spec(tmp_path)).warnings == ["files that are not images were left out: 1 .mp4, 1 .txt"]


# --- faults of files


def test_jpeg_masks_have_a_message_of_their_own(tmp_path: Path):
    for name in "123":
        picture(tmp_path / "images" / f"{name}.png")
        picture(tmp_path / "masks" / f"{name}.jpg")
    message = fault(tmp_path)
    assert "masks/1.jpg: is a JPEG" in message and "2 more faults" in message


def test_two_masks_of_one_image_are_refused(tmp_path: Path):
    pairs(tmp_path, ["1", "2", "3"])
    mask(tmp_path / "masks" / "1.tif")
    assert "second mask" in fault(tmp_path)


@pytest.mark.parametrize("other", ["1.jpg", "deep/A.png"])
def test_two_images_of_one_name_are_refused(tmp_path: Path, other: str):
    pairs(tmp_path, ["1", "2", "3", "deep/a"])
    picture(tmp_path / "images" / other)
    mask((tmp_path / "masks" / other).with_suffix(".png"))
    assert "shares its name" in fault(tmp_path)


def test_unicode_forms_match_between_image_and_mask_and_clash_between_images(tmp_path: Path):
    composed, decomposed = unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")
    pairs(tmp_path, ["1", "2"])
    picture(tmp_path / "images" / f"{decomposed}.png")
    mask(tmp_path / "masks" / f"{composed}.png")
    data = load(spec(tmp_path))
    assert f"images/{composed}" in everyone(data)
    picture(tmp_path / "images" / f"{composed}.png")
    assert "shares its name" in fault(tmp_path)


def test_strange_names_work_or_are_refused(tmp_path: Path):
    long = "n" * 251
    names = ["-rf", " ", "a.b", long, "日本", "10.00\u202fAM", "写真\u30001", "\U0001f469\u200d\U0001f52c"]
    pairs(tmp_path, names)
    assert {f"images/{name}" for name in names} == set(everyone(load(spec(tmp_path))))
    for name in (b"new\nline.png", b"not-utf8-\xff.png"):
        path = os.path.join(os.fsencode(tmp_path / "images"), name)
        (tmp_path / "images" / "1.png").write_bytes(b"")
        os.rename(tmp_path / "images" / "1.png", path)
        message = fault(tmp_path)
        assert "not printable" in message and message.isprintable()
        os.remove(path)


@pytest.mark.parametrize(
    "entry", ["../x.png", "/etc/passwd", "images/../../x.png", "images/nul\0.png", "images/\x1b[1m.png"]
)
def test_lists_cannot_leave_the_root(tmp_path: Path, entry: str):
    pairs(tmp_path / "root", ["1", "2", "3"])
    picture(tmp_path / "x.png")
    (tmp_path / "root" / "train.txt").write_text(f"{entry}\nimages/1.png\nimages/2.png\nimages/3.png\n")
    message = fault(tmp_path / "root", splits={"train": "train.txt"})
    assert "train.txt:1" in message and "not a path below data.root" in message and message.isprintable()


def test_entries_that_do_not_exist_or_come_twice_are_named(tmp_path: Path):
    pairs(tmp_path, ["1", "2", "3", "4"])
    (tmp_path / "train.txt").write_text(
        "images/1.png\nimages/2.png\nimages/3.png\nimages/1.png\nimages/none.png\nREADME\n"
    )
    (tmp_path / "README").touch()
    (tmp_path / "val.txt").write_text("images/2.png\n")
    data = load(
        spec(tmp_path, splits={"train": "train.txt", "val": "val.txt", "test_fraction": 0.5}), strict=False
    )
    assert [str(one).split(";")[0] for one in data.faults] == [
        "train.txt:5: names 'images/none.png', which does not exist",
        "train.txt:6: names 'README', which has no suffix of an image",
        "images/2.png: is named by data.splits.train and data.splits.val",
        "images/1.png: is named by data.splits.train twice",
    ]


def test_links_that_leave_the_root_are_refused_and_others_followed(tmp_path: Path):
    root = tmp_path / "root"
    pairs(root, ["1", "2"])
    picture(root / "store" / "3.png")
    mask(root / "masks" / "3.png")
    (root / "images" / "3.png").symlink_to(root / "store" / "3.png")
    (root / "images" / "loop").symlink_to(root / "images")
    (root / "images" / "self.png").symlink_to(root / "images" / "self.png")
    mask(root / "masks" / "self.png")
    (tmp_path / "link").symlink_to(root)  # the root itself may be a link
    assert len(everyone(load(spec(tmp_path / "link")))) == 4
    picture(tmp_path / "outside" / "4.png")
    (root / "images" / "4.png").symlink_to(tmp_path / "outside" / "4.png")
    assert "images/4.png: is a link that leaves data.root" in fault(root)
    (root / "images" / "4.png").unlink()
    (root / "images" / "more").symlink_to(tmp_path / "outside")
    assert "images/more: is a link that leaves data.root" in fault(root)
    assert "leads out of data.root" in fault(root, unlabelled="images/more")


@pytest.mark.parametrize("name", ["alias", "zebra"])
@pytest.mark.parametrize("where", ["images", "images/a"])
def test_a_link_does_not_hide_the_folder_that_it_leads_to(tmp_path: Path, name: str, where: str):
    pairs(tmp_path, ["run/1", "run/2", "run/3"])
    (tmp_path / where).mkdir(exist_ok=True)
    (tmp_path / where / name).symlink_to(tmp_path / "images" / "run")
    assert {"images/run/1", "images/run/2", "images/run/3"} == set(everyone(load(spec(tmp_path))))


def test_a_folder_that_cannot_be_read_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pairs(tmp_path, ["1", "2", "3"])
    (tmp_path / "images" / "shut").mkdir()
    scandir = os.scandir

    def refused(path: Path):
        if Path(path).name == "shut":  # permissions bind no root
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    assert "images/shut: cannot be read (Permission denied)" in fault(tmp_path)


def test_faults_are_all_collected_when_asked(tmp_path: Path):
    pairs(tmp_path, ["1", "2", "3", "4"])
    mask(tmp_path / "masks" / "1.bmp")
    picture(tmp_path / "images" / "2.bmp")
    (tmp_path / "images" / "out.png").symlink_to("/etc/passwd")
    data = load(spec(tmp_path), strict=False)
    assert {one.file for one in data.faults} == {"masks/1.png", "images/2.png", "images/out.png"}
    assert len(everyone(data)) == 4


# --- no fault hides another


@pytest.mark.parametrize(
    ("unlabelled", "more"), [("", "1 more fault alike"), ("nowhere", "1 more fault of other kinds")]
)
def test_a_list_whose_lines_are_all_refused_shows_the_first_line(tmp_path: Path, unlabelled: str, more: str):
    pairs(tmp_path, ["1", "2"])
    (tmp_path / "few.txt").write_text("pics/1.png\npics/2.png\n")
    message = fault(tmp_path, splits={"train": "few.txt"}, unlabelled=unlabelled)
    assert "few.txt:1: names 'pics/1.png', which does not exist" in message and more in message


def test_links_that_leave_the_root_are_named_where_nothing_else_is_there(tmp_path: Path):
    pairs(tmp_path / "store", ["1", "2", "3"])
    for kind in ("images", "masks"):
        (tmp_path / "root" / kind).mkdir(parents=True)
        for name in "123":
            (tmp_path / "root" / kind / f"{name}.png").symlink_to(tmp_path / "store" / kind / f"{name}.png")
    message = fault(tmp_path / "root")
    assert (
        "images/" in message and "is a link that leaves data.root" in message and "2 more faults" in message
    )


def test_a_folder_that_is_missing_does_not_hide_the_faults_of_a_list(tmp_path: Path):
    pairs(tmp_path, ["1", "2"])
    (tmp_path / "few.txt").write_text("images/1.png\nimages/3.png\n")
    with pytest.raises(
        FaultsError, match=r"few\.txt:2: names 'images/3\.png'.*1 more fault of other kinds"
    ) as caught:
        load(spec(tmp_path, splits={"train": "few.txt"}, unlabelled="nowhere"), strict=False)
    assert len(caught.value.faults) == 2 and "there is no folder" in str(caught.value.faults[1])


def test_images_without_any_mask_do_not_hide_the_faults_noted(tmp_path: Path):
    picture(tmp_path / "images" / "1.png")
    mask(tmp_path / "outside" / "1.png")
    (tmp_path / "root").mkdir()
    (tmp_path / "images").rename(tmp_path / "root" / "images")
    (tmp_path / "root" / "masks").mkdir()
    (tmp_path / "root" / "masks" / "1.png").symlink_to(tmp_path / "outside" / "1.png")
    assert "masks/1.png: is a link that leaves data.root" in fault(tmp_path / "root")


def test_an_empty_list_is_named(tmp_path: Path):
    pairs(tmp_path, ["1", "2"])
    (tmp_path / "few.txt").write_text("# none yet\n")
    assert "data.splits.train=few.txt names no image" in fault(tmp_path, splits={"train": "few.txt"})


# --- suffixes that are not read


def test_masks_of_a_suffix_that_is_not_read_are_named(tmp_path: Path):
    for name in "123":
        picture(tmp_path / "images" / f"{name}.png")
        put(tmp_path / "masks" / f"{name}.xyz")
    assert "masks/ holds 3 .xyz, which are not read; masks may be .bmp, .gif, .pgm, .png" in fault(tmp_path)


def test_a_few_masks_of_a_suffix_that_is_not_read_are_named_too(tmp_path: Path):
    pairs(tmp_path, ["1", "2", "3"])
    picture(tmp_path / "images" / "4.png")
    put(tmp_path / "masks" / "4.npy", tmp_path / "masks" / "notes.txt")
    warnings = load(spec(tmp_path)).warnings
    assert any("masks/ holds 1 .npy, which are not read" in one for one in warnings), warnings


def test_images_of_a_suffix_that_is_not_read_are_named(tmp_path: Path):
    put(*(tmp_path / "images" / f"{name}.dcm" for name in "123"))
    assert "is left for train: it holds 3 .dcm, which are not read; images may be .bmp" in fault(tmp_path)
