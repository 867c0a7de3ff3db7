"""Pictures that a page contains: thumbnails as data URLs."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from selftrain.ids import IGNORE

SIDE = 320  # pixels; larger pictures are resized to it
PIXELATED = 192  # pictures up to this side are shown without smoothing
HEAVY = 90_000  # characters; a photograph with a larger PNG is embedded as JPEG


@dataclass(frozen=True)
class Row:
    """Pictures to compare side by side.

    `cells`: caption and either an RGB picture (H, W, 3) uint8 or class ids (H, W) uint8, 255 = ignored, shown
    in class colours.
    """

    title: str
    cells: list[tuple[str, np.ndarray]]
    note: str = ""  # shown below the title


@dataclass(frozen=True)
class Picture:
    """An <img>: `kind` is its CSS class."""

    caption: str
    source: str
    width: int
    height: int
    kind: str


def pictures(row: Row, colours: np.ndarray) -> tuple[str, str, list[Picture]]:
    """Title, note and pictures of a row. colours (256, 3) uint8."""
    return row.title, row.note, [_picture(caption, pixels, colours) for caption, pixels in row.cells]


def _picture(caption: str, pixels: np.ndarray, colours: np.ndarray) -> Picture:
    mask, small = pixels.ndim == 2, max(pixels.shape[:2]) <= PIXELATED
    image = Image.fromarray(pixels)
    image.thumbnail((SIDE, SIDE), Image.Resampling.NEAREST if mask else Image.Resampling.LANCZOS)
    if mask:
        image.putpalette(colours.tobytes())
        source = _embedded(image, "PNG", optimize=True, transparency=IGNORE)
    else:
        source = _embedded(image, "PNG", optimize=True)
        if len(source) > HEAVY:
            source = _embedded(image, "JPEG", quality=90, subsampling=0)
    kind = "mask" if mask else "photo"
    return Picture(caption, source, *image.size, f"{kind} pixelated" if small else kind)


def _embedded(image: Image.Image, kind: str, **settings: object) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
