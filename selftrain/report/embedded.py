"""Pictures that a page contains: thumbnails as data URLs."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from selftrain.ids import IGNORE

SIDE = 320  # pixels; larger pictures are resized to it
PIXELATED = 192  # pictures up to this side are shown without smoothing
HEAVY = 90_000  # characters; a photograph with a larger PNG is embedded as JPEG
HEAVY_IN_GALLERY = 24_000  # the same for the galleries, which contain many photographs


@dataclass(frozen=True)
class Row:
    """Pictures to compare side by side.

    `cells`: caption and either an RGB picture (H, W, 3) uint8 or class ids (H, W) uint8, 255 = ignored, shown
    in class colours.
    """

    title: str
    cells: list[tuple[str, np.ndarray]]
    note: str = ""  # shown below the title

    def reduced(self) -> "Row":
        """The row with pictures that are no larger than the page shows them."""
        return replace(self, cells=[(caption, _fitted(pixels)) for caption, pixels in self.cells])


@dataclass(frozen=True)
class Covered:
    """An image (H, W, 3) uint8 under one or two masks (H, W) uint8 of class ids, 255 = ignored.

    A slider moves from the image to `over`; with `under`, from the image to `under` and on to `over`.
    """

    title: str
    note: str
    image: np.ndarray
    over: np.ndarray
    under: np.ndarray | None = None

    def reduced(self) -> "Covered":
        """The same with pictures that are no larger than the page shows them."""
        under = None if self.under is None else _fitted(self.under)
        return replace(self, image=_fitted(self.image), over=_fitted(self.over), under=under)


@dataclass(frozen=True)
class Gallery:
    """Images with one slider: what the gallery shows, and the names of the masks."""

    title: str
    note: str
    items: Sequence[Covered]
    over: str  # such as "label"
    under: str = ""

    def reduced(self) -> "Gallery":
        """The gallery with pictures that are no larger than the page shows them."""
        return replace(self, items=[one.reduced() for one in self.items])

    @property
    def middle(self) -> str:
        """What the middle of a slider between two masks shows; "" with one mask."""
        return f"left half {self.over}, right half {self.under}" if self.under else ""

    @property
    def stops(self) -> list[tuple[str, str]]:
        """The positions of the slider: a CSS class and a name for each, from the image to `over`."""
        if self.under:
            return [("bare", "image"), ("p0", self.under), ("p50", self.middle), ("p100", self.over)]
        shares = {"p25": "left quarter", "p50": "left half", "p75": "left three quarters"}
        parts = [(stop, f"{part} with the {self.over}") for stop, part in shares.items()]
        return [("p0", "image"), *parts, ("p100", self.over)]


@dataclass(frozen=True)
class Picture:
    """An <img>: `kind` is its CSS class."""

    caption: str
    source: str
    width: int
    height: int
    kind: str


@dataclass(frozen=True)
class Stack:
    """The pictures of a `Covered`: they lie above one another in this order."""

    title: str
    note: str
    layers: list[Picture]


def pictures(row: Row, colours: np.ndarray) -> tuple[str, str, list[Picture]]:
    """Title, note and pictures of a row. colours (256, 3) uint8."""
    return row.title, row.note, [_picture(caption, pixels, colours) for caption, pixels in row.cells]


def stacks(gallery: Gallery, colours: np.ndarray) -> list[Stack]:
    """The pictures of a gallery. colours (256, 3) uint8."""
    return [_stack(one, gallery, colours) for one in gallery.items]


def _stack(one: Covered, gallery: Gallery, colours: np.ndarray) -> Stack:
    masks = [(gallery.under, "under", one.under), (gallery.over, "over", one.over)]
    layers = [_picture("image", one.image, colours, heavy=HEAVY_IN_GALLERY)]
    layers += [
        _picture(caption, mask, colours, layer=layer) for caption, layer, mask in masks if mask is not None
    ]
    return Stack(one.title, one.note, layers)


def _picture(
    caption: str, pixels: np.ndarray, colours: np.ndarray, *, layer: str = "", heavy: int = HEAVY
) -> Picture:
    mask, small = pixels.ndim == 2, max(pixels.shape[:2]) <= PIXELATED
    image = Image.fromarray(_fitted(pixels))
    if mask:
        image.putpalette(colours.tobytes())
        source = _embedded(image, "PNG", optimize=True, transparency=IGNORE)
    else:
        source = _embedded(image, "PNG", optimize=True)
        if len(source) > heavy:
            quality = 90 if heavy == HEAVY else 80
            source = _embedded(image, "JPEG", quality=quality, subsampling=0)
    kind = layer or ("mask" if mask else "photo")
    return Picture(caption, source, *image.size, f"{kind} pixelated" if small else kind)


def _fitted(pixels: np.ndarray) -> np.ndarray:
    """A picture, or a mask (H, W), of at most SIDE pixels."""
    if max(pixels.shape[:2]) <= SIDE:
        return pixels
    image = Image.fromarray(pixels)
    image.thumbnail((SIDE, SIDE), Image.Resampling.NEAREST if pixels.ndim == 2 else Image.Resampling.LANCZOS)
    return np.asarray(image)


def _embedded(image: Image.Image, kind: str, **settings: object) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
