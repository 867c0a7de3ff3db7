"""Label store: a teacher's unfiltered predictions for many images, as a directory of shards.

labels/shard-00000.safetensors ...   the records of some images end to end, and the counts for thresholds
labels/summary.safetensors           what the shards and images-*.json tell of images and pixels, together
labels/index.json                    written last: it marks the store as complete; 2 bytes for each image

The summary spares opening all shards. It repeats what they contain, so a store without one is complete.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from selftrain import columns
from selftrain.columns import FACTS, Columns, digest_of, packed
from selftrain.errors import IntegrityError
from selftrain.files import read_json, write_bytes, write_json
from selftrain.labels import numbers
from selftrain.labels.record import Label, Labelled, decode

VERSION = 1  # of shards and index
INDEX, SUMMARY = "index.json", "summary.safetensors"
STAGES = ("raw", "tta", "crf")  # rows of `confusion`
OPEN_SHARDS = 64
IDS = 1 << 16  # that are hashed at once
MEAN = "mean_confidence"  # of each image, as its shard contains it
AGAIN = "remove it and run the same command to label its images again"

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Origin:
    """The teacher whose labels a store contains, and their form."""

    teacher: str  # sha256 of its weights
    classes: int
    soft_classes: int  # kept per pixel


def ids_digest(ids: Iterable[str]) -> str:
    """sha256 over sample ids in the given order."""
    digest, names = hashlib.sha256(), iter(ids)
    while some := list(islice(names, IDS)):
        digest.update(_told(some))
    return digest.hexdigest()


def _told(ids: Sequence[str]) -> bytes:
    return os.fsencode("".join(f"{name}\0" for name in ids))


def shard_path(directory: Path, number: int) -> Path:
    return directory / f"shard-{number:05d}.safetensors"


def write_shard(path: Path, labels: Sequence[Labelled], ids: Sequence[str], origin: Origin) -> None:
    """Write the labels of the images `ids` atomically. Equal arguments give equal bytes."""
    records = [label.record for label in labels]
    histogram = np.stack([label.histogram for label in labels]).sum(axis=0, dtype=np.int64)
    assert len(labels) == len(ids) and histogram.shape == (origin.classes, 256)
    tensors: dict[str, NDArray[Any]] = {
        "payload": np.frombuffer(b"".join(records), np.uint8),
        "offsets": np.cumsum([0, *map(len, records)], dtype=np.int64),
        "confidence": np.array([label.confidence for label in labels], np.float32),
        "histogram": histogram,
    }
    confusions = [label.confusion for label in labels if label.confusion is not None]
    if confusions:
        tensors["confusion"] = np.stack(confusions).sum(axis=0, dtype=np.int64)
    facts = _facts(len(ids), ids_digest(ids), origin) | {"sha256": digest_of(tensors)}
    write_bytes(path, packed(tensors, facts))


def shard_is_sound(path: Path, ids: Sequence[str], origin: Origin) -> bool:
    """Whether this file is an undamaged shard with this teacher's labels of these images."""
    return _tensors(path, ids, origin) is not None


def _tensors(path: Path, ids: Sequence[str], origin: Origin) -> dict[str, NDArray[Any]] | None:
    """The content of an undamaged shard with this teacher's labels of these images; None for other files."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="np") as file:
            facts = json.loads((file.metadata() or {}).get(FACTS, "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError, ValueError):
        return None
    whole = _facts(len(ids), ids_digest(ids), origin) | {"sha256": digest_of(tensors)}
    return tensors if facts == whole else None


def finish(directory: Path, ids: Iterable[str], origin: Origin, *, shard: int) -> None:
    """Write summary and index for the shards of all images `ids`, with `shard` images in each but the last.

    Raises IntegrityError if shards are missing or damaged; the message names one of them.
    """
    every, names = hashlib.sha256(), iter(ids)
    told, hashes, bad = Told(origin.classes), list[str](), list[Path]()
    while part := list(islice(names, shard)):
        path = shard_path(directory, len(hashes))
        tensors = _tensors(path, part, origin)
        every.update(_told(part))
        hashes.append(_sha256(path) if tensors else "")
        if tensors:
            told.add(tensors, len(part))
        else:
            bad.append(path)
    if bad:
        raise IntegrityError(
            f"{len(bad)} of {len(hashes)} label shards are missing or damaged, e.g. {bad[0]}; {AGAIN}"
        )
    write_index(directory, told, every.hexdigest(), hashes, origin, shard)


def write_index(
    directory: Path, told: "Told", ids: str, hashes: Sequence[str], origin: Origin, shard: int
) -> None:
    """Write summary and index; `ids` is the digest of all ids, and `hashes` are the sha256 of the shards."""
    facts = _facts(sum(told.sizes), ids, origin)
    arrays = told.arrays() | numbers.read(directory, told.sizes)
    columns.write(directory / SUMMARY, arrays, {"version": VERSION, "shards": _digest_of_shards(hashes)})
    write_json(directory / INDEX, facts | {"shard": shard, "shards": list(hashes)})


def _digest_of_shards(hashes: Sequence[str]) -> str:
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


@dataclass
class Told:
    """What the shards of a store tell of their images and pixels, collected shard by shard."""

    classes: int
    sizes: list[int] = field(default_factory=list)  # images in each shard
    sums: dict[str, Counts] = field(default_factory=dict)
    confidences: list[NDArray[np.float32]] = field(default_factory=list)

    def add(self, tensors: Mapping[str, NDArray[Any]], count: int) -> None:
        """Add a shard of `count` images."""
        self.sizes.append(count)
        self.confidences.append(tensors["confidence"])
        for name in ("histogram", "confusion"):
            if name in tensors:
                self.sums[name] = self.sums[name] + tensors[name] if name in self.sums else tensors[name]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The columns of the summary."""
        none = {"histogram": np.zeros((self.classes, 256), np.int64)}
        return {**none, **self.sums, MEAN: np.concatenate([np.zeros(0, np.float32), *self.confidences])}


@dataclass(frozen=True)
class Index:
    """The content of `index.json`."""

    version: int
    classes: int
    soft_classes: int
    teacher: str  # sha256 of the teacher's weights
    count: int
    ids_sha256: str
    shard: int  # images in each shard but the last
    shards: list[str]  # sha256 of each file

    def __post_init__(self) -> None:
        """Raises ValueError for an index that contradicts itself."""
        numbers = (self.version, self.classes, self.soft_classes, self.count, self.shard)
        if not all(isinstance(number, int) for number in numbers) or min(numbers) < 0 or self.shard < 1:
            raise ValueError("a count is not a whole number of 0 or more")
        if self.version != VERSION:
            raise ValueError(f"version {self.version}, not {VERSION}")
        if not isinstance(self.shards, list) or len(self.shards) != -(-self.count // self.shard):
            raise ValueError(f"{self.count} images do not fill its shards")


class LabelStore:
    """A finished label directory, read image by image. Opening it reads only `index.json`.

    Raises IntegrityError, with the path and a remedy, if the index or a shard is missing or damaged.
    Can be pickled and forked.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = Path(directory)
        path = self.directory / INDEX
        if not path.is_file():
            raise IntegrityError(
                f"{path} is missing: labelling has not finished; the same command resumes it"
            )
        try:
            self.index = Index(**read_json(path))
        except (TypeError, ValueError) as error:
            raise IntegrityError(
                f"{path} is damaged ({error}); remove it and run the same command to label again"
            ) from None
        self._shard = lru_cache(maxsize=OPEN_SHARDS)(self._open)

    def __reduce__(self) -> tuple[type["LabelStore"], tuple[Any, ...]]:
        return LabelStore, (self.directory,)

    def __len__(self) -> int:
        return self.index.count

    def read(self, i: int) -> Label:
        """The label of image `i`."""
        if not 0 <= i < len(self):
            raise IndexError(f"image {i} of {len(self)}")
        number, row = divmod(i, self.index.shard)
        file, offsets = self._shard(number)
        try:
            label = decode(file.get_slice("payload")[int(offsets[row]) : int(offsets[row + 1])].tobytes())
            largest = max(label.hard.max(), label.classes.max())
            if largest >= self.index.classes:
                raise IntegrityError(
                    f"a label record is damaged: it names class {largest} of {self.index.classes}"
                )
        except IntegrityError as error:
            raise IntegrityError(
                f"{shard_path(self.directory, number)}, image {row}: {error}; {AGAIN}"
            ) from None
        return label

    @property
    def sizes(self) -> list[int]:
        """The number of images in each shard."""
        starts = range(0, len(self), self.index.shard)
        return [min(self.index.shard, len(self) - start) for start in starts]

    @cached_property
    def _summary(self) -> dict[str, NDArray[Any]]:
        """The columns of the summary. They are collected from the shards if it is missing or damaged."""
        with suppress(IntegrityError):
            found: Columns = columns.read(self.directory / SUMMARY, VERSION)
            if found.facts["shards"] == _digest_of_shards(self.index.shards):
                return found.arrays
        told = Told(self.index.classes)
        for number, size in enumerate(self.sizes):
            file = self._shard(number)[0]
            names = [name for name in file.keys() if name != "payload"]  # noqa: SIM118 (not a dict)
            told.add({name: file.get_tensor(name) for name in names}, size)
        return told.arrays()

    def numbers(self) -> dict[str, NDArray[np.float32]]:
        """What is told of each image (N,), by the names of `numbers.NAMES`; NaN where it is not known."""
        found = self._summary
        if all(name in found for name in numbers.NAMES):
            return {name: found[name] for name in numbers.NAMES}
        return numbers.read(self.directory, self.sizes)

    def confidence(self) -> NDArray[np.float32]:
        """Mean confidence (N,) of each image."""
        return np.array(self._summary[MEAN])

    def histogram(self) -> Counts:
        """Pixels (C, 256) by hard label and confidence."""
        return np.array(self._summary["histogram"])

    def confusion(self) -> Counts | None:
        """Confusion counts (stages, C, C) over the images with masks, or None; rows are the truth."""
        found = self._summary.get("confusion")
        return None if found is None else np.array(found)

    def verify(self) -> list[Path]:
        """The shards that are missing or whose sha256 differs from the index."""
        known = {
            shard_path(self.directory, number): sha256 for number, sha256 in enumerate(self.index.shards)
        }
        return [path for path, sha256 in known.items() if not path.is_file() or _sha256(path) != sha256]

    def _open(self, number: int) -> tuple[Any, Counts]:
        """A shard's file handle and the offsets of its records."""
        path = shard_path(self.directory, number)
        try:
            file = safe_open(path, framework="np")
            facts = json.loads((file.metadata() or {})[FACTS])
            offsets, payload = file.get_tensor("offsets"), file.get_slice("payload").get_shape()
            count = min(self.index.shard, len(self) - number * self.index.shard)
            same = ("version", "classes", "soft_classes", "teacher")
            checks = {
                "from another store": all(facts[name] == getattr(self.index, name) for name in same),
                "made for a different number of images": facts["count"] == count
                and offsets.shape == (count + 1,),
                "incomplete": offsets[0] == 0 and [offsets[-1]] == payload and (np.diff(offsets) > 0).all(),
            }
        except (OSError, SafetensorError, ValueError, KeyError, TypeError, IndexError) as error:
            raise IntegrityError(f"{path} cannot be read ({error}); {AGAIN}") from None
        wrong = [what for what, holds in checks.items() if not holds]
        if wrong:
            raise IntegrityError(f"{path} is {' and '.join(wrong)}; {AGAIN}")
        return file, offsets


class LabelsOver(LabelStore):
    """The labels of a store with their probabilities divided by `thresholds` (C,) (`Label.over`).

    The mean confidence of an image and the confusion counts are not recomputed.
    """

    def __init__(self, directory: Path, thresholds: NDArray[np.floating]) -> None:
        super().__init__(directory)
        self.thresholds = thresholds

    def __reduce__(self) -> tuple[type["LabelStore"], tuple[Any, ...]]:
        return LabelsOver, (self.directory, self.thresholds)

    def read(self, i: int) -> Label:
        return super().read(i).over(self.thresholds)

    @cached_property
    def _histogram(self) -> Counts:
        total = np.zeros((self.index.classes, 256), np.int64)
        for label in map(self.read, range(len(self))):
            np.add.at(total, (label.hard, label.confidence), 1)
        return total

    def histogram(self) -> Counts:
        return self._histogram


def _facts(count: int, digest: str, origin: Origin) -> dict[str, Any]:
    """The facts that a shard and the index record about their images, and the digest of their ids."""
    return {
        "version": VERSION,
        "classes": origin.classes,
        "soft_classes": origin.soft_classes,
        "teacher": origin.teacher,
        "count": count,
        "ids_sha256": digest,
    }


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
