"""Millions of samples, which are made when they are asked for: they take no memory of their own.

They come in parts, such as the tar shards of a folder, whose ids are sorted. `Many` has the order that a list
of the same samples would have.
"""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Generic, Protocol, TypeVar, overload

import numpy as np

from selftrain.data.sample import Sample

T = TypeVar("T")
Change = Callable[[Sample], Sample]
CHUNK = 1 << 18  # samples whose ids are in memory at once


class Named(Protocol):
    """Anything with an id."""

    @property
    def id(self) -> str: ...


class Part(Protocol):
    """Some samples, sorted by id."""

    def __len__(self) -> int: ...
    def sample(self, i: int) -> Sample: ...

    def id(self, i: int) -> str: ...

    def ids(self) -> Sequence[str]: ...

    def below(self, name: str) -> int:
        """The number of ids below `name`."""

    @property
    def hashes(self) -> np.ndarray:
        """The sha256 (N, 32) uint8 of each image."""


@dataclass(frozen=True)
class Run:
    """Some neighbouring samples: their ids, and the sha256 (n, 32) uint8 of their images."""

    ids: list[str]
    hashes: np.ndarray


class Lazy(Sequence[T], Generic[T]):
    """A sequence whose elements are made when they are asked for. A slice of it is a list."""

    @overload
    def __getitem__(self, i: int) -> T: ...
    @overload
    def __getitem__(self, i: slice) -> list[T]: ...
    def __getitem__(self, i: int | slice) -> T | list[T]:
        places = range(len(self))[i]
        return self.at(places) if isinstance(places, int) else [self.at(place) for place in places]

    def at(self, i: int) -> T:
        """The element at place `i`, from 0."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Many(Lazy[Sample]):
    """The samples of `parts`, of which each id is below the ids of the next part, and a few `others`.

    `gone` are the places, among the samples of all parts, of samples that are left out. `changes` are applied
    to a sample when it is made.
    """

    parts: tuple[Part, ...]
    gone: frozenset[int] = frozenset()
    others: tuple[Sample, ...] = ()  # sorted by id
    changes: tuple[Change, ...] = ()
    told: bool = False  # whether a change affects what a manifest tells of samples

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.cumsum([0, *map(len, self.parts)])

    @cached_property
    def _gone(self) -> np.ndarray:
        """The places that are left out, sorted."""
        return np.array(sorted(self.gone), np.int64)

    @cached_property
    def _skipped(self) -> np.ndarray:
        """For each place that is left out, the number of samples before it that are not."""
        return self._gone - np.arange(len(self.gone))

    @cached_property
    def _others_at(self) -> list[int]:
        """The places of `others`."""
        return [self._below(one.id) + number for number, one in enumerate(self.others)]

    @cached_property
    def _other_ids(self) -> list[str]:
        return [one.id for one in self.others]

    @cached_property
    def _firsts(self) -> list[str]:
        """The first id of each part."""
        return [part.id(0) for part in self.parts]

    def __len__(self) -> int:
        return int(self._starts[-1]) - len(self.gone) + len(self.others)

    def at(self, i: int) -> Sample:
        """See `Lazy.at`."""
        number = bisect_left(self._others_at, i)
        if number < len(self.others) and self._others_at[number] == i:
            return self.others[number]
        row = i - number
        row += int(np.searchsorted(self._skipped, row, "right"))
        part = int(np.searchsorted(self._starts, row, "right")) - 1
        sample = self.parts[part].sample(row - int(self._starts[part]))
        for change in self.changes:
            sample = change(sample)
        return sample

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))

    def place(self, name: str) -> int | None:
        """The place of the sample with this id; None if there is none."""
        number = bisect_left(self._other_ids, name)
        if number < len(self.others) and self._other_ids[number] == name:
            return self._others_at[number]
        row = self._row(name)
        return None if row is None or row in self.gone else row - self._gone_below(row) + number

    def changed(self, change: Change, *, told: bool = False) -> "Many":
        """The samples after a change that keeps their ids; `told`: a manifest tells of it."""
        others = tuple(change(one) for one in self.others)
        return replace(self, others=others, changes=(*self.changes, change), told=self.told or told)

    def without(self, ids: Collection[str]) -> "Many":
        """The samples without some, given by id."""
        rows = {row for name in ids if (row := self._row(name)) is not None}
        others = tuple(one for one in self.others if one.id not in ids)
        return replace(self, gone=self.gone | rows, others=others)

    def joined(self, others: Sequence[Sample]) -> "Many":
        """These samples and others, in the order of ids."""
        return replace(self, others=tuple(sorted([*self.others, *others], key=lambda one: one.id)))

    def runs(self) -> Iterator["Run | Sample"]:
        """All samples in order: runs of samples from parts, and each of `others`."""
        others, at = deque(zip(self._others_at, self.others, strict=True)), 0
        for start, part in zip(self._starts, self.parts, strict=False):
            ids, hashes = list(part.ids()), part.hashes
            gone = self._gone[slice(*np.searchsorted(self._gone, [start, start + len(part)]))] - start
            if len(gone):
                kept = np.delete(np.arange(len(part)), gone)
                ids, hashes = [ids[i] for i in kept], hashes[kept]
            while others and others[0][0] <= at + len(ids):
                place, other = others.popleft()
                before = place - at
                if before:
                    yield Run(ids[:before], hashes[:before])
                yield other
                ids, hashes, at = ids[before:], hashes[before:], place + 1
            if ids:
                yield Run(ids, hashes)
            at += len(ids)
        yield from (other for _, other in others)

    def _part(self, name: str) -> int:
        """The last part that begins with this id, or with a lower one; 0 if there is none."""
        return max(bisect_right(self._firsts, name) - 1, 0)

    def _row(self, name: str) -> int | None:
        """The place of an id among the samples of all parts."""
        number = self._part(name)
        part = self.parts[number]
        place = part.below(name)
        there = place < len(part) and part.id(place) == name
        return int(self._starts[number]) + place if there else None

    def _below(self, name: str) -> int:
        """The number of samples of the parts, without those left out, whose ids are below `name`."""
        number = self._part(name)
        row = int(self._starts[number]) + self.parts[number].below(name)
        return row - self._gone_below(row)

    def _gone_below(self, row: int) -> int:
        return int(np.searchsorted(self._gone, row))


@dataclass(frozen=True)
class Both(Lazy[T]):
    """Two sequences as one, without a copy of either."""

    first: Sequence[T]
    second: Sequence[T]

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def at(self, i: int) -> T:
        """See `Lazy.at`."""
        return self.first[i] if i < len(self.first) else self.second[i - len(self.first)]


@dataclass(frozen=True, eq=False)
class Picked(Lazy[T]):
    """Some of a sequence, by their places (N,), which are sorted, without a copy of it."""

    base: Sequence[T]
    places: np.ndarray

    def __len__(self) -> int:
        return len(self.places)

    def at(self, i: int) -> T:
        """See `Lazy.at`."""
        return self.base[int(self.places[i])]


def ids_of(samples: Sequence[Named]) -> Iterator[list[str]]:
    """The ids of samples in order, some at a time."""
    if isinstance(samples, Many):
        for run in samples.runs():
            yield run.ids if isinstance(run, Run) else [run.id]
        return
    for start in range(0, len(samples), CHUNK):
        yield [samples[i].id for i in range(start, min(start + CHUNK, len(samples)))]


def finder(samples: Sequence[Named]) -> Callable[[str], int | None]:
    """A function from an id to the place of its sample, or None."""
    if isinstance(samples, Many):
        return samples.place
    if isinstance(samples, Picked):
        return partial(_picked, finder(samples.base), samples.places)
    return {sample.id: place for place, sample in enumerate(samples)}.get


def _picked(find: Callable[[str], int | None], places: np.ndarray, name: str) -> int | None:
    whole = find(name)
    place = len(places) if whole is None else int(np.searchsorted(places, whole))
    return place if place < len(places) and places[place] == whole else None


def changed(samples: Sequence[Sample], change: Change, *, told: bool = False) -> Sequence[Sample]:
    """The samples after a change of each; `told`: a manifest tells of it."""
    if isinstance(samples, Many):
        return samples.changed(change, told=told)
    return [change(one) for one in samples]


def without(samples: Sequence[Sample], ids: Collection[str]) -> Sequence[Sample]:
    """The samples without some, given by id."""
    if isinstance(samples, Many):
        return samples.without(ids)
    return [one for one in samples if one.id not in ids]


def joined(samples: Sequence[Sample], others: Sequence[Sample]) -> Sequence[Sample]:
    """All samples in the order of their ids; `Many` samples must be sorted."""
    if isinstance(samples, Many):
        return samples.joined(others)
    return sorted([*samples, *others], key=lambda one: one.id)
