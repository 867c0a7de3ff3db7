"""Two processes of one thread against one process of two: a student's training, and the label bytes.

    python benchmarks/ranks.py [--out ranks.json]

The student's step has the size of the step in benchmarks/training.py; a second row has a quarter of the
pixels and a smaller network, where the exchange of gradients matters most. Two students with different
numbers of steps give the time of a step: one-off work of a stage, such as its first and last checkpoint, is
the same.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from sides import Row, below, faster, finish, parser

KNOWN, GUESSED = 8, 16
FEW = 4  # steps of the teacher and of the first student
SETTINGS = [
    "recipe=pseudo_label", f"train.labelled_batch={KNOWN}", f"train.unlabelled_batch={GUESSED}", "train.eval_every=0",
    "data.size=[256,256]", "data.shapes.unlabelled=64", "export.onnx=false", "select.confidence=0",
]  # fmt: skip
SIZES = {
    "training": (24, ["train.crop=[192,256]"]),
    "training of a small network": (
        96, ["train.crop=[96,128]", "model.encoder=tu-resnet10t", "model.decoder_channels=[64,48,32,16,16]"]
    ),
}  # fmt: skip


def main() -> None:
    arguments = parser(__doc__).parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for what, (steps, settings) in SIZES.items():
            rows += compare(Path(folder) / what, what, steps, [*SETTINGS, *settings])
    finish(rows, arguments.out)


def compare(
    folder: Path, what: str, steps: int, settings: list[str], *, cpu: bool = True, goal: float | None = 0.9
) -> list[Row]:
    """The same students of the same teacher, which labels again; on CPUs, or on a GPU for each process."""
    alone, together = folder / "alone", folder / "together"
    settings = [*settings, f"generations=[{{steps: {FEW}}}, {{steps: {FEW}}}, {{steps: {FEW + steps}}}]"]
    run([sys.executable], settings, alone, cpu)
    shutil.copytree(alone, together)
    for path in [together / "gen0/labels", *together.glob("gen[12]")]:
        shutil.rmtree(path)
    (together / "report.json").unlink()
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    run(torchrun, settings, together, cpu)
    one, two = (steps * (KNOWN + GUESSED) / (seconds(out, 2) - seconds(out, 1)) for out in (alone, together))
    labels = [path.name for path in (alone / "gen0/labels").iterdir()]
    other = sum(
        (alone / "gen0/labels" / name).read_bytes() != (together / "gen0/labels" / name).read_bytes()
        for name in labels
    )
    sides = "2 ranks of 1 thread against 1 rank of 2" if cpu else "2 GPUs against 1"
    speed = faster(f"{sides}: {what}", two, one, "images/s", goal or 0)
    return [
        speed if goal else replace(speed, goal="", met=True),
        below(f"{what}, 2 ranks against 1: files of labels that differ", other, f"of {len(labels)}", 0),
    ]


def seconds(run: Path, generation: int) -> float:
    """Seconds that the training of a generation took."""
    return json.loads((run / f"gen{generation}/report.json").read_text())["seconds"]


def run(launcher: list[str], settings: list[str], out: Path, cpu: bool) -> None:
    """Each process takes its share of the cores as threads."""
    root = Path(__file__).resolve().parent.parent
    environment = {**os.environ, **({"ACCELERATE_USE_CPU": "true"} if cpu else {})}
    environment.pop("OMP_NUM_THREADS", None)
    command = [*launcher, "-m", "selftrain.run", *settings, f"out={out}"]
    subprocess.run(command, check=True, cwd=root, env=environment, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
