"""Images of 512x512 that `selftrain verify` checks per minute of one core, on the first and on a second look.

    python benchmarks/verify.py [--images 300] [--out verify.json]

Photograph-like noise as PNG and JPEG, one mask each; the goal is 2,000 per minute. The second look finds them
in the cache.
"""

import os
import tempfile
import time
from pathlib import Path

import pictures
from sides import Row, finish, parser

from selftrain.config import DataConfig
from selftrain.data import verify
from selftrain.data.load import load
from selftrain.datasets import spec_of

SIDE, CLASSES = 512, 8


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--images", type=int, default=200)
    arguments = arguments.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("png", "jpg"):
            os.environ["XDG_CACHE_HOME"] = f"{folder}/cache-{suffix}"
            root = Path(folder) / suffix
            pictures.draw(root, arguments.images, size=(SIDE, SIDE), suffix=suffix, classes=CLASSES)
            spec = spec_of(
                DataConfig(format="folder", root=str(root), classes=[f"c{i}" for i in range(CLASSES)])
            )
            data = load(spec, strict=False)
            for look in ("first", "second"):
                began = time.process_time()
                report = verify.verify(data, spec, workers=1)
                rate = 60 * arguments.images / (time.process_time() - began)
                assert not report.faults, report.faults[:3]
                found[f"{suffix}, {look} look"] = rate
    unit, goal = "images/min of a core", 2000
    rows = [
        Row(f"verify, {SIDE}x{SIDE} {name}", rate, None, unit, None, f">= {goal}", rate >= goal)
        for name, rate in found.items()
    ]
    finish(rows, arguments.out)


if __name__ == "__main__":
    main()
