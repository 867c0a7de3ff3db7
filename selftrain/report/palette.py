"""Class colours, and label maps as palette PNGs that keep the class ids."""

import io
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from selftrain.files import write_bytes

MAX_CLASSES = 255
LEVELS = 12  # per channel, in the lattice of candidates for further colours
DARKEST = 0.35  # least Oklab lightness of the candidates; darker colours look black

# Okabe & Ito 2008, "Color universal design": distinct with any colour vision.
NAMED = [
    (86, 180, 233),
    (213, 94, 0),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (204, 121, 167),
    (230, 159, 0),
]
KEPT_FREE = [(0, 0, 0), (255, 255, 255)]  # ignored pixels, and the page

# Machado, Oliveira & Fernandes 2009, table 1, severity 1, for linear RGB: normal vision, no red cones,
# no green cones.
VISIONS = np.array(
    [
        np.eye(3),
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    ]
)
# Ottosson 2020, Oklab: linear RGB -> cone responses; their cube roots -> lightness and two colour axes.
CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
OKLAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def palette(classes: int) -> np.ndarray:
    """RGB (256, 3) uint8: distinct colours for ids below `classes`, black for others and 255 (ignored).

    A class has the same colour for any number of classes. Raises ValueError for more than 255 classes.
    """
    if not 0 <= classes <= MAX_CLASSES:
        raise ValueError(f"{classes} classes: a palette has room for {MAX_CLASSES} and 255, ignored")
    colours = np.zeros((256, 3), np.uint8)
    colours[:classes] = _colours()[:classes]
    return colours


def palette_png(mask: np.ndarray) -> bytes:
    """PNG whose pixels are the class ids of `mask` (H, W) uint8 and whose palette shows them in colour."""
    picture = Image.fromarray(mask).convert("L")
    picture.putpalette(palette(MAX_CLASSES).tobytes())
    content = io.BytesIO()
    picture.save(content, format="PNG")
    return content.getvalue()


def save_palette_png(path: Path, mask: np.ndarray) -> None:
    """Write `palette_png` atomically."""
    write_bytes(path, palette_png(mask))


def save_plain_png(path: Path, pixels: np.ndarray) -> None:
    """Write grey (H, W) uint8 or uint16, or RGB (H, W, 3) uint8, atomically as PNG without palette."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG")
    write_bytes(path, content.getvalue())


@lru_cache(maxsize=1)
def _colours() -> np.ndarray:
    """Class colours (MAX_CLASSES, 3) uint8: the named ones, then the most distant candidate each time.

    Distances are the smallest over all types of colour vision.
    """
    steps = np.linspace(0, 255, LEVELS).round()
    lattice = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    lattice = lattice[_appearance(lattice)[:, 0, 0] >= DARKEST]
    seen, taken = _appearance(lattice), _appearance(np.array(KEPT_FREE + NAMED))
    colours = [np.array(colour) for colour in NAMED]
    nearest = np.min([_distance(seen, appearance) for appearance in taken], axis=0)  # (lattice,)
    while len(colours) < MAX_CLASSES:
        farthest = int(nearest.round(9).argmax())  # the last bits of a sum differ between machines
        colours.append(lattice[farthest])
        nearest = np.minimum(nearest, _distance(seen, seen[farthest]))
    return np.array(colours, np.uint8)


def _appearance(colours: np.ndarray) -> np.ndarray:
    """RGB (n, 3) in 0..255 -> Oklab (n, vision, 3)."""
    scaled = colours / 255
    linear = np.where(scaled <= 0.04045, scaled / 12.92, ((scaled + 0.055) / 1.055) ** 2.4)
    seen = np.einsum("vij,nj->nvi", VISIONS, linear).clip(0, 1)
    return np.cbrt(seen @ CONES.T) @ OKLAB.T


def _distance(seen: np.ndarray, one: np.ndarray) -> np.ndarray:
    """(n, vision, 3) and (vision, 3) -> (n,): the smallest distance over all types of colour vision."""
    return np.linalg.norm(seen - one, axis=-1).min(axis=-1)
