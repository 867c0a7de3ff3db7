"""A student's training compared with a plain loop: whole steps, the input alone, and our overhead.

    python benchmarks/training.py [--out training.json]

Both sides: 8 labelled and 16 pseudo-labelled crops of 192x256 out of 480x360 pictures, U-Net with ResNet-18,
RandAugment, CutMix, dropout, stochastic depth, soft labels of 11 classes, KL, label smoothing, gradient
clipping, AdamW, EMA. The reference is benchmarks/reference/training.py. Both load in the training process,
which is fastest on two cores.
"""

import tempfile
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pictures
import torch
from accelerate import Accelerator
from reference import training as plain
from sides import apart, below, faster, finish, in_turns, parser
from steps import scale, student

from selftrain.augmentation import mixers
from selftrain.config import Config, NoiseConfig, SelectConfig
from selftrain.data import batches
from selftrain.data.augment.colour import jitter
from selftrain.data.augment.geometry import flip
from selftrain.data.augment.pipeline import Pipeline
from selftrain.data.augment.randaugment import RandAugment
from selftrain.data.cache import Cache
from selftrain.data.examples import Batch
from selftrain.data.labels import MaskLabels
from selftrain.data.loading import loader
from selftrain.labels import store
from selftrain.labels.labelled import label_image
from selftrain.labels.refiners import unrefined
from selftrain.methods.self_training import SelfTraining
from selftrain.models.build import build, to_layout
from selftrain.optim.schedules import cosine, lr_at
from selftrain.preflight import accelerator_of
from selftrain.rng import rekey
from selftrain.stages.select import select
from selftrain.stages.train import Learner
from selftrain.tables import Chosen
from selftrain.targets import Target

KNOWN, GUESSED, CROP = 8, 16, (192, 256)
STEPS = 10_000  # of the schedule; far fewer are taken
NAMES = [f"c{i}" for i in range(pictures.CLASSES)]


def main() -> None:
    arguments = parser(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Data(Path(folder))
        rows = [
            step_row(data, arguments.rounds),
            pipeline_row(data, arguments.rounds),
            overhead_row(arguments.rounds),
        ]
    finish(rows, arguments.out)


class Data:
    """Pictures on disk with a teacher's labels, in the format of each side.

    Steps see crops of `crop`, (height, width), out of pictures of `size`. `counts` are the numbers of labelled
    and unlabelled pictures.
    """

    def __init__(
        self,
        root: Path,
        *,
        counts: tuple[int, int] = (24, 64),
        size: tuple[int, int] = pictures.CAMVID,
        crop: tuple[int, int] = CROP,
    ):
        self.root, self.crop = root, crop
        there = (root / "store").exists()
        self.labelled, self.unlabelled = (
            pictures.find(root / name) if there else pictures.draw(root / name, count, size=size)
            for name, count in zip(("labelled", "unlabelled"), counts, strict=True)
        )
        self.npz = [root / f"{picture.id}.npz" for picture in self.unlabelled]
        if not there:
            self._label(root / "store")
        self.selected = select(
            store.LabelStore(root / "store"),
            self.unlabelled,
            NAMES,
            SelectConfig(),
            generation=0,
            known=np.ones(len(NAMES)),
        )

    def _label(self, directory: Path) -> None:
        """A plausible teacher's prediction, for both sides."""
        rng = np.random.default_rng(0)
        probs = [pictures.probabilities(picture.read_mask(), rng) for picture in self.unlabelled]
        for path, one in zip(self.npz, probs, strict=True):
            np.savez(path, probs=one.astype(np.float16))
        images = [picture.read_image() for picture in self.unlabelled]
        pairs = zip(images, probs, strict=True)
        labels = [label_image(image, one, refiner=unrefined, soft_classes=3) for image, one in pairs]
        ids = [picture.id for picture in self.unlabelled]
        origin = store.Origin("0" * 64, pictures.CLASSES, soft_classes=3)
        directory.mkdir()
        store.write_shard(store.shard_path(directory, 0), labels, ids, origin)
        store.finish(directory, ids, origin, shard=len(ids))

    def ours(self, first: int, steps: int, workers: int = 0):
        """Our batches, loaded by the training process or by `workers` others."""
        weak = Pipeline(
            crop=self.crop,
            scale=(0.75, 1.5),
            geometry=(Chosen("flip", flip, 0.5, {}),),
            always=(Chosen("jitter", jitter, 1.0, {"strength": 0.3}),),
        )
        strong = replace(weak, randaugment=RandAugment(2, 10))
        dataset = batches.StepDataset(
            MaskLabels(self.labelled, self.cache.mask),
            self.unlabelled,
            self.selected,
            sizes=(KNOWN, GUESSED),
            augmentation=batches.Augmentation(weak, strong, mixers(NoiseConfig(cutmix=0.6))),
            cache=self.cache,
            keys=(0, "gen1"),
        )
        return loader(dataset, first=first, steps=first + steps, rank=0, world=1, workers=workers)

    cache = Cache(1024)

    def theirs(self):
        """The reference's batches, endless.

        Loader processes made it slower on two cores (2.9 images/s; 3.5 without).
        """
        labelled = plain.Labelled([p.image for p in self.labelled], [p.mask for p in self.labelled], CROP)
        images = [p.image for p in self.unlabelled]
        pseudo = plain.PseudoLabelled(images, self.npz, CROP, self.selected.thresholds)
        for known, guessed in zip(
            *map(plain.forever, plain.loaders(labelled, pseudo, (KNOWN, GUESSED), workers=0)), strict=True
        ):
            yield known, plain.cutmix(guessed, 0.6)


def network() -> torch.nn.Module:
    rekey(0)
    return build("unet", "tu-resnet18", classes=pictures.CLASSES, dropout=0.1, drop_path=0.1)


def learner(model: torch.nn.Module, accelerator: Accelerator) -> tuple[Learner, SelfTraining]:
    cfg = Config()
    mine = Learner(model, cfg.train, accelerator, steps=STEPS)
    return mine, student(cfg, pictures.CLASSES, accelerator)


def step_row(data: Data, rounds: int, steps: int = 3):
    cfg = Config()
    accelerator = accelerator_of(cfg)
    mine, step = learner(network(), accelerator)
    taken = count(0, steps)

    def rate(t: int) -> float:
        return lr_at(t, STEPS, [], lr=cfg.train.lr, warmup=cfg.train.warmup, schedule=cosine)

    def ours() -> None:
        first = next(taken)
        for t, batch in enumerate(data.ours(first, steps), start=first):
            rekey(0, "gen1", t, 0)
            mine.step(t, rate(t), step, [batch])

    with apart(plain_steps, data.root, steps) as reference:
        seconds = in_turns({"ours": ours, "reference": reference}, rounds)
    images = steps * (KNOWN + GUESSED)
    goal = 4 if torch.cpu._is_amx_tile_supported() else 1.3
    return faster("student step", images / seconds["ours"], images / seconds["reference"], "images/s", goal)


def plain_steps(root: Path, steps: int):
    """The reference, in a separate process."""
    loop, theirs = plain.Loop(network()), Data(root).theirs()

    def side() -> None:
        for _ in range(steps):
            loop.step(*next(theirs))

    return side


def pipeline_row(data: Data, rounds: int, steps: int = 6):
    """On one core each: no loader process, one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    taken, theirs = count(0, steps), data.theirs()

    def ours() -> None:
        for _ in data.ours(next(taken), steps):
            pass

    def reference() -> None:
        for _ in range(steps):
            next(theirs)

    seconds = in_turns({"ours": ours, "reference": reference}, rounds)
    torch.set_num_threads(threads)
    return faster("input pipeline", steps / seconds["ours"], steps / seconds["reference"], "batches/s", 3)


def overhead_row(rounds: int, steps: int = 20):
    """The smallest network that we train, which shows overhead most clearly."""
    cfg = Config()
    accelerator = accelerator_of(cfg)

    def small() -> torch.nn.Module:
        rekey(0)
        return build("unet", "tu-resnet10t", classes=pictures.CLASSES, decoder_channels=[64, 48, 32, 16, 16])

    mine, step = learner(small(), accelerator)
    bare = Bare(small(), accelerator)
    generator = torch.Generator().manual_seed(0)
    shape = (KNOWN + GUESSED, 64, 96)
    hard = torch.randint(pictures.CLASSES, shape, generator=generator, dtype=torch.uint8)
    images = torch.randint(256, (*shape, 3), generator=generator, dtype=torch.uint8)
    soft = torch.rand(GUESSED, *shape[1:], pictures.CLASSES, generator=generator).permute(0, 3, 1, 2)
    soft, weight = soft / soft.sum(1, keepdim=True), torch.ones(GUESSED, *shape[1:])
    batch = Batch(images, Target(hard[:KNOWN]), Target(hard[KNOWN:], weight, soft))
    mean, std = scale()
    tensors = (images.permute(0, 3, 1, 2).float().sub(mean).div(std), hard.long(), soft, weight)
    taken = count()
    each: dict[str, list[float]] = {"ours": [], "reference": []}
    for _ in range(rounds):
        t = next(taken)
        sides = {
            "ours": lambda t=t: mine.step(t, 1e-3, step, [batch]),
            "reference": lambda: bare.step(*tensors),
        }
        seconds = in_turns(sides, steps)
        for name, value in seconds.items():
            each[name].append(value)
    ours, reference = (float(np.median(values)) for values in each.values())
    return below("framework overhead", 100 * (ours / reference - 1), "%", 3)


class Bare:
    """The same step without a framework: nothing but the arithmetic, in the same dtype and layout."""

    def __init__(self, model: torch.nn.Module, accelerator: Accelerator):
        self.model = to_layout(model).train()
        self.bf16 = accelerator.mixed_precision == "bf16"
        self.averaged = [parameter.detach().clone() for parameter in self.model.parameters()]
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, fused=True)

    def step(
        self, images: torch.Tensor, hard: torch.Tensor, soft: torch.Tensor, weight: torch.Tensor
    ) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            logits = self.model(images).float()
        loss = torch.nn.functional.cross_entropy(
            logits[:KNOWN], hard[:KNOWN], ignore_index=255, label_smoothing=0.1
        )
        log_probs = logits[KNOWN:].log_softmax(dim=1)
        loss = (
            loss
            + ((soft * (soft.clamp_min(1e-9).log() - log_probs)).sum(dim=1) * weight).sum() / weight.sum()
        )
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        torch._foreach_lerp_(self.averaged, list(self.model.parameters()), 0.01)


if __name__ == "__main__":
    main()
