"""Drawn scenes as files: images with tags only, and a few with masks for val."""

from pathlib import Path

import numpy as np
from PIL import Image

from selftrain.data.sources.shapes import CLASSES, draw

SETTINGS = [
    "recipe=smoke", "data=folder", f"data.classes=[{','.join(CLASSES)}]", "data.tags=tags.csv", "data.unlabelled=more",
    "data.splits.val=val", "data.splits.test_fraction=0", "loss.image.bce=1", "generations.0.from_tags=true",
    "train.threads=1", "train.precision=none", "export.onnx=false", "select.threshold=quantile",
]  # fmt: skip


def write(root: Path, *, tagged: int, val: int) -> Path:
    """`tagged` images with a line in tags.csv, and `val` with masks. The drawing's masks only give the tags."""
    lines = ["image,classes"]
    for folder in ("more", "images/val", "masks/val"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for number in range(tagged):
        image, mask = draw(0, "unlabelled", number)
        Image.fromarray(image).save(root / "more" / f"{number:03}.png")
        lines.append(f"more/{number:03}.png,{';'.join(CLASSES[c] for c in np.unique(mask))}")
    for number in range(val):
        image, mask = draw(0, "val", number)
        Image.fromarray(image).save(root / "images/val" / f"{number}.png")
        Image.fromarray(mask).save(root / "masks/val" / f"{number}.png")
    (root / "tags.csv").write_text("\n".join(lines) + "\n")
    (root / "few.csv").write_text("image,classes\nimages/val/0.png,disc\n")
    return root
