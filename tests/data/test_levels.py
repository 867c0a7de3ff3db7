import numpy as np
import pytest

from selftrain.data import levels
from selftrain.data.levels import fixed, measure, some
from selftrain.errors import ConfigError, DataError


def test_two_numbers_are_the_range_and_words_are_not():
    assert fixed([0, 4095]) == (0, 4095)
    assert fixed(["dtype"]) is None and fixed(["percentile"]) is None


@pytest.mark.parametrize(
    "setting", [[], ["12 bits"], [4095], [0, 0], [5, 4], [-1, 5], [0, 65_536], [0.5, 9], ["0", "9"]]
)
def test_other_forms_are_refused_with_an_example(setting: list):
    with pytest.raises(ConfigError, match=r"data\.range=\[0,4095\]"):
        fixed(setting)


def test_a_thousandth_of_the_samples_is_left_out_at_each_end():
    grey = np.concatenate([[0], np.full(998, 500), [60_000]])  # of 1000: one dark and one bright outlier
    grey[1], grey[-2] = 100, 900
    picture = np.repeat(grey.astype(np.uint16).reshape(10, 100, 1), 3, axis=2)
    assert measure([picture]) == (
        0,
        900,
    )  # a thousandth is exactly the dark one: it is the last that is still below
    assert measure([picture, picture[1:-1]]) == (100, 900)


def test_pictures_of_8_bits_do_not_count():
    deep = np.array([[[10, 20, 30]]], np.uint16)
    assert measure([np.full((9, 9, 3), 255, np.uint8), deep]) == (10, 30)
    with pytest.raises(DataError, match="none was found"):
        measure([np.zeros((2, 2, 3), np.uint8)])


def test_pictures_of_one_value_have_no_range():
    with pytest.raises(DataError, match="almost all 16-bit samples are 7"):
        measure([np.full((2, 2, 3), 7, np.uint16)])


def test_a_bounded_sample_is_spread_over_all_images(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(levels, "LOOKED_AT", 4)
    assert some(range(10)) == [0, 2, 5, 7] and some(range(3)) == [0, 1, 2] and some([]) == []
