"""One image's label, and its encoding as bytes (a record).

A record contains, per pixel: the hard label, its confidence, and the most probable classes with their
probabilities. Neighbouring pixels are similar, so planes are stored as differences along both axes.
Probabilities are stored as the mass that remains after the first 1, 2, ... classes, which is mostly small.
"""

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from selftrain.errors import IntegrityError, LearningError
from selftrain.ids import IGNORE

VERSION = 1  # of a record's bytes
HEADER = struct.Struct("<BBII4I")  # version, K, height, width, bytes of each stream
ONE_BITS = 23
ONE = 1 << ONE_BITS  # probability 1 in fixed point, for sorting: 255 times this still fits in 32 bits

Bytes = NDArray[np.uint8]
Floats = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Label:
    """One image's label.

    `probs[j]` / 255 is the probability of `classes[j]`. Where it is 0, no class is stored.
    """

    hard: Bytes  # (H, W); 255: ignored
    confidence: Bytes  # (H, W), 255 p of the hard label
    # Most probable class first. This need not be `hard`, since a CRF may have changed the hard label.
    classes: Bytes  # (K, H, W)
    probs: Bytes  # (K, H, W), sum at most 255

    def at(self, index: NDArray[np.integer]) -> "Label":
        """The label at the flat pixel indices `index` (h, w), y * W + x each.

        An index of -1 lies outside of the image: that pixel is ignored and has no stored classes.
        """
        outside = index < 0
        # -1 takes the last pixel; it is overwritten below
        hard, confidence = (plane.take(index) for plane in (self.hard, self.confidence))
        classes, probs = (
            plane.reshape(-1, self.hard.size).take(index, axis=1) for plane in (self.classes, self.probs)
        )
        hard[outside], confidence[outside] = IGNORE, 0
        classes[:, outside], probs[:, outside] = 0, 0
        return Label(hard, confidence, classes, probs)

    def soft(self, classes: int) -> NDArray[np.float32]:
        """The class distribution (classes, H, W), which sums to 1.

        The mass that is not stored is spread evenly over the classes that are not stored.
        """
        pixel = np.arange(self.hard.size)
        found = np.zeros((classes, pixel.size), np.float32)
        for names, probs in zip(
            self.classes.reshape(-1, pixel.size), self.probs.reshape(-1, pixel.size), strict=True
        ):
            found[names, pixel] += probs
        empty = found == 0
        rest = (255 - found.sum(axis=0)) / np.maximum(empty.sum(axis=0, dtype=np.float32), 1)
        found += empty * rest
        found /= 255
        return found.reshape(classes, *self.hard.shape)

    def over(self, thresholds: Floats) -> "Label":
        """The label for probabilities divided by `thresholds` (C,) and scaled to the sum 1.

        So the hard label is what `inference.decide.thresholds` would choose. Where the CRF chose
        another class than the most probable one, its choice is lost.
        """
        probs = self.soft(len(thresholds)) / thresholds.astype(np.float32)[:, None, None]
        probs /= probs.sum(axis=0)
        classes, rest = _most_probable(probs, len(self.classes))
        kept = np.concatenate([255 - rest[:1], rest[:-1] - rest[1:]])
        hard = np.where(self.hard == IGNORE, IGNORE, probs.argmax(axis=0)).astype(np.uint8)
        return Label(hard, np.rint(255 * probs.max(axis=0)).astype(np.uint8), classes, kept)

    def soft_at(self, index: NDArray[np.integer], classes: int) -> NDArray[np.float32]:
        """`at(index).soft(classes)`: (classes, h, w), uniform where `index` is -1."""
        return self.at(index).soft(classes)


@dataclass(frozen=True, eq=False)
class Labelled:
    """One image's record, and its counts for the shard."""

    record: bytes
    confidence: float  # mean over pixels, 0..1
    histogram: NDArray[np.int64]  # (C, 256) pixels by hard label and confidence
    # (3, C, C): raw, after TTA, as stored; rows are the truth. None without a mask.
    confusion: NDArray[np.int64] | None
    # what a report tells of the image, by the names of `numbers.NAMES`; unknown ones are missing
    numbers: Mapping[str, float] = field(default_factory=dict)


def encode(probs: NDArray[np.float32], hard: Bytes, confidence: Bytes, k: int) -> bytes:
    """Encode probs (C, H, W), hard and confidence (H, W), with the `k` most probable classes (at most C).

    Raises LearningError for probabilities that are NaN or outside [0, 1].
    """
    if not (probs.min() >= 0 and probs.max() <= 1.001):  # false for NaN
        raise LearningError(
            "the teacher's probabilities are not numbers between 0 and 1; its training has failed"
        )
    classes, rest = _most_probable(probs, min(k, len(probs)))
    moved = hard - classes[0]  # mostly 0; modulo 256, like all differences here
    surer = confidence - (255 - rest[0])
    streams = [
        _deflate(_differences(classes), zlib.Z_DEFAULT_STRATEGY),
        _deflate(_differences(rest), zlib.Z_RLE),  # noise contains no repeated strings
        _deflate(moved, zlib.Z_DEFAULT_STRATEGY) if moved.any() else b"",
        _deflate(_differences(surer[None]), zlib.Z_RLE) if surer.any() else b"",
    ]
    header = HEADER.pack(VERSION, len(classes), *hard.shape, *map(len, streams))
    return b"".join([header, *streams])


def most_bytes(k: int) -> int:
    """Upper bound on bytes per pixel of a record with `k` classes, measured on blurred noise.

    Real images need less.
    """
    return 1 + k


def decode(record: bytes) -> Label:
    """Decode the label that `encode` was given. Raises IntegrityError for any other bytes."""
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
    """The k most probable classes, and the mass that remains after each; both (k, H, W) uint8.

    Of equally probable classes, the lower id comes first. The remaining mass is rounded, not the
    probabilities: this keeps their sum at 1 and the error of each within 1/255. A class whose byte is 0 gets
    the id 0.
    """
    top = [np.zeros(probs.shape[1:], np.uint32) for _ in range(k)]
    for name, plane in enumerate(probs):
        key = (plane * np.float32(ONE)).astype(np.uint32) << 8 | np.uint32(255 - name)
        for place in range(k):  # insertion sort: the larger key stays, the smaller moves on
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
    """Differences along both axes of planes (K, H, W) stacked vertically to (K * H, W), modulo 256."""
    flat = planes.reshape(-1, planes.shape[-1])
    rows = np.diff(flat, axis=0, prepend=np.uint8(0))
    return np.diff(rows, axis=1, prepend=np.uint8(0))


def _sums(differences: Bytes) -> Bytes:
    """Undo `_differences` by an integral image modulo 256 (ten times as fast as numpy's cumsum)."""
    return cv2.integral(differences, sdepth=cv2.CV_32S)[1:, 1:].astype(np.uint8)


def _deflate(plane: Bytes, strategy: int) -> bytes:
    packer = zlib.compressobj(level=1, strategy=strategy)
    return packer.compress(plane.tobytes()) + packer.flush()


def _inflate(stream: bytes, height: int, width: int) -> Bytes:
    """Decompress a plane (height, width), and never more bytes than that.

    Raises ValueError for a stream of another size.
    """
    unpacker = zlib.decompressobj()
    plane = unpacker.decompress(stream, height * width + 1)
    if len(plane) != height * width or not unpacker.eof:
        raise ValueError(f"a stream is not {height} x {width} bytes")
    return np.frombuffer(plane, np.uint8).reshape(height, width)
