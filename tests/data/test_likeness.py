"""Which pictures count as nearly the same, and which as unlike all others."""

import io
import itertools
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from selftrain.data import likeness
from selftrain.data.likeness import groups, near, traits, unlike
from selftrain.data.sources.shapes import draw

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
SCENES = [cv2.resize(draw(0, "labelled", i)[0], (320, 240)) for i in range(12)]  # (240, 320, 3)


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file))


def lit(image: np.ndarray, factor: float, more: float = 0) -> np.ndarray:
    return np.clip(image * factor + more, 0, 255).astype(np.uint8)


CHANGES = {
    "half": lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "squeezed": lambda image: cv2.resize(image, (256, 256)),
    "compressed": lambda image: jpeg(image, 30),
    "brighter": lambda image: lit(image, 1.08, 4),
    "darker": lambda image: lit(image, 0.85),
    "moved by a pixel": lambda image: np.roll(image, 1, axis=1),
    "grey": lambda image: np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2),
    "16 bits": lambda image: image.astype(np.uint16) << 8,
    "12 of 16 bits": lambda image: image.astype(np.uint16) << 4,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_picture_is_near_its_original_and_no_other(change: str):
    changed = CHANGES[change]
    seen = [traits(image) for image in SCENES] + [traits(changed(image)) for image in SCENES]
    assert near(seen) == [(i, i + len(SCENES)) for i in range(len(SCENES))]


def test_a_picture_that_is_mirrored_or_shows_another_part_is_another_one():
    parts = [image[:, 110:] for image in SCENES] + [image[:, :210] for image in SCENES]
    mirrored = [image[:, ::-1] for image in SCENES]
    assert near([traits(image) for image in SCENES + parts + mirrored]) == []


@pytest.mark.parametrize("light", [0, 128, 250])
def test_blank_and_nearly_blank_pictures_are_near_nothing(light: int):
    rng = np.random.default_rng(light)
    blank = [np.full((200, 300, 3), light + i, np.uint8) for i in range(3)]
    noisy = [lit(light + rng.normal(0, 2, (200, 300, 3)), 1) for _ in range(3)]
    shaded = [lit(np.linspace(100, 104, 300)[None, :, None] + 0 * noisy[0], 1) for _ in range(2)]
    specks = [np.full((200, 300, 3), light, np.uint8) for _ in range(2)]
    for one in specks:
        one[90:94, 150:154] = 60
    assert near([traits(image) for image in blank + noisy + shaded + specks]) == []
    assert not any(traits(image) for image in blank + noisy + shaded) and all(map(traits, specks))


@pytest.mark.parametrize("depth", [8, 16])
def test_a_dim_picture_with_objects_is_compared(depth: int):
    """Like fluorescence: a mean of a few per cent of the range."""
    dim = [lit(image, 0.15) for image in SCENES]
    stored = dim if depth == 8 else [image.astype(np.uint16) * 5 for image in dim]
    seen = [traits(image) for image in stored]
    assert near([*seen, *seen[:2]]) == [(0, 12), (1, 13)]


def test_pictures_of_one_two_and_five_channels_are_compared():
    for picked in ([0], [0, 1], [0, 1, 2, 0, 1]):
        seen = [traits(np.ascontiguousarray(image[..., picked])) for image in SCENES]
        assert near([*seen, seen[3]]) == [(3, 12)]


def test_hashes_are_found_as_by_comparing_all_pairs():
    rng = np.random.default_rng(0)
    centres = rng.integers(0, 2, (40, 64))
    bits = np.concatenate([centres ^ (rng.random(centres.shape) < share) for share in (0, 0.04, 0.08, 0.12)])
    hashes = np.packbits(bits.astype(np.uint8), axis=1)
    pairs = {
        (min(i, j), max(i, j))
        for first, second in likeness._close(hashes)
        for i, j in zip(first.tolist(), second.tolist(), strict=True)
    }
    distances = (bits[:, None] != bits[None]).sum(axis=2)
    wanted = {(i, j) for i, j in itertools.combinations(range(len(bits)), 2) if distances[i, j] <= 6}
    assert pairs == wanted and 40 < len(wanted) < 240


def test_large_buckets_are_compared_in_steps(monkeypatch: pytest.MonkeyPatch):
    seen = [traits(change(SCENES[0])) for change in CHANGES.values()] + [traits(SCENES[1])]
    whole = near(seen)
    monkeypatch.setattr(likeness, "CHUNK", 3)
    assert near(seen) == whole and groups(whole) == [list(range(len(CHANGES)))]


def test_groups_are_what_pairs_connect():
    assert groups([(4, 7), (1, 2), (2, 9), (3, 7)]) == [[1, 2, 9], [3, 4, 7]]
    assert groups([]) == []


def cells(seed: int, ground: Sequence[int] = (12, 14, 12), colour: Sequence[int] = (90, 95, 88)) -> bytes:
    """Traits of a picture of discs."""
    rng = np.random.default_rng(seed)
    image = np.full((128, 128, 3), ground, np.uint8)
    for _ in range(rng.integers(12, 20)):
        x, y, radius = (int(value) for value in rng.integers((0, 0, 3), (128, 128, 12)))
        cv2.circle(image, (x, y), radius, tuple(colour), -1)
    return traits(lit(image + rng.normal(0, 3, image.shape), rng.uniform(0.9, 1.1)))


def test_pictures_whose_colours_vary_widely_are_not_unlike_a_few_of_them():
    seen = [traits(draw(0, "unlabelled", i)[0]) for i in range(90)]
    assert [
        unlike(seen[6:], [128.0] * 84, seen[:6], [128.0] * 6),
        unlike(seen[:84], [128.0] * 84, seen[84:], [128.0] * 6),
    ] == [[], []]


def test_raw_pictures_of_another_kind_are_unlike_the_known_ones():
    known, raw = [cells(i) for i in range(12)], [cells(i) for i in range(20, 60)]
    stained = [cells(60, (230, 220, 235), (120, 60, 150)), cells(61, (230, 220, 235), (120, 60, 150))]
    green = cells(62, (10, 160, 20))
    found = unlike([*raw, *stained, green], [128.0] * 43, known, [128.0] * 12)
    assert sorted(found) == [40, 41, 42]
    assert unlike([*raw, *stained], [128.0] * 42, [*known, stained[0]], [128.0] * 13) == []


def test_a_raw_picture_of_another_size_is_unlike_the_known_ones():
    known, raw = ([cells(i) for i in range(start, start + 12)] for start in (0, 20))
    assert unlike(raw, [128.0] * 11 + [2048.0], known, [128.0] * 12) == [11]
    assert unlike(raw, [128.0] * 11 + [2048.0], known[:1], [128.0]) == []  # one picture shows no variety


def test_what_varies_among_known_pictures_is_usual():
    rng = np.random.default_rng(0)
    plain = [np.tile(rng.integers(0, 256, 3), (64, 64, 1)) + rng.normal(0, 9, (64, 64, 1)) for _ in range(60)]
    seen = [traits(lit(image, 1)) for image in plain]
    assert unlike(seen[12:], [64.0] * 48, seen[:12], [64.0] * 12) == []


@pytest.mark.skipif(not (DATA / "camvid").is_dir(), reason="../shared/data/camvid is absent")
def test_neighbouring_frames_of_camvid_are_near_and_distant_ones_are_not():
    files = sorted((DATA / "camvid/images/val").glob("0016E5_*.jpg"))[:24]  # every second frame of a video
    seen = [traits(np.array(Image.open(file))) for file in files]
    pairs = near(seen)
    neighbours = [pair for pair in pairs if pair[1] == pair[0] + 1]
    assert len(neighbours) >= 20 and max(j - i for i, j in pairs) < 23


def test_a_picture_is_as_unlike_as_its_distance_to_the_nearest_known_one():
    rng = np.random.default_rng(0)
    green, red = (
        rng.integers(0, 40, (40, 60, 3), np.uint8) + np.array(add, np.uint8)
        for add in ((0, 90, 0), (200, 0, 0))
    )
    unlike = likeness.Unlikeness([green])
    assert unlike(green) == 0 and unlike(red) > likeness.LEAST
    assert likeness.Unlikeness([green, red])(red) == 0
    assert unlike(np.zeros((40, 60, 3), np.uint8)) is None and likeness.Unlikeness([])(green) is None
