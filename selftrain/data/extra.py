"""External labelled data (data.extra): read with its own classes, and trained on with its own weight."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from selftrain.data.dataset import DataSet, External, with_channels
from selftrain.data.faults import Fault, FaultsError
from selftrain.data.many import finder
from selftrain.data.masks import Mask
from selftrain.data.sample import Sample, Source
from selftrain.data.spec import Extra, Spec
from selftrain.errors import ConfigError, DataError
from selftrain.ids import IGNORE

Reading = Callable[[Spec], DataSet]


@dataclass(frozen=True)
class Recoded(Source):
    """A mask of another data set, with the class ids of this one."""

    own: Source
    table: tuple[int, ...]  # (K,): the id, or IGNORE, of each class of the other data set

    @property
    def name(self) -> str:
        return self.own.name

    @property
    def opened(self) -> tuple[Path, ...]:
        return self.own.opened

    @property
    def reading(self) -> str:
        return f"{self.own.reading} {self.table}"

    def read(self) -> np.ndarray:
        ids = np.full(256, IGNORE, np.uint8)
        ids[: len(self.table)] = self.table
        return ids[self.own.read()]

    def examine(self, *, alone: bool = False) -> Mask:
        return Mask(self.read())

    def fingerprint(self) -> str | None:
        return self.own.fingerprint()


def with_extra(data: DataSet, spec: Spec, read: Reading) -> DataSet:
    """The data set with the images of data.extra among the labelled ones.

    `read` lists the samples of a source. Raises ConfigError, DataError or FaultsError, which name the entry.
    """
    for extra in spec.extra:
        data = _added(data, extra, _external(extra, spec.classes, read))
    return data


def _added(data: DataSet, extra: Extra, external: External) -> DataSet:
    known = {sample.id for sample in data.labelled + data.val + data.test}
    find = finder(data.unlabelled)
    if any(one.id in known or find(one.id) is not None for one in external.samples):
        raise ConfigError(f"{extra.setting}.name={extra.spec.name} is taken: give each data set another name")
    own = external.data
    remarks = [f"{extra.setting}: {remark}" for remark in own.warnings]
    if own.unlabelled:
        remarks.append(f"{extra.setting}: {len(own.unlabelled)} images without a mask are not used")
    return replace(
        data,
        labelled=[*data.labelled, *external.samples],
        warnings=[*data.warnings, *remarks],
        faults=[*data.faults, *(in_extra(fault, extra.setting) for fault in own.faults)],
        sound=False,
        extra=[*data.extra, external],
    )


def _external(extra: Extra, classes: list[str], read: Reading) -> External:
    table = _table(extra, classes)
    try:
        found = with_channels(read(extra.spec), extra.spec.channels)
    except FaultsError as error:
        raise FaultsError([in_extra(fault, extra.setting) for fault in error.faults]) from error
    except (ConfigError, DataError) as error:
        raise type(error)(f"{extra.setting}: {error}") from error
    own = sorted(found.labelled + found.val + found.test, key=lambda sample: sample.id)
    whole = replace(found, labelled=own, val=[], test=[])
    return External(extra.setting, whole, extra.spec, [_sample(one, extra, table) for one in own], table)


def _sample(own: Sample, extra: Extra, table: tuple[int, ...]) -> Sample:
    assert own.mask is not None
    name = extra.spec.name
    mask = Recoded(own.mask, table)
    return replace(own, id=f"{name}/{own.id}", mask=mask, weight=extra.weight, extra=name)


def _table(extra: Extra, classes: list[str]) -> tuple[int, ...]:
    """The id of each own class. Raises ConfigError for a map that names other classes, or none."""
    setting, known = f"{extra.setting}.classes", ", ".join(classes)
    for own, name in extra.classes.items():
        if name is not None and name not in classes:
            raise ConfigError(f"{setting}.{own}={name} must be one of {known}, or null to ignore its pixels")
    if not any(name is not None for name in extra.classes.values()):
        raise ConfigError(
            f"{setting} must name the classes of the masks in {extra.spec.root}, in the order of their "
            f"values, each with the class that it becomes ({known}) or null, "
            f"such as {{car: {classes[-1]}, sky: null}}"
        )
    return tuple(IGNORE if name is None else classes.index(name) for name in extra.classes.values())


def in_extra(fault: Fault, setting: str) -> Fault:
    """A fault of an external data set, for a list of faults of all data."""
    return replace(fault, file=f"{setting}: {fault.file}")
