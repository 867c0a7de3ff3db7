"""Runs on images of other sizes and channels than the drawn ones, from the files to the predictions."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from runs import SMALL

OWN = [  # a teacher and a student
    *(word for word in SMALL if not word.startswith(("data.size", "data.shapes"))),
    "recipe=smoke", "model.encoder=tu-resnet10t", "model.decoder_channels=[32,16,16,8]", "loss.adaptive=false",
    "train.place=uniform", "train.statistics=1", "generations=[{},{}]", "select.confidence=0",
]  # fmt: skip


def scene(seed: int, size: tuple[int, int] = (48, 64), channels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """An image (H, W, C) uint8 with a bright box, and its mask (H, W)."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 90, (*size, channels), np.uint8)
    mask = np.zeros(size, np.uint8)
    top, left = (int(rng.integers(0, side // 2)) for side in size)
    mask[top : top + size[0] // 2, left : left + size[1] // 2] = 1
    image[mask == 1] += 140
    return image, mask


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def folder(root: Path, *, labelled: int = 8, unlabelled: int = 4, **looks) -> list[str]:
    """A data set on the disk; returns the settings that name it."""
    for seed in range(labelled):
        image, mask = scene(seed, **looks)
        save(root / "images" / f"{seed}.png", image)
        save(root / "masks" / f"{seed}.png", mask)
    for seed in range(unlabelled):
        save(root / "unlabelled" / f"{seed}.png", scene(100 + seed, **looks)[0])
    return ["data=folder", f"data.root={root}", "data.classes=[ground,box]"]


def test_one_side_reaches_training_the_card_and_the_predictions(run, zygote, tmp_path):
    data, out = folder(tmp_path / "data"), tmp_path / "run"
    code, _, err = run(*OWN, *data, "data.size=[longest,32]", f"out={out}")
    assert code == 0, err
    assert json.loads((out / "export" / "card.json").read_bytes())["input"]["size"] == ["longest", 32]
    ended = zygote.run(
        "predict", str(out), str(tmp_path / "data" / "unlabelled"), "-o", str(tmp_path / "labels"), door="cli"
    )
    assert ended.code == 0, ended.err
    assert np.asarray(Image.open(tmp_path / "labels" / "0.png")).shape == (48, 64)
