"""Pictures for the benchmarks: photograph-like noise with masks in any size, or a folder of CamVid images."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np

CLASSES = 11
CAMVID = (360, 480)


@dataclass(frozen=True)
class Picture:
    """An image file with its mask file; a sample, elsewhere in selftrain."""

    image: Path
    mask: Path

    @cached_property
    def id(self) -> str:
        return self.image.stem

    def read_image(self) -> np.ndarray:
        return cv2.cvtColor(cv2.imread(str(self.image)), cv2.COLOR_BGR2RGB)

    def read_mask(self) -> np.ndarray:
        return cv2.imread(str(self.mask), cv2.IMREAD_GRAYSCALE)


def files_of(sample: Any) -> tuple[Path, Path]:
    """The image and the mask of a picture, or of a sample of selftrain whose sources are files."""
    image, mask = (one if isinstance(one, Path) else one.path for one in (sample.image, sample.mask))
    return image, mask


def draw(
    root: Path, count: int, *, size: tuple[int, int] = CAMVID, suffix: str = "png", classes: int = CLASSES
) -> list[Picture]:
    """`count` pictures under root/images and root/masks: shapes in class colours under smooth noise."""
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    colours = rng.integers(256, size=(classes, 3))
    pictures = []
    for i in range(count):
        coarse = rng.random((classes, 6, 8), dtype=np.float32)
        mask = np.stack(
            [cv2.resize(plane, size[::-1], interpolation=cv2.INTER_CUBIC) for plane in coarse]
        ).argmax(axis=0)
        shade = cv2.resize(
            rng.normal(0, 30, (24, 32, 3)).astype(np.float32), size[::-1], interpolation=cv2.INTER_CUBIC
        )
        grain = rng.normal(0, 4, (*size, 3))
        image = np.clip(0.6 * colours[mask] + 50 + shade + grain, 0, 255).astype(np.uint8)
        picture = Picture(root / "images" / f"{i:05d}.{suffix}", root / "masks" / f"{i:05d}.png")
        cv2.imwrite(str(picture.image), image)
        cv2.imwrite(str(picture.mask), mask.astype(np.uint8))
        pictures.append(picture)
    return pictures


def find(root: Path) -> list[Picture]:
    """The pictures that `draw` wrote under `root`."""
    return [
        Picture(path, root / "masks" / f"{path.stem}.png") for path in sorted((root / "images").iterdir())
    ]


def probabilities(mask: np.ndarray, rng: np.random.Generator, classes: int = CLASSES) -> np.ndarray:
    """A fair teacher's predictions for a mask (H, W): (classes, H, W) float32, unsure at borders."""
    known = np.minimum(mask, classes - 1)
    onehot = (np.arange(classes)[:, None, None] == known).astype(np.float32)
    blurred = np.stack([cv2.GaussianBlur(plane, (0, 0), 6) for plane in onehot])
    height, width = mask.shape
    doubt = np.stack(
        [
            cv2.resize(plane, (width, height))
            for plane in rng.normal(0, 1, (classes, height // 16, width // 16))
        ]
    )
    logits = 6 * blurred + 0.8 * doubt.astype(np.float32)
    exponents = np.exp(logits - logits.max(axis=0))
    return (exponents / exponents.sum(axis=0)).astype(np.float32)
