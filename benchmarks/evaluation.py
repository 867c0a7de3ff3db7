"""Measuring a network against masks, against a loop over torchmetrics at batch 1.

    python benchmarks/evaluation.py [--out evaluation.json]

480x360, 11 classes, U-Net with ResNet-18 in random weights. In fp32 both sides must agree to 1e-6; a run computes in bf16
where the machine does.
"""

import tempfile
from pathlib import Path

import pictures
import torch
from accelerate import Accelerator
from labelling import build_copy, network
from reference import evaluating as plain
from sides import Row, below, faster, finish, in_turns, parser

from selftrain.config import Config
from selftrain.models.build import to_layout
from selftrain.preflight import accelerator_of
from selftrain.stages.evaluate import evaluate
from selftrain.stages.inference import Inference


def main() -> None:
    arguments = parser(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        samples = pictures.draw(Path(folder) / "drawn", 24)
        rows = compare(samples, arguments.rounds)
    finish(rows, arguments.out)


def compare(samples: list[pictures.Picture], rounds: int) -> list[Row]:
    cfg = Config()
    contiguous = network()
    ours_in_layout = to_layout(build_copy(contiguous)).eval()
    cfg.data.cache_mb = 0
    names = [f"c{i}" for i in range(pictures.CLASSES)]
    found: dict[str, float] = {}

    def ours(name: str, accelerator: Accelerator) -> None:
        inference = Inference.of(cfg.data, cfg.labels.window, accelerator)
        scores = evaluate(ours_in_layout, samples, names, inference, batch=cfg.train.eval_batch)
        found[name] = scores["miou"]

    def reference() -> None:
        found["reference"] = plain.miou(contiguous, [(sample.image, sample.mask) for sample in samples], pictures.CLASSES)

    automatic, exact = accelerator_of(cfg), accelerator_of(cfg)
    exact.autocast = lambda: torch.autocast("cpu", enabled=False)  # accelerate keeps one precision per process
    sides = {"ours": lambda: ours("ours", automatic), "fp32": lambda: ours("fp32", exact), "reference": reference}
    seconds = in_turns(sides, rounds)
    rates = {name: len(samples) / value for name, value in seconds.items()}
    return [
        faster(f"evaluation, {automatic.mixed_precision} (mIoU differs by {abs(found['ours'] - found['reference']):.1e})",
               rates["ours"], rates["reference"], "images/s", 3),
        faster("evaluation, fp32", rates["fp32"], rates["reference"], "images/s", 1),
        below("evaluation, fp32: difference of the mIoU", abs(found["fp32"] - found["reference"]), "mIoU", 1e-6),
    ]  # fmt: skip


if __name__ == "__main__":
    main()
