"""The tags of training examples: what a crop's mask shows, or else what is known of its image."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from selftrain.data.augment.pipeline import Pipeline
from selftrain.data.batches import Augmentation, StepDataset
from selftrain.data.cache import Cache
from selftrain.data.examples import Example, collate
from selftrain.data.labels import MaskLabels
from selftrain.data.sample import Sample, Source
from selftrain.data.tags import known_by_tags, tags_of
from selftrain.ids import IGNORE
from selftrain.targets import Target

NAN = float("nan")


class Picture(Source):
    """An image of 32 x 32, or a mask whose left half is of class 1."""

    def __init__(self, channels: int = 3):
        self.shape = (32, 32, channels) if channels else (32, 32)

    @property
    def name(self) -> str:
        return "picture"

    def read(self) -> np.ndarray:
        pixels = np.zeros(self.shape, np.uint8)
        pixels[:, :16] = 1
        return pixels

    def fingerprint(self) -> None:
        return None


def sample(tags, mask=True):
    return Sample("a", Picture(), Picture(0) if mask else None, tags=tags)


def examples(samples, tags=True, **settings):
    cache = Cache(1)
    return StepDataset(
        MaskLabels(samples, cache.mask), sizes=(len(samples), 0), classes=3,
        tags=partial(tags_of, classes=3) if tags else None,
        augmentation=Augmentation(Pipeline((32, 32)), Pipeline((32, 32)), **settings), cache=cache, keys=("k",),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (sample((2,)), [1, 1, 0]),  # its mask
        (known_by_tags([sample((2,), mask=False)])[0], [0, 0, 1]),
        (known_by_tags([sample((2,))])[0], [0, 0, 1]),  # the mask of an unlabelled image never teaches
        (replace(known_by_tags([sample(())])[0], tags=None), [NAN, NAN, NAN]),
    ],
)
def test_a_crop_has_the_tags_of_its_mask_or_of_its_image(one, expected):
    found = collate([examples([one])[0, 0]])
    np.testing.assert_array_equal(found.tags.numpy(), [expected])
    assert found.each(lambda tensor: tensor[:0]).tags.shape == (0, 3)


def test_an_image_that_is_known_by_its_tags_has_no_labelled_pixel():
    (one,) = known_by_tags([sample((2,)), sample(None)])
    assert (one.read_mask() == IGNORE).all() and one.read_mask().shape == (32, 32)


def test_without_an_image_level_head_nothing_is_told_of_images():
    assert collate([examples([sample((2,))], tags=False)[0, 0]]).tags is None


def test_tags_in_which_mixed_images_differ_are_not_known():
    def example(*tags):
        hard = np.zeros((2, 2), np.uint8)
        return Example(np.zeros((2, 2, 3), np.uint8), Target(hard), True, np.array(tags, np.float32))

    mixed = example(1, 0, 1, NAN).blended(example(1, 0, 0, 1), np.eye(2, dtype=bool))
    np.testing.assert_array_equal(mixed.tags, [1, 0, NAN, NAN])
