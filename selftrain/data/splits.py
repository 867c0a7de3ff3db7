"""Choice of labelled, val and test images: pure functions from names and a seed to indices."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from selftrain.errors import ConfigError, DataError
from selftrain.rng import generator
from selftrain.strata import stratified as stratified_parts

FEW_MASKS = 40  # with fewer, a planned run spends none on a test set
GOLDEN = (5**0.5 - 1) / 2
ALONE = "\0"  # no group name begins with it
CANDIDATES = 256  # images that one step of `stratified` compares


def group_names(names: Sequence[str], pattern: str) -> list[str]:
    """The group of each name: the match of the pattern's first group. Without a pattern, it is empty."""
    if not pattern:
        return [""] * len(names)
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"data.splits.group={pattern!r} is not a regular expression: {error}") from error
    if compiled.groups < 1:
        raise ConfigError(
            f"data.splits.group={pattern!r} has no (group): put brackets around what names the group"
        )
    found = [compiled.search(name) for name in names]
    missed = [name for name, match in zip(names, found, strict=True) if match is None or match[1] is None]
    if missed:
        raise ConfigError(
            f"data.splits.group={pattern!r} finds nothing in {len(missed)} of {len(names)} names, "
            f"such as {missed[0]!r}"
        )
    return [match[1] for match in found if match is not None]


def joined(groups: Sequence[str], ids: Sequence[str], copies: Sequence[Sequence[str]]) -> list[str]:
    """The group of each image, after joining groups that contain copies of one picture.

    `groups` and `ids` have the same order. An empty group means that the image is a group of its own.
    `copies` lists the ids of equal pictures.
    """
    place = {name: index for index, name in enumerate(ids)}
    parts: list[set[str]] = []  # groups that belong together; an image alone is named by its place
    for names in copies:
        here = {groups[place[name]] or f"{ALONE}{place[name]}" for name in names if name in place}
        touching = [part for part in parts if part & here]
        parts = [part for part in parts if not part & here] + [here.union(*touching)]
    one_of = {group: min(part) for part in parts if len(part) > 1 for group in part}
    return [one_of.get(group or f"{ALONE}{index}", group) for index, group in enumerate(groups)]


def hold_out(
    groups: Sequence[str],
    fractions: Sequence[float],
    *,
    seed: int,
    content: Callable[[], np.ndarray] | None = None,
) -> list[list[int]]:
    """Disjoint index lists of about `fractions` of all images, in whole groups.

    The other images remain for train. An image with an empty group is a group of its own. A fraction above 0
    gets at least one group, and at least one group remains. If `content` reads the class shares of the
    images' pixels (N, C), the lists and the rest are stratified. Raises DataError if there are too few groups
    for that.
    """
    members: dict[str | int, list[int]] = {}
    for index, name in enumerate(groups):
        members.setdefault(name or index, []).append(index)
    wanted = sum(fraction > 0 for fraction in fractions)
    if len(members) < wanted + 1:
        kind = (
            "groups of images (by data.splits.group or data.duplicates)" if any(groups) else "labelled images"
        )
        raise DataError(
            f"{len(members)} {kind} cannot be divided into train and {wanted} made split(s): "
            "add labelled images, or name data.splits.val and data.splits.test"
        )
    if content is not None and wanted:
        drawn = [place for place, fraction in enumerate(fractions) if fraction > 0]
        shares = [fractions[place] for place in drawn]
        part_of = stratified_parts(groups, [*shares, 1 - sum(shares)], content(), (seed, "hold_out"))
        chosen = [[i for i, part in enumerate(part_of) if part == number] for number in range(wanted)]
        return [chosen[drawn.index(place)] if place in drawn else [] for place in range(len(fractions))]
    left = list(members.values())
    order = generator(seed, "hold_out").permutation(len(left))
    left = [left[i] for i in order]
    parts = []
    for place, fraction in enumerate(fractions):
        spare = 1 + sum(later > 0 for later in fractions[place + 1 :])
        taken = _nearest(left, fraction * len(groups), most=len(left) - spare) if fraction > 0 else []
        gone = {group[0] for group in taken}
        left = [group for group in left if group[0] not in gone]
        parts.append(sorted(index for group in taken for index in group))
    return parts


def _nearest(groups: list[list[int]], target: float, *, most: int) -> list[list[int]]:
    """Groups, taken in order, whose sizes add up to about `target`; at least one, at most `most`."""
    taken: list[list[int]] = []
    count = 0
    for group in groups:
        if len(taken) < most and abs(count + len(group) - target) < abs(count - target):
            taken.append(group)
            count += len(group)
    return taken or [min(groups, key=len)]


def spread(count: int, groups: Sequence[str], *, seed: int) -> list[int]:
    """Indices of `count` images, spread evenly over groups and, within a group, over its images in order.

    Groups get labels in proportion to their size and, if `count` allows, at least one each. The seed shifts
    the places.
    """
    members: dict[str, list[int]] = {}
    for index, name in enumerate(groups):
        members.setdefault(name, []).append(index)
    if count < len(members):
        laid_out = [index for name in sorted(members) for index in members[name]]
        return sorted(laid_out[place] for place in _even(count, len(laid_out), seed=seed))
    quota = _quotas(count, [len(part) for part in members.values()])
    chosen = []
    for (name, part), share in zip(members.items(), quota, strict=True):
        chosen += [part[place] for place in _even(share, len(part), seed=seed, key=name)]
    return sorted(chosen)


def _even(count: int, total: int, *, seed: int, key: str = "") -> list[int]:
    """`count` different places in range(total), equally spaced. Neighbouring seeds have distant offsets."""
    offset = (generator("spread", key).random() + seed * GOLDEN) % 1
    return [int((i + offset) * total / count) for i in range(count)]


def _quotas(count: int, sizes: list[int]) -> list[int]:
    """`count` divided in proportion to `sizes` (largest remainder): each at least 1, at most its size."""
    exact = [count * size / sum(sizes) for size in sizes]
    quota = [max(1, int(share)) for share in exact]
    while sum(quota) != count:
        step = 1 if sum(quota) < count else -1
        movable = [i for i, size in enumerate(sizes) if (quota[i] < size if step > 0 else quota[i] > 1)]
        best = max(movable, key=lambda i: step * (exact[i] - quota[i]))
        quota[best] += step
    return quota


def at_random(count: int, total: int, *, seed: int) -> list[int]:
    """`count` random places in range(total). A larger count includes the places of a smaller count."""
    return sorted(generator(seed, "random").permutation(total)[:count].tolist())


def stratified(count: int, content: np.ndarray, *, seed: int) -> list[int]:
    """Greedy choice of `count` images whose class distribution resembles the distribution of all images.

    content (N, C): class shares of each image's pixels. Each step draws up to CANDIDATES images at random. It
    adds the image that brings the mean class shares, and the frequency of images with each class, closest to
    the values of all images. Deviations are relative, so that rare classes count.
    """
    traits = np.concatenate([content, content > 0], axis=1)  # (N, 2C)
    traits = traits[:, traits.any(axis=0)]
    target = traits.mean(axis=0)
    rng = generator(seed, "stratified")
    left, total, chosen = rng.permutation(len(traits)), np.zeros_like(target), []
    for step in range(1, count + 1):
        candidates = rng.choice(len(left), size=min(CANDIDATES, (len(left) + 1) // 2), replace=False)
        means = (total + traits[left[candidates]]) / step
        place = candidates[((means - target) ** 2 / target).sum(axis=1).argmin()]
        chosen.append(int(left[place]))
        total = total + traits[left[place]]
        left = np.delete(left, place)
    return sorted(chosen)


def budget(labels: int, fraction: float, available: int) -> int:
    """Number of available training masks that are used. Raises ConfigError for impossible settings."""
    if labels > available:
        raise ConfigError(
            f"data.splits.labels={labels}, but the training split has {available} images with masks: "
            f"use data.splits.labels={available} or less, or 0 for all"
        )
    if labels < 0:
        raise ConfigError(
            f"data.splits.labels={labels} must be at least 0 (0: by data.splits.label_fraction)"
        )
    if not 0 < fraction <= 1:
        raise ConfigError(f"data.splits.label_fraction={fraction} must be above 0 and at most 1")
    return labels or max(1, round(fraction * available))


@dataclass(frozen=True)
class Candidates:
    """Images from which the labelled ones are chosen."""

    names: Sequence[str]
    group: str  # data.splits.group
    seed: int
    content: Callable[[], np.ndarray]  # reads the class shares (N, C) of the pixels


def choose_labelled(how: str, count: int, candidates: Candidates) -> list[int]:
    """Indices of the `count` images whose masks are used. Raises ConfigError if `how` is not in CHOICES."""
    if how not in CHOICES:
        raise ConfigError(f"data.splits.choose={how!r} must be one of {', '.join(CHOICES)}")
    if count == len(candidates.names):
        return list(range(count))
    return CHOICES[how](count, candidates)


def _spread(count: int, images: Candidates) -> list[int]:
    return spread(count, group_names(images.names, images.group), seed=images.seed)


def _random(count: int, images: Candidates) -> list[int]:
    return at_random(count, len(images.names), seed=images.seed)


def _stratified(count: int, images: Candidates) -> list[int]:
    return stratified(count, images.content(), seed=images.seed)


CHOICES: dict[str, Callable[[int, Candidates], list[int]]] = {
    "spread": _spread, "random": _random, "stratified": _stratified,
}  # fmt: skip
