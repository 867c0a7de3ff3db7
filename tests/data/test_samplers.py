"""Which labelled images a step sees."""

import numpy as np
import pytest

from selftrain.data.samplers import SAMPLERS, by_class, class_weights, uniform
from selftrain.rng import batch_ids

CONTENTS = np.array(
    [[90, 0, 0], [80, 0, 0], [70, 10, 0], [60, 0, 0]]
)  # pixels of three classes in four images
KEYS = (3, "gen0", "labelled")


def never():
    raise AssertionError("the masks were read")


def share_of_draws(draw, steps=3000):
    ids = np.concatenate([draw(4, step, KEYS) for step in range(steps)])
    return np.bincount(ids, minlength=4) / len(ids)


def test_a_class_comes_as_often_as_any_other_and_then_an_image_that_contains_it():
    # class 0 gets half of the draws, in all four images, class 1 half, in the third; class 2 has no pixel
    assert class_weights(CONTENTS).tolist() == [0.125, 0.125, 0.625, 0.125]


def test_images_with_rare_classes_come_more_often():
    draw = by_class(4, lambda: CONTENTS)
    assert np.allclose(share_of_draws(draw), [0.125, 0.125, 0.625, 0.125], atol=0.02)


def test_a_share_of_the_draws_is_by_class():
    draw = by_class(4, lambda: CONTENTS, share=0.4)
    assert np.allclose(share_of_draws(draw), [0.2, 0.2, 0.4, 0.2], atol=0.02)


def test_images_without_a_labelled_pixel_come_in_uniform_draws_only():
    contents = np.array([[5, 5], [0, 0]])
    assert {i for step in range(200) for i in by_class(2, lambda: contents)(4, step, KEYS)} == {0}
    assert {i for step in range(200) for i in by_class(2, lambda: contents, share=0.5)(4, step, KEYS)} == {
        0,
        1,
    }
    assert class_weights(np.zeros((4, 2), int)).tolist() == [0.25] * 4


def test_uniform_draws_are_epochs_of_permutations_and_read_no_mask():
    draw = uniform(6, never)
    assert draw(4, 7, KEYS) == batch_ids(6, 4, 7, *KEYS)
    assert sorted(draw(3, 0, KEYS) + draw(3, 1, KEYS)) == list(range(6))


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_draw_is_a_pure_function_of_batch_step_and_keys(name):
    first, again = (SAMPLERS[name](4, lambda: CONTENTS) for _ in range(2))
    forward = [first(4, step, KEYS) for step in range(20)]
    assert forward == [again(4, step, KEYS) for step in reversed(range(20))][::-1]
    assert all(len(ids) == 4 and all(isinstance(i, int) and 0 <= i < 4 for i in ids) for ids in forward)


@pytest.mark.parametrize("name", ["uniform", "by_class"])
def test_other_keys_give_other_draws(name):
    sampler = SAMPLERS[name](4, lambda: CONTENTS)
    first, second = (
        [sampler(4, step, keys) for step in range(20)] for keys in (KEYS, (4, "gen0", "labelled"))
    )
    assert first != second
