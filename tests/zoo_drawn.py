"""Drawn pictures, their masks in all codings, and what a data set of the zoo contains."""

from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import yaml
from PIL import Image

HEIGHT, WIDTH = 40, 48
VOID = 255
INKS = np.array([(60, 60, 60), (200, 80, 60), (70, 160, 90), (80, 100, 210), (200, 190, 80), (170, 90, 180)])


@dataclass
class Built:
    """What is in a data set: class ids (H, W) of each labelled image, with 255 for ignored pixels."""

    classes: list[str]
    truth: dict[str, np.ndarray] = field(default_factory=dict)
    split: dict[str, str] = field(default_factory=dict)  # train, val or test; no entry where none is given
    unlabelled: set[str] = field(default_factory=set)

    def add(self, image: str, ids: np.ndarray, split: str = "") -> None:
        self.truth[image] = ids
        if split:
            self.split[image] = split


def scene(seed: int, classes: int = 2, *, void: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """A noisy picture (H, W, 3) uint8 and its class ids (H, W) uint8; every class occurs."""
    random = np.random.default_rng(seed)
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    for k in range(1, classes):
        column, row = (k - 1) % 3 * 16, (k - 1) // 3 * 20
        y, x = row + random.integers(1, 6), column + random.integers(1, 5)
        height, width = random.integers(7, 13), random.integers(6, 10)
        if random.random() < 0.5:
            ids[y : y + height, x : x + width] = k
        else:
            centre = int(x + width // 2), int(y + height // 2)
            cv2.ellipse(ids, centre, (int(width // 2), int(height // 2)), 0, 0, 360, k, -1)
    image = INKS[ids % len(INKS)] + random.normal(0, 22, (HEIGHT, WIDTH, 3))
    if void:
        ids = ids.copy()
        ids[-4:, :7] = VOID
    return image.clip(0, 255).astype(np.uint8), ids


def photo(seed: int) -> np.ndarray:
    return scene(seed, 3)[0]


def save(path: Path, pixels: np.ndarray, *, palette: np.ndarray | None = None, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(pixels)
    if palette is not None:
        picture = picture.convert("L")
        picture.putpalette(palette.astype(np.uint8).tobytes())
    if path.suffix in (".jpg", ".jpeg"):
        options = {"quality": 92, **options}
    picture.save(path, **options)


def coloured(ids: np.ndarray, colours: list[tuple[int, int, int]]) -> np.ndarray:
    """Class ids as RGB; ignored pixels take the last colour."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(colours)] = colours
    table[VOID] = colours[-1]
    return table[ids]


def valued(ids: np.ndarray, values: list[int], void: int = VOID) -> np.ndarray:
    """Class ids as the values of a mask, uint8 or uint16."""
    table = np.zeros(256, np.uint16 if max(values) > 255 else np.uint8)
    table[: len(values)] = values
    table[VOID] = void
    return table[ids]


def voc_palette() -> np.ndarray:
    """The palette of Pascal VOC (256, 3): the bits of an index, spread over the channels."""
    index, palette = np.arange(256), np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= ((index >> (3 * bit + channel)) & 1).astype(np.uint8) << (7 - bit)
    return palette


def settings_in(file: Path) -> dict:
    """The settings of `data` in a data YAML."""
    return yaml.safe_load(file.read_text())["data"]
