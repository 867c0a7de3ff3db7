"""Windows: how much of an image a network sees at once. The table is WINDOWS.

An entry maps images (N, C, H, W) to probabilities (N, K, H, W) float32, in a new tensor. Its arguments are

    logits    function that runs the network on images whose sides are multiples of `multiple`
    images    normalised images of any size
    multiple  number that divides the sides of the network's input
    batch     most images and windows that share a forward pass

and its own settings. The setting `side` limits what the network sees at once. An entry that skips windows
asks for the keyword `tally`, which has no default, and counts in it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from selftrain.errors import ConfigError
from selftrain.tables import Bounds, Chosen, Count, Share, Table

Side = Annotated[int, Bounds(1), "pixels, a multiple of what the network takes"]
Overlap = Annotated[float, Bounds(0, 0.9), "share of a side that neighbouring windows have in common"]
Logits = Callable[[Tensor], Tensor]
Window = Callable[..., Tensor]
Places = Sequence[Sequence[slice]]  # of windows in (N, K, H, W)
FAINT = 1e-6  # the weight of a removed edge, which counts only where no other window looks
NEVER = 2.0  # no probability reaches it
TILE = 4  # windows along a side of a tile; a whole image's probabilities may not fit in memory


def whole(logits: Logits, images: Tensor, multiple: int, batch: int) -> Tensor:
    """The whole image in one pass."""
    height, width = images.shape[2:]
    return softmax(logits(pad(images, multiple))[:, :, :height, :width])


def slide(
    logits: Logits,
    images: Tensor,
    multiple: int,
    batch: int,
    *,
    side: Side = 1024,
    overlap: Overlap = 0.25,
    stride: Annotated[Count, "pixels from one window to the next; 0: by `overlap`"] = 0,
) -> Tensor:
    """Sliding windows of `side` pixels, blended by a Gaussian; images that fit in one window stay whole.

    Raises ConfigError for a side that the network cannot take.
    """
    _check_side(side, multiple)
    if max(images.shape[2:]) <= side:
        return whole(logits, images, multiple, batch)
    if stride:
        overlap = _overlap_of(stride, side)
    return _slid(lambda part, _: softmax(logits(part)), images, multiple, batch, side=side, overlap=overlap)


def centre(
    logits: Logits,
    images: Tensor,
    multiple: int,
    batch: int,
    *,
    side: Side = 1024,
    margin: Annotated[int, Bounds(1), "pixels that are removed from each edge of a window"] = 128,
) -> Tensor:
    """Sliding windows of `side` pixels, of which only the centre counts; there is no blending.

    At the edges of a window, the network lacks the surroundings of the pixels. The centres touch one another.
    Edges count at the border of the image, which no centre reaches.

    Raises ConfigError for a side that the network cannot take.
    """
    _check_side(side, multiple)
    if max(images.shape[2:]) <= side:
        return whole(logits, images, multiple, batch)
    return _slid(lambda part, _: softmax(logits(part)), images, multiple, batch, side=side, margin=margin)


@dataclass
class Tally:
    """Numbers of windows that a network saw, and of windows that were skipped."""

    seen: int = 0
    skipped: int = 0

    @property
    def share(self) -> float:
        """The share of the windows that was skipped."""
        return self.skipped / max(self.seen + self.skipped, 1)


def sparse(
    logits: Logits,
    images: Tensor,
    multiple: int,
    batch: int,
    *,
    tally: Tally,
    side: Side = 1024,
    overlap: Overlap = 0.25,
    margin: Annotated[
        Count, "pixels that are removed from each edge of a window, as in `centre`; 0: windows are blended"
    ] = 0,
    shrink: Annotated[float, Bounds(above=1), "the first pass sees the image this many times smaller"] = 4.0,
    sure: Annotated[
        Share, "a window is skipped if the first pass gives all of its pixels at least this probability"
    ] = 0.95,
    background: Annotated[Count, "number of the class that is not looked for"] = 0,
) -> Tensor:
    """As `slide` or `centre`, but windows are skipped where a first pass finds only background.

    The first pass sees the whole image at a smaller size. In skipped windows, its probabilities are the
    result.

    Raises ConfigError for a side that the network cannot take.
    """
    _check_side(side, multiple)
    if max(images.shape[2:]) <= side:
        tally.seen += len(images)
        return whole(logits, images, multiple, batch)
    size = (images.shape[2], images.shape[3])
    smaller = [max(1, round(length / shrink)) for length in size]
    small = F.interpolate(images, size=smaller, mode="bilinear", align_corners=False, antialias=True)
    first = F.interpolate(
        whole(logits, small, multiple, batch), size=size, mode="bilinear", align_corners=False
    )
    first = pad(first, multiple)

    def look(part: Tensor, places: Places) -> Tensor:
        """The probabilities of windows (n, C, side, side): of the first pass where they are skipped."""
        found = torch.cat([first[tuple(place)] for place in places])  # (n, K, side, side)
        wanted = found[:, background].flatten(1).amin(dim=1) < sure
        count = int(wanted.sum())
        tally.seen, tally.skipped = tally.seen + count, tally.skipped + len(part) - count
        if count:
            found[wanted] = softmax(logits(part[wanted]))
        return found

    return _slid(look, images, multiple, batch, side=side, overlap=overlap, margin=margin)


def _check_side(side: int, multiple: int) -> None:
    """Raises ConfigError for a window that the network cannot take."""
    if side % multiple:
        raise ConfigError(
            f"window {side} must be a multiple of {multiple}; take {-(-side // multiple) * multiple}"
        )


def _slid(
    look: Callable[[Tensor, Places], Tensor],
    images: Tensor,
    multiple: int,
    batch: int,
    *,
    side: int,
    overlap: float = 0.25,
    margin: int = 0,
) -> Tensor:
    """Probabilities (N, K, H, W) of `images` from the windows that `look` sees, (n, C, side, side) each.

    Without a `margin`, windows are blended by a Gaussian; with one, their centres count.
    """
    from monai.inferers.utils import sliding_window_inference  # imported late: it takes two seconds

    height, width = images.shape[2:]
    padded = pad(images, multiple)
    roi = [min(side, length) for length in padded.shape[2:]]
    weights, mode = None, "gaussian"
    if margin:
        sides = zip(roi, padded.shape[2:], strict=True)
        rows, columns = (_centred(part, margin if part < length else 0) for part, length in sides)
        weights, mode = torch.outer(rows, columns).clamp_min_(FAINT).to(images), "constant"
        overlap = _overlap_of(side - 2 * margin, side)
    probs = sliding_window_inference(
        padded, roi, batch, look, overlap=overlap, mode=mode, roi_weight_map=weights, with_coord=True
    )
    assert isinstance(probs, Tensor)
    return probs[:, :, :height, :width]


def _overlap_of(stride: int, side: int) -> float:
    """The overlap by which MONAI moves windows of `side` pixels by `stride` pixels."""
    # Half a pixel more: MONAI rounds the stride down, which a rounding error would make a pixel too small.
    return max(0.0, 1 - (stride + 0.5) / side)


def _centred(side: int, margin: int) -> Tensor:
    """Weights (side,): 1 in the centre, 0 at both edges."""
    weights = torch.zeros(side)
    weights[margin : side - margin] = 1
    return weights


WINDOWS: dict[str, Window] = {"whole": whole, "slide": slide, "centre": centre, "sparse": sparse}
SLIDING = (slide, centre, sparse)  # their side is the side of the network's input


def check(window: Chosen[Window], setting: str, multiple: int) -> None:
    """Check a window with its settings.

    Raises ConfigError for a side that is not a multiple of `multiple`, for a stride that leaves gaps, and for
    a margin that leaves no centre.
    """
    if window.entry not in SLIDING:
        return
    side, name = side_of(window), f"{setting}.{window.name}"
    stride, margin = (window.settings.get(word, 0) for word in ("stride", "margin"))
    if side % multiple:
        raise ConfigError(f"{name}.side={side} must be a multiple of {multiple}")
    if stride > side:
        raise ConfigError(f"{name}.stride={stride} leaves gaps between windows of {side} pixels; lower it")
    if 2 * margin >= side:
        raise ConfigError(f"{name}.margin={margin} leaves no centre of windows of {side} pixels; lower it")


def check_classes(window: Chosen[Window], setting: str, classes: Sequence[str]) -> None:
    """Raises ConfigError if the background of `sparse` is not one of `classes`."""
    number = window.settings.get("background", 0)
    if window.entry is sparse and number >= len(classes):
        there = ", ".join(f"{place} ({name})" for place, name in enumerate(classes))
        raise ConfigError(f"{setting}.sparse.background={number} must be one of {there}")


def unskipped(window: Chosen[Window]) -> Chosen[Window] | None:
    """The window that skips nothing and is otherwise like `window`; None if `window` skips nothing."""
    if window.entry is not sparse:
        return None
    return replace(window, settings={**window.settings, "sure": NEVER})


def of(setting: int | str | Mapping[str, Mapping[str, Any]]) -> Chosen[Window]:
    """The window for a setting: a side in pixels (0: whole images), or the name of an entry of WINDOWS.

    Raises ConfigError for unknown names and values.
    """
    if isinstance(setting, int):
        setting = {"slide": {"side": setting}} if setting else "whole"
    return Table(WINDOWS).one(setting, "window")


def side_of(window: Chosen[Window]) -> int:
    """Longest side in pixels that the network sees at once; 0: no limit."""
    return int(window.settings.get("side", 0))


def pad(images: Tensor, multiple: int) -> Tensor:
    """Images (N, C, H, W) padded at the bottom and right, so that sides are multiples of `multiple`.

    Padding reflects the image, or repeats its edge if the image is too small for that.
    """
    height, width = images.shape[2:]
    down, right = -height % multiple, -width % multiple
    if down < height and right < width:
        return F.pad(images, (0, right, 0, down), mode="reflect") if down or right else images
    for border, side in (((0, 0, 0, down), height), ((0, right, 0, 0), width)):
        if any(border):
            images = F.pad(images, border, mode="reflect" if max(border) < side else "replicate")
    return images


def softmax(logits: Tensor) -> Tensor:
    """Probabilities (N, K, H, W) float32 of logits."""
    # fp32: a bf16 softmax blurs 0.9 to 1.0, where thresholds live.
    # Contiguous: half the time of channels_last.
    return logits.to(torch.float32, memory_format=torch.contiguous_format).softmax(dim=1)


class Block(NamedTuple):
    """A part of a map that is computed at once. Of the pixels that the network sees, the inner ones count."""

    seen: tuple[slice, slice]
    inner: tuple[slice, slice]  # of what is seen
    place: tuple[slice, slice]  # of the map


def blocks(height: int, width: int, window: int) -> Iterator[Block]:
    """Blocks of TILE x TILE windows, row by row, plus a margin of half a window; `window` 0: a single one."""
    side, margin = TILE * window or max(height, width), window // 2
    for top in range(0, height, side):
        for left in range(0, width, side):
            pairs = [(top, height), (left, width)]
            place = [slice(start, min(start + side, length)) for start, length in pairs]
            seen = [slice(max(0, one.start - margin), one.stop + margin) for one in place]
            inner = [
                slice(one.start - part.start, one.stop - part.start)
                for one, part in zip(place, seen, strict=True)
            ]
            yield Block((seen[0], seen[1]), (inner[0], inner[1]), (place[0], place[1]))


def tiled(labels: Callable[[np.ndarray], np.ndarray], images: np.ndarray, *, window: int) -> np.ndarray:
    """Class ids (N, H, W) uint8 of images (N, H, W, C) by `labels`, tile by tile; `window` 0: all at once."""
    count, height, width, _ = images.shape
    ids = np.empty((count, height, width), np.uint8)
    for block in blocks(height, width, window):
        ids[:, *block.place] = labels(images[:, *block.seen])[:, *block.inner]
    return ids
