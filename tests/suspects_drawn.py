"""A data set that a small network learns within seconds: discs, squares and bars, told by colour and outline."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from selftrain.data.dataset import DataSet
from selftrain.data.sample import Sample, Source

CLASSES = ["ground", "disc", "square", "bar"]
COLOURS = [(150, 140, 130), (200, 60, 50), (60, 90, 200), (60, 170, 80)]
SIDE = 64


@dataclass(frozen=True, eq=False)
class Held(Source):
    """Pixels in memory."""

    pixels: np.ndarray

    @property
    def name(self) -> str:
        return "drawn"

    def read(self):
        return self.pixels

    def fingerprint(self):
        return None


def scene(rng):
    """An image (SIDE, SIDE, 3) of four objects on a grainy ground, and its mask."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for place, c in zip(
        [(16, 16), (48, 16), (16, 48), (48, 48)], rng.permutation([1, 2, 3, 1 + rng.integers(3)]), strict=True
    ):
        x, y = (int(v) for v in np.array(place) + rng.integers(-4, 5, 2))
        r = int(rng.integers(6, 11))
        if c == 1:
            cv2.circle(mask, (x, y), r, 1, -1)
        else:
            half = r if c == 2 else r // 2
            cv2.rectangle(mask, (x - half, y - r), (x + half, y + r), int(c), -1)
    image = np.array(COLOURS)[mask] * rng.uniform(0.7, 1.3) + rng.normal(0, 20, (SIDE, SIDE, 1))
    return image.clip(0, 255).astype(np.uint8), mask


def data_set(labelled, val, seed=0):
    """Scenes: labelled ones, and as many for val as for test."""
    rng = np.random.default_rng(seed)
    pairs = [scene(rng) for _ in range(labelled + 2 * val)]
    samples = [Sample(f"{i:04d}", Held(image), Held(mask)) for i, (image, mask) in enumerate(pairs)]
    return DataSet(
        CLASSES, samples[:labelled], [], samples[labelled : labelled + val], samples[labelled + val :]
    )


def settings(root: Path, steps: int) -> list[str]:
    return [
        "recipe=supervised", "data=folder", f"data.root={root}", "data.unlabelled=''", f"data.classes=[{','.join(CLASSES)}]",
        "data.splits.train=train", "data.splits.val=val", "data.splits.test=test", f"train.crop=[{SIDE},{SIDE}]",
        f"train.steps={steps}", "train.labelled_batch=8", "train.warmup=5", "train.threads=1", "train.precision=none", "train.eval_every=0",
        "model.encoder=tu-resnet10t", "model.weights=null", "model.decoder_channels=[32,16,16,8,8]", "train.lr=0.003",
        "export.onnx=false", "labels.crf.enabled=false",
    ]  # fmt: skip
