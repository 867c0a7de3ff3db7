"""From averaged probabilities to what is stored of an image, on four pixels."""

import numpy as np

from selftrain.labels import numbers
from selftrain.labels.labelled import label_image
from selftrain.labels.record import decode
from selftrain.labels.refiners import unrefined

IMAGE = np.zeros((1, 4, 3), np.uint8)
PROBS = np.array([[[1.0, 0.6, 0.2, 0.0]], [[0.0, 0.4, 0.8, 1.0]]], np.float32)  # two classes


def test_the_refined_probabilities_are_stored_with_their_confidence():
    swapped = label_image(IMAGE, PROBS, refiner=lambda image, probs: probs[::-1], soft_classes=2)
    label = decode(swapped.record)
    assert label.hard.tolist() == [[1, 1, 0, 0]] and label.confidence.tolist() == [[255, 153, 204, 255]]
    assert np.allclose(label.soft(2), PROBS[::-1], atol=1 / 255)
    assert swapped.confidence == np.float32(255 + 153 + 204 + 255) / 4 / 255


def test_a_shard_gets_pixels_by_label_and_confidence():
    histogram = label_image(IMAGE, PROBS, refiner=unrefined, soft_classes=2).histogram
    assert histogram.shape == (2, 256) and histogram.sum() == 4
    assert np.argwhere(histogram).tolist() == [[0, 153], [0, 255], [1, 204], [1, 255]]


def test_a_mask_measures_the_plain_view_the_averaged_views_and_the_label():
    mask, raw = np.array([[0, 0, 1, 255]], np.uint8), np.array([[1, 1, 1, 1]], np.uint8)
    labelled = label_image(
        IMAGE, PROBS, refiner=lambda image, probs: probs[::-1], soft_classes=2, mask=mask, raw=raw
    )
    assert labelled.confusion.tolist() == [[[0, 2], [0, 1]], [[2, 0], [0, 1]], [[0, 2], [1, 0]]]
    assert label_image(IMAGE, PROBS, refiner=unrefined, soft_classes=2).confusion is None


def test_numbers_tell_what_refiner_and_generation_changed():
    def swap(image, probs):
        return probs[::-1]

    before = np.array([[1, 1, 1, 1]], np.uint8)
    told = label_image(IMAGE, PROBS, refiner=swap, soft_classes=2, earlier=lambda: before).numbers
    assert told["refiner"] == 1.0 and told["generations"] == 0.5
    assert told["confidence"] == np.float32(255 + 153 + 204 + 255) / 4 / 255
    plain = label_image(
        IMAGE, PROBS, refiner=unrefined, soft_classes=2, unlike=lambda image: 0.25, numbers={"views": 0.125}
    ).numbers
    assert set(plain) == {"confidence", "unlike", "views"}  # nothing else is known
    assert plain["unlike"] == 0.25 and plain["views"] == 0.125
    other_size = np.zeros((2, 4), np.uint8)
    assert (
        "generations"
        not in label_image(
            IMAGE, PROBS, refiner=unrefined, soft_classes=2, earlier=lambda: other_size
        ).numbers
    )


def test_numbers_are_kept_beside_the_shards_and_may_be_missing(tmp_path):
    labels = [label_image(IMAGE, PROBS, refiner=unrefined, soft_classes=2, numbers={"views": 0.5})] * 2
    numbers.write(numbers.file_of(tmp_path, 1), labels)
    found = numbers.read(tmp_path, [3, 2])  # the first file is missing, as in stores of older versions
    assert np.isnan(found["views"][:3]).all() and found["views"][3:].tolist() == [0.5, 0.5]
    assert np.isnan(found["generations"]).all() and len(found["generations"]) == 5
    numbers.file_of(tmp_path, 1).write_text("{")
    assert np.isnan(numbers.read(tmp_path, [3, 2])["views"]).all()
    numbers.file_of(tmp_path, 1).write_text('{"views": [1, 2, 3]}')
    assert np.isnan(numbers.read(tmp_path, [3, 2])["views"]).all()
