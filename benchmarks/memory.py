"""Peak memory of whole runs at 500 and at 5,000 unlabelled images: it should not grow with them.

    python benchmarks/memory.py [--out memory.json]

Teacher, labels and student on drawn images of 96x96; the budget for decoded images is 8 MB, which both sets exceed.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from sides import below, finish, parser

SETTINGS = [
    "recipe=smoke", "data.size=[96,96]", "train.crop=[96,96]", "data.cache_mb=8", "train.steps=20", "export.onnx=false",
    "labels.crf.enabled=false",
]  # fmt: skip


def main() -> None:
    arguments = parser(__doc__).parse_args()
    few, many = peak(500), peak(5000)
    print(f"peak memory: {few:.0f} MB at 500 unlabelled images, {many:.0f} MB at 5,000")
    finish([below("peak memory, 5,000 against 500 unlabelled images", 100 * (many / few - 1), "% more", 5)], arguments.out)


def peak(unlabelled: int) -> float:
    """Peak resident memory of a run in MB."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "selftrain.run", *SETTINGS, f"data.shapes.unlabelled={unlabelled}", f"out={folder}/run"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=Path(__file__).parent.parent)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            sys.exit(f"the run failed: {process.stderr.read().decode()}")
    return usage.ru_maxrss / 1024


if __name__ == "__main__":
    main()
