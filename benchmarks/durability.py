"""The cost of surviving a kill: durable checkpoints as a share of training time, at the default interval.

    python benchmarks/durability.py [--blocks 8] [--out durability.json]

Steps and saves alternate in one process on the recipe's own network and batch (random pixels), so that both
see the same noise of the machine. A save is everything a run does: copies, sha256, fsync of files and
directory, one rename, and the removal of an older checkpoint. The goal is at most 2 %.
"""

import statistics
import tempfile
import time
from pathlib import Path

import torch
from accelerate import Accelerator
from sides import below, finish, parser
from steps import student

from selftrain import checkpoint
from selftrain.config import Config
from selftrain.data.examples import Batch
from selftrain.models.build import build, parameters
from selftrain.preflight import bf16_is_faster
from selftrain.stages.train import Learner
from selftrain.targets import Target

STEPS = 6  # per block
CLASSES = 11


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--blocks", type=int, default=8)
    arguments.add_argument("--encoder", default=Config().model.encoder)
    arguments = arguments.parse_args()

    cfg = Config()
    accelerator = Accelerator(mixed_precision="bf16" if bf16_is_faster() else "no")
    network = build(cfg.model.arch, arguments.encoder, classes=CLASSES)
    learner = Learner(network, cfg.train, accelerator, steps=cfg.train.steps)
    step = student(cfg, CLASSES, accelerator)
    batch = pixels(cfg).to(accelerator.device)
    steps, saves = [], []
    with tempfile.TemporaryDirectory() as folder:
        for block in range(arguments.blocks + 1):
            for i in range(STEPS):
                began = time.perf_counter()
                learner.step(block * STEPS + i, cfg.train.lr, step, [batch])
                steps.append(time.perf_counter() - began)
            began = time.perf_counter()
            checkpoint.write(Path(folder), learner.checkpoint((block + 1) * STEPS))
            saves.append(time.perf_counter() - began)
    one_step, one_save = statistics.median(steps[STEPS:]), statistics.median(saves[1:])
    cost = 100 * one_save / (cfg.train.checkpoint_every * one_step)
    print(
        f"{arguments.encoder}, {parameters(network) / 1e6:.1f} M parameters: a step {one_step:.3f} s, a save {one_save:.3f} s"
    )
    finish(
        [below(f"durability: a save every {cfg.train.checkpoint_every} steps", cost, "% of training", 2)],
        arguments.out,
    )


def pixels(cfg: Config) -> Batch:
    """A batch of the default size, labelled and pseudo-labelled images alike."""
    known, guessed = cfg.train.labelled_batch, cfg.train.unlabelled_batch
    crop = tuple(cfg.train.crop)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (known + guessed, *crop, 3), generator=generator, dtype=torch.uint8)
    hard = torch.randint(CLASSES, (known + guessed, *crop), generator=generator, dtype=torch.uint8)
    soft = torch.rand(guessed, *crop, CLASSES, generator=generator).permute(0, 3, 1, 2)
    target = Target(hard[known:], torch.ones(guessed, *crop), soft / soft.sum(dim=1, keepdim=True))
    return Batch(images, Target(hard[:known]), target)


if __name__ == "__main__":
    main()
