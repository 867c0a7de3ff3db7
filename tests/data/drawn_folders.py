"""Small data sets on the disk, and what is read of them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from selftrain.config import DataConfig, SplitConfig
from selftrain.data.dataset import SPLITS, DataSet
from selftrain.data.load import load
from selftrain.data.spec import Spec
from selftrain.datasets import spec_of
from selftrain.errors import DataError

NAMED = {"train": "train", "val": "val", "test": "test"}  # splits by folders


def picture(path: Path, value: int = 0, size: tuple[int, int] = (4, 6)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), value, np.uint8)).save(path)
    return path


def mask(path: Path, value: int = 0, size: tuple[int, int] = (4, 6)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size, value, np.uint8)).save(path)
    return path


def put(*paths: Path) -> None:
    """Files that no decoder takes."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def pairs(root: Path, names: list[str], folder: str = "") -> None:
    for value, name in enumerate(names):
        picture(root / "images" / folder / f"{name}.png", value)
        mask(root / "masks" / folder / f"{name}.png", value % 2)


def spec(root: Path | str, *, splits: dict | None = None, **settings) -> Spec:
    """What the settings of a folder with two classes say."""
    settings = {"name": "folder", "format": "folder", "classes": ["ground", "thing"]} | settings
    return spec_of(DataConfig(root=str(root), splits=SplitConfig(**(splits or {})), **settings))


def ids(data: DataSet) -> dict[str, list[str]]:
    return {split: [sample.id for sample in getattr(data, split)] for split in SPLITS}


def everyone(data: DataSet) -> list[str]:
    return [name for names in ids(data).values() for name in names]


def fault(tmp_path: Path, **settings) -> str:
    """The message with which a data set is refused."""
    with pytest.raises(DataError) as caught:
        load(spec(tmp_path, **settings))
    return str(caught.value)
