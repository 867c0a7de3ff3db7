"""Faults grouped by cause."""

from pathlib import Path

import pytest

from selftrain.data.faults import Fault, FaultsError, grouped, none_hidden, refuse, some, write_list
from selftrain.errors import ConfigError, DataError

EMPTY = [Fault(f"images/{i}.png", "is empty (0 bytes)", "replace or remove it") for i in range(5)]


def test_faults_that_differ_in_names_and_numbers_only_are_one_group():
    faults = [
        Fault("a.png", "is 4x6 (height x width), but its image is 6x4", "make it again"),
        Fault("list.txt:3", "names 'x y.png', which does not exist", "mend the list"),
        Fault("b.png", "is 32x32 (height x width), but its image is 64x64", "make it again"),
        Fault("list.txt:9", "names 'images/z.png', which does not exist", "mend the list"),
        Fault("c", "is the same picture as images/d (val and test)", "keep one"),
        Fault("e", "is the same picture as f/g, f/h (val and test)", "keep one"),
        Fault("u_mask.png", "looks like the mask of u.png", "move it"),
        Fault("v_mask.png", "looks like the mask of v.png", "move it"),
    ]
    assert [[fault.file for fault in group.faults] for group in grouped(faults)] == [
        ["a.png", "b.png"], ["list.txt:3", "list.txt:9"], ["c", "e"], ["u_mask.png", "v_mask.png"],
    ]  # fmt: skip


def test_a_group_has_its_number_three_files_and_one_remedy():
    (group,) = grouped(EMPTY)
    assert str(group) == (
        "images/0.png: is empty (0 bytes); replace or remove it (and 4 more faults alike: images/1.png, images/2.png and 2 more)"
    )
    assert group.hides_files and not grouped(EMPTY[:3])[0].hides_files
    assert str(grouped(EMPTY[:1])[0]) == str(EMPTY[0])


def test_a_named_cause_is_the_sentence():
    faults = [Fault(f"{i}.png", "is odd", "straighten it", cause="masks are odd") for i in range(1200)]
    assert (
        str(grouped(faults)[0]) == "1,200 masks are odd (0.png, 1.png, 2.png and 1,197 more); straighten it"
    )


def test_a_refusal_has_the_first_group_and_counts_the_others():
    with pytest.raises(FaultsError) as caught:
        refuse([*EMPTY, Fault("x", "is wrong", "mend it")])
    assert (
        str(caught.value)
        == f"{grouped(EMPTY)[0]} (and 1 more fault of other kinds): selftrain verify lists all"
    )
    with pytest.raises(DataError, match=r"^x: is wrong; mend it$"):
        refuse([Fault("x", "is wrong", "mend it")])
    refuse([])


def test_an_error_that_faults_caused_comes_after_them():
    with pytest.raises(FaultsError) as caught, none_hidden(EMPTY[:1], "data.root"):
        raise DataError("nothing is left")
    assert [fault.what for fault in caught.value.faults] == ["is empty (0 bytes)", "nothing is left"]
    too = r"too few \(the files have faults, too: images/0\.png.*, and 4 more\)"
    with pytest.raises(ConfigError, match=too), none_hidden(EMPTY, "data.root"):
        raise ConfigError("too few")
    with pytest.raises(DataError, match=r"^alone$"), none_hidden([], "data.root"):
        raise DataError("alone")


def test_names_are_counted_beyond_a_few():
    assert (
        some(["a"]) == "a"
        and some(["a", "b", "c"]) == "a, b, c"
        and some(["a", "b", "c", "d"]) == "a, b, c and 1 more"
    )


def test_every_fault_is_a_line_of_the_list(tmp_path: Path):
    write_list(EMPTY, tmp_path / "all.txt")
    assert (tmp_path / "all.txt").read_text().splitlines() == [str(fault) for fault in EMPTY]
