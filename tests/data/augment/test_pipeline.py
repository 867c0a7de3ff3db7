"""The whole augmentation of an image: its parts, their order and how often they act."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from selftrain.data.augment import randaugment
from selftrain.data.augment.colour import COLOUR
from selftrain.data.augment.erase import ERASE
from selftrain.data.augment.geometry import GEOMETRY
from selftrain.data.augment.pipeline import Pipeline
from selftrain.data.augment.places import PLACES
from selftrain.data.augment.policies import POLICIES
from selftrain.data.augment.randaugment import OPERATIONS, RandAugment
from selftrain.data.augment.view import OUTSIDE
from selftrain.tables import Chosen

PLAIN = Pipeline((40, 60))


def chosen(table, name, p, **settings):
    return (Chosen(name, table[name], p, settings),)


def gradient(height=40, width=60):
    """An image whose first two channels are its coordinates, times 4."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([4 * rows, 4 * columns, np.full_like(rows, 7)], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("seed", range(8))
def test_labels_move_with_the_pixels_whatever_the_geometry(seed, monkeypatch):
    monkeypatch.setattr(randaugment, "OPERATIONS", tuple(one for one in OPERATIONS if one.geometry))
    geometry = tuple(Chosen(name, entry, 0.7, {}) for name, entry in GEOMETRY.items())
    pipeline = Pipeline((32, 32), scale=(0.8, 1.4), geometry=geometry, randaugment=RandAugment(2, 20.0))
    seen = pipeline.view(gradient(), np.random.default_rng(seed))
    inside = seen.index != OUTSIDE
    rows, columns = np.divmod(seen.index, 60)
    # away from the border, bilinear values of a linear image show where a pixel came from
    deep = inside & (rows > 1) & (rows < 38) & (columns > 1) & (columns < 58)
    assert deep.sum() > 50
    assert np.abs(seen.image[..., 0][deep] / 4 - rows[deep]).max() <= 0.8
    assert np.abs(seen.image[..., 1][deep] / 4 - columns[deep]).max() <= 0.8


def test_noise_of_a_view_comes_as_often_as_asked_for():
    rng, image = np.random.default_rng(0), gradient()
    pipeline = replace(
        PLAIN,
        geometry=chosen(GEOMETRY, "vflip", 0.2),
        colours=chosen(COLOUR, "jitter", 0.7),
        erase=chosen(ERASE, "cutout", 0.3),
    )
    seen = [pipeline.view(image, rng) for _ in range(600)]
    unknown = [one.index == OUTSIDE for one in seen]
    plain = [image.reshape(-1, 3)[one.index] for one in seen]
    changed = [
        (one.image[~none] != same[~none]).any() for one, none, same in zip(seen, unknown, plain, strict=True)
    ]
    turned = [one.index[one.index != OUTSIDE][0] > one.index[one.index != OUTSIDE][-1] for one in seen]
    shares = [np.mean(changed), np.mean([none.any() for none in unknown]), np.mean(turned)]
    assert np.allclose(shares, (0.7, 0.3, 0.2), atol=0.06)


def test_entries_act_in_their_order():
    grey_last = tuple(Chosen(name, COLOUR[name], 1.0, {}) for name in ("hue", "greyscale"))
    grey_first = grey_last[::-1]
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    last, first = (
        replace(PLAIN, colours=colours).view(image, np.random.default_rng(1)).image
        for colours in (grey_last, grey_first)
    )
    assert (last[..., 0] == last[..., 2]).all() and (first[..., 0] == first[..., 2]).all()
    assert not np.array_equal(last, first)  # a hue shift of grey changes nothing, of colours the brightness


def test_an_entry_with_probability_zero_draws_nothing_as_the_table_leaves_it_out():
    image = gradient(60, 90)
    with_flip = replace(PLAIN, geometry=chosen(GEOMETRY, "flip", 0.5))
    states = []
    for pipeline in (PLAIN, with_flip):
        rng = np.random.default_rng(0)
        pipeline.view(image, rng)
        states.append(rng.uniform())
    drawn = np.random.default_rng(0).uniform(size=5)  # zoom, top, left, whether to flip, the next one
    assert states == [drawn[3], drawn[4]]


def test_colour_operations_leave_the_geometry_alone(monkeypatch):
    monkeypatch.setattr(randaugment, "OPERATIONS", tuple(one for one in OPERATIONS if one.colour))
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    seen = Pipeline((32, 32), randaugment=RandAugment(2, 15.0)).view(image, np.random.default_rng(1))
    assert np.array_equal(seen.index, np.arange(1024).reshape(32, 32))
    assert seen.image.dtype == np.uint8 and not np.array_equal(seen.image, image)


def test_the_generator_decides_everything():
    pipeline = Pipeline(
        (16, 16),
        scale=(0.5, 2.0),
        geometry=tuple(Chosen(name, entry, 0.5, {}) for name, entry in GEOMETRY.items()),
        always=chosen(COLOUR, "jitter", 1.0, strength=0.4),
        randaugment=RandAugment(3, 12.0),
        colours=tuple(Chosen(name, entry, 0.5, {}) for name, entry in COLOUR.items()),
        erase=chosen(ERASE, "cutout", 0.5),
    )
    first, again, other = (pipeline.view(gradient(), np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert np.array_equal(first.image, again.image) and np.array_equal(first.index, again.index)
    assert not np.array_equal(first.image, other.image)
    copy = pickle.loads(pickle.dumps(pipeline))  # as a loader process may get it
    assert np.array_equal(copy.view(gradient(), np.random.default_rng(5)).image, first.image)


def test_a_place_that_needs_the_mask_gets_it():
    mask = np.zeros((100, 100), np.uint8)
    mask[99, 0] = 1
    pipeline = replace(Pipeline((32, 32)), place=Chosen("non_empty", PLACES["non_empty"], 1.0, {}))
    image = np.zeros((100, 100, 3), np.uint8)
    seen = [pipeline.view(image, np.random.default_rng(seed), mask) for seed in range(20)]
    assert all((one.take(mask, 255) == 1).any() for one in seen)
    assert not all(
        (pipeline.view(image, np.random.default_rng(seed)).index == 9900).any() for seed in range(20)
    )


def test_views_share_a_crop_and_differ_in_colours():
    pipeline = replace(
        Pipeline((32, 32)), geometry=chosen(GEOMETRY, "flip", 0.5), colours=chosen(COLOUR, "jitter", 1.0)
    )
    image = gradient(60, 90)
    images, index, erased = pipeline.views(image, np.random.default_rng(0), strong=2)
    assert erased.shape == (2, 32, 32) and not erased.any()
    assert np.array_equal(images[0], image.reshape(-1, 3)[index])
    assert not np.array_equal(images[1], images[0]) and not np.array_equal(images[2], images[1])


def test_policies_move_the_crop_of_all_views_and_recolour_the_noisy_ones():
    image, moved_ones, recoloured_ones = gradient(), 0, 0
    pipeline = replace(Pipeline((32, 32)), policies=chosen(POLICIES, "trivial", 1.0))
    for seed in range(60):
        images, index, _ = pipeline.views(image, np.random.default_rng(seed), strong=1)
        inside = index != OUTSIDE
        changes = images[0][inside].astype(int) - image.reshape(-1, 3)[index[inside]]
        assert np.median(np.abs(changes)) <= 3  # of interpolation: the first view has no colours
        moved_ones += not np.array_equal(index, np.arange(32)[:, None] * 60 + np.arange(32) + index[0, 0])
        recoloured_ones += not np.array_equal(images[0], images[1])
    assert 10 < moved_ones < 35 and 20 < recoloured_ones < 55  # 5 of 14 operations move, 8 recolour


def test_a_policy_acts_as_often_as_asked_and_draws_for_itself():
    image = gradient()
    policies = (Chosen("randaugment", POLICIES["randaugment"], 0.3, {"n": 3, "magnitude": 25.0}),)
    rng, pipeline = np.random.default_rng(0), replace(PLAIN, policies=policies)
    changed = [not np.array_equal(pipeline.view(image, rng).image, image) for _ in range(500)]
    assert 0.2 < np.mean(changed) < 0.35


def test_each_noisy_view_loses_parts_of_its_own():
    pipeline = replace(PLAIN, erase=chosen(ERASE, "cutout", 1.0))
    images, index, erased = pipeline.views(gradient(30, 60), np.random.default_rng(0), strong=2)
    assert np.array_equal(images[0][index >= 0], gradient(30, 60).reshape(-1, 3)[index[index >= 0]])
    assert (index >= 0).sum() == 1800 and not erased[:, index < 0].any()  # what lies outside was never there
    assert erased.any(axis=(1, 2)).all() and not np.array_equal(*erased)
    for view, gone in zip(images[1:], erased, strict=True):
        assert np.array_equal(view[(index >= 0) & ~gone], images[0][(index >= 0) & ~gone])
        assert not np.array_equal(view[gone], images[0][gone])


def test_images_of_five_channels_pass_through_all_that_does_not_need_rgb():
    image = np.random.default_rng(0).integers(0, 256, (50, 50, 5), dtype=np.uint8)
    pipeline = Pipeline(
        (32, 32),
        scale=(0.5, 2.0),
        geometry=tuple(Chosen(name, entry, 0.5, {}) for name, entry in GEOMETRY.items()),
        colours=chosen(COLOUR, "blur", 0.5),
        erase=chosen(ERASE, "cutout", 0.5),
    )
    for seed in range(10):
        assert pipeline.view(image, np.random.default_rng(seed)).image.shape == (32, 32, 5)
