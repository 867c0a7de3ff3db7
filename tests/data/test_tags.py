"""Classes of whole images: read from a table, checked against the classes, known with and without masks."""

from dataclasses import replace
from pathlib import Path

import pytest
from drawn_folders import NAMED, fault, ids, mask, picture, spec

from selftrain.data.faults import FaultsError
from selftrain.data.load import load, manifest
from selftrain.data.verify import verify
from selftrain.errors import DataError


def table(root: Path, *lines: str, heading: str = "image,classes") -> str:
    (root / "tags.csv").write_text("\n".join([heading, *lines]) + "\n", encoding="utf-8")
    return "tags.csv"


@pytest.fixture
def tagged(by_folders: Path) -> Path:
    for number in range(3):
        picture(by_folders / "unlabelled" / f"u{number}.jpg", 50 + number)
    lines = [
        "images/train/a_1.png,ground",
        "a_2,thing;ground",
        "unlabelled\\u0.jpg,thing",
        "u1,",
        "u0,ground",
        "",
    ]
    table(by_folders, *lines)
    return by_folders


def test_images_with_and_without_masks_have_tags(tagged: Path):
    data = load(spec(tagged, splits=NAMED, unlabelled="unlabelled", tags="tags.csv"))
    found = {sample.id: sample.tags for sample in data.labelled + data.unlabelled + data.val}
    assert found["images/train/a_1"] == (0,) and found["images/train/a_2"] == (0, 1)
    assert found["unlabelled/u0"] == (0, 1)  # of two lines
    assert found["unlabelled/u1"] == () and found["unlabelled/u2"] is None and found["images/val/c_1"] is None
    rows = {row["id"]: row for row in manifest(data)["unlabelled"]}
    assert rows["unlabelled/u0"]["tags"] == [0, 1] and rows["unlabelled/u1"]["tags"] == []
    assert "tags" not in rows["unlabelled/u2"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "a_1,tree",
            "tags.csv:2: gives a_1 the class 'tree', which is none of ground, thing; mend the line, or add",
        ),
        ("a_9,thing", "tags.csv:2: names 'a_9', which is no image of the data set; mend or remove the line"),
        ("x,thing", "tags.csv:2: names 'x', which may be images/train/x or images/val/x; write its path"),
    ],
)
def test_lines_that_cannot_be_used_are_named(by_folders: Path, line: str, said: str):
    for split in ("train", "val"):
        picture(by_folders / "images" / split / "x.png", 77)
        mask(by_folders / "masks" / split / "x.png")
    assert said in fault(by_folders, splits=NAMED, tags=table(by_folders, line))


def test_verify_lists_all_faults_of_the_table(by_folders: Path):
    table(by_folders, "a_1,tree", "a_2,bush", "a_9,thing")
    settings = spec(by_folders, splits=NAMED, tags="tags.csv")
    with pytest.raises(FaultsError):
        load(settings)
    found = [fault.file for fault in load(settings, strict=False).faults]
    assert found == ["tags.csv:2", "tags.csv:3", "tags.csv:4"]


@pytest.mark.parametrize("heading", ["image,class", "a_1,thing"])
def test_another_table_is_refused(by_folders: Path, heading: str):
    table(by_folders, "a_1,thing", heading=heading)
    with pytest.raises(DataError, match=rf"its first line is '{heading}'; it must be image,classes"):
        load(spec(by_folders, splits=NAMED, tags="tags.csv"))


def test_a_table_that_is_not_there_is_named(by_folders: Path):
    with pytest.raises(DataError, match=r"data.tags=no.csv: .*no.csv: cannot be opened \(No such file"):
        load(spec(by_folders, splits=NAMED, tags="no.csv"))


def test_verify_counts_tags_and_compares_them_with_the_masks(tagged: Path):
    for value, file in enumerate(sorted((tagged / "images").rglob("*.png"))):
        picture(file, 10 + value)
    settings = spec(tagged, splits=NAMED, unlabelled="unlabelled", tags="tags.csv")
    report = verify(load(settings), settings, workers=1)
    assert not report.faults
    assert report.rows()[-3:] == [
        ("tagged images", "2", "2", "0", "0"),
        ("tag ground", "2", "1", "0", "0"),
        ("tag thing", "1", "1", "0", "0"),
    ]
    (warning,) = [one for one in report.warnings if "data.tags" in one]
    assert warning == (
        "1 mask with other classes than data.tags, such as images/train/a_2 (mask: thing; tags: ground, thing)"
    )
    plain = replace(settings, tags="")
    assert len(report.rows()) == len(verify(load(plain), plain, workers=1).rows()) + 3
    assert ids(load(settings)) == ids(load(plain))
