"""Divisions of images into parts: whole groups, and optionally like classes in every part."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from selftrain.errors import ConfigError
from selftrain.rng import Key, generator

Groups = Sequence[str]  # the group of each image, which stays in one part; "": a group of its own


def folds(
    groups: Groups,
    number: int,
    keys: tuple[Key, ...],
    content: np.ndarray | None = None,
    *,
    setting: str = "members.folds",
) -> list[int]:
    """The fold of each image: `number` folds of about equal size, without dividing a group.

    Large groups are placed first, each into the smallest fold so far; equal ones in random order. With
    `content` (N, C), the class shares of each image's pixels, the folds are stratified (`stratified`). Raises
    ConfigError, naming `setting`, if there are fewer groups than folds.
    """
    named = alone(groups)
    sizes = Counter(named)
    if len(sizes) < number:
        raise ConfigError(
            f"{setting}={number}: the {len(groups)} labelled images form only {len(sizes)} groups; "
            "use fewer folds, or another data.splits.group"
        )
    if content is not None:
        return stratified(groups, [1 / number] * number, content, keys)
    order = generator(*keys, "folds").permutation(len(sizes))
    drawn = [list(sizes)[i] for i in order]
    filled, fold_of = [0] * number, dict[str, int]()
    for group in sorted(drawn, key=lambda group: -sizes[group]):  # a stable sort
        fold_of[group] = min(range(number), key=lambda fold: filled[fold])
        filled[fold_of[group]] += sizes[group]
    return [fold_of[group] for group in named]


def stratified(
    groups: Groups, shares: Sequence[float], content: np.ndarray, keys: tuple[Key, ...]
) -> list[int]:
    """The part of each image: parts of about `shares` of the images, with about the same classes in each.

    Iterative stratification of labels that occur together (Sechidis et al. 2011), for whole groups. Its
    labels are the presence of each class in an image and the area of each class. `content` (N, C) has the
    class shares of each image's pixels. The groups with the largest part of any label come first, so that
    rare classes are spread before the parts are full. A group goes to the part that lacks most of the group's
    labels and has room for it. Parts have exactly their size if every group is a single image, and each part
    has at least one group. `shares` add up to 1, and there are at least as many groups as parts.
    """
    named = alone(groups)
    units = list(dict.fromkeys(named))
    place = {name: number for number, name in enumerate(units)}
    where = np.array([place[name] for name in named])
    traits = np.concatenate([content > 0, content], axis=1)
    traits = traits[:, traits.any(axis=0)]
    traits = traits / traits.sum(axis=0)
    held = np.zeros((len(units), traits.shape[1]))
    np.add.at(held, where, traits)
    sizes = np.bincount(where)
    lacking = np.array(shares)[:, None] * np.ones(traits.shape[1])  # of each label, by part
    room = _sizes(len(named), shares)
    drawn = generator(*keys, "strata").permutation(len(units))
    order = sorted(drawn.tolist(), key=lambda unit: -held[unit].max(initial=0))
    part_of, empty = dict[int, int](), set(range(len(shares)))
    for left, unit in zip(range(len(units), 0, -1), order, strict=True):
        fitting = [part for part in range(len(shares)) if room[part] >= sizes[unit]]
        open_ = (
            sorted(empty)
            if left <= len(empty)
            else fitting or [max(range(len(shares)), key=room.__getitem__)]
        )
        wanted = lacking @ held[unit]
        part = max(open_, key=lambda part: (wanted[part], room[part]))
        part_of[unit] = part
        lacking[part] -= held[unit]
        room[part] -= int(sizes[unit])
        empty.discard(part)
    return [part_of[unit] for unit in where.tolist()]


def alone(groups: Groups) -> list[str]:
    """The groups, with a name of its own for each image without a group."""
    return [group or f"\0{i}" for i, group in enumerate(groups)]


def _sizes(count: int, shares: Sequence[float]) -> list[int]:
    """`count` divided by `shares` (largest remainder), at least 1 each."""
    exact = [count * share for share in shares]
    sizes = [max(1, int(size)) for size in exact]
    while sum(sizes) != count:
        step = 1 if sum(sizes) < count else -1
        movable = [part for part, size in enumerate(sizes) if step > 0 or size > 1]
        sizes[max(movable, key=lambda part: step * (exact[part] - sizes[part]))] += step
    return sizes
