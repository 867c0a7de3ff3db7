import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from drawn_folders import NAMED, config, everyone, ids, mask, pairs, picture
from PIL import Image

from selftrain.data.faults import FaultsError
from selftrain.data.folders import find
from selftrain.data.sources import SPLITS, load
from selftrain.errors import ConfigError, DataError

pytestmark = pytest.mark.promise(
    "layouts and names of files (doubles, case, Unicode, links, missing masks): handled, or a fault that names them"
)


# --- layouts


def test_images_and_masks_are_matched_and_splits_made(tmp_path: Path):
    pairs(tmp_path, [f"{i}" for i in range(10)])
    pairs(tmp_path, ["x"], "deeper/down")
    picture(tmp_path / "unlabelled" / "u1.JPG")
    data = load(config(tmp_path, unlabelled="unlabelled"))
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
    assert ids(load(config(by_folders, splits=NAMED))) == {
        "labelled": [f"images/train/{name}" for name in ("a_1", "a_2", "b_1", "b_2")],
        "unlabelled": [],
        "val": ["images/val/c_1"],
        "test": ["images/test/d_1", "images/test/d_2"],
    }


def test_split_folders_that_no_setting_names_are_refused_with_the_settings(by_folders: Path):
    with pytest.raises(ConfigError, match=r"data\.splits\.train=train data\.splits\.val=val data\.splits\.test=test"):
        load(config(by_folders))
    assert len(load(config(by_folders, splits={"train": "."})).labelled) == 5


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
    data = load(config(tmp_path, images="pics", masks="labels", splits=splits))
    assert ids(data) == {
        "labelled": ["pics/train/1", "pics/train/2"], "unlabelled": [], "val": ["pics/my photo"], "test": ["pics/odd"],
    }  # fmt: skip
    assert data.test[0].mask == tmp_path / "elsewhere" / "o d d_mask.png"
    assert data.labelled[0].mask == tmp_path / "labels" / "train" / "1.png"
    (tmp_path / "test.txt").write_text("pics/odd.jpg elsewhere/o d d_mask.png\n")  # a blank after the suffix also parts
    assert load(config(tmp_path, images="pics", masks="labels", splits=splits)).test[0].mask == data.test[0].mask


def test_a_list_may_lie_outside_of_the_root(tmp_path: Path):
    pairs(tmp_path / "root", ["1", "2", "3", "4"])
    (tmp_path / "mine.txt").write_text("images/1.png\n")
    splits = {"train": str(tmp_path / "mine.txt"), "val_fraction": 0.3, "test_fraction": 0.3}
    with pytest.raises(DataError, match="cannot be divided"):
        load(config(tmp_path / "root", splits=splits))
    (tmp_path / "mine.txt").write_text("images/1.png\nimages/2.png\nimages/4.png")
    assert len(load(config(tmp_path / "root", splits=splits)).labelled) == 1


def test_unlabelled_folder_means_what_no_split_names(tmp_path: Path):
    pairs(tmp_path, [f"{i}" for i in range(6)])
    (tmp_path / "few.txt").write_text("images/0.png\nimages/1.png\nimages/2.png\n")
    data = load(config(tmp_path, unlabelled="images", splits={"train": "few.txt"}))
    assert ids(data)["unlabelled"] == ["images/3", "images/4", "images/5"]
    assert len(data.labelled) == 1 and data.unlabelled[0].read_mask() is not None  # known, to measure pseudo-labels


def test_masks_beside_unlabelled_images_are_found_unless_they_belong_to_others(tmp_path: Path):
    pairs(tmp_path, ["1", "2", "3"])
    picture(tmp_path / "unlabelled" / "1.png")
    picture(tmp_path / "unlabelled" / "7.png")
    mask(tmp_path / "masks" / "7.png")
    data = load(config(tmp_path, unlabelled="unlabelled"))
    assert [sample.has_mask for sample in data.unlabelled] == [False, True]


def test_images_without_masks_count_as_unlabelled_and_it_is_said(tmp_path: Path):
    pairs(tmp_path, ["1", "2", "3"])
    picture(tmp_path / "images" / "bare.png")
    data = load(config(tmp_path))
    assert ids(data)["unlabelled"] == ["images/bare"]
    assert "1 image below images/ without a mask" in data.warnings[0]


def test_missing_masks_are_faults_where_unlabelled_images_are_declared(tmp_path: Path):
    pairs(tmp_path, ["1", "2", "3"])
    picture(tmp_path / "images" / "bare.png")
    picture(tmp_path / "unlabelled" / "u.png")
    with pytest.raises(DataError, match=r"images/bare\.png: has no mask.*masks/bare\.png"):
        load(config(tmp_path, unlabelled="unlabelled"))


def test_missing_masks_beside_orphans_are_faults(tmp_path: Path):
    pairs(tmp_path, ["1", "2", "3"])
    picture(tmp_path / "images" / "4.png")
    mask(tmp_path / "masks" / "04.png")
    with pytest.raises(DataError, match=r"images/4\.png: has no mask"):
        load(config(tmp_path))


def test_missing_masks_of_val_are_faults(by_folders: Path):
    picture(by_folders / "images" / "val" / "bare.png")
    with pytest.raises(DataError, match=r"images/val/bare\.png: has no mask"):
        load(config(by_folders, splits=NAMED))


def test_orphan_masks_are_told(by_folders: Path):
    mask(by_folders / "masks" / "train" / "lost.png")
    assert "masks/train/lost.png" in load(config(by_folders, splits=NAMED)).warnings[0]


def test_no_match_at_all_says_how_names_are_matched(tmp_path: Path):
    picture(tmp_path / "images" / "1.png")
    mask(tmp_path / "masks" / "1_mask.png")
    with pytest.raises(DataError, match=r"images/1 has none; there are masks such as masks/1_mask\.png"):
        load(config(tmp_path))


def test_other_files_are_left_out_and_counted(tmp_path: Path):
    pairs(tmp_path, ["1", "2", "3"])
    for name in ("notes.txt", "a.mp4", ".DS_Store", "._1.png"):
        (tmp_path / "images" / name).write_bytes(b"x")
    assert load(config(tmp_path)).warnings == ["files that are no images were left out: 1 .mp4, 1 .txt"]


# --- faults of files


def fault(tmp_path: Path, **settings) -> str:
    with pytest.raises(DataError) as caught:
        load(config(tmp_path, **settings))
    return str(caught.value)


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
    data = load(config(tmp_path))
    assert f"images/{composed}" in everyone(data)
    picture(tmp_path / "images" / f"{composed}.png")
    assert "shares its name" in fault(tmp_path)


def test_strange_names_work_or_are_refused(tmp_path: Path):
    long = "n" * 251
    names = ["-rf", " ", "a.b", long, "日本", "10.00\u202fAM", "写真\u30001", "\U0001f469\u200d\U0001f52c"]
    pairs(tmp_path, names)
    assert {f"images/{name}" for name in names} == set(everyone(load(config(tmp_path))))
    for name in (b"new\nline.png", b"not-utf8-\xff.png"):
        path = os.path.join(os.fsencode(tmp_path / "images"), name)
        (tmp_path / "images" / "1.png").write_bytes(b"")
        os.rename(tmp_path / "images" / "1.png", path)
        message = fault(tmp_path)
        assert "not printable" in message and message.isprintable()
        os.remove(path)


@pytest.mark.parametrize("entry", ["../x.png", "/etc/passwd", "images/../../x.png", "images/nul\0.png", "images/\x1b[1m.png"])
def test_lists_cannot_leave_the_root(tmp_path: Path, entry: str):
    pairs(tmp_path / "root", ["1", "2", "3"])
    picture(tmp_path / "x.png")
    (tmp_path / "root" / "train.txt").write_text(f"{entry}\nimages/1.png\nimages/2.png\nimages/3.png\n")
    message = fault(tmp_path / "root", splits={"train": "train.txt"})
    assert "train.txt:1" in message and "no path below data.root" in message and message.isprintable()


def test_entries_that_do_not_exist_or_come_twice_are_named(tmp_path: Path):
    pairs(tmp_path, ["1", "2", "3", "4"])
    (tmp_path / "train.txt").write_text("images/1.png\nimages/2.png\nimages/3.png\nimages/1.png\nimages/none.png\nREADME\n")
    (tmp_path / "README").touch()
    (tmp_path / "val.txt").write_text("images/2.png\n")
    data = load(config(tmp_path, splits={"train": "train.txt", "val": "val.txt", "test_fraction": 0.5}), strict=False)
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
    assert len(everyone(load(config(tmp_path / "link")))) == 4
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
    assert {"images/run/1", "images/run/2", "images/run/3"} == set(everyone(load(config(tmp_path))))


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
    data = load(config(tmp_path), strict=False)
    assert {one.file for one in data.faults} == {"masks/1.png", "images/2.png", "images/out.png"}
    assert len(everyone(data)) == 4


# --- no fault hides another


@pytest.mark.parametrize(("unlabelled", "more"), [("", "1 more fault alike"), ("nowhere", "1 more fault of other kinds")])
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
    assert "images/" in message and "is a link that leaves data.root" in message and "2 more faults" in message


def test_a_folder_that_is_missing_does_not_hide_the_faults_of_a_list(tmp_path: Path):
    pairs(tmp_path, ["1", "2"])
    (tmp_path / "few.txt").write_text("images/1.png\nimages/3.png\n")
    with pytest.raises(FaultsError, match=r"few\.txt:2: names 'images/3\.png'.*1 more fault of other kinds") as caught:
        load(config(tmp_path, splits={"train": "few.txt"}, unlabelled="nowhere"), strict=False)
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


# --- lists as people write them


def listed(root: Path, *lines: str, **settings) -> list[str]:
    """Image and mask of each training image, from the root, where the list holds these lines."""
    (root / "few.txt").write_text("".join(f"{line}\n" for line in lines))
    layout = find(config(root, splits={"train": "few.txt"}, unlabelled="", **settings))
    assert not layout.faults, layout.faults
    return [f"{item.path.relative_to(root)} {item.mask.relative_to(root)}" for item in layout.train if item.mask]


ONE_AND_TWO = ["images/1.png masks/1.png", "images/2.png masks/2.png"]


@pytest.mark.parametrize(
    "lines",
    [
        ("images/1.png,masks/1.png", "images/2.png , masks/2.png"),
        ("image,mask", '"images/1.png","masks/1.png"', "images/2.png,"),
        ("1.png", "2.png"),
        ("1", "2"),
        ("1.png,1.png", "2\t2"),
        ("1,1", "2,masks/2.png"),
        (r"images\1.png", r".\images\2.png"),
        ("images\\1.png\tmasks\\1.png", r"images\2.png,masks\2.png"),
    ],
)
def test_lists_are_read_in_the_forms_that_are_common(tmp_path: Path, lines: tuple[str, ...]):
    pairs(tmp_path, ["1", "2", "3"])
    assert listed(tmp_path, *lines) == ONE_AND_TWO


def test_names_without_folders_are_found_below_the_folder_of_the_images(tmp_path: Path):
    pairs(tmp_path, ["1", "2.v1", "3"], "train/street")
    expected = [f"images/train/street/{name}.png masks/train/street/{name}.png" for name in ("1", "2.v1", "3")]
    assert listed(tmp_path, "1", "street/2.v1", "train/street/3.png") == expected
    (tmp_path / "images").rename(tmp_path / "pictures")  # with the masks inside
    (tmp_path / "masks").rename(tmp_path / "pictures" / "masks")
    found = listed(tmp_path, "1", "2.v1", images="pictures", masks="pictures/masks")
    assert found[0] == "pictures/train/street/1.png pictures/masks/train/street/1.png"


def test_absolute_paths_below_the_root_are_read_however_they_reach_it(tmp_path: Path):
    pairs(tmp_path / "root", ["1", "2"])
    (tmp_path / "link").symlink_to(tmp_path / "root")
    lines = [f"{tmp_path}/root/images/1.png", f"{tmp_path}/link/images/2.png\t{tmp_path}/link/masks/2.png"]
    assert listed(tmp_path / "root", *lines) == ONE_AND_TWO


def test_a_comma_in_the_name_of_a_file_parts_nothing(tmp_path: Path):
    pairs(tmp_path, ["a,b", "c.png,d", "e, f"])
    lines = ["images/a,b.png,masks/a,b.png", "images/c.png,d.png", "images/e, f.png masks/e, f.png"]
    expected = [f"images/{name}.png masks/{name}.png" for name in ("a,b", "c.png,d", "e, f")]
    assert listed(tmp_path, *lines) == expected


@pytest.mark.parametrize("name", ["1", "1.png"])
def test_a_name_that_several_images_have_is_a_fault_of_its_line(tmp_path: Path, name: str):
    pairs(tmp_path, ["1", "2"], "a")
    pairs(tmp_path, ["1"], "b")
    (tmp_path / "few.txt").write_text(f"2\n{name}\n")
    message = fault(tmp_path, splits={"train": "few.txt"})
    assert f"few.txt:2: names '{name}', which may be images/a/1.png and images/b/1.png" in message
    assert "write the path from data.root" in message


@pytest.mark.parametrize("line", [r"..\x.png", "images/1.png,../x.png", "images/1.png,masks/9.png", "4", r"C:\images\1.png"])
def test_what_no_form_of_a_line_finds_is_a_fault_of_its_line(tmp_path: Path, line: str):
    pairs(tmp_path / "root", ["1", "2", "3"])
    picture(tmp_path / "x.png")
    (tmp_path / "root" / "few.txt").write_text(f"2\n{line}\n3\n")
    assert "few.txt:2: names " in fault(tmp_path / "root", splits={"train": "few.txt"})


# --- suffixes that are not read


def put(*paths: Path) -> None:
    """Files that no decoder takes."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_masks_of_a_suffix_that_is_not_read_are_named(tmp_path: Path):
    for name in "123":
        picture(tmp_path / "images" / f"{name}.png")
        put(tmp_path / "masks" / f"{name}.xyz")
    assert "masks/ holds 3 .xyz, which are not read; masks may be .bmp, .gif, .pgm, .png" in fault(tmp_path)


def test_a_few_masks_of_a_suffix_that_is_not_read_are_named_too(tmp_path: Path):
    pairs(tmp_path, ["1", "2", "3"])
    picture(tmp_path / "images" / "4.png")
    put(tmp_path / "masks" / "4.npy", tmp_path / "masks" / "notes.txt")
    warnings = load(config(tmp_path)).warnings
    assert any("masks/ holds 1 .npy, which are not read" in one for one in warnings), warnings


def test_images_of_a_suffix_that_is_not_read_are_named(tmp_path: Path):
    put(*(tmp_path / "images" / f"{name}.dcm" for name in "123"))
    assert "is left for train: it holds 3 .dcm, which are not read; images may be .bmp" in fault(tmp_path)


# --- what lies among images


SYSTEMS = ["@eaDir", "__MACOSX", "System Volume Information", "$RECYCLE.BIN", ".Trash-1000", ".thumbnails"]


@pytest.mark.parametrize("name", [*SYSTEMS, ".ipynb_checkpoints"])
@pytest.mark.parametrize("below", ["images", "images/deep"])
def test_folders_that_systems_make_are_left_out_and_it_is_said(tmp_path: Path, name: str, below: str):
    pairs(tmp_path, ["1", "2", "3"])
    picture(tmp_path / below / name / "9.png")
    data = load(config(tmp_path))
    assert set(everyone(data)) == {"images/1", "images/2", "images/3"}
    assert data.warnings == [f"folders of thumbnails or of a system were left out: {below}/{name}"]


@pytest.mark.parametrize("name", ["thumbs", "Thumbnails"])
def test_thumbnails_are_left_out_and_it_is_said(tmp_path: Path, name: str):
    pairs(tmp_path, ["1", "2", "3"])
    for thumb in "13":
        picture(tmp_path / "images" / name / f"{thumb}.jpg")
    put(tmp_path / "images" / name / "Thumbs.db", tmp_path / "images" / "._1.jpg")
    data = load(config(tmp_path))
    assert set(everyone(data)) == {"images/1", "images/2", "images/3"}
    assert data.warnings == [f"folders of thumbnails or of a system were left out: images/{name}"]


def test_a_folder_called_thumbs_counts_where_it_repeats_nothing_or_is_large(tmp_path: Path):
    pairs(tmp_path, ["1", "2", "3"])
    pairs(tmp_path, ["1", "4"], "thumbs")  # photographs of thumbs
    assert {"images/thumbs/1", "images/thumbs/4"} <= set(everyone(load(config(tmp_path))))
    for kind, save in (("images", picture), ("masks", mask)):
        (tmp_path / kind / "thumbs" / "4.png").unlink()
        save(tmp_path / kind / "thumbs" / "1.png", size=(8, 513))
    assert "images/thumbs/1" in everyone(load(config(tmp_path)))


def photo(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(values).save(path)
    return path


ENDS = ["_mask", "_gt", "_label", "_labels", "_seg", "_segmentation", "-mask", ".mask", "_L", "_MASK", ".jpg", ""]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("below", ["images", "unlabelled"])
def test_masks_beside_images_are_a_fault_that_says_where_to_put_them(tmp_path: Path, end: str, below: str):
    pairs(tmp_path, ["1", "2", "3"])
    for number in range(4):
        photo(tmp_path / below / f"u{number}.jpg", number)
        mask(tmp_path / below / f"u{number}{end}.png", number % 2, (16, 16))
    message = fault(tmp_path, unlabelled="unlabelled" if below == "unlabelled" else "")
    assert f"{below}/u0{end}.png: lies among the images and looks like the mask of {below}/u0.jpg" in message
    assert f"(and 3 more faults alike: {below}/u1{end}.png, {below}/u2{end}.png and 1 more)" in message
    assert "move the masks to masks/" in message and "two columns" in message


@pytest.mark.parametrize(("image", "of_mask"), [("bmp", "png"), ("tif", "gif"), ("png", "bmp")])
def test_of_two_files_of_one_name_the_one_of_few_colours_is_the_mask(tmp_path: Path, image: str, of_mask: str):
    for number in range(4):
        photo(tmp_path / "images" / f"{number}.{image}", number)
        mask(tmp_path / "images" / f"{number}.{of_mask}", 1, (16, 16))
    message = fault(tmp_path)
    assert message.startswith(f"images/0.{of_mask}: lies among the images") and f"of images/0.{image}" in message


def test_images_called_like_masks_are_images_where_they_look_like_it(tmp_path: Path):
    pairs(tmp_path, ["1", "2", "3"])
    for name in ("a.jpg", "a_L.jpg", "b.jpg", "b_seg.png", "c_mask.png"):
        photo(tmp_path / "unlabelled" / name)
    data = load(config(tmp_path, unlabelled="unlabelled"))
    assert ids(data)["unlabelled"] == [f"unlabelled/{name}" for name in ("a", "a_L", "b", "b_seg", "c_mask")]


def test_masks_beside_images_that_a_list_names_are_no_images(tmp_path: Path):
    for name in ("1", "2", "3"):
        photo(tmp_path / "images" / f"{name}.jpg")
        mask(tmp_path / "images" / f"{name}_mask.png", size=(16, 16))
    photo(tmp_path / "images" / "4.jpg")
    (tmp_path / "few.csv").write_text("".join(f"{name}.jpg,images/{name}_mask.png\n" for name in "123"))
    data = load(config(tmp_path, splits={"train": "few.csv"}, unlabelled="images"))
    assert ids(data)["unlabelled"] == ["images/4"] and len(everyone(data)) == 4
