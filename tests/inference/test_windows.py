import numpy as np
import pytest
import torch
from torch import Tensor

from selftrain.errors import ConfigError
from selftrain.inference import windows
from selftrain.inference.windows import WINDOWS, of, pad, side_of, slide, tiled, whole
from selftrain.tables import bound


class Pointwise:
    """Logits of single pixels, and the shapes that were asked for."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, ...]] = []

    def __call__(self, images: Tensor) -> Tensor:
        self.seen.append(tuple(images.shape))
        return torch.stack([images[:, 0], images[:, 1] - images[:, 2]], dim=1)


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def pointwise(images: Tensor) -> Tensor:
    return Pointwise()(images).softmax(dim=1)


def test_the_whole_image_is_one_padded_pass() -> None:
    logits, images = Pointwise(), noise(2, 3, 37, 50)
    found = whole(logits, images, 32, 1)
    assert logits.seen == [(2, 3, 64, 64)] and found.dtype == torch.float32
    torch.testing.assert_close(found, pointwise(images))


def test_large_images_are_seen_in_windows() -> None:
    logits, images = Pointwise(), noise(2, 3, 70, 200)
    found = slide(logits, images, 32, 4, side=64)
    assert {shape[2:] for shape in logits.seen} == {(64, 64)} and max(shape[0] for shape in logits.seen) <= 4
    torch.testing.assert_close(found, pointwise(images))
    torch.testing.assert_close(found.sum(1), torch.ones(2, 70, 200))


def test_images_that_fit_a_window_are_seen_whole() -> None:
    logits, images = Pointwise(), noise(1, 3, 20, 64)
    assert torch.equal(slide(logits, images, 32, 1, side=64), whole(Pointwise(), images, 32, 1))
    assert logits.seen == [(1, 3, 32, 64)]


def test_a_small_side_narrows_the_window() -> None:
    logits = Pointwise()
    slide(logits, noise(1, 3, 20, 200), 32, 1, side=64)
    assert {shape[2:] for shape in logits.seen} == {(32, 64)}


def test_more_overlap_takes_more_windows() -> None:
    counts = []
    for overlap in (0.0, 0.5):
        logits = Pointwise()
        slide(logits, noise(1, 3, 64, 128), 32, 1, side=64, overlap=overlap)
        counts.append(len(logits.seen))
    assert counts == [2, 3]


def test_a_window_that_the_network_cannot_take_is_refused() -> None:
    with pytest.raises(ConfigError, match="window 100 must be a multiple of 32; take 128"):
        slide(Pointwise(), noise(1, 3, 8, 8), 32, 1, side=100)


def test_a_number_is_a_side_and_0_is_no_limit() -> None:
    assert (of(0).entry, side_of(of(0))) == (whole, 0)
    assert (of(64).entry, side_of(of(64))) == (slide, 64)
    assert of(64).settings["overlap"] == 0.25
    assert side_of(of({"slide": {"side": 96, "overlap": 0.5}})) == 96


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (-32, r"window\.slide\.side=-32 must be at least 1"),
        ("glide", "window: there is no 'glide'; there are whole, slide"),
        ({"slide": {"overlap": 2}}, r"window\.slide\.overlap=2 must lie between 0 and 0\.9"),
        ({"whole": {"side": 3}}, r"window\.whole\.side: no such setting"),
    ],
)
def test_settings_that_no_window_has_are_refused(setting: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        of(setting)


def test_a_window_from_outside_is_chosen_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def halves(logits, images, multiple, batch, *, above: int = 1):
        """The upper rows and the lower rows, one pass each."""
        return torch.cat([whole(logits, part, multiple, batch) for part in images.split(above, dim=2)], dim=2)

    monkeypatch.setitem(WINDOWS, "halves", halves)
    logits, images = Pointwise(), noise(1, 3, 8, 4)
    found = bound(of({"halves": {"above": 5}}))(logits, images, 4, 1)
    assert logits.seen == [(1, 3, 8, 4), (1, 3, 4, 4)]
    torch.testing.assert_close(found, pointwise(images))


@pytest.mark.parametrize("size", [(32, 64), (37, 50), (5, 7), (1, 1)])
def test_padding_keeps_the_image_in_the_corner(size: tuple[int, int]) -> None:
    images = noise(1, 3, *size)
    padded = pad(images, 32)
    assert all(side % 32 == 0 and side - own < 32 for side, own in zip(padded.shape[2:], size, strict=True))
    assert torch.equal(padded[:, :, : size[0], : size[1]], images)


def test_tiles_are_seen_with_half_a_window_around_them() -> None:
    images, seen = np.random.default_rng(0).integers(0, 200, (2, 150, 300, 3), np.uint8), []

    def labels(part: np.ndarray) -> np.ndarray:
        seen.append(part.shape[1:3])
        return part[..., 0]

    assert np.array_equal(tiled(labels, images, window=32), images[..., 0])
    side = windows.TILE * 32  # 128: two rows of three tiles
    assert (
        len(seen) == 6
        and seen[0] == (side + 16, side + 16)
        and max(max(size) for size in seen) == side + 2 * 16
    )
    seen.clear()
    assert np.array_equal(tiled(labels, images, window=0), images[..., 0]) and seen == [(150, 300)]
