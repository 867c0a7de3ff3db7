"""Suspicious masks (data.suspects): the list that `selftrain clean` writes, and what training does with them.

    image,suspicion,kind,classes,relabelled
    images/000,7.31,car is missing,car,relabelled/0000.png

Only `image` and, for relabelling, `relabelled` are read. Rows may be removed by hand. The files of the data
set are never changed.
"""

import csv
import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated

import numpy as np
from PIL import Image, UnidentifiedImageError

from selftrain.data.dataset import SPLITS, DataSet
from selftrain.data.faults import Fault
from selftrain.data.many import Many
from selftrain.data.masks import Mask, resize_mask
from selftrain.data.sample import Sample, Source
from selftrain.data.spec import Spec
from selftrain.data.storage import fingerprint, open_regular
from selftrain.errors import ConfigError, DataError
from selftrain.ids import IGNORE
from selftrain.tables import Bounds, Table, bound


@dataclass(frozen=True)
class Suspect:
    """A row of the list."""

    image: str  # the id of the image
    suspicion: str = ""  # how many spreads it lies beyond the median image
    kind: str = ""  # in words
    classes: str = ""  # that the kind concerns, separated by semicolons
    relabelled: str = ""  # PNG of the class ids that the folds agree on, 255 elsewhere; beside the list


COLUMNS = [one.name for one in fields(Suspect)]


@dataclass(frozen=True)
class Relabelled(Source):
    """A mask with other class ids for some of its pixels. Ignored pixels stay ignored."""

    own: Source
    path: Path  # PNG of class ids; 255: the pixel keeps its own id
    classes: int

    @property
    def name(self) -> str:
        return self.own.name

    @property
    def opened(self) -> tuple[Path, ...]:
        return self.own.opened

    @property
    def reading(self) -> str:
        return f"{self.own.reading} relabelled by {fingerprint(self.path)}"

    def read(self) -> np.ndarray:
        return self._changed(self.own.read())

    def examine(self, *, alone: bool = False) -> Mask:
        mask = self.own.examine(alone=alone)
        return replace(mask, ids=self._changed(mask.ids))

    def fingerprint(self) -> str:
        both = f"{self.own.fingerprint()} {fingerprint(self.path)}"
        return hashlib.sha256(both.encode()).hexdigest()

    def _changed(self, ids: np.ndarray) -> np.ndarray:
        other = resize_mask(_ids_in(self.path), (ids.shape[0], ids.shape[1]))
        if not ((other < self.classes) | (other == IGNORE)).all():
            raise DataError(Fault(str(self.path), "names classes that the data set lacks", WRITE_AGAIN))
        return np.where((other == IGNORE) | (ids == IGNORE), ids, other)


WRITE_AGAIN = "write it again with selftrain clean"


def _ids_in(path: Path) -> np.ndarray:
    """The class ids (H, W) uint8 of a PNG that `selftrain clean` wrote. Raises DataError."""
    try:
        with open_regular(path) as file, Image.open(file) as picture:
            if picture.mode in ("P", "L"):
                return np.asarray(picture)
            what = f"is a picture of mode {picture.mode}, not of class ids"
    except (OSError, UnidentifiedImageError) as error:
        what = f"cannot be read ({error})"
    raise DataError(Fault(str(path), what, WRITE_AGAIN))


# What training does with a suspicious mask: an entry gets the sample, its row of the list, and the mask that
# the folds would give it. It returns the sample as it is to be trained on; None: without its mask.
Treatment = Callable[..., Sample | None]


def drop(sample: Sample, suspect: Suspect, relabelled: Source) -> None:
    """Do not use the mask; its image becomes an unlabelled one."""


def weight(
    sample: Sample,
    suspect: Suspect,
    relabelled: Source,
    *,
    factor: Annotated[float, Bounds(above=0, most=1), "weight of its labelled pixels"] = 0.25,
) -> Sample:
    """Train on the mask with a smaller weight."""
    return replace(sample, weight=sample.weight * factor)


def relabel(sample: Sample, suspect: Suspect, relabelled: Source) -> Sample:
    """Replace the class of the pixels on which the networks of all folds agree."""
    return replace(sample, mask=relabelled)


SUSPICIONS: dict[str, Treatment] = {"drop": drop, "weight": weight, "relabel": relabel}
TABLE = Table(SUSPICIONS)


def with_suspects(data: DataSet, spec: Spec) -> DataSet:
    """The data set with its suspicious masks treated as data.suspicion says.

    Only the masks of labelled images are treated. Masks of val and test stay as they are, because scores are
    measured with them. Raises ConfigError for settings, DataError for a list that cannot be read or names
    unknown images.
    """
    if not spec.suspects:
        if "suspicion" in spec.changed:
            raise ConfigError(
                f"data.suspicion={spec.suspicion} treats the masks of a list; set data.suspects to the list "
                "that selftrain clean wrote"
            )
        return data
    chosen = TABLE.one(spec.suspicion, "data.suspicion")
    listed = {one.image: one for one in read_list(Path(spec.suspects))}
    known = {sample.id for split in SPLITS for sample in getattr(data, split)}
    unknown = [name for name in listed if name not in known]
    if unknown:
        raise DataError(
            f"data.suspects={spec.suspects} names {unknown[0]!r}, which is no image of the data set; "
            f"remove its line, or {WRITE_AGAIN}"
        )
    treat, labelled, bare = bound(chosen), list[Sample](), list[Sample]()
    for sample in data.labelled:
        row = listed.get(sample.id)
        treated = treat(sample, row, _relabelled(sample, row, spec, data)) if row else sample
        if treated is None:
            bare.append(replace(sample, mask=None))
        else:
            labelled.append(treated)
    count = sum(sample.id in listed for sample in data.labelled)
    shards = data.unlabelled if isinstance(data.unlabelled, Many) else None  # not made into a list
    remark = f"{count} of the {len(listed)} masks of {spec.suspects} are labelled images: {chosen.name}"
    return replace(
        data,
        labelled=labelled,
        unlabelled=[*data.unlabelled, *bare] if shards is None else shards.joined(bare),
        warnings=[*data.warnings, remark],
        sound=False,
    )


def _relabelled(sample: Sample, row: Suspect, spec: Spec, data: DataSet) -> Source:
    assert sample.mask is not None
    if not row.relabelled:
        return sample.mask
    return Relabelled(sample.mask, Path(spec.suspects).parent / row.relabelled, len(data.classes))


def read_list(path: Path) -> list[Suspect]:
    """The rows of a list. Raises DataError for a file that is no such list."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            heading, rows = reader.fieldnames or [], list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        said = getattr(error, "strerror", None) or error
        raise DataError(f"data.suspects={path} cannot be read ({said}); {WRITE_AGAIN}") from error
    if "image" not in heading:
        raise DataError(
            f"data.suspects={path}: its first line is {','.join(heading)!r}, without the column image; "
            f"{WRITE_AGAIN}"
        )
    return [Suspect(**{name: row.get(name) or "" for name in COLUMNS}) for row in rows if row["image"]]


def written(suspects: Sequence[Suspect]) -> bytes:
    """The content of a list, most suspicious mask first."""
    content = io.StringIO(newline="")
    writer = csv.writer(content, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([getattr(one, name) for name in COLUMNS] for one in suspects)
    return content.getvalue().encode()
