import json
import pickle
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labels_of import CLASSES, distribution, first, labelled
from numpy.typing import NDArray

from selftrain.errors import IntegrityError
from selftrain.labels.record import HEADER, Labelled, encode
from selftrain.labels.store import (
    INDEX,
    SUMMARY,
    Index,
    LabelsOver,
    LabelStore,
    Origin,
    finish,
    ids_digest,
    shard_is_sound,
    shard_path,
    write_shard,
)

TEACHER = "ab" * 32
ORIGIN = Origin(TEACHER, CLASSES, soft_classes=3)


def make(directory: Path, *, images: int = 7, shard: int = 3, confusion: bool = False) -> list[str]:
    ids = [f"images/ü{i}.png" for i in range(images)]
    for number, start in enumerate(range(0, images, shard)):
        part = list(range(start, min(start + shard, images)))
        write_part(directory, number, part, [ids[i] for i in part], confusion=confusion)
    finish(directory, ids, ORIGIN, shard=shard)
    return ids


def write_part(
    directory: Path, number: int, images: list[int], ids: list[str], *, confusion: bool = False
) -> Path:
    counts = np.ones((3, CLASSES, CLASSES), np.int64) if confusion else None
    path = shard_path(directory, number)
    write_shard(path, [labelled(distribution(i), i / 10, counts) for i in images], ids, ORIGIN)
    return path


def test_a_store_gives_back_what_was_written(tmp_path: Path) -> None:
    ids = make(tmp_path, confusion=True)
    store = LabelStore(tmp_path)
    assert len(store) == 7 and store.index.ids_sha256 == ids_digest(ids) and store.index.teacher == TEACHER
    for i in (6, 0, 3):
        assert (store.read(i).hard == distribution(i).argmax(axis=0)).all()
    np.testing.assert_allclose(store.confidence(), np.arange(7) / 10, atol=1e-6)
    histogram, confusion = store.histogram(), store.confusion()
    assert histogram.shape == (CLASSES, 256) and histogram.sum() == 7 * 13 * 17
    assert confusion is not None and confusion.shape == (3, CLASSES, CLASSES) and (confusion == 7).all()
    assert store.verify() == []
    with pytest.raises(IndexError):
        store.read(7)


def told(store: LabelStore) -> list[NDArray[Any]]:
    confusion = store.confusion()
    assert confusion is not None
    return [store.confidence(), store.histogram(), confusion, *store.numbers().values()]


def test_the_summary_tells_what_the_shards_tell_and_spares_opening_them(tmp_path: Path) -> None:
    make(tmp_path / "a", confusion=True)
    make(tmp_path / "b", confusion=True, images=6)
    found = told(LabelStore(tmp_path / "a"))
    for content in (
        None,
        b"damaged",
        (tmp_path / "b" / SUMMARY).read_bytes(),
    ):  # missing, damaged, of other shards
        (tmp_path / "a" / SUMMARY).unlink(missing_ok=True)
        if content:
            (tmp_path / "a" / SUMMARY).write_bytes(content)
        for one, other in zip(found, told(LabelStore(tmp_path / "a")), strict=True):
            np.testing.assert_array_equal(one, other)
    make(tmp_path / "a", confusion=True)
    for shard in (tmp_path / "a").glob("shard-*"):
        shard.unlink()
    for one, other in zip(found, told(LabelStore(tmp_path / "a")), strict=True):
        np.testing.assert_array_equal(one, other)


def test_without_masks_there_is_no_confusion(tmp_path: Path) -> None:
    make(tmp_path)
    assert LabelStore(tmp_path).confusion() is None


def test_equal_labels_are_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        make(tmp_path / name, confusion=True)
    for path in sorted((tmp_path / "a").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_a_store_can_be_pickled(tmp_path: Path) -> None:
    make(tmp_path)
    store = LabelStore(tmp_path)
    store.read(0)
    assert (pickle.loads(pickle.dumps(store)).read(5).hard == store.read(5).hard).all()


def test_only_a_shard_of_these_images_and_this_teacher_is_sound(tmp_path: Path) -> None:
    ids = make(tmp_path)
    path = shard_path(tmp_path, 1)
    assert shard_is_sound(path, ids[3:6], ORIGIN)
    assert not shard_is_sound(path, ids[2:5], ORIGIN)
    assert not shard_is_sound(path, ids[3:6], replace(ORIGIN, teacher="other"))
    assert not shard_is_sound(path, ids[3:6], replace(ORIGIN, soft_classes=2))
    assert not shard_is_sound(shard_path(tmp_path, 9), ids[3:6], ORIGIN)


@pytest.mark.parametrize("place", [0, 3, 20, 300, -1, -4000])
def test_a_flipped_bit_anywhere_makes_a_shard_unsound(tmp_path: Path, place: int) -> None:
    ids = make(tmp_path)
    path = shard_path(tmp_path, 0)
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)
    assert not shard_is_sound(path, ids[:3], ORIGIN)
    assert LabelStore(tmp_path).verify() == [path]


@pytest.mark.parametrize(
    "content", [b"", b"x", b"\xff" * 100, b"\x02\0\0\0\0\0\0\0{}", b"\x08\0\0\0\0\0\0\0[[[[[[[["]
)
def test_a_shard_of_something_else_is_an_integrity_error(tmp_path: Path, content: bytes) -> None:
    ids = make(tmp_path)
    shard_path(tmp_path, 1).write_bytes(content)
    assert not shard_is_sound(shard_path(tmp_path, 1), ids[3:6], ORIGIN)
    with pytest.raises(IntegrityError, match=r"shard-00001\.safetensors .*label its images again"):
        LabelStore(tmp_path).read(4)
    assert (LabelStore(tmp_path).read(0).hard == distribution(0).argmax(axis=0)).all()


def test_shards_that_changed_places_are_refused(tmp_path: Path) -> None:
    make(tmp_path)
    shard_path(tmp_path, 2).write_bytes(shard_path(tmp_path, 0).read_bytes())
    with pytest.raises(IntegrityError, match="made for a different number of images"):
        LabelStore(tmp_path).read(6)


def test_a_damaged_record_names_its_shard_and_image(tmp_path: Path) -> None:
    make(tmp_path)
    path = shard_path(tmp_path, 0)
    content = bytearray(path.read_bytes())
    record = encode(distribution(1), *first(distribution(1)), 3)
    content[content.index(record) + HEADER.size + 30] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"shard-00000\.safetensors, image 1: "):
        LabelStore(tmp_path).read(1)


def test_a_class_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    ids = make(tmp_path)
    for number, part in enumerate([ids[:3], ids[3:6], ids[6:]]):
        record = encode(distribution(0, 9), *first(distribution(0, 9)), 3)
        label = Labelled(record, 1.0, np.zeros((CLASSES, 256), np.int64), None)
        write_shard(shard_path(tmp_path, number), [label] * len(part), part, ORIGIN)
    with pytest.raises(IntegrityError, match="names class 8"):
        LabelStore(tmp_path).read(0)


def test_a_store_without_its_index_is_not_finished(tmp_path: Path) -> None:
    write_part(tmp_path, 0, [0, 1], ["a", "b"])
    with pytest.raises(IntegrityError, match="has not finished"):
        LabelStore(tmp_path)


@pytest.mark.parametrize(
    "change",
    [{"version": 2}, {"count": 99}, {"shard": 0}, {"shards": "ab"}, {"extra": 1}, {"classes": "5"}, None],
)
def test_an_unsound_index_is_an_integrity_error(tmp_path: Path, change: dict[str, object] | None) -> None:
    make(tmp_path, images=6)
    path = tmp_path / INDEX
    path.write_text("[" if change is None else json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(IntegrityError, match=INDEX):
        LabelStore(tmp_path)


def test_an_index_that_counts_other_images_than_its_shards_is_noticed(tmp_path: Path) -> None:
    make(tmp_path, images=6)
    path = tmp_path / INDEX
    path.write_text(json.dumps(json.loads(path.read_text()) | {"count": 5}))
    with pytest.raises(IntegrityError, match="made for a different number of images"):
        LabelStore(tmp_path).read(4)


def test_finish_names_what_is_missing_and_leaves_no_index(tmp_path: Path) -> None:
    ids = ["a", "b", "c"]
    write_part(tmp_path, 0, [0, 1], ids[:2])
    with pytest.raises(
        IntegrityError, match=r"1 of 2 label shards are missing or damaged, e.g. .*shard-00001"
    ):
        finish(tmp_path, ids, ORIGIN, shard=2)
    assert not (tmp_path / INDEX).exists()


def test_a_store_of_no_images_is_a_store(tmp_path: Path) -> None:
    finish(tmp_path, [], ORIGIN, shard=4)
    store = LabelStore(tmp_path)
    assert len(store) == 0 and store.confidence().shape == (0,) and store.histogram().shape == (CLASSES, 256)


def test_a_million_labels_open_at_once(tmp_path: Path) -> None:
    index = Index(1, CLASSES, 3, TEACHER, 1_000_000, TEACHER, 32, [TEACHER] * 31250)
    (tmp_path / INDEX).write_text(json.dumps(vars(index)))
    start = time.process_time()  # of this process only: the machine may be busy
    assert len(LabelStore(tmp_path)) == 1_000_000
    assert time.process_time() - start < 1


def test_labels_over_thresholds_are_counted_anew(tmp_path: Path) -> None:
    make(tmp_path)
    thresholds = np.array([0.4, 0.3, 0.1, 0.1, 0.1])
    store, found = LabelStore(tmp_path), pickle.loads(pickle.dumps(LabelsOver(tmp_path, thresholds)))
    expected = np.zeros((CLASSES, 256), np.int64)
    for i in range(len(store)):
        label = store.read(i).over(thresholds)
        np.testing.assert_array_equal(found.read(i).hard, label.hard)
        np.add.at(expected, (label.hard, label.confidence), 1)
    np.testing.assert_array_equal(found.histogram(), expected)
    assert found.histogram()[0].sum() < store.histogram()[0].sum()  # class 0 needs more than others
