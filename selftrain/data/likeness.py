"""Likeness of pictures: which ones are nearly the same, and which ones are unlike all others.

`traits` reduces a decoded picture to a few bytes. They do not depend on its resolution, and hardly on JPEG
compression or small changes of brightness. The limits were measured on CamVid and nuclei (docs/lab-notes.md,
"warnings about pictures").
"""

from collections.abc import Iterable, Iterator, Sequence

import cv2
import numpy as np

SIDE = 64  # pixels of the square to which a picture is reduced
FLAT = 6  # largest range of each channel there, of 255, in a picture of one colour
THUMB = 16  # side of the grey thumbnail
FAINT = 2.0  # standard deviation of a thumbnail, of 255; below, it shows too little to be compared
PLACES = (np.linspace(0.05, 0.95, 10) * SIDE * SIDE).astype(int)  # of quantiles among the sorted pixels
COLOURS = 3 * len(PLACES)  # bytes of traits that describe brightness and colours
BITS = 6  # most bits by which the hashes of nearly identical pictures differ, of 64
ALIKE = 0.97  # least correlation of their thumbnails
# Weights of brightness, colour (a, b) and size (in doublings of the side) in the distance of two pictures
WEIGHTS = np.repeat([1.0, 3.0, 3.0], len(PLACES)) / (255 * len(PLACES))
DOUBLING = 0.1
LEAST = 0.2  # distance up to which no picture is called unlike the others
# Further limits: of the distances of labelled pictures to their nearest ones, 3 times the median, and the
# median + 5 standard deviations (1.4826 MAD)
TIMES = 3.0
SPREADS = 5.0
MOST = 2000  # labelled pictures that others are compared with
CHUNK = 1 << 22  # numbers that one step handles


def traits(image: np.ndarray) -> bytes:
    """The traits of a picture (H, W, C) uint8 or uint16.

    First come COLOURS bytes: quantiles of L, a and b (CIELAB). Then come 256 bytes: a grey thumbnail with
    stretched contrast. A picture that shows hardly anything has no thumbnail, and a picture of one colour, or
    nearly so, has no traits (b""). Of other channels than RGB, the first three or the first one are used.
    """
    image = image[..., :3] if image.shape[2] >= 3 else np.repeat(image[..., :1], 3, axis=2)
    small: np.ndarray = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)  # (64, 64, 3)
    shown = small.astype(np.float32)
    if image.dtype == np.uint16:  # what dark pictures show is compared by the range that they use
        shown *= np.float32(255 / max(255, (1 << int(image.max()).bit_length()) - 1))
        small = small >> 8
    if np.ptp(shown, axis=(0, 1)).max() <= FLAT:
        return b""
    lab = cv2.cvtColor(small.astype(np.uint8), cv2.COLOR_RGB2LAB).reshape(-1, 3)
    colours = cv2.sort(lab.T, cv2.SORT_EVERY_ROW)[:, PLACES].tobytes()
    grey = cv2.cvtColor(shown, cv2.COLOR_RGB2GRAY)
    thumb = cv2.resize(grey, (THUMB, THUMB), interpolation=cv2.INTER_AREA)
    if thumb.std() < FAINT:
        return colours
    return colours + cv2.normalize(thumb, None, 0, 255, cv2.NORM_MINMAX).round().astype(np.uint8).tobytes()  # type: ignore[call-overload]


def near(seen: Sequence[bytes]) -> list[tuple[int, int]]:
    """Pairs (i < j) of places in `seen`, a list of traits, of nearly identical pictures.

    Their hashes differ in at most BITS bits, and their thumbnails correlate. Two such hashes of eight bytes
    have equal bytes at some place (Norouzi et al. 2012, multi-index hashing), so only hashes that share a
    byte are compared. Equal thumbnails are compared once. Pictures without a thumbnail are in no pair.
    """
    places: dict[bytes, list[int]] = {}
    for place, one in enumerate(seen):
        if len(one) > COLOURS:
            places.setdefault(one[COLOURS:], []).append(place)
    if not places:
        return []
    groups = list(places.values())
    thumbs = np.stack([np.frombuffer(thumb, np.uint8) for thumb in places]).astype(np.float32)  # (N, 256)
    hashes = _hashes(thumbs)  # (N, 8)
    thumbs -= thumbs.mean(axis=1, keepdims=True)
    thumbs /= np.linalg.norm(thumbs, axis=1, keepdims=True)
    found = {(group[0], other) for group in groups for other in group[1:]}
    for first, second in _close(hashes):
        alike = np.einsum("ij,ij->i", thumbs[first], thumbs[second]) >= ALIKE
        pairs = zip(first[alike], second[alike], strict=True)
        found |= {(min(groups[i][0], groups[j][0]), max(groups[i][0], groups[j][0])) for i, j in pairs}
    return sorted(found)


def _hashes(thumbs: np.ndarray) -> np.ndarray:
    """Perceptual hashes (N, 8) uint8 of thumbnails (N, 256).

    The bits tell which of the 63 lowest frequencies of the DCT lie above their median (Zauner 2010, pHash).
    """
    basis = cv2.dct(np.eye(THUMB, dtype=np.float32), flags=cv2.DCT_ROWS)[:, :8]  # (16, 8)
    waves = basis.T @ thumbs.reshape(-1, THUMB, THUMB) @ basis  # (N, 8, 8)
    waves = waves.reshape(-1, 64)[:, 1:]
    bits = waves > np.median(waves, axis=1, keepdims=True)
    return np.packbits(np.pad(bits, ((0, 0), (0, 1))), axis=1)


def _close(hashes: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Arrays of the places of two hashes (N, 8) that differ in at most BITS bits; pairs may repeat."""
    words = np.ascontiguousarray(hashes).view(np.uint64)[:, 0]
    for column in hashes.T:
        order = np.argsort(column, kind="stable")
        starts = np.flatnonzero(np.diff(column[order]) != 0) + 1
        for bucket in np.split(order, starts):  # equal in this byte
            step = max(1, CHUNK // len(bucket))
            for start in range(0, len(bucket), step):
                rows = words[bucket[start : start + step], None]
                close = np.bitwise_count(rows ^ words[bucket]) <= BITS
                first, second = np.nonzero(np.triu(close, start + 1))
                yield bucket[start + first], bucket[second]


def groups(pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """The sets of places that pairs connect, sorted."""
    leader: dict[int, int] = {}

    def of(place: int) -> int:
        while leader.setdefault(place, place) != place:
            leader[place] = place = leader[leader[place]]
        return place

    for first, second in pairs:
        leader[max(of(first), of(second))] = min(of(first), of(second))
    members: dict[int, list[int]] = {}
    for place in sorted(leader):
        members.setdefault(of(place), []).append(place)
    return list(members.values())


def unlike(
    raw: Sequence[bytes], raw_sides: Sequence[float], known: Sequence[bytes], known_sides: Sequence[float]
) -> list[int]:
    """Places of raw pictures that are unlike every known one, the most unlike first.

    The arguments are traits (not empty) and sides (sqrt(height * width)) of the raw and of the known
    pictures. The distance of two pictures is the mean difference of their quantiles of brightness and colour
    (a sum of earth mover's distances of histograms), plus a term for their sizes. A raw picture is unlike the
    known ones if its distance to the nearest one is above LEAST, and unusual among the distances of known
    pictures to their nearest ones.
    """
    if not raw or len(known) < 2:
        return []
    chosen = np.linspace(0, len(known) - 1, min(len(known), MOST)).round().astype(int)
    mine = _points([known[i] for i in chosen], [known_sides[i] for i in chosen])
    usual = _nearest(mine, mine, own=True)
    centre = float(np.median(usual))
    spread = 1.4826 * float(np.median(np.abs(usual - centre)))
    limit = max(LEAST, TIMES * centre, centre + SPREADS * spread)
    distances = _nearest(_points(raw, raw_sides), mine)
    return [int(place) for place in np.argsort(-distances, kind="stable") if distances[place] > limit]


class Unlikeness:
    """How unlike a picture is to every known one; `known` are decoded pictures (H, W, C)."""

    def __init__(self, known: Iterable[np.ndarray]) -> None:
        seen = [(found, _side(image)) for image in known if (found := traits(image))]
        self.points = _points([found for found, _ in seen], [side for _, side in seen]) if seen else None

    def __call__(self, image: np.ndarray) -> float | None:
        """The distance of `unlike` to the nearest known picture; None for a picture of one colour."""
        found = traits(image)
        if not found or self.points is None:
            return None
        return float(_nearest(_points([found], [_side(image)]), self.points)[0])


def _side(image: np.ndarray) -> float:
    return float(np.sqrt(image.shape[0] * image.shape[1]))


def _points(seen: Sequence[bytes], sides: Sequence[float]) -> np.ndarray:
    """Points (N, 31) whose L1 distance is the distance of pictures."""
    colours = np.stack([np.frombuffer(one[:COLOURS], np.uint8) for one in seen]) * WEIGHTS
    return np.column_stack([colours, DOUBLING * np.log2(np.asarray(sides))]).astype(np.float32)


def _nearest(points: np.ndarray, others: np.ndarray, *, own: bool = False) -> np.ndarray:
    """The distance (N,) of each point to the nearest of `others`; with `own`, to another than itself."""
    least = np.empty(len(points), np.float32)
    step = max(1, CHUNK // others.size)
    for start in range(0, len(points), step):
        part = np.abs(points[start : start + step, None] - others[None]).sum(axis=2)
        if own:
            part[np.arange(len(part)), start + np.arange(len(part))] = np.inf
        least[start : start + step] = part.min(axis=1)
    return least
