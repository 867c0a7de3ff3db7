"""The images of a label store that a page shows."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from selftrain.labels.numbers import NAMES
from selftrain.stages.pictures import galleries, of_classes


@dataclass(frozen=True)
class Picture:
    id: str
    mask: np.ndarray | None = None

    def read_image(self):
        return np.zeros((2, 2, 3), np.uint8)

    def read_mask(self):
        return self.mask


class Store:
    """Labels (2, 2) of which each pixel is the number of its image."""

    def __init__(self, **known):
        self.known = {name: np.array(known.get(name, [np.nan] * 10), np.float32) for name in NAMES}

    def numbers(self):
        return self.known

    def read(self, place):
        return SimpleNamespace(hard=np.full((2, 2), place, np.uint8))


def labels(**known):
    return SimpleNamespace(store=Store(**known), everything=[Picture(str(k)) for k in range(10)])


def shown(found):
    return {gallery.title: [item.title for item in gallery.items] for gallery in found}


def test_the_extremes_of_each_number_are_shown():
    sure = [0.5, 0.9, 0.1, np.nan, 0.3, 0.6, 0.7, 0.8, 0.2, 0.4]
    found = galleries(labels(confidence=sure, unlike=[0, 0, 0, 0, 0, 0, 0, 0, 1, 2]), lambda sample: None)
    assert shown(found) == {
        "Least confident": ["2", "8", "4", "9"],
        "Most confident": ["1", "7", "6", "5"],
        "Unlike every labelled image": ["9", "8", "0", "1"],
    }
    assert found[0].items[0].note == "mean confidence 0.100" and found[0].items[0].over.tolist() == [
        [2, 2],
        [2, 2],
    ]


def test_of_few_images_none_is_among_the_lowest_and_the_highest():
    sure = [0.5, 0.9, 0.1, *[np.nan] * 7]
    found = shown(galleries(labels(confidence=sure), lambda sample: None))
    assert found == {"Least confident": ["2"], "Most confident": ["1"]}


def test_what_has_changed_is_shown_before_and_after_unless_nothing_has():
    changed = [0, 0.25, 0, 1, 0, 0, 0, 0, 0, np.nan]

    def before(sample):
        return None if sample.id == "1" else np.full((2, 2), 7, np.uint8)

    found = galleries(labels(generations=changed, refiner=[0] * 10, views=changed), before, before, before)
    assert shown(found) == {
        "Changed most since the generation before": ["3"],
        "Views that disagree most": ["3"],
    }
    generations, views = found
    assert generations.items[0].under[0, 0] == 7 and generations.items[0].over[0, 0] == 3
    assert views.items[0].over[0, 0] == 7 and generations.items[0].note == "100.0% of the pixels differ"


def test_a_val_image_that_is_the_worst_of_several_classes_is_shown_once():
    predictor = SimpleNamespace(labels=lambda images: np.ones(images.shape[:3], np.uint8))
    samples = [Picture("a", np.zeros((2, 2), np.uint8)), Picture("b")]
    told = {
        "road": ("a", "IoU 0.1."),
        "tree": ("b", "IoU 0.2."),
        "car": ("a", "IoU 0.3."),
        "sky": ("gone", "IoU 0."),
    }
    found = of_classes(predictor, samples, told)
    assert [(item.title, item.note) for item in found.items] == [
        ("a", "road: IoU 0.1. car: IoU 0.3."),
        ("b", "tree: IoU 0.2."),
    ]
    assert found.items[0].under.tolist() == [[0, 0], [0, 0]] and found.items[1].under is None
