"""Division of a source's samples into the labelled, unlabelled, val and test samples of a data set."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from selftrain.data.dataset import SPLITS, DataSet
from selftrain.data.kept import lost_in, sort
from selftrain.data.many import Many
from selftrain.data.many import joined as joined_samples
from selftrain.data.sample import Copies, Sample
from selftrain.data.spec import SplitSpec
from selftrain.data.splits import Candidates, budget, choose_labelled, group_names, hold_out, joined
from selftrain.errors import ConfigError, DataError
from selftrain.scores import class_pixels
from selftrain.strata import folds

READERS = 4  # threads
FOLD = "data.splits.fold, the number of folds"
Division = tuple[list[Sample], Sequence[Sample], list[Sample], list[Sample]]  # in the order of SPLITS


@dataclass
class Pool:
    """The samples that a source found. All of `train` have masks; `val` or `test` is None if not named."""

    train: list[Sample]
    unlabelled: Sequence[Sample]
    val: list[Sample] | None
    test: list[Sample] | None


def divided(pool: Pool, classes: int, splits: SplitSpec, copies: Copies) -> Division:
    """The samples of each split. Samples whose masks are not used count as unlabelled.

    Raises ConfigError for invalid settings of splits, DataError if there are too few images for them.
    """
    if not 0 < splits.val_fraction < 1 or not 0 <= splits.test_fraction < 1:
        raise ConfigError(
            "data.splits.val_fraction must be above 0 and below 1, test_fraction at least 0 and below 1"
        )
    if splits.kept:
        return _continued(pool, classes, splits, copies)
    train, made_val, made_test = _hold_out(pool, classes, splits, copies)
    labelled, spared = spend_labels(train, classes, splits)
    val = made_val if pool.val is None else pool.val
    if not val and not splits.fold:
        raise DataError(
            f"data.splits.val={splits.val!r} contains no image with a mask, but val selects the model"
        )
    unlabelled = joined_samples(pool.unlabelled, spared)
    return labelled, unlabelled, val or [], made_test if pool.test is None else pool.test


def _continued(pool: Pool, classes: int, splits: SplitSpec, copies: Copies) -> Division:
    """The samples of each split if images that an earlier run knew keep their split (data/kept.py).

    New images of a named split belong to it. Of the other new images with masks, made splits get their
    shares, unless a share is less than an image; groups and copies stay together. `splits.labels` and
    `splits.label_fraction` choose from new masks only.
    """
    shards = pool.unlabelled if isinstance(pool.unlabelled, Many) else None
    lost_in(shards, splits.kept)
    bare = pool.unlabelled if shards is None else shards.others
    known = sort([*pool.train, *bare, *(pool.val or []), *(pool.test or [])], splits.kept)
    parts = known.parts
    named = {
        split: {one.id for one in samples or []}
        for split, samples in (("val", pool.val), ("test", pool.test))
    }
    for split, ids in named.items():
        parts[split] += [one for one in known.new if one.id in ids]
    new = [one for one in known.new if one.id not in named["val"] | named["test"]]
    new = _beside_their_group(new, parts, splits, copies)
    made = replace(pool, train=new, unlabelled=[])
    train, val, test = _hold_out(made, classes, _with_whole_shares(splits, new, copies), copies)
    labelled, spared = spend_labels(train, classes, splits) if train else ([], [])
    drawn = {"labelled": labelled, "unlabelled": [*spared, *known.bare], "val": val, "test": test}
    whole = [sorted([*parts[split], *drawn[split]], key=lambda one: one.id) for split in SPLITS]
    unlabelled = whole[1] if shards is None else replace(shards, others=()).joined(whole[1])
    return whole[0], unlabelled, whole[2], whole[3]


def _beside_their_group(
    new: list[Sample], parts: dict[str, list[Sample]], splits: SplitSpec, copies: Copies
) -> list[Sample]:
    """Add new samples to the split of their group or of their copies, in place; returns the others."""
    before = [(split, one) for split in ("labelled", "val", "test") for one in parts[split]]
    groups = groups_of([one for _, one in before] + new, splits, copies)
    split_of = {group: split for (split, _), group in zip(before, groups, strict=False) if group}
    rest = list[Sample]()
    for one, group in zip(new, groups[len(before) :], strict=True):
        (parts[split_of[group]] if group in split_of else rest).append(one)
    return rest


def _with_whole_shares(splits: SplitSpec, new: list[Sample], copies: Copies) -> SplitSpec:
    """The shares of made splits, 0 where less than an image or too few groups would be drawn."""
    groups = groups_of(new, splits, copies)
    several = len({group or number for number, group in enumerate(groups)}) > len(("train", "val"))
    val, test = (
        share if several and share * len(new) >= 1 else 0.0
        for share in (splits.val_fraction, splits.test_fraction)
    )
    return replace(splits, val_fraction=val, test_fraction=test)


def _hold_out(
    pool: Pool, classes: int, splits: SplitSpec, copies: Copies
) -> tuple[list[Sample], list[Sample], list[Sample]]:
    """Train, made val and made test; a made split is empty if the settings name that split.

    Masks are read only for data.splits.stratify.
    """
    if (pool.val is not None and pool.test is not None) or not pool.train:
        return pool.train, [], []
    fractions = [
        splits.test_fraction if pool.test is None else 0,
        splits.val_fraction if pool.val is None and not splits.fold else 0,
    ]
    groups = groups_of(pool.train, splits, copies)
    content = partial(contents, pool.train, classes) if splits.stratify else None
    test, val = hold_out(groups, fractions, seed=splits.seed, content=content)
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
    if not train:
        return [], []
    content = partial(contents, train, classes)
    count = budget(splits.labels, splits.label_fraction, len(train))
    names = [sample.name for sample in train]
    chosen = set(choose_labelled(splits.choose, count, Candidates(names, splits.group, splits.seed, content)))
    return (
        [sample for place, sample in enumerate(train) if place in chosen],
        [sample for place, sample in enumerate(train) if place not in chosen],
    )


def with_fold(data: DataSet, splits: SplitSpec, copies: Copies) -> DataSet:
    """The data set for cross-validation: val is a fold of the labelled images (data.splits.fold).

    Groups and copies stay in one fold. A named val takes no part. Masks are read only for
    data.splits.stratify. Raises ConfigError if there are fewer groups than folds.
    """
    if not splits.fold:
        return data
    fold, number = splits.fold
    content = contents(data.labelled, len(data.classes)) if splits.stratify else None
    groups, keys = groups_of(data.labelled, splits, copies), (splits.seed, "val")
    fold_of = list(zip(data.labelled, folds(groups, number, keys, content, setting=FOLD), strict=True))
    val = [sample for sample, own in fold_of if own == fold]
    said = f"val is fold {fold} of the folds 0 to {number - 1}: {len(val)} of {len(fold_of)} labelled images"
    if data.val:
        said += f"; the {len(data.val)} val images of the data set take no part"
    labelled = [sample for sample, own in fold_of if own != fold]
    return replace(data, labelled=labelled, val=val, warnings=[*data.warnings, said])


def groups_of(samples: Sequence[Sample], splits: SplitSpec, copies: Copies) -> list[str]:
    """The group of each sample, by data.splits.group and by equal pictures; "": a group of its own."""
    groups = group_names([sample.name for sample in samples], splits.group)
    return joined(groups, [sample.id for sample in samples], copies)


def contents(samples: Sequence[Sample], classes: int) -> np.ndarray:
    """Class shares (N, C) of the labelled pixels of each sample; reads the masks."""
    with ThreadPoolExecutor(READERS) as pool:
        return np.stack(list(pool.map(lambda sample: class_shares(sample, classes), samples)))


def class_shares(sample: Sample, classes: int) -> np.ndarray:
    """Class shares (C,) of the pixels that are not ignored; zeros if all are ignored."""
    mask = sample.read_mask()
    assert mask is not None
    counts = class_pixels(mask, classes)
    return counts / max(1, counts.sum())
