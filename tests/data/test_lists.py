"""List files as people and other programs write them."""

from pathlib import Path

import pytest
from drawn_folders import config, ids, mask, pairs, picture

from selftrain.data.faults import FaultsError
from selftrain.data.sources import load
from selftrain.errors import DataError

pytestmark = pytest.mark.promise(
    "layouts and names of files (doubles, case, Unicode, links, missing masks): handled, or a fault that names them"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four pairs, and one of val."""
    pairs(tmp_path, ["1", "2", "a b", "deep/4"])
    picture(tmp_path / "images" / "v.png", 90)
    mask(tmp_path / "masks" / "v.png")
    (tmp_path / "val.txt").write_text("images/v.png\n")
    return tmp_path


def read(root: Path, text: str, name: str = "train.txt"):
    (root / name).write_text(text)
    splits = {"train": name, "val": "val.txt", "test_fraction": 0.0}
    return load(config(root, splits=splits), strict=False)


def listed(root: Path, text: str, **more) -> list[tuple[str, str]]:
    """Image and mask of each line, relative to the root, without suffix."""
    data = read(root, text, **more)
    assert data.faults == []
    return [(one.id, one.mask.relative_to(root).as_posix()) for one in data.labelled]


ONE = ("images/1", "masks/1.png")
TWO = ("images/2", "masks/2.png")
BLANK = ("images/a b", "masks/a b.png")
DEEP = ("images/deep/4", "masks/deep/4.png")


@pytest.mark.parametrize("separator", ["\t", ",", ", ", ";", " ", "   "])
def test_columns_are_parted_by_tab_comma_semicolon_or_blank(root: Path, separator: str):
    text = f"images/1.png{separator}masks/2.png\nimages/a b.png{separator}masks/a b.png\n"
    assert listed(root, text) == [("images/1", "masks/2.png"), BLANK]


def test_a_table_with_a_heading_and_quotes_is_read(root: Path):
    text = '"image","mask"\n"images/1.png","masks/1.png"\nimages/2.png,masks/2.png\n'
    assert listed(root, text, name="pairs.csv") == [ONE, TWO]


def test_a_first_line_that_names_a_file_is_no_heading(root: Path):
    picture(root / "images" / "image.png", 50)
    mask(root / "masks" / "image.png")
    assert [image for image, _ in listed(root, "image\n1\n")] == ["images/1", "images/image"]


@pytest.mark.parametrize("line", ["deep/4.png", "4.png", "deep/4", "4", "images\\deep\\4.png", "deep\\4", "4 4", "4.png,deep/4"])
def test_names_are_looked_for_below_images_and_masks(root: Path, line: str):
    assert listed(root, f"1\n{line}\n") == [ONE, DEEP]


def test_absolute_paths_below_the_root_are_read_through_links_too(root: Path):
    (root.parent / "link").symlink_to(root)
    text = f"{root}/images/1.png\t{root}/masks/1.png\n{root.parent}/link/images/2.png\n"
    assert listed(root, text) == [ONE, TWO]


def test_a_name_with_a_separator_wins_over_two_columns(root: Path):
    picture(root / "images" / "1.png,2.png", 60)
    mask(root / "masks" / "1.png,2.png")
    assert listed(root, "images/1.png,2.png\n") == [("images/1.png,2", "masks/1.png,2.png")]


def test_a_path_from_the_root_wins_over_a_name(root: Path):
    picture(root / "1.png", 70)
    assert listed(root, "1.png\tmasks/2.png\n") == [("1", "masks/2.png")]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("5", "names '5', which may be one of (images/5.bmp, images/5.png); write its path from data.root"),
        ("6.png", "names '6.png', which may be one of (images/deep/6.png, images/deeper/6.png); write its path"),
        ("x,y,z.png", "can be read as 'x' and 'y,z.png' or as 'x,y' and 'z.png'; separate the columns by a tab"),
        ("images/1.png,masks/none.png", "names 'masks/none.png', which does not exist; mend the list"),
        ("images/none.png,masks/1.png", "names 'images/none.png', which does not exist; mend the list"),
        ("2 -1", "names '2 -1', which does not exist; mend the list"),
        ("C:\\data\\images\\1.png", "which does not exist; mend the list"),
        ("/elsewhere/1.png", "names '/elsewhere/1.png', which is no path below data.root"),
        ("images\\..\\..\\1.png", "which does not exist"),
    ],
)
def test_lines_that_name_nothing_or_too_much_are_faults(root: Path, line: str, says: str):
    for name in ("5.png", "5.bmp", "deep/6.png", "deeper/6.png", "x.png", "x,y.png"):
        picture(root / "images" / name)
    for name in ("y,z.png", "z.png"):
        mask(root / "masks" / name)
    (one,) = read(root, f"# mine\n1\n{line}\n").faults
    assert one.file == "train.txt:3" and says in str(one)


def test_where_no_line_can_be_used_the_lines_are_what_is_said(root: Path):
    (root / "scan.xyz").touch()
    with pytest.raises(DataError, match=r"train\.txt:1: names 'scan\.xyz', which has no suffix of an image") as caught:
        read(root, "scan.xyz\nnone.png\n")
    assert isinstance(caught.value, FaultsError)
    told = [str(one) for one in caught.value.faults]
    assert len(told) == 3 and "train.txt:2: names 'none.png'" in told[1]
    assert "data.splits.train=train.txt names no image" in told[2]


def test_links_out_of_the_root_are_what_is_said_where_nothing_else_is_there(tmp_path: Path):
    for i in range(5):
        picture(tmp_path / "store" / f"{i}.png", i)
    (tmp_path / "root" / "images").mkdir(parents=True)
    (tmp_path / "root" / "masks").mkdir()
    for i in range(5):
        (tmp_path / "root" / "images" / f"{i}.png").symlink_to(tmp_path / "store" / f"{i}.png")
    with pytest.raises(FaultsError, match=r"^images/\d\.png: is a link that leaves data\.root.*4 more faults alike") as caught:
        load(config(tmp_path / "root"))
    assert len(caught.value.faults) == 6 and "no image below" in caught.value.faults[-1].what


def test_faults_of_one_list_come_before_a_folder_that_does_not_exist(root: Path):
    (root / "val.txt").write_text("images/none.png\n")
    with pytest.raises(FaultsError, match=r"^val\.txt:1: names 'images/none\.png'") as caught:
        load(config(root, splits={"train": "nowhere", "val": "val.txt"}))
    assert "data.splits.train: there is no folder" in caught.value.faults[-1].what


def test_a_list_of_unlabelled_images_may_have_bare_names(root: Path):
    (root / "rest.txt").write_text("2\na b.png\n")
    (root / "few.txt").write_text("1\n")
    splits = {"train": "few.txt", "val": "val.txt", "test_fraction": 0.0}
    data = load(config(root, unlabelled="rest.txt", splits=splits))
    assert ids(data)["unlabelled"] == ["images/2", "images/a b"]
