"""From averaged probabilities to what is stored of an image, on four pixels."""

import numpy as np

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
