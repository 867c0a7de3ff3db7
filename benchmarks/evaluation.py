"""Evaluation on masks, compared with a loop over torchmetrics at batch 1.

    python benchmarks/evaluation.py [--camvid ROOT] [--out evaluation.json]

480x360, 11 classes, U-Net with ResNet-18 from random weights, on drawn pictures or CamVid's test images. In
fp32 both sides must agree to 1e-6 over all of them; speed is measured on 24. A run uses bf16 if the machine
supports it.
"""

import tempfile
from functools import partial
from pathlib import Path

import pictures
import torch
from accelerate import Accelerator
from labelling import build_copy, network
from reference import evaluating as plain
from sides import Row, below, faster, finish, in_turns, parser

from selftrain.config import Config
from selftrain.data.cache import Cache
from selftrain.data.load import load
from selftrain.datasets import spec_of
from selftrain.ids import IGNORE
from selftrain.inference import windows
from selftrain.inference.pixels import PixelScale
from selftrain.inference.predictor import Predictor
from selftrain.models.build import to_layout
from selftrain.preflight import accelerator_of, bf16_is_faster
from selftrain.pretraining import SCALE
from selftrain.settings import compose
from selftrain.stages.evaluate import evaluate

SOME = 24


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--camvid", type=Path, help="data.root of CamVid; without it pictures are drawn")
    arguments = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.camvid:
            data = compose(["data=camvid", f"data.root={arguments.camvid}"]).data
            samples, void = load(spec_of(data)).test, data.ignore[0]
        else:
            samples, void = pictures.draw(Path(folder) / "drawn", SOME), IGNORE
        rows = compare(samples, void, arguments.rounds)
    finish(rows, arguments.out)


def compare(samples: list, void: int, rounds: int) -> list[Row]:
    """`void`: the value of pixels without a class in the mask files; samples read it as 255."""
    cfg = Config()
    contiguous = network()
    ours_in_layout = to_layout(build_copy(contiguous)).eval()
    cfg.data.cache_mb = 0
    names = [f"c{i}" for i in range(pictures.CLASSES)]

    def ours(seen: list, accelerator: Accelerator) -> float:
        scale = PixelScale.of(*SCALE.values(), accelerator.device)
        predictor = Predictor(
            (ours_in_layout,), scale, windows.of(cfg.labels.window), precision=accelerator.autocast
        )
        found = evaluate(
            [(predictor, seen)],
            names,
            batch=cfg.train.eval_batch,
            cache=Cache(cfg.data.cache_mb),
            accelerator=accelerator,
        )
        return found["miou"]

    def reference(seen: list) -> float:
        return plain.miou(contiguous, [pictures.files_of(sample) for sample in seen], pictures.CLASSES, void)

    automatic, exact = accelerator_of(cfg), accelerator_of(cfg)
    exact.autocast = lambda: torch.autocast("cpu", enabled=False)  # accelerate has one precision per process
    sides = {
        "ours": lambda seen: ours(seen, automatic),
        "fp32": lambda seen: ours(seen, exact),
        "reference": reference,
    }
    some = samples[:: len(samples) // SOME][:SOME]
    seconds = in_turns({name: partial(side, some) for name, side in sides.items()}, rounds)
    rates = {name: len(some) / value for name, value in seconds.items()}
    found = {name: side(samples) for name, side in sides.items()}
    name = f"evaluation, bf16 (mIoU differs by {abs(found['ours'] - found['reference']):.1e})"
    in_bf16 = faster(name, rates["ours"], rates["reference"], "images/s", 3)
    return [
        *([in_bf16] if bf16_is_faster() else []),
        faster("evaluation, fp32", rates["fp32"], rates["reference"], "images/s", 1),
        below(f"evaluation, fp32: difference of the mIoU over {len(samples)} images",
              abs(found["fp32"] - found["reference"]), "mIoU", 1e-6),
    ]  # fmt: skip


if __name__ == "__main__":
    main()
