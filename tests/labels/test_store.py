import json
import pickle
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from selftrain.errors import IntegrityError, LearningError
from selftrain.labels.store import (
    HEADER,
    INDEX,
    Index,
    Label,
    LabelStore,
    decode,
    encode,
    finish,
    ids_digest,
    most_bytes,
    shard_is_sound,
    shard_path,
    write_shard,
)

TEACHER = "ab" * 32
CLASSES = 5


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float32]:
    odds = np.exp(logits - logits.max(axis=0))
    return (odds / odds.sum(axis=0)).astype(np.float32)


def distribution(
    seed: int, classes: int = CLASSES, height: int = 13, width: int = 17, sharpness: float = 3.0
) -> NDArray[np.float32]:
    return softmax(np.random.default_rng(seed).normal(size=(classes, height, width)) * sharpness)


def first(probs: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Hard label and confidence as they are without a CRF."""
    return probs.argmax(axis=0).astype(np.uint8), np.rint(255 * probs.max(axis=0)).astype(np.uint8)


def stored(label: Label, classes: int) -> NDArray[np.bool_]:
    kept = np.zeros((classes, *label.hard.shape), bool)
    for name, prob in zip(label.classes, label.probs, strict=True):
        kept |= (np.arange(classes)[:, None, None] == name) & (prob > 0)
    return kept


# one record


def test_a_record_worked_by_hand() -> None:
    probs = np.array([[[0.2]], [[0.6]], [[0.0]], [[0.2]]], np.float32)  # 51, 153, 0, 51 of 255
    label = decode(encode(probs, *first(probs), 2))
    assert label.hard.tolist() == [[1]] and label.confidence.tolist() == [[153]]
    assert label.classes[:, 0, 0].tolist() == [1, 0] and label.probs[:, 0, 0].tolist() == [153, 51]
    np.testing.assert_allclose(label.soft(4)[:, 0, 0], [0.2, 0.6, 0.1, 0.1], atol=1e-6)  # the rest, 51, spread over two


@given(
    seed=st.integers(0, 10**6),
    classes=st.integers(1, 30),
    k=st.integers(1, 6),
    sharpness=st.floats(0, 40),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
)
@settings(max_examples=150, deadline=None)
def test_a_stored_probability_comes_back_within_one_255th(
    seed: int, classes: int, k: int, sharpness: float, height: int, width: int
) -> None:
    probs = distribution(seed, classes, height, width, sharpness)
    hard, confidence = first(probs)
    label = decode(encode(probs, hard, confidence, k))
    soft = label.soft(classes)
    assert (label.hard == hard).all() and (label.confidence == confidence).all()
    assert np.abs(soft - probs)[stored(label, classes)].max(initial=0) <= 1 / 255 + 1e-6
    assert soft.shape == probs.shape and soft.dtype == np.float32 and soft.min() >= 0
    np.testing.assert_allclose(soft.sum(axis=0), 1, atol=1e-5)


def test_all_classes_stored_give_back_the_distribution() -> None:
    probs = distribution(0)
    assert np.abs(decode(encode(probs, *first(probs), 99)).soft(CLASSES) - probs).max() <= 1 / 255 + 1e-6


def test_equal_probabilities_keep_the_lower_class_first() -> None:
    probs = np.full((4, 2, 2), 0.25, np.float32)
    assert decode(encode(probs, *first(probs), 2)).classes[:, 0, 0].tolist() == [0, 1]


def test_hard_and_confidence_need_not_follow_the_distribution() -> None:
    probs, random = distribution(1), np.random.default_rng(1)
    hard = random.integers(0, CLASSES, probs.shape[1:]).astype(np.uint8)
    confidence = random.integers(0, 256, probs.shape[1:]).astype(np.uint8)
    label = decode(encode(probs, hard, confidence, 3))
    assert (label.hard == hard).all() and (label.confidence == confidence).all()
    assert (label.classes[0] == probs.argmax(axis=0)).all()


@pytest.mark.parametrize("classes", [2, 11, 21])
def test_labels_full_of_blurred_noise_take_no_more_than_is_reckoned_with(classes: int) -> None:
    noise = np.random.default_rng(0).normal(size=(96, 96, classes)).astype(np.float32)
    noise = np.dstack([cv2.GaussianBlur(plane, (0, 0), 4) for plane in np.moveaxis(noise, 2, 0)])
    probs = softmax(np.moveaxis(3 * noise / noise.std(), 2, 0).astype(np.float64))
    for k in {1, min(3, classes), classes}:
        assert len(encode(probs, *first(probs), k)) <= most_bytes(k) * 96 * 96


def test_planes_that_say_nothing_new_cost_nothing() -> None:
    probs = distribution(1)
    hard, confidence = first(probs)
    plain = encode(probs, hard, confidence, 3)
    assert HEADER.unpack_from(plain)[-2:] == (0, 0)
    assert len(encode(probs, (hard + 1) % CLASSES, confidence, 3)) > len(plain)


def test_smooth_maps_take_less_than_a_byte_a_pixel() -> None:
    y, x = np.mgrid[0:120, 0:160] / 40
    probs = softmax(np.stack([np.sin(x + i) * np.cos(y * 1.3 + i) * 6 for i in range(11)]))
    assert len(encode(probs, *first(probs), 3)) / (120 * 160) < 1.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.1, 1.5])
def test_numbers_that_are_no_probabilities_are_refused(bad: float) -> None:
    probs = distribution(0)
    probs[1, 2, 3] = bad
    with pytest.raises(LearningError, match="not numbers between 0 and 1"):
        encode(probs, *first(distribution(0)), 3)


def test_a_warped_label_is_gathered_and_ignored_outside() -> None:
    probs = distribution(2)
    label = decode(encode(probs, *first(probs), 3))
    index = np.array([[0, 16, -1], [17, 13 * 17 - 1, -1]])
    warped = label.at(index)
    assert warped.hard[:, :2].tolist() == [
        [label.hard[0, 0], label.hard[0, 16]],
        [label.hard[1, 0], label.hard[12, 16]],
    ]
    assert warped.hard[:, 2].tolist() == [255, 255]
    assert warped.confidence[:, 2].tolist() == [0, 0]
    soft, whole = label.soft_at(index, CLASSES), label.soft(CLASSES)
    np.testing.assert_array_equal(soft[:, 1, 1], whole[:, 12, 16])
    np.testing.assert_allclose(soft[:, :, 2], 1 / CLASSES, atol=1e-6)
    assert label.hard.max() < CLASSES  # the stored label is untouched


@given(st.integers(0, 10**6))
@settings(max_examples=200, deadline=None)
def test_a_damaged_record_is_an_integrity_error_or_a_label(seed: int) -> None:
    probs, random = distribution(3), np.random.default_rng(seed)
    record = bytearray(encode(probs, *first(probs), 3))
    for place in random.integers(0, len(record), 3):
        record[place] ^= int(random.integers(1, 256))
    cut = len(record) if seed % 2 else int(random.integers(0, len(record)))
    try:
        label = decode(bytes(record[:cut]))
    except IntegrityError:
        return
    assert label.probs.sum(axis=0, dtype=int).max() <= 255


def test_a_record_that_unpacks_to_more_than_it_says_is_refused() -> None:
    probs = np.zeros((2, 500, 500), np.float32)
    probs[0] = 1
    version, k, _, _, *sizes = HEADER.unpack_from(encode(probs, *first(probs), 1))
    bomb = HEADER.pack(version, k, 2, 2, *sizes) + encode(probs, *first(probs), 1)[HEADER.size :]
    with pytest.raises(IntegrityError, match="2 x 2"):
        decode(bomb)


# the store


FACTS: Any = {"classes": CLASSES, "soft_classes": 3, "teacher": TEACHER}


def make(directory: Path, *, images: int = 7, shard: int = 3, confusion: bool = False) -> list[str]:
    ids = [f"images/ü{i}.png" for i in range(images)]
    for number, start in enumerate(range(0, images, shard)):
        part = list(range(start, min(start + shard, images)))
        write_part(directory, number, part, [ids[i] for i in part], confusion=confusion)
    finish(directory, ids=ids, **FACTS, shard=shard)
    return ids


def write_part(directory: Path, number: int, images: list[int], ids: list[str], *, confusion: bool = False) -> Path:
    records, histogram = [], np.zeros((CLASSES, 256), np.int64)
    for i in images:
        probs = distribution(i)
        hard, confidence = first(probs)
        records.append(encode(probs, hard, confidence, 3))
        np.add.at(histogram, (hard, confidence), 1)
    return write_shard(
        directory,
        number,
        records,
        ids=ids,
        soft_classes=3,
        teacher=TEACHER,
        confidence=np.array(images, np.float32) / 10,
        histogram=histogram,
        confusion=np.full((3, CLASSES, CLASSES), number + 1) if confusion else None,
    )


def test_a_store_gives_back_what_was_written(tmp_path: Path) -> None:
    ids = make(tmp_path, confusion=True)
    store = LabelStore(tmp_path)
    assert len(store) == 7 and store.index.ids_sha256 == ids_digest(ids) and store.index.teacher == TEACHER
    for i in (6, 0, 3):
        assert (store.read(i).hard == distribution(i).argmax(axis=0)).all()
    np.testing.assert_allclose(store.confidence(), np.arange(7) / 10, atol=1e-6)
    histogram, confusion = store.histogram(), store.confusion()
    assert histogram.shape == (CLASSES, 256) and histogram.sum() == 7 * 13 * 17
    assert confusion is not None and confusion.shape == (3, CLASSES, CLASSES) and (confusion == 6).all()
    assert store.verify() == []
    with pytest.raises(IndexError):
        store.read(7)


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
    assert shard_is_sound(path, ids=ids[3:6], **FACTS)
    assert not shard_is_sound(path, ids=ids[2:5], **FACTS)
    assert not shard_is_sound(path, ids=ids[3:6], **FACTS | {"teacher": "other"})
    assert not shard_is_sound(path, ids=ids[3:6], **FACTS | {"soft_classes": 2})
    assert not shard_is_sound(shard_path(tmp_path, 9), ids=ids[3:6], **FACTS)


@pytest.mark.parametrize("place", [0, 3, 20, 300, -1, -4000])
def test_a_flipped_bit_anywhere_makes_a_shard_unsound(tmp_path: Path, place: int) -> None:
    ids = make(tmp_path)
    path = shard_path(tmp_path, 0)
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)
    assert not shard_is_sound(path, ids=ids[:3], **FACTS)
    assert LabelStore(tmp_path).verify() == [path]


@pytest.mark.parametrize("content", [b"", b"x", b"\xff" * 100, b"\x02\0\0\0\0\0\0\0{}", b"\x08\0\0\0\0\0\0\0[[[[[[[["])
def test_a_shard_of_something_else_is_an_integrity_error(tmp_path: Path, content: bytes) -> None:
    ids = make(tmp_path)
    shard_path(tmp_path, 1).write_bytes(content)
    assert not shard_is_sound(shard_path(tmp_path, 1), ids=ids[3:6], **FACTS)
    with pytest.raises(IntegrityError, match=r"shard-00001\.safetensors .*label its images again"):
        LabelStore(tmp_path).read(4)
    assert (LabelStore(tmp_path).read(0).hard == distribution(0).argmax(axis=0)).all()


def test_shards_that_changed_places_are_refused(tmp_path: Path) -> None:
    make(tmp_path)
    shard_path(tmp_path, 2).write_bytes(shard_path(tmp_path, 0).read_bytes())
    with pytest.raises(IntegrityError, match="of another number of images"):
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
        records = [encode(distribution(0, 9), *first(distribution(0, 9)), 3)] * len(part)
        counts, ones = np.zeros((CLASSES, 256), np.int64), np.ones(len(part), np.float32)
        write_shard(tmp_path, number, records, ids=part, soft_classes=3, teacher=TEACHER, confidence=ones, histogram=counts)
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
    with pytest.raises(IntegrityError, match="of another number of images"):
        LabelStore(tmp_path).read(4)


def test_finish_names_what_is_missing_and_leaves_no_index(tmp_path: Path) -> None:
    ids = ["a", "b", "c"]
    write_part(tmp_path, 0, [0, 1], ids[:2])
    with pytest.raises(IntegrityError, match=r"1 of 2 label shards are missing or damaged, e.g. .*shard-00001"):
        finish(tmp_path, ids=ids, **FACTS, shard=2)
    assert not (tmp_path / INDEX).exists()


def test_a_store_of_no_images_is_a_store(tmp_path: Path) -> None:
    finish(tmp_path, ids=[], **FACTS, shard=4)
    store = LabelStore(tmp_path)
    assert len(store) == 0 and store.confidence().shape == (0,) and store.histogram().shape == (CLASSES, 256)


def test_a_million_labels_open_at_once(tmp_path: Path) -> None:
    index = Index(1, CLASSES, 3, TEACHER, 1_000_000, TEACHER, 32, [TEACHER] * 31250)
    (tmp_path / INDEX).write_text(json.dumps(vars(index)))
    start = time.process_time()  # of this process only: the machine may be busy
    assert len(LabelStore(tmp_path)) == 1_000_000
    assert time.process_time() - start < 1
