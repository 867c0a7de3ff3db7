"""Members: several networks of one generation, whose averaged probabilities are its prediction.

An entry is a function (number) -> Members. Its settings are keywords with a default. Member 0 of a generation
draws the same random numbers as the only network of a generation without members.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import numpy as np

from selftrain import strata
from selftrain.errors import ConfigError
from selftrain.rng import Key, generator
from selftrain.strata import Groups
from selftrain.tables import Bounds, Must, Table

Weights = Annotated[
    list[float],
    Must("be positive", lambda weights: min(weights, default=1) > 0),
    "weights of the networks in the mean of their probabilities, in their order; empty: all weigh alike",
]
Keys = tuple[Key, ...]
Content = np.ndarray | None  # (N, C) class shares of each labelled image, with data.splits.stratify


def nothing(groups: Groups, keys: Keys, content: Content) -> list[int]:
    """Leave no image out."""
    return []


@dataclass(frozen=True)
class Member:
    """One network of a generation.

    `left_out` returns the indices of the labelled images that it does not train on. It is a function of the
    images' groups, of the random keys of the generation, and of the images' classes, if they are to be alike
    in all divisions.
    """

    number: int = 0
    zoom: float = 1.0  # the network gets images resized by this factor
    left_out: Callable[[Groups, Keys, Content], list[int]] = nothing


@dataclass(frozen=True)
class Members:
    """The networks of a generation."""

    each: tuple[Member, ...] = (Member(),)  # trained one after the other
    # The networks that each training yields: its averaged weights at its end, and at earlier moments.
    moments: int = 1
    # The share of the steps, at the end, over which the moments are spread. 0: they are ends of cycles.
    last: float = 0.0
    weights: Sequence[float] = ()
    # Each labelled image is left out by exactly one member, whose prediction for it is honest.
    out_of_fold: bool = False

    @property
    def several(self) -> bool:
        return self.count > 1

    @property
    def count(self) -> int:
        """The number of networks that are averaged."""
        return len(self.each) * self.moments


def seeds(
    number: int,
    *,
    share: Annotated[
        float, Bounds(above=0, most=1), "share of the labelled images that each network trains on, at random"
    ] = 1.0,
    zooms: Annotated[
        list[float],
        Must("be positive", lambda zooms: bool(zooms) and min(zooms) > 0),
        "factors by which the networks' images are resized, in turn; crops grow with them",
    ] = [1.0],  # noqa: B006  (never changed)
    weights: Weights = [],  # noqa: B006
) -> Members:
    """Networks that differ in their seed, and optionally in their images and input size."""
    return Members(
        tuple(
            Member(m, zooms[m % len(zooms)], partial(_spared, m, share) if share < 1 else nothing)
            for m in range(number)
        ),
        weights=weights,
    )


def folds(number: int, *, weights: Weights = []) -> Members:  # noqa: B006
    """Cross-validation: the labelled images form `number` folds, and network m does not train on fold m."""
    each = tuple(Member(m, left_out=partial(_fold, m, number)) for m in range(number))
    return Members(each, weights=weights, out_of_fold=True)


def epochs(
    number: int,
    *,
    last: Annotated[
        float, Bounds(above=0, most=1), "share of the steps, at the end, over which the networks are spread"
    ] = 0.3,
    weights: Weights = [],  # noqa: B006
) -> Members:
    """One training: its averaged weights at its end and at earlier moments, evenly spaced (Chen et al. 2017).

    "Checkpoint Ensembles", arXiv:1710.03282. With number=3 and last=0.3, the networks are taken after 80, 90
    and 100 % of the steps.
    """
    return Members(moments=number, last=last, weights=weights)


def cycles(number: int, *, weights: Weights = []) -> Members:  # noqa: B006
    """One training: its averaged weights at the end of each of the last cycles of train.schedule=restarts.

    Snapshot ensembles (Huang et al. 2017).
    """
    return Members(moments=number, weights=weights)


MEMBERS: dict[str, Callable[..., Members]] = {
    "seeds": seeds,
    "folds": folds,
    "epochs": epochs,
    "cycles": cycles,
}
TABLE = Table(MEMBERS, main="number")


def of(given: dict, setting: str) -> Members:
    """The members that a generation's setting asks for. Raises ConfigError for more than one entry."""
    found = TABLE.chosen(given, setting)
    if len(found) > 1:
        raise ConfigError(f"{setting} takes one of {', '.join(MEMBERS)}, not {len(found)} of them")
    members = found[0].entry(int(found[0].amount), **found[0].settings) if found else Members()
    if len(members.weights) not in (0, members.count):
        raise ConfigError(
            f"{setting}.{found[0].name}.weights must have a number for each of the {members.count} networks, "
            f"not {len(members.weights)}"
        )
    return members


def _fold(member: int, number: int, groups: Groups, keys: Keys, content: Content) -> list[int]:
    folds = strata.folds(groups, number, keys, content)
    return [i for i, fold in enumerate(folds) if fold == member]


def _spared(member: int, share: float, groups: Groups, keys: Keys, content: Content) -> list[int]:
    """All labelled images but a random `share` of them, at least one."""
    kept = max(1, round(share * len(groups)))
    return sorted(int(i) for i in generator(*keys, "share", member).permutation(len(groups))[kept:])
