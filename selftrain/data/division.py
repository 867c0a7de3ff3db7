"""Division of a source's samples into the labelled, unlabelled, val and test samples of a data set."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from selftrain.data.sample import Copies, Sample
from selftrain.data.spec import SplitSpec
from selftrain.data.splits import Candidates, budget, choose_labelled, group_names, hold_out, joined
from selftrain.errors import ConfigError, DataError
from selftrain.scores import class_pixels

READERS = 4  # threads
Division = tuple[list[Sample], list[Sample], list[Sample], list[Sample]]  # in the order of SPLITS


@dataclass
class Pool:
    """The samples that a source found. All of `train` have masks; `val` or `test` is None if not named."""

    train: list[Sample]
    unlabelled: list[Sample]
    val: list[Sample] | None
    test: list[Sample] | None


def divided(pool: Pool, classes: int, splits: SplitSpec, copies: Copies) -> Division:
    """The samples of each split. Samples whose masks are not used count as unlabelled.

    Raises ConfigError for invalid settings of splits, DataError if there are too few images for them.
    """
    train, made_val, made_test = _hold_out(pool, splits, copies)
    labelled, spared = spend_labels(train, classes, splits)
    val = made_val if pool.val is None else pool.val
    if not val:
        raise DataError(
            f"data.splits.val={splits.val!r} contains no image with a mask, but val selects the model"
        )
    unlabelled = sorted(pool.unlabelled + spared, key=lambda sample: sample.id)
    return labelled, unlabelled, val, made_test if pool.test is None else pool.test


def _hold_out(
    pool: Pool, splits: SplitSpec, copies: Copies
) -> tuple[list[Sample], list[Sample], list[Sample]]:
    """Train, made val and made test; a made split is empty if the settings name that split."""
    if not 0 < splits.val_fraction < 1 or not 0 <= splits.test_fraction < 1:
        raise ConfigError(
            "data.splits.val_fraction must be above 0 and below 1, test_fraction at least 0 and below 1"
        )
    if pool.val is not None and pool.test is not None:
        return pool.train, [], []
    fractions = [
        splits.test_fraction if pool.test is None else 0,
        splits.val_fraction if pool.val is None else 0,
    ]
    groups = group_names([sample.name for sample in pool.train], splits.group)
    groups = joined(groups, [sample.id for sample in pool.train], copies)
    test, val = hold_out(groups, fractions, seed=splits.seed)
    gone = {*test, *val}
    return (
        [sample for place, sample in enumerate(pool.train) if place not in gone],
        [pool.train[place] for place in val],
        [pool.train[place] for place in test],
    )


def spend_labels(train: list[Sample], classes: int, splits: SplitSpec) -> tuple[list[Sample], list[Sample]]:
    """The training samples whose masks are used, and the others.

    Masks are read only for data.splits.choose=stratified. Raises ConfigError for impossible budgets and
    groups.
    """

    def content() -> np.ndarray:
        """Class shares (N, C) of each image's labelled pixels."""
        with ThreadPoolExecutor(READERS) as pool:
            return np.stack(list(pool.map(lambda sample: class_shares(sample, classes), train)))

    count = budget(splits.labels, splits.label_fraction, len(train))
    names = [sample.name for sample in train]
    chosen = set(choose_labelled(splits.choose, count, Candidates(names, splits.group, splits.seed, content)))
    return (
        [sample for place, sample in enumerate(train) if place in chosen],
        [sample for place, sample in enumerate(train) if place not in chosen],
    )


def class_shares(sample: Sample, classes: int) -> np.ndarray:
    """Class shares (C,) of the pixels that are not ignored; zeros if all are ignored."""
    mask = sample.read_mask()
    assert mask is not None
    counts = class_pixels(mask, classes)
    return counts / max(1, counts.sum())
