"""Classes of whole images (data.tags): a table of images and the classes that they contain.

    image,classes
    images/000.png,road;car
    unlabelled/7.jpg,

An image may have several lines. An image without a class is known to contain none; an image without a line is
not known. Images are named as in list files, by their path or its end.
"""

import csv
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from io import TextIOWrapper
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from selftrain.data.dataset import SPLITS, DataSet
from selftrain.data.faults import Fault, counted
from selftrain.data.images import IMAGE_SUFFIXES
from selftrain.data.sample import Sample, Source
from selftrain.data.sources.named import root_of
from selftrain.data.spec import Spec
from selftrain.data.storage import open_regular
from selftrain.errors import DataError
from selftrain.ids import IGNORE

HEADING = ["image", "classes"]
BETWEEN = ";"  # classes of a line
Row = tuple[str, str, list[str]]  # place in the file, image, classes


def with_tags(data: DataSet, spec: Spec) -> DataSet:
    """The data set with `tags` of its images. Lines that cannot be used are added to its faults.

    Raises DataError for a file that is no such table.
    """
    if not spec.tags:
        return data
    rows, noted = _rows(root_of(spec) / spec.tags, spec.tags), list(data.faults)
    names = _by_end([one for split in SPLITS for one in getattr(data, split) if not one.extra])
    tags: dict[str, set[int]] = {}
    for where, image, classes in rows:
        found, unknown = names.get(_plain(image), []), [one for one in classes if one not in data.classes]
        if len(found) != 1:
            noted.append(_unmatched(where, image, found))
        elif unknown:
            what = f"gives {image} the class {unknown[0]!r}, which is none of {', '.join(data.classes)}"
            noted.append(Fault(where, what, "mend the line, or add the class to data.classes"))
        else:
            tags.setdefault(found[0], set()).update(map(data.classes.index, classes))
    return replace(data.each(partial(_tagged, tags), told=True), faults=noted)


def tags_of(sample: object, classes: int) -> np.ndarray:
    """The tags (C,) float32 of a sample: 1 for classes that it contains, 0 for others; NaN if not known."""
    known = getattr(sample, "tags", None)
    if known is None:
        return np.full(classes, np.nan, np.float32)
    return np.isin(np.arange(classes), known).astype(np.float32)


@dataclass(frozen=True)
class Unmasked(Source):
    """A mask in which every pixel of `image` is ignored."""

    image: Source

    @property
    def name(self) -> str:
        return self.image.name

    def read(self) -> np.ndarray:
        return np.full(self.image.size or self.image.read().shape[:2], IGNORE, np.uint8)

    @property
    def opened(self) -> tuple[Path, ...]:
        return self.image.opened

    def fingerprint(self) -> None:
        return None


def known_by_tags(samples: Iterable[Sample]) -> list[Sample]:
    """The samples with tags, as labelled samples without a labelled pixel: only their tags teach."""
    return [replace(one, mask=Unmasked(one.image)) for one in samples if one.tags is not None]


def _tagged(tags: Mapping[str, set[int]], sample: Sample) -> Sample:
    known = sample.id in tags and not sample.extra
    return replace(sample, tags=tuple(sorted(tags[sample.id]))) if known else sample


def _rows(file: Path, setting: str) -> list[Row]:
    try:
        with TextIOWrapper(open_regular(file), newline="", encoding="utf-8-sig") as lines:
            reader = csv.reader(lines)
            heading = [cell.strip().lower() for cell in next(reader, [])]
            cells = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except DataError as error:
        raise DataError(f"data.tags={setting}: {error}") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        said = getattr(error, "strerror", None) or error
        raise DataError(f"data.tags={setting}: {file} cannot be read ({said}); give a CSV file") from error
    if heading != HEADING:
        raise DataError(
            f"data.tags={setting}: its first line is {','.join(heading)!r}; it must be {','.join(HEADING)}"
        )
    return [(f"{setting}:{number}", row[0].strip(), _classes(row[1:])) for number, row in cells]


def _classes(cells: Sequence[str]) -> list[str]:
    return [name for cell in cells for part in cell.split(BETWEEN) if (name := part.strip())]


def _plain(image: str) -> str:
    """The name of an image without suffix, as ids are written."""
    path = PurePosixPath(unicodedata.normalize("NFC", image.replace("\\", "/")))
    return str(path.with_suffix("") if path.suffix.lower() in IMAGE_SUFFIXES else path)


def _by_end(samples: Iterable[Sample]) -> dict[str, list[str]]:
    """The ids of samples by each ending of their id; a whole id means its sample only."""
    ends: dict[str, list[str]] = {}
    for sample in samples:
        parts = sample.id.split("/")
        for start in range(len(parts)):
            ends.setdefault("/".join(parts[start:]), []).append(sample.id)
    return ends | {name: [name] for names in ends.values() for name in names}


def _unmatched(where: str, image: str, found: Sequence[str]) -> Fault:
    if found:
        what = f"names {image!r}, which may be {' or '.join(found[:2])}"
        return Fault(where, what, "write its path from data.root")
    return Fault(where, f"names {image!r}, which is no image of the data set", "mend or remove the line")


def rows_of_tags(classes: Sequence[str], of: Mapping[str, Sequence[Sample]]) -> list[tuple[str, ...]]:
    """Rows of verify's table: the images with tags, and with each class, by split; [] without tags."""
    known = {split: [one.tags for one in samples if one.tags is not None] for split, samples in of.items()}
    if not any(known.values()):
        return []
    counts = {
        split: [sum(c in tags for tags in rows) for c in range(len(classes))] for split, rows in known.items()
    }
    return [
        ("tagged images", *(str(len(rows)) for rows in known.values())),
        *((f"tag {name}", *(str(rows[c]) for rows in counts.values())) for c, name in enumerate(classes)),
    ]


def disagreements(classes: Sequence[str], looks: Iterable[Any]) -> list[str]:
    """A warning about masks that contain other classes than the tags of their image; [] if there are none.

    `looks` have a `sample` and the pixels (C + 1,) of its mask in `counts`. A class may be hidden by ignored
    pixels.
    """
    found = []
    for look in looks:
        if look.counts is None or look.sample.tags is None:
            continue
        there, told = set(np.flatnonzero(look.counts[:-1]).tolist()), set(look.sample.tags)
        if there - told or (told - there and not look.counts[-1]):
            shown = [", ".join(classes[c] for c in sorted(ids)) or "none" for ids in (there, told)]
            found.append(f"{look.sample.id} (mask: {shown[0]}; tags: {shown[1]})")
    if not found:
        return []
    return [f"{counted(len(found), 'mask')} with other classes than data.tags, such as {found[0]}"]
