"""Two processes of one thread against one process of two threads: a student's training, and the bytes of the labels.

python benchmarks/ranks.py [--out ranks.json]
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from sides import Row, below, faster, finish, parser

STEPS, IMAGES = 60, 16
SETTINGS = [
    "recipe=pseudo_label", f"train.steps={STEPS}", "train.eval_every=0", "train.crop=[128,128]", "data.shapes.unlabelled=64",
    "export.onnx=false", "model.encoder=tu-resnet10t", "model.decoder_channels=[64,48,32,16,16]",
]  # fmt: skip


def main() -> None:
    arguments = parser(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        alone, together = Path(folder) / "alone", Path(folder) / "together"
        run([sys.executable], alone)
        shutil.copytree(alone, together)
        for name in ("gen0/labels", "gen1"):
            shutil.rmtree(together / name)
        (together / "report.json").unlink()
        run([sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", free_port()], together)
        finish(rows(alone, together), arguments.out)


def rows(alone: Path, together: Path) -> list[Row]:
    one, two = (STEPS * IMAGES / json.loads((out / "gen1/report.json").read_text())["seconds"] for out in (alone, together))
    labels = [path.name for path in (alone / "gen0/labels").iterdir()]
    other = sum((alone / "gen0/labels" / name).read_bytes() != (together / "gen0/labels" / name).read_bytes() for name in labels)
    return [
        faster("2 ranks of 1 thread against 1 rank of 2: training", two, one, "images/s", 0.9),
        below("2 ranks against 1: files of labels that differ", other, f"of {len(labels)}", 0),
    ]


def run(launcher: list[str], out: Path) -> None:
    """Each process takes its share of the cores as threads."""
    root = Path(__file__).resolve().parent.parent
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true"}
    environment.pop("OMP_NUM_THREADS", None)
    command = [*launcher, "-m", "selftrain.run", *SETTINGS, f"out={out}"]
    subprocess.run(command, check=True, cwd=root, env=environment, stdout=subprocess.DEVNULL)


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


if __name__ == "__main__":
    main()
