from pathlib import Path

import pytest
from drawn_folders import fault, pairs, picture, spec

from selftrain.data.sources.folder import find

pytestmark = pytest.mark.promise(
    "layouts and names of files (doubles, case, Unicode, links, missing masks): handled, or a fault that names them"
)


def listed(root: Path, *lines: str, **settings) -> list[str]:
    """Image and mask of each training image, from the root, where the list holds these lines."""
    (root / "few.txt").write_text("".join(f"{line}\n" for line in lines))
    layout = find(spec(root, splits={"train": "few.txt"}, unlabelled="", **settings))
    assert not layout.faults, layout.faults
    return [
        f"{item.path.relative_to(root)} {item.mask.relative_to(root)}" for item in layout.train if item.mask
    ]


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
    expected = [
        f"images/train/street/{name}.png masks/train/street/{name}.png" for name in ("1", "2.v1", "3")
    ]
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


@pytest.mark.parametrize(
    "line", [r"..\x.png", "images/1.png,../x.png", "images/1.png,masks/9.png", "4", r"C:\images\1.png"]
)
def test_what_no_form_of_a_line_finds_is_a_fault_of_its_line(tmp_path: Path, line: str):
    pairs(tmp_path / "root", ["1", "2", "3"])
    picture(tmp_path / "x.png")
    (tmp_path / "root" / "few.txt").write_text(f"2\n{line}\n3\n")
    assert "few.txt:2: names " in fault(tmp_path / "root", splits={"train": "few.txt"})
