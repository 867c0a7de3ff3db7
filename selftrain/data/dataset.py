"""The splits of a data set."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from selftrain.data import many
from selftrain.data.bands import RGB
from selftrain.data.faults import Fault
from selftrain.data.images import Levels
from selftrain.data.masks import MaskCode
from selftrain.data.sample import Sample
from selftrain.data.spec import Spec

SPLITS = ("labelled", "unlabelled", "val", "test")


@dataclass(frozen=True)
class DataSet:
    """The samples of each split. Masks of unlabelled samples measure pseudo-labels and never train."""

    classes: list[str]
    labelled: list[Sample]
    unlabelled: Sequence[Sample]  # a list, or `Many`
    val: list[Sample]
    test: list[Sample]
    warnings: list[str] = field(default_factory=list)  # decisions made for the user, to be shown
    faults: list[Fault] = field(default_factory=list)  # of load(strict=False) only
    root: Path = Path()  # messages name files relative to it
    code: MaskCode | None = None  # coding of classes in mask files
    levels: Levels | None = None  # the values of 16-bit images that become 0 and 255; None: 0 and 65,535
    facts: dict[str, Any] = field(default_factory=dict)  # facts about the whole data set, for data.json
    sound: bool = False  # drawn by the program, so a run need not look for faults
    extra: list["External"] = field(default_factory=list)  # its samples are among `labelled`

    @property
    def ids(self) -> Iterator[str]:
        """The ids of all samples, split by split."""
        return (name for split in SPLITS for some in many.ids_of(getattr(self, split)) for name in some)

    def each(self, change: Callable[[Sample], Sample], *, told: bool = False) -> "DataSet":
        """The data set with `change` applied to each sample; it keeps the id. `told`: see `Many.changed`."""
        labelled, val, test = ([change(one) for one in part] for part in (self.labelled, self.val, self.test))
        unlabelled = many.changed(self.unlabelled, change, told=told)
        return replace(self, labelled=labelled, unlabelled=unlabelled, val=val, test=test)


@dataclass(frozen=True)
class External:
    """An entry of data.extra. All samples of `data` are labelled, with the classes of their own data set."""

    setting: str  # "data.extra.0"
    data: DataSet
    spec: Spec
    samples: list[Sample]  # the same samples, with the classes of the data set that they are added to
    table: tuple[int, ...]  # (K,) the id, or IGNORE, of each own class


def without(data: DataSet, ids: Collection[str]) -> DataSet:
    """The data set without some unlabelled samples, such as the samples that verify set aside."""
    return replace(data, unlabelled=many.without(data.unlabelled, ids))


def with_channels(data: DataSet, channels: int) -> DataSet:
    """The data set with images of `channels` channels; sources read RGB by themselves."""
    if channels == RGB:
        return data
    return data.each(partial(_of_channels, channels))


def with_levels(data: DataSet, range_: Sequence[int] | None) -> DataSet:
    """The data set with 16-bit images read by one range (stored in data.json); None: unchanged."""
    if range_ is None:
        return data
    levels = (range_[0], range_[1])
    return replace(data.each(partial(within, levels)), levels=levels)


def _of_channels(channels: int, sample: Sample) -> Sample:
    return replace(sample, image=sample.image.of_channels(channels))


def within(levels: Levels, sample: Sample) -> Sample:
    """The sample with its image scaled by `levels`."""
    return replace(sample, image=sample.image.within(levels))
