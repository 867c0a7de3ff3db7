"""Small data sets on the disk, and what is read of them."""

from pathlib import Path

import numpy as np
from PIL import Image

from selftrain.config import DataConfig, SplitConfig
from selftrain.data.sources import SPLITS, DataSet

NAMED = {"train": "train", "val": "val", "test": "test"}  # splits by folders


def picture(path: Path, value: int = 0, size: tuple[int, int] = (4, 6)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), value, np.uint8)).save(path)
    return path


def mask(path: Path, value: int = 0, size: tuple[int, int] = (4, 6)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size, value, np.uint8)).save(path)
    return path


def pairs(root: Path, names: list[str], folder: str = "") -> None:
    for value, name in enumerate(names):
        picture(root / "images" / folder / f"{name}.png", value)
        mask(root / "masks" / folder / f"{name}.png", value % 2)


def config(root: Path | str, *, splits: dict | None = None, **settings) -> DataConfig:
    settings = {"name": "folder", "source": "folder", "classes": ["ground", "thing"]} | settings
    return DataConfig(root=str(root), splits=SplitConfig(**(splits or {})), **settings)


def ids(data: DataSet) -> dict[str, list[str]]:
    return {split: [sample.id for sample in getattr(data, split)] for split in SPLITS}


def everyone(data: DataSet) -> list[str]:
    return [name for names in ids(data).values() for name in names]
