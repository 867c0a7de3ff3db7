"""Manifests that are too long for data.json, and the binary tables that contain them."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from selftrain import columns, manifests
from selftrain.columns import Texts
from selftrain.errors import DataError, IntegrityError
from selftrain.manifests import Long, Rows, folder_of
from selftrain.rundir import RunDir

CONFIG = {"generations": [{"steps": 5}]}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(manifests, "PART", 3)


def entry(name, **more):
    return {"id": name, "image": f"{name:0>64}".encode().hex()[-64:], "mask": None, **more}


ENTRIES = [
    entry("a"), entry("b", tags=[0, 2]), entry("c", mask="77" * 32), entry("d"), entry("é"), {"id": "f"}, entry("g"),
]  # fmt: skip


def long(entries, size=2):
    """A long list that comes `size` rows at a time."""
    entries = sorted(entries, key=lambda one: one["id"])
    return Long(len(entries), lambda: (Rows.of(entries[i : i + size]) for i in range(0, len(entries), size)))


def settled(path, entries):
    run = RunDir(path)
    run.settle(CONFIG, {"val": [entry("v")], "unlabelled": long(entries), "set_aside": []})
    return run


def test_a_long_list_is_written_in_parts_and_read_again(tmp_path):
    run = settled(tmp_path, ENTRIES)
    told = json.loads(run.data.read_text())
    assert told["unlabelled"]["count"] == 7 and len(told["unlabelled"]["parts"]) == 3
    assert told["val"] == [entry("v")]
    found = manifests.opened(told, folder_of(run.data))
    assert list(manifests.entries_of(found["unlabelled"])) == sorted(ENTRIES, key=lambda one: one["id"])
    assert long(ENTRIES, size=5).hashes() == told["unlabelled"]["parts"]  # however the rows come
    settled(tmp_path, ENTRIES)  # the same data: the run goes on


@pytest.mark.parametrize(
    "entries, said",
    [
        (ENTRIES[1:], r"unlabelled: 1 missing, e\.g\. a"),
        ([*ENTRIES, entry("bb"), entry("z")], r"unlabelled: 2 new, e\.g\. bb"),
        (
            [*ENTRIES[:-1], {**ENTRIES[-1], "image": "00" * 31 + "11"}],
            r"unlabelled: 1 other content, e\.g\. g",
        ),
        ([*ENTRIES[:1], entry("b", tags=[1]), *ENTRIES[2:]], r"unlabelled: 1 other content, e\.g\. b"),
    ],
)
def test_changes_of_a_long_list_are_named(tmp_path, entries, said):
    settled(tmp_path, ENTRIES)
    with pytest.raises(DataError, match=said):
        settled(tmp_path, entries)


def test_a_run_whose_data_json_lists_everything_goes_on(tmp_path):
    run = RunDir(tmp_path)
    every = sorted(ENTRIES, key=lambda one: one["id"])
    run.settle(CONFIG, {"val": [entry("v")], "unlabelled": every, "set_aside": []})
    settled(tmp_path, ENTRIES)
    assert not folder_of(run.data).exists()
    with pytest.raises(DataError, match=r"1 new, e\.g\. z"):
        settled(tmp_path, [*ENTRIES, entry("z")])


def test_damaged_and_missing_parts_are_named(tmp_path):
    run = settled(tmp_path, ENTRIES)
    parts = sorted(folder_of(run.data).iterdir())
    content = bytearray(parts[1].read_bytes())
    content[-1] ^= 1
    parts[1].write_bytes(content)
    found = manifests.opened(json.loads(run.data.read_text()), folder_of(run.data))["unlabelled"]
    with pytest.raises(IntegrityError, match=r"unlabelled-00001\.safetensors is damaged: .*; restore it, or"):
        list(found.rows())
    parts[1].write_bytes(parts[2].read_bytes())
    with pytest.raises(IntegrityError, match=r"belongs to another data\.json"):
        list(found.rows())
    parts[1].unlink()
    with pytest.raises(IntegrityError, match=r"unlabelled-00001.*cannot be read .*; restore it, or"):
        list(found.rows())


@pytest.mark.parametrize("texts", [[], [""], ["", "a", "äö", "b/c"]])
def test_texts_are_found_by_place(texts):
    column = Texts.of(texts)
    assert list(column) == texts == [column[i] for i in range(len(column))]
    with pytest.raises(IndexError):
        column[len(texts)]


def test_every_flipped_bit_of_a_table_is_noticed(tmp_path):
    path = tmp_path / "table"
    arrays = {
        "a": np.arange(5, dtype=np.int64),
        "b": np.ones((2, 3), np.float32),
        "none": np.zeros(0, np.uint8),
    }
    columns.write(path, arrays, {"version": 1})
    found = columns.read(path, 1)
    assert all((found.arrays[name] == arrays[name]).all() for name in arrays)
    content = path.read_bytes()
    first = len(content) - sum(array.nbytes for array in arrays.values())
    for place in (*range(0, first, 7), *range(first, len(content))):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        try:
            assert columns.read(path, 1).facts == found.facts  # a space of the header
        except IntegrityError:
            continue
        assert place < first and chr(content[place]) == " "
    for length in (0, 5, first, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(IntegrityError, match="cannot be read"):
            columns.read(path, 1)
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match="version 1, not 2"):
        columns.read(path, 2)


def test_a_table_keeps_no_file_open_and_is_unmapped_with_its_last_array(tmp_path):
    """A data set of 1,000 shards has as many tables, and often a process may open 1,024 files only."""
    columns.write(tmp_path / "table", {"a": np.arange(5), "b": np.ones(3, np.float32)}, {"version": 1})
    before = len(os.listdir("/proc/self/fd"))
    found = [columns.read(tmp_path / "table", 1).arrays for _ in range(10)]
    assert len(os.listdir("/proc/self/fd")) == before
    part = found[3]["a"][1:3]
    del found
    assert Path("/proc/self/maps").read_text().count(f"{tmp_path}/table") == 1 and part.tolist() == [1, 2]
    del part
    assert f"{tmp_path}/table" not in Path("/proc/self/maps").read_text()
