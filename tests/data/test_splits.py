from dataclasses import replace

import numpy as np
import pytest

from selftrain.data import splits
from selftrain.data.splits import (
    Candidates,
    at_random,
    budget,
    choose_labelled,
    group_names,
    hold_out,
    joined,
    spread,
    stratified,
)
from selftrain.errors import ConfigError, DataError


def unread() -> np.ndarray:
    raise AssertionError("no mask may be read")


# --- groups


def test_the_first_group_of_the_pattern_names_the_group():
    assert group_names(["0001TP_1", "0001TP_2", "Seq05_1"], "^([^_]+)_") == ["0001TP", "0001TP", "Seq05"]
    assert group_names(["patient1/a", "patient2/a"], "^([^/]+)/") == ["patient1", "patient2"]
    assert group_names(["a", "b"], "") == ["", ""]


@pytest.mark.parametrize(
    ("pattern", "says"), [("(", "not a regular"), ("^a", "brackets"), ("^(a)_", "finds nothing in 1")]
)
def test_a_pattern_that_does_not_serve_is_refused(pattern: str, says: str):
    with pytest.raises(ConfigError, match=says):
        group_names(["a_1", "b_1"], pattern)


# --- val and test


def test_held_out_parts_are_disjoint_and_of_the_asked_size():
    test, val = hold_out([""] * 100, [0.2, 0.1], seed=0)
    assert (len(test), len(val)) == (20, 10)
    assert not set(test) & set(val)


def test_held_out_parts_depend_on_the_seed_only():
    assert hold_out([""] * 50, [0.2, 0.2], seed=3) == hold_out([""] * 50, [0.2, 0.2], seed=3)
    assert hold_out([""] * 50, [0.2, 0.2], seed=3) != hold_out([""] * 50, [0.2, 0.2], seed=4)


def test_every_part_gets_an_image_from_three():
    test, val = hold_out([""] * 3, [0.01, 0.01], seed=0)
    assert len(test) == len(val) == 1
    test, val = hold_out([""] * 3, [0.9, 0.9], seed=0)
    assert len(test) == len(val) == 1


@pytest.mark.parametrize("seed", range(20))
def test_groups_stay_whole(seed: int):
    groups = ["a"] * 10 + ["b"] * 30 + ["c"] * 5 + ["d"] * 5 + ["e"] * 50
    test, val = hold_out(groups, [0.1, 0.1], seed=seed)
    sides = [{groups[i] for i in part} for part in (test, val, set(range(100)) - set(test) - set(val))]
    assert all(sides) and sum(len(side) for side in sides) == 5
    assert len(test) <= 20 and len(val) <= 30  # a huge group is not taken for a tenth


def test_a_fraction_of_zero_holds_out_nothing():
    assert hold_out([""] * 10, [0, 0.2], seed=0)[0] == []


def test_too_few_groups_are_refused():
    with pytest.raises(DataError, match="2 groups"):
        hold_out(["a", "a", "b"], [0.2, 0.2], seed=0)
    with pytest.raises(DataError, match="1 labelled images"):
        hold_out([""], [0.2], seed=0)


# --- labels


def test_spread_gives_groups_their_share_and_at_least_one():
    groups = ["a"] * 90 + ["b"] * 8 + ["c"] * 2
    chosen = spread(10, groups, seed=0)
    assert [sum(groups[i] == name for i in chosen) for name in "abc"] == [8, 1, 1]
    assert len(set(chosen)) == 10


@pytest.mark.parametrize("count", [1, 2, 3, 7, 50, 99])
@pytest.mark.parametrize("seed", range(5))
def test_spread_takes_exactly_the_count(count: int, seed: int):
    groups = ["a"] * 60 + ["b"] * 39 + ["c"]
    chosen = spread(count, groups, seed=seed)
    assert len(set(chosen)) == count and set(chosen) <= set(range(100))
    if count >= 3:
        assert {groups[i] for i in chosen} == set("abc")


def test_spread_is_even_within_a_group_and_the_seed_shifts_it():
    first, second = spread(10, [""] * 100, seed=0), spread(10, [""] * 100, seed=1)
    assert set(np.diff(first)) <= {9, 10, 11} and set(np.diff(second)) <= {9, 10, 11}
    assert first != second


def test_fewer_labels_than_groups_go_to_different_groups():
    groups = [f"{i // 10}" for i in range(100)]
    assert len({groups[i] for i in spread(5, groups, seed=0)}) == 5


def test_more_random_labels_contain_the_fewer():
    assert set(at_random(5, 50, seed=1)) < set(at_random(9, 50, seed=1))
    assert at_random(5, 50, seed=1) != at_random(5, 50, seed=2)


def test_stratified_shares_out_classes_like_the_whole():
    rng = np.random.default_rng(0)
    content = np.zeros((200, 3))
    content[:, 0] = rng.uniform(0.5, 1, 200)
    content[:20, 2] = 0.2  # a rare class, in a tenth of the images
    content[:, 1] = 1 - content[:, 0]
    for seed in range(5):
        chosen = stratified(20, content, seed=seed)
        assert len(set(chosen)) == 20
        assert np.count_nonzero(content[chosen, 2]) == 2
        assert np.abs(content[chosen].mean(axis=0) - content.mean(axis=0)).max() < 0.02
    assert stratified(20, content, seed=0) != stratified(20, content, seed=1)


def test_stratified_can_take_all_and_bears_a_class_that_is_nowhere():
    assert stratified(4, np.array([[1.0, 0], [1, 0], [1, 0], [1, 0]]), seed=0) == [0, 1, 2, 3]


def test_budget_counts_labels_or_a_fraction():
    assert budget(0, 1.0, 40) == 40
    assert budget(8, 1.0, 40) == 8
    assert budget(0, 0.1, 40) == 4
    assert budget(0, 0.001, 40) == 1


def test_more_labels_than_there_are_name_both_numbers():
    with pytest.raises(ConfigError, match=r"labels=41.*40 images"):
        budget(41, 1.0, 40)


@pytest.mark.parametrize(("labels", "fraction"), [(-1, 1.0), (0, 0.0), (0, 1.5)])
def test_budgets_out_of_range_are_refused(labels: int, fraction: float):
    with pytest.raises(ConfigError):
        budget(labels, fraction, 10)


def test_masks_are_read_for_stratified_only():
    unseen = Candidates([f"{i}" for i in range(10)], group="", seed=0, content=unread)
    for how in ("spread", "random"):
        assert len(choose_labelled(how, 3, unseen)) == 3
    assert len(choose_labelled("stratified", 3, replace(unseen, content=lambda: np.ones((10, 2))))) == 3
    assert choose_labelled("stratified", 10, unseen) == list(range(10))


def test_a_new_way_to_choose_is_one_function_and_one_entry(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(splits.CHOICES, "last", lambda count, images: list(range(len(images.names)))[-count:])
    assert choose_labelled("last", 2, Candidates(["a", "b", "c"], group="", seed=0, content=unread)) == [1, 2]


def test_an_unknown_choice_lists_the_known():
    with pytest.raises(ConfigError, match="spread, random, stratified"):
        choose_labelled("best", 1, Candidates(["a"], group="", seed=0, content=unread))


def test_groups_that_hold_copies_of_one_picture_become_one():
    ids = ["a1", "a2", "b1", "c", "d", "e"]
    groups = ["a", "a", "b", "", "", ""]
    copies = [["a1", "c"], ["c", "d"], ["not here", "e"]]  # the second joins what the first has joined
    one = joined(groups, ids, copies)
    assert one[0] == one[1] == one[3] == one[4] != ""
    assert one[2] == "b" and one[5] == ""
    assert joined(groups, ids, []) == groups


@pytest.mark.parametrize("seed", range(5))
def test_made_splits_hold_copies_together_and_are_as_ever_without_any(seed):
    ids = [f"{i:02}" for i in range(20)]
    parts = hold_out(joined([""] * 20, ids, [["03", "09", "17"]]), [0.2, 0.2], seed=seed)
    assert [sum(i in part for i in (3, 9, 17)) for part in parts] in ([0, 0], [3, 0], [0, 3])
    assert hold_out(joined([""] * 20, ids, []), [0.2, 0.2], seed=seed) == hold_out(
        [""] * 20, [0.2, 0.2], seed=seed
    )
