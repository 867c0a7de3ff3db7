"""What a teacher said of many images, unfiltered: a directory of shards, complete once its `index.json` is there.

    labels/shard-00000.safetensors ...   records of `encode` end to end, and what thresholds need to know of them
    labels/index.json                    written last; small, however many images there are

A record keeps, per pixel: the hard label, its confidence, and the most probable classes with their probabilities.
Neighbouring pixels resemble each other, so planes are kept as differences along both axes; probabilities as the mass
that the first 1, 2, ... classes leave, which is mostly small.
"""

import hashlib
import json
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from selftrain.errors import IntegrityError, LearningError
from selftrain.files import read_json, write_bytes, write_json

VERSION = 1
INDEX = "index.json"
IGNORE = 255
STAGES = ("raw", "tta", "crf")  # rows of `confusion`
FACTS = "selftrain"  # one metadata key: safetensors writes several in random order, and equal labels are equal bytes
HEADER = struct.Struct("<BBII4I")  # version, K, height, width, bytes of each stream
ONE_BITS = 23
ONE = 1 << ONE_BITS  # a probability of 1 while it is sorted: 255 times it still fits 32 bits
OPEN_SHARDS = 64
AGAIN = "remove it and run the same command to label its images again"

Bytes = NDArray[np.uint8]
Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Label:
    """One image's label. `probs[j]` / 255 is the probability of `classes[j]`; where it is 0, no class is stored."""

    hard: Bytes  # (H, W); 255: ignored
    confidence: Bytes  # (H, W), 255 p of the hard label
    classes: Bytes  # (K, H, W), most probable first; not necessarily beginning with `hard`, which a CRF may have moved
    probs: Bytes  # (K, H, W), sum at most 255

    def at(self, index: NDArray[np.integer]) -> "Label":
        """The label warped: `index` (h, w) says from which pixel, y * W + x; -1 is outside: ignored, nothing stored."""
        outside = index < 0
        hard, confidence = (plane.take(index) for plane in (self.hard, self.confidence))  # -1 takes the last pixel
        classes, probs = (plane.reshape(-1, self.hard.size).take(index, axis=1) for plane in (self.classes, self.probs))
        hard[outside], confidence[outside] = IGNORE, 0
        classes[:, outside], probs[:, outside] = 0, 0
        return Label(hard, confidence, classes, probs)

    def soft(self, classes: int) -> NDArray[np.float32]:
        """The distribution (classes, H, W), sum 1; what is not stored is spread evenly over the classes not stored."""
        pixel = np.arange(self.hard.size)
        found = np.zeros((classes, pixel.size), np.float32)
        for names, probs in zip(self.classes.reshape(-1, pixel.size), self.probs.reshape(-1, pixel.size), strict=True):
            found[names, pixel] += probs
        empty = found == 0
        rest = (255 - found.sum(axis=0)) / np.maximum(empty.sum(axis=0, dtype=np.float32), 1)
        found += empty * rest
        found /= 255
        return found.reshape(classes, *self.hard.shape)

    def soft_at(self, index: NDArray[np.integer], classes: int) -> NDArray[np.float32]:
        """`at(index).soft(classes)`: (classes, h, w), uniform where `index` is -1."""
        return self.at(index).soft(classes)


def encode(probs: NDArray[np.float32], hard: Bytes, confidence: Bytes, k: int) -> bytes:
    """The record of probs (C, H, W), hard and confidence (H, W), with the `k` most probable classes (at most C).

    Raises LearningError for probabilities that are none.
    """
    if not (probs.min() >= 0 and probs.max() <= 1.001):  # false for NaN
        raise LearningError("the teacher's probabilities are not numbers between 0 and 1; its training has failed")
    classes, rest = _most_probable(probs, min(k, len(probs)))
    moved = hard - classes[0]  # mostly 0; modulo 256, as all differences here
    surer = confidence - (255 - rest[0])
    streams = [
        _deflate(_differences(classes), zlib.Z_DEFAULT_STRATEGY),
        _deflate(_differences(rest), zlib.Z_RLE),  # noise has no repeated strings to look for
        _deflate(moved, zlib.Z_DEFAULT_STRATEGY) if moved.any() else b"",
        _deflate(_differences(surer[None]), zlib.Z_RLE) if surer.any() else b"",
    ]
    header = HEADER.pack(VERSION, len(classes), *hard.shape, *map(len, streams))
    return b"".join([header, *streams])


def most_bytes(k: int) -> int:
    """Of a record with `k` classes, per pixel: enough for noise that is blurred a little, and labels of pictures are smoother."""
    return 1 + k


def decode(record: bytes) -> Label:
    """The label that `encode` was given. Raises IntegrityError for anything else."""
    try:
        version, k, height, width, *sizes = HEADER.unpack_from(record)
        if version != VERSION or not k or not height or not width or HEADER.size + sum(sizes) != len(record):
            raise IntegrityError("a label record is damaged: its header does not fit")
        ends = np.cumsum([HEADER.size, *sizes]).tolist()
        streams = [record[start:end] for start, end in pairwise(ends)]
        classes = _sums(_inflate(streams[0], k * height, width)).reshape(k, height, width)
        rest = _sums(_inflate(streams[1], k * height, width)).reshape(k, height, width)
        hard, confidence = classes[0], 255 - rest[0]
        if streams[2]:
            hard = hard + _inflate(streams[2], height, width)
        if streams[3]:
            confidence = confidence + _sums(_inflate(streams[3], height, width))
    except (struct.error, zlib.error, ValueError) as error:
        raise IntegrityError(f"a label record is damaged: {error}") from None
    if (rest[1:] > rest[:-1]).any():
        raise IntegrityError("a label record is damaged: its probabilities exceed 1")
    probs = np.concatenate([255 - rest[:1], rest[:-1] - rest[1:]])  # (K, H, W)
    return Label(hard, confidence, classes, probs)


def _most_probable(probs: NDArray[np.float32], k: int) -> tuple[Bytes, Bytes]:
    """The k most probable classes and the mass beyond each, both (k, H, W) uint8; of equals the lower class is first.

    Rounding the mass beyond, not the probabilities, keeps their sum at 1 and each of them within 1/255.
    A class whose byte comes out as 0 is named 0.
    """
    top = [np.zeros(probs.shape[1:], np.uint32) for _ in range(k)]
    for name, plane in enumerate(probs):
        key = (plane * np.float32(ONE)).astype(np.uint32) << 8 | np.uint32(255 - name)
        for place in range(k):  # insertion: the larger stays, the smaller moves on
            top[place], key = np.maximum(top[place], key), np.minimum(top[place], key)
    classes, rest = (np.empty((k, *probs.shape[1:]), np.uint8) for _ in range(2))
    left, before = np.uint32(ONE), np.uint8(255)
    for place, key in enumerate(top):
        left = left - np.minimum(key >> 8, left)
        rest[place] = (255 * left + ONE // 2) >> ONE_BITS
        classes[place] = ~key.astype(np.uint8) * (before > rest[place])
        before = rest[place]
    return classes, rest


def _differences(planes: Bytes) -> Bytes:
    """Differences along both axes of planes (K, H, W) laid below one another (K * H, W), modulo 256."""
    flat = planes.reshape(-1, planes.shape[-1])
    rows = np.diff(flat, axis=0, prepend=np.uint8(0))
    return np.diff(rows, axis=1, prepend=np.uint8(0))


def _sums(differences: Bytes) -> Bytes:
    """Undoes `_differences`: an integral image, modulo 256 (ten times quicker than numpy's cumsum)."""
    return cv2.integral(differences, sdepth=cv2.CV_32S)[1:, 1:].astype(np.uint8)


def _deflate(plane: Bytes, strategy: int) -> bytes:
    packer = zlib.compressobj(level=1, strategy=strategy)
    return packer.compress(plane.tobytes()) + packer.flush()


def _inflate(stream: bytes, height: int, width: int) -> Bytes:
    """Raises ValueError for a stream of another size; never unpacks more than that."""
    unpacker = zlib.decompressobj()
    plane = unpacker.decompress(stream, height * width + 1)
    if len(plane) != height * width or not unpacker.eof:
        raise ValueError(f"a stream is not {height} x {width} bytes")
    return np.frombuffer(plane, np.uint8).reshape(height, width)


def ids_digest(ids: Sequence[str]) -> str:
    """sha256 over sample ids in their order."""
    digest = hashlib.sha256()
    for name in ids:
        digest.update(os.fsencode(name) + b"\0")
    return digest.hexdigest()


def shard_path(directory: Path, number: int) -> Path:
    return directory / f"shard-{number:05d}.safetensors"


def write_shard(
    directory: Path,
    number: int,
    records: Sequence[bytes],
    *,
    ids: Sequence[str],
    soft_classes: int,
    teacher: str,
    confidence: NDArray[np.float32],
    histogram: Counts,
    confusion: Counts | None = None,
) -> Path:
    """Write the records of the images `ids`, whole or not at all; equal arguments give equal bytes.

    soft_classes: those kept per pixel. teacher: sha256 of its weights. confidence (n,): mean per image, 0 to 1.
    histogram (C, 256): pixels by hard label and confidence. confusion (stages, C, C), where masks exist: rows are
    truth, the stages are STAGES.
    """
    tensors: dict[str, NDArray[Any]] = {
        "payload": np.frombuffer(b"".join(records), np.uint8),
        "offsets": np.cumsum([0, *map(len, records)], dtype=np.int64),
        "confidence": np.ascontiguousarray(confidence, np.float32),
        "histogram": np.ascontiguousarray(histogram, np.int64),
    }
    if confusion is not None:
        tensors["confusion"] = np.ascontiguousarray(confusion, np.int64)
    assert len(records) == len(ids) == len(confidence) and histogram.shape[1:] == (256,)
    path = shard_path(directory, number)
    facts = _facts(ids, classes=len(histogram), soft_classes=soft_classes, teacher=teacher)
    write_bytes(path, save(tensors, {FACTS: json.dumps(facts | {"sha256": _content(tensors)})}))
    return path


def shard_is_sound(path: Path, *, ids: Sequence[str], classes: int, soft_classes: int, teacher: str) -> bool:
    """Whether this file is, undamaged, what `write_shard` makes of these images with this teacher."""
    if not path.is_file():
        return False
    try:
        with safe_open(path, framework="np") as file:
            facts = json.loads((file.metadata() or {}).get(FACTS, "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError, ValueError):
        return False
    wanted = _facts(ids, classes=classes, soft_classes=soft_classes, teacher=teacher)
    return facts == wanted | {"sha256": _content(tensors)}


def finish(directory: Path, *, ids: Sequence[str], classes: int, soft_classes: int, teacher: str, shard: int) -> None:
    """Write `index.json` over the shards of all images `ids`, `shard` images in each but the last.

    Raises IntegrityError, naming one, where shards are missing or not sound.
    """
    parts = {shard_path(directory, i // shard): ids[i : i + shard] for i in range(0, len(ids), shard)}
    sound = partial(shard_is_sound, classes=classes, soft_classes=soft_classes, teacher=teacher)
    bad = [path for path, part in parts.items() if not sound(path, ids=part)]
    if bad:
        raise IntegrityError(f"{len(bad)} of {len(parts)} label shards are missing or damaged, e.g. {bad[0]}; {AGAIN}")
    facts = _facts(ids, classes=classes, soft_classes=soft_classes, teacher=teacher)
    write_json(directory / INDEX, facts | {"shard": shard, "shards": [_sha256(path) for path in parts]})


@dataclass(frozen=True)
class Index:
    """The content of `index.json`."""

    version: int
    classes: int
    soft_classes: int
    teacher: str  # sha256 of the weights that labelled
    count: int
    ids_sha256: str
    shard: int  # images in each shard but the last
    shards: list[str]  # sha256 of each file

    def __post_init__(self) -> None:
        """Raises ValueError where it contradicts itself."""
        numbers = (self.version, self.classes, self.soft_classes, self.count, self.shard)
        if not all(isinstance(number, int) for number in numbers) or min(numbers) < 0 or self.shard < 1:
            raise ValueError("a number is none")
        if self.version != VERSION:
            raise ValueError(f"version {self.version}, not {VERSION}")
        if not isinstance(self.shards, list) or len(self.shards) != -(-self.count // self.shard):
            raise ValueError(f"{self.count} images do not fill its shards")


class LabelStore:
    """A finished label directory, read image by image. Opening it reads `index.json` only.

    Raises IntegrityError, with the path and the way out, where that or a shard is missing or unsound.
    Can be pickled and forked.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = Path(directory)
        path = self.directory / INDEX
        if not path.is_file():
            raise IntegrityError(f"{path} is missing: labelling has not finished; the same command goes on with it")
        try:
            self.index = Index(**read_json(path))
        except (TypeError, ValueError) as error:
            raise IntegrityError(f"{path} is damaged ({error}); remove it to have it made again") from None
        self._shard = lru_cache(maxsize=OPEN_SHARDS)(self._open)

    def __reduce__(self) -> tuple[type["LabelStore"], tuple[Path]]:
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
                raise IntegrityError(f"a label record is damaged: it names class {largest} of {self.index.classes}")
        except IntegrityError as error:
            raise IntegrityError(f"{shard_path(self.directory, number)}, image {row}: {error}; {AGAIN}") from None
        return label

    def confidence(self) -> NDArray[np.float32]:
        """Mean confidence (N,) of each image."""
        return np.concatenate([np.zeros(0, np.float32), *self._every("confidence")])

    def histogram(self) -> Counts:
        """Pixels (C, 256) by hard label and confidence."""
        total = np.zeros((self.index.classes, 256), np.int64)
        for counts in self._every("histogram"):  # one by one: there may be many shards
            total += counts
        return total

    def confusion(self) -> Counts | None:
        """Counts (stages, C, C), rows truth, over the images that have masks; None if none has."""
        total: Counts | None = None
        for counts in self._every("confusion"):
            total = counts if total is None else total + counts
        return total

    def verify(self) -> list[Path]:
        """The shards that are missing or whose sha256 is not that of the index."""
        known = {shard_path(self.directory, number): sha256 for number, sha256 in enumerate(self.index.shards)}
        return [path for path, sha256 in known.items() if not path.is_file() or _sha256(path) != sha256]

    def _every(self, name: str) -> Iterator[NDArray[Any]]:
        """That tensor of each shard that has it."""
        for number in range(len(self.index.shards)):
            file = self._shard(number)[0]
            if name in file.keys():  # noqa: SIM118 (not a dict)
                yield file.get_tensor(name)

    def _open(self, number: int) -> tuple[Any, Counts]:
        """A handle on a shard and the offsets of its records."""
        path = shard_path(self.directory, number)
        try:
            file = safe_open(path, framework="np")
            facts = json.loads((file.metadata() or {})[FACTS])
            offsets, payload = file.get_tensor("offsets"), file.get_slice("payload").get_shape()
            count = min(self.index.shard, len(self) - number * self.index.shard)
            same = ("version", "classes", "soft_classes", "teacher")
            checks = {
                "of another store": all(facts[name] == getattr(self.index, name) for name in same),
                "of another number of images": facts["count"] == count and offsets.shape == (count + 1,),
                "torn": offsets[0] == 0 and [offsets[-1]] == payload and (np.diff(offsets) > 0).all(),
            }
        except (OSError, SafetensorError, ValueError, KeyError, TypeError, IndexError) as error:
            raise IntegrityError(f"{path} cannot be read ({error}); {AGAIN}") from None
        wrong = [what for what, holds in checks.items() if not holds]
        if wrong:
            raise IntegrityError(f"{path} is {' and '.join(wrong)}; {AGAIN}")
        return file, offsets


def _facts(ids: Sequence[str], *, classes: int, soft_classes: int, teacher: str) -> dict[str, Any]:
    return {
        "version": VERSION,
        "classes": classes,
        "soft_classes": soft_classes,
        "teacher": teacher,
        "count": len(ids),
        "ids_sha256": ids_digest(ids),
    }


def _content(tensors: dict[str, NDArray[Any]]) -> str:
    """sha256 over the names, shapes and values of tensors."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tensors[name].shape}\0".encode())
        digest.update(np.ascontiguousarray(tensors[name]).data)
    return digest.hexdigest()


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
