"""A small export, images for it, and the labels that it gives them."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from selftrain.inference import tta
from selftrain.inference.exported import load_export
from selftrain.models.build import build
from selftrain.stages.export import export

CLASSES = ["sky", "road", "tree", "car"]
WIDTHS = [32, 16, 16, 8]
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]


def exported(directory: Path, *, size: list[int] | None = None, window: int = 1024) -> Path:
    torch.manual_seed(0)
    network = build("unet", "tu-resnet10t", classes=len(CLASSES), decoder_channels=WIDTHS)
    card = {
        "format": 1,
        "classes": CLASSES,
        "ignore_index": 255,
        "mean": MEAN,
        "std": STD,
        "input": {"size": size, "multiple": 32, "window": window, "rule": ""},
        "model": {"arch": "unet", "encoder": "tu-resnet10t", "decoder_channels": WIDTHS, "params": 0},
    }
    export(network, directory, card=card, onnx=False)
    return directory


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Blotches, so that the labels have areas."""
    coarse = torch.rand(1, 3, 4, 5, generator=torch.Generator().manual_seed(seed))
    fine = F.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)
    return (fine[0].permute(1, 2, 0) * 255).byte().numpy()


def save(path: Path, height: int = 40, width: int = 56, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(height, width, seed)).save(path)
    return path


def labels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        assert picture.mode == "P"
        return np.asarray(picture)


def probabilities(directory: Path, picture: np.ndarray) -> torch.Tensor:
    network, _ = load_export(directory)
    scaled = torch.from_numpy(picture).permute(2, 0, 1).float()[None] / 255
    mean, std = (torch.tensor(row).view(1, 3, 1, 1) for row in (MEAN, STD))
    return tta.predict(network, (scaled - mean) / std)
