"""Where crops lie."""

import numpy as np
import pytest

from selftrain.data.augment.places import non_empty, uniform
from selftrain.data.augment.view import OUTSIDE, crop_matrix, source_index


def mask_with(*pixels, size=(50, 80), value=3, background=0):
    mask = np.full(size, background, np.uint8)
    for row, column in pixels:
        mask[row, column] = value
    return mask


def values_in(mask, place, size, crop):
    index = source_index(mask.shape, crop_matrix(size[0] / mask.shape[0], place), crop)
    return set(mask.reshape(-1)[index[index != OUTSIDE]].tolist())


def test_uniform_places_reach_every_edge_and_stay_inside():
    rng = np.random.default_rng(0)
    places = np.array([uniform(rng, (50.0, 80.0), (32, 32), None) for _ in range(2000)])
    assert (places >= 0).all() and (places <= (18, 48)).all()
    assert np.allclose(places.min(axis=0), 0, atol=0.5) and np.allclose(
        places.max(axis=0), (18, 48), atol=0.5
    )
    assert np.allclose(places.mean(axis=0), (9, 24), atol=1)


def test_a_smaller_image_lies_somewhere_inside_of_the_crop():
    top, left = uniform(np.random.default_rng(0), (20.0, 32.0), (32, 32), None)
    assert -12 <= top <= 0 and left == 0


@pytest.mark.parametrize("zoom", [0.3, 0.5, 0.8, 1.0, 1.7])
@pytest.mark.parametrize("pixel", [(0, 0), (49, 79), (0, 79), (25, 40), (49, 3)])
def test_a_non_empty_crop_shows_a_lone_pixel_wherever_it_is(zoom, pixel):
    mask, size = mask_with(pixel), (50 * zoom, 80 * zoom)
    for seed in range(20):
        place = non_empty(np.random.default_rng(seed), size, (32, 32), mask, tries=1)
        assert values_in(mask, place, size, (32, 32)) == {0, 3}
        assert all(
            min(0, side - 32) - 1 <= at <= max(0, side - 32) + 1 for at, side in zip(place, size, strict=True)
        )


def test_uniform_crops_hardly_ever_show_that_pixel():
    mask, rng = mask_with((0, 0)), np.random.default_rng(0)
    shown = [
        3 in values_in(mask, uniform(rng, (50.0, 80.0), (32, 32), mask), (50.0, 80.0), (32, 32))
        for _ in range(200)
    ]
    assert sum(shown) < 20


def test_the_first_place_stands_where_it_shows_an_object_or_nothing_can():
    full, empty, unknown = (
        np.ones((50, 80), np.uint8),
        np.zeros((50, 80), np.uint8),
        np.full((50, 80), 255, np.uint8),
    )
    first = uniform(np.random.default_rng(7), (50.0, 80.0), (32, 32), None)
    for mask, tries in ((full, 10), (None, 10), (empty, 1), (unknown, 1)):
        assert non_empty(np.random.default_rng(7), (50.0, 80.0), (32, 32), mask, tries=tries) == first


def test_the_background_may_be_another_class():
    mask = mask_with((0, 79), value=0, background=2)
    place = non_empty(np.random.default_rng(0), (50.0, 80.0), (32, 32), mask, background=2, tries=1)
    assert 0 in values_in(mask, place, (50.0, 80.0), (32, 32))


def test_further_tries_are_uniform_places():
    """Objects in the lower half: of two tries the second is taken where the first shows background."""
    mask = np.zeros((50, 80), np.uint8)
    mask[40:] = 1
    for seed in range(30):
        rng = np.random.default_rng(seed)
        drawn = [uniform(rng, (50.0, 80.0), (32, 32), mask) for _ in range(2)]
        shown = [1 in values_in(mask, place, (50.0, 80.0), (32, 32)) for place in drawn]
        if any(shown):
            place = non_empty(np.random.default_rng(seed), (50.0, 80.0), (32, 32), mask, tries=2)
            assert place == drawn[shown.index(True)]
