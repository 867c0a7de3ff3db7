"""How many images of 512x512 `selftrain verify` checks in a minute of one core's work: first look, and a second one.

    python benchmarks/verify.py [--images 300] [--out verify.json]

Photograph-like noise as PNG and JPEG, a mask to each; the goal is 2,000 a minute. The second look finds them in the cache.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from selftrain.config import DataConfig
from selftrain.data import sources, verify

SIDE, CLASSES = 512, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--out", type=Path, help="write the numbers to this file")
    arguments = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("png", "jpg"):
            os.environ["XDG_CACHE_HOME"] = f"{folder}/cache-{suffix}"
            root = Path(folder) / suffix
            draw(root, arguments.images, suffix)
            cfg = DataConfig(source="folder", root=str(root), classes=[f"c{i}" for i in range(CLASSES)])
            data = sources.load(cfg, strict=False)
            for look in ("first", "second"):
                began = time.process_time()
                report = verify.verify(data, cfg, workers=1)
                rate = 60 * arguments.images / (time.process_time() - began)
                assert not report.faults, report.faults[:3]
                found[f"{suffix}, {look} look"] = rate
    for name, rate in found.items():
        print(f"{name}: {rate:,.0f} images of {SIDE}x{SIDE} a minute of one core (goal: 2,000)")
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=1))


def draw(root: Path, count: int, suffix: str) -> None:
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for i in range(count):
        coarse = rng.integers(256, size=(32, 32, 3), dtype=np.uint8)
        image = cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        image = cv2.add(image, rng.integers(24, size=image.shape, dtype=np.uint8))
        mask = cv2.resize(rng.integers(CLASSES, size=(16, 16), dtype=np.uint8), (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
        cv2.imwrite(str(root / "images" / f"{i:05d}.{suffix}"), image)
        cv2.imwrite(str(root / "masks" / f"{i:05d}.png"), mask)


if __name__ == "__main__":
    main()
