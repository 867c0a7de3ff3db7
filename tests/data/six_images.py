"""A data set of six small images with masks, and what verify says of it."""

from pathlib import Path

import numpy as np
from PIL import Image

from selftrain.config import DataConfig, SplitConfig
from selftrain.data.findings import Report
from selftrain.data.load import load
from selftrain.data.verify import verify
from selftrain.datasets import spec_of

RED, GREEN, BLACK, WHITE = [255, 0, 0], [0, 200, 0], [0, 0, 0], [255, 255, 255]
NAMES = [*(f"train/{i}" for i in range(4)), "val/8", "test/9"]
HALVES = np.repeat([[0, 0, 0, 1, 1, 1]], 4, axis=0).astype(np.uint8)


def image(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def six_images(folder: Path) -> Path:
    """Four train images, one of val and one of test, all different, with grey masks."""
    for seed, name in enumerate(NAMES):
        pixels = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
        image(folder / "images" / f"{name}.png", pixels)
        image(folder / "masks" / f"{name}.png", HALVES)
    return folder


def check(root: Path, **settings) -> Report:
    splits = SplitConfig(train="train", val="val", test="test")
    settings = {"classes": ["ground", "thing"]} | settings
    spec = spec_of(DataConfig(name="folder", format="folder", root=str(root), splits=splits, **settings))
    return verify(load(spec, strict=False), spec, workers=1)
