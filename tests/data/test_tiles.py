"""Tiles: a grid over large images, drawn like images, with their labels, and decoded once."""

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftrain.data.cache import Cache
from selftrain.data.labels import MaskLabels, weighed
from selftrain.data.sample import Sample, Source
from selftrain.data.samplers import epochs, rejecting
from selftrain.data.tiles import Tiled, Tiling

READS: list[str] = []


@dataclass(frozen=True)
class Counting(Source):
    """Pixels that count how often they are decoded."""

    shape: tuple[int, ...] = ()
    name: str = ""

    @property
    def size(self):
        return self.shape[:2]

    def read(self) -> np.ndarray:
        READS.append(self.name)
        return (np.arange(np.prod(self.shape)) % 251).astype(np.uint8).reshape(self.shape)

    def fingerprint(self) -> None:
        return None


def sample(height: int = 50, width: int = 70, name: str = "a") -> Sample:
    return Sample(
        name, Counting((height, width, 3), f"image {name}"), Counting((height, width), f"mask {name}")
    )


@given(side=st.tuples(*[st.integers(1, 90)] * 2), tile=st.integers(1, 40), stride=st.integers(1, 40))
def test_tiles_cover_every_pixel_and_lie_inside(side: tuple[int, int], tile: int, stride: int):
    stride, covered = min(stride, tile), np.zeros(side, int)
    for one in Tiling.of([tile, tile], [stride, stride], 0).tiles([sample(*side)]):
        covered[one.box] += 1
        assert covered[one.box].shape == (min(tile, side[0]), min(tile, side[1]))
    assert (covered > 0).all()


def test_without_a_stride_tiles_touch_and_the_last_ones_end_at_the_border():
    found = Tiling.of([20, 30], [], 0).tiles([sample()])
    assert [(one.top, one.left) for one in found] == [
        (top, left) for top in (0, 20, 30) for left in (0, 30, 40)
    ]
    assert len({one.id for one in found}) == 9 and Tiling.of([], [], 0) is None


def test_tiles_are_laid_on_the_resized_image():
    resized = Sample("a", Counting((50, 70, 3), "a"), None, size=("longest", 140))
    tile = Tiling.of([60, 60], [], 0).tiles([resized])[-1]
    assert (tile.size, tile.top, tile.left) == ((100, 140), 40, 80)
    np.testing.assert_array_equal(tile.read_image(), resized.read_image()[40:, 80:])


def test_the_labels_of_a_tile_are_those_of_its_place_in_the_image():
    whole = [sample(name="b"), sample()]
    tiles = Tiling.of([20, 30], [], 0).tiles(whole)
    cache = Cache(1)
    labels = Tiled(MaskLabels(whole, cache.mask_of_tiles, partial(weighed, mask=cache.mask)), tiles)
    index = np.array([[0, 1], [20 * 30 - 1, -1]])
    for number in (0, 5, 17):
        target, part = labels.target(number, index), tiles[number].read_mask()
        assert target.hard.tolist() == [[part[0, 0], part[0, 1]], [part[-1, -1], 255]]
        assert target.weight.tolist() == [[1, 1], [1, 0]]


@pytest.mark.parametrize(("megabytes", "folder"), [(1, False), (1, True), (0, True)])
def test_an_image_is_decoded_once_for_all_of_its_tiles(tmp_path: Path, megabytes: float, folder: bool):
    cache, tiles = (
        Cache(megabytes, tmp_path / "decoded" if folder else None),
        Tiling.of([20, 30], [], 0).tiles([sample()]),
    )
    READS.clear()
    for tile in [*tiles, *reversed(tiles)]:
        np.testing.assert_array_equal(cache.image(tile), Counting((50, 70, 3), "x").read()[tile.box])
        np.testing.assert_array_equal(cache.mask(tile), Counting((50, 70), "x").read()[tile.box])
    assert sorted(name for name in READS if name != "x") == ["image a", "mask a"]
    assert (tmp_path / "decoded").exists() == (megabytes == 0)
    opened = {os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")}
    assert not any(file.startswith(str(tmp_path / "decoded")) for file in opened)  # images may be many
    other = Cache(0, tmp_path / "decoded")  # another process finds the files
    if megabytes == 0:
        READS.clear()
        other.image(tiles[0])
        assert not READS
    cache.clear()
    assert not (tmp_path / "decoded").exists()


def test_background_is_rejected_with_a_probability_and_other_tiles_take_its_place():
    background = np.arange(10) < 8
    keys = (0, "gen0")
    draw = partial(epochs, 10)
    for p, share in ((0.0, 0.8), (0.5, 0.4), (1.0, 0.0)):
        chosen = rejecting(draw, background, p)
        drawn = np.concatenate([chosen(10, step, keys) for step in range(200)])
        assert abs(background[drawn].mean() - share) < 0.03
        assert chosen(10, 7, keys) == chosen(10, 7, keys)
    assert rejecting(draw, np.ones(10, bool), 1.0)(10, 3, keys) == draw(10, 3, keys)
