import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labels_of import CLASSES, distribution, first, softmax
from numpy.typing import NDArray

from selftrain.errors import IntegrityError, LearningError
from selftrain.labels.record import HEADER, Label, decode, encode, most_bytes


def stored(label: Label, classes: int) -> NDArray[np.bool_]:
    kept = np.zeros((classes, *label.hard.shape), bool)
    for name, prob in zip(label.classes, label.probs, strict=True):
        kept |= (np.arange(classes)[:, None, None] == name) & (prob > 0)
    return kept


def test_a_record_worked_by_hand() -> None:
    probs = np.array([[[0.2]], [[0.6]], [[0.0]], [[0.2]]], np.float32)  # 51, 153, 0, 51 of 255
    label = decode(encode(probs, *first(probs), 2))
    assert label.hard.tolist() == [[1]] and label.confidence.tolist() == [[153]]
    assert label.classes[:, 0, 0].tolist() == [1, 0] and label.probs[:, 0, 0].tolist() == [153, 51]
    np.testing.assert_allclose(
        label.soft(4)[:, 0, 0], [0.2, 0.6, 0.1, 0.1], atol=1e-6
    )  # the rest, 51, spread over two


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


def test_a_label_over_thresholds_is_that_of_divided_probabilities() -> None:
    probs = np.array(
        [[[0.2]], [[0.6]], [[0.0]], [[0.2]]], np.float32
    )  # stored: 153 of class 1, 51 of class 0
    label = decode(encode(probs, *first(probs), 2))
    found = label.over(np.array([0.1, 0.4, 0.4, 0.1]))
    odds = np.array([0.2 / 0.1, 0.6 / 0.4, 0.1 / 0.4, 0.1 / 0.1])  # classes 2 and 3 share the rest
    share = odds / odds.sum()
    assert found.hard.tolist() == [[0]] and found.confidence[0, 0] == np.rint(255 * share[0])
    assert found.classes[:, 0, 0].tolist() == [0, 1]
    np.testing.assert_allclose(found.probs[:, 0, 0] / 255, share[:2], atol=1 / 255)
    same = label.over(np.full(4, 0.25))
    assert same.hard.tolist() == label.hard.tolist() and same.confidence.tolist() == label.confidence.tolist()
