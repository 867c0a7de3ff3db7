import numpy as np
import pytest
import torch
from torch import Tensor

from selftrain.errors import ConfigError
from selftrain.inference import windows
from selftrain.inference.windows import (
    WINDOWS,
    Tally,
    centre,
    check,
    check_classes,
    of,
    pad,
    side_of,
    slide,
    sparse,
    tiled,
    unskipped,
    whole,
)
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


class Placed:
    """Logits that grow with the distance from the left edge of the window: they show where it lay."""

    def __call__(self, images: Tensor) -> Tensor:
        ramp = torch.arange(images.shape[3]).float().expand(len(images), 1, *images.shape[2:])
        return torch.cat([ramp / 50, -ramp / 50], dim=1)


@pytest.mark.parametrize(("stride", "windows"), [(64, 4), (32, 7), (48, 5), (11, 19)])
def test_a_stride_is_the_distance_of_the_windows(stride: int, windows: int) -> None:
    """An image of 256 pixels; the last window lies at its border."""
    logits, images = Pointwise(), noise(1, 3, 64, 256)
    found = slide(logits, images, 32, 1, side=64, stride=stride)
    assert len(logits.seen) == windows
    torch.testing.assert_close(found, pointwise(images))


def test_only_the_centre_of_a_window_counts() -> None:
    """Windows of 64 pixels and a margin of 16: centres of 32, and edges at the border of the image."""
    found = centre(Placed(), noise(1, 3, 32, 128), 32, 2, side=64, margin=16)
    row = Placed()(torch.zeros(1, 3, 1, 64)).softmax(dim=1)[0, 0, 0]  # of one window
    expected = torch.cat([row[:48], row[16:48], row[16:]])
    assert expected.shape == (128,)
    torch.testing.assert_close(found[0, 0, 0], expected, atol=1e-5, rtol=0)


def test_centres_cover_both_sides_and_images_of_any_size() -> None:
    logits, images = Pointwise(), noise(2, 3, 70, 200)
    torch.testing.assert_close(centre(logits, images, 32, 4, side=64, margin=8), pointwise(images))
    small = noise(1, 3, 20, 64)
    assert torch.equal(centre(Pointwise(), small, 32, 1, side=64), whole(Pointwise(), small, 32, 1))


class Bright:
    """Class 1 is where the image is above 0; notes how many images it saw at which size."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, ...]] = []

    def __call__(self, images: Tensor) -> Tensor:
        self.seen.append(tuple(images.shape))
        return torch.stack([-9 * images[:, 0], 9 * images[:, 0]], dim=1)


def spot() -> Tensor:
    """A dark image (1, 3, 64, 256) with a bright square at the left."""
    images = -torch.ones(1, 3, 64, 256)
    images[:, :, 20:40, 20:40] = 1
    return images


@pytest.mark.parametrize("margin", [0, 8])
def test_windows_of_mere_background_are_skipped(margin: int) -> None:
    logits, tally = Bright(), Tally()
    settings = {"side": 64, "overlap": 0.25, "margin": margin}
    found = sparse(logits, spot(), 32, 2, tally=tally, **settings)
    assert logits.seen[0] == (1, 3, 32, 64)  # the first pass: 16 x 64, padded
    assert tally.seen == sum(shape[0] for shape in logits.seen[1:]) == 1 and tally.skipped == 4
    assert tally.share == 0.8
    every = (
        centre(Bright(), spot(), 32, 2, side=64, margin=8)
        if margin
        else slide(Bright(), spot(), 32, 2, side=64)
    )
    assert torch.equal(found.argmax(dim=1), every.argmax(dim=1))


def test_what_the_first_pass_cannot_see_is_lost() -> None:
    images = spot()
    images[:, :, 30, 200] = 1  # a single pixel
    tally = Tally()
    found = sparse(Bright(), images, 32, 1, tally=tally, side=64)
    assert not found[:, 1, :, 128:].ge(0.5).any()
    window = of({"sparse": {"side": 64}})
    everything = unskipped(window)
    assert everything is not None and unskipped(of(64)) is None
    found, tally = bound(everything)(Bright(), images, 32, 1, tally=Tally()), Tally()
    assert found[0, 1, 30, 200] > 0.5 and torch.equal(found, slide(Bright(), images, 32, 1, side=64))


def test_another_class_may_be_the_background() -> None:
    tally = Tally()
    sparse(Bright(), -spot(), 32, 1, tally=tally, side=64, background=1)
    assert (tally.seen, tally.skipped) == (1, 4)
    window = of({"sparse": {"background": 2}})
    with pytest.raises(
        ConfigError, match=r"predict\.window\.sparse\.background=2 must be one of 0 \(a\), 1 \(b\)"
    ):
        check_classes(window, "predict.window", ["a", "b"])
    check_classes(window, "predict.window", ["a", "b", "c"])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"slide": {"side": 64, "stride": 65}}, r"predict\.window\.slide\.stride=65 leaves gaps"),
        ({"centre": {"side": 64, "margin": 32}}, r"predict\.window\.centre\.margin=32 leaves no centre"),
        ({"sparse": {"side": 64, "margin": 40}}, r"predict\.window\.sparse\.margin=40 leaves no centre"),
    ],
)
def test_windows_that_leave_out_pixels_are_refused(setting: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(of(setting), "predict.window", 32)
    check(of({"slide": {"side": 64, "stride": 64}}), "predict.window", 32)
