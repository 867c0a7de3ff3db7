"""The parts of benchmarks/gpu.py that measure: evaluation on both devices, and the speed of training and labelling."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import count, repeat
from pathlib import Path
from typing import Any

import labelling
import numpy as np
import pictures
import torch
import training
from accelerate import Accelerator
from gpu_runs import Check
from sides import Row, below, measured

from selftrain import checkpoint
from selftrain.config import Config
from selftrain.data import loading
from selftrain.inference import windows
from selftrain.inference.pixels import PixelScale
from selftrain.inference.predictor import Predictor
from selftrain.labels import crf, store
from selftrain.labels.labelled import label_image
from selftrain.labels.refiners import unrefined
from selftrain.models.build import to_layout
from selftrain.preflight import accelerator_of
from selftrain.pretraining import SCALE
from selftrain.rng import rekey
from selftrain.stages.evaluate import Scores
from selftrain.stages.pseudo_label import Labeller

SMALL, SMALL_CROP = (64, 80), (32, 32)  # of pictures where only the code matters
# largest differences to fp32 on the CPU: of the pixels (%), of the mIoU
LIMITS = {"fp32": (0.1, 0.001), "bf16": (2.0, 0.02)}


def teacher_of(check: Check) -> tuple[torch.nn.Module, list]:
    """A teacher on the CPU, after some training on the device, and 16 drawn pictures with masks."""
    if not check.small:
        known, samples = labelling.drawn(check.folder)
        return labelling.trained(known, device=check.device), samples
    known, samples = labelling.drawn(check.folder, size=SMALL)
    return labelling.trained(known, steps=2, crop=SMALL_CROP), samples[:2]


def parity_rows(check: Check) -> Iterator[Row]:
    """The evaluation of a network on the device against fp32 on the CPU."""
    teacher, samples = teacher_of(check)
    cpu, device = torch.device("cpu"), torch.device(check.device)
    expected = predictor_of(teacher, cpu)
    exact = predictor_of(labelling.build_copy(teacher), device)
    yield from parity(
        f"evaluation in fp32, {check.device} against cpu", exact, expected, samples, *LIMITS["fp32"]
    )
    if check.gpu:
        accelerator = accelerator_of(Config())
        half = predictor_of(labelling.build_copy(teacher), device, accelerator)
        name = f"evaluation in {accelerator.mixed_precision}, {check.device} against fp32 on cpu"
        yield from parity(name, half, expected, samples, *LIMITS["bf16"])


def predictor_of(
    network: torch.nn.Module, device: torch.device, accelerator: Accelerator | None = None
) -> Predictor:
    """A predictor on a device, in fp32 or in the precision of the accelerator."""
    more = {"precision": accelerator.autocast} if accelerator else {}
    scale, window = PixelScale.of(*SCALE.values(), device), windows.of(0)
    return Predictor((to_layout(network).to(device),), scale, window, **more)


def parity(
    what: str, ours: Predictor, reference: Predictor, samples: Sequence[Any], pixels: float, miou: float
) -> list[Row]:
    """How far two predictors and their scores are apart on samples with masks; `pixels` in %, `miou`: limits."""
    scores = [Scores(pictures.CLASSES, side.scale.device) for side in (ours, reference)]
    other, largest = [], 0.0
    for sample in samples:
        image, mask = sample.read_image()[None], torch.from_numpy(sample.read_mask()[None])
        both = []
        for side, counts in zip((ours, reference), scores, strict=True):
            probs = side.probabilities(image)
            label = side.decision(probs)
            counts.add(probs, label, mask.to(probs.device), [0])
            both.append((probs.float().cpu(), label.cpu()))
        other.append(float((both[0][1] != both[1][1]).double().mean()))
        largest = max(largest, float((both[0][0] - both[1][0]).abs().max()))
    names = [f"c{number}" for number in range(pictures.CLASSES)]
    found = [side.report(names)["miou"] for side in scores]
    return [
        below(f"{what}: pixels with another class", 100 * float(np.mean(other)), "%", pixels),
        below(f"{what}: difference of the mIoU", abs(found[0] - found[1]), "mIoU", miou),
        measured(f"{what}: largest difference of a probability", largest, ""),
    ]


def finish() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds_of(work: Callable[[], object]) -> float:
    """Seconds of `work`, the second time: the first one prepares kernels and memory."""
    work()
    finish()
    began = time.perf_counter()
    work()
    finish()
    return time.perf_counter() - began


def rate(batches: Iterable[Any], work: Callable[[Any], object], skip: int) -> float:
    """Batches per second, after the first `skip` of them: they start loader processes and prepare kernels."""
    began, number = 0.0, 0
    for number, batch in enumerate(batches, start=1):
        work(batch)
        if number == skip:
            finish()
            began = time.perf_counter()
    finish()
    return (number - skip) / (time.perf_counter() - began)


def training_rows(check: Check) -> Iterator[Row]:
    """The student step of benchmarks/training.py: with its input, the input alone, the network alone, and the disk."""
    workers, few = (1, 2) if check.small else (min(8, len(os.sched_getaffinity(0))), 12)
    many, ready = few * workers, (loading.PREFETCH * workers + 1 if not check.small else 1)
    sizes = {"counts": (8, 16), "size": SMALL, "crop": SMALL_CROP} if check.small else {}
    data = training.Data(check.folder / "training", **sizes)
    accelerator = accelerator_of(Config())
    mine, step = training.learner(training.network(), accelerator)
    number = count()

    def take(batch: Any) -> None:
        t = next(number)
        rekey(0, "gen1", t, 0)
        mine.step(t, 1e-4, step, [batch.to(accelerator.device)])

    def images(batches: Iterable[Any], work: Callable[[Any], object], skip: int) -> float:
        return (training.KNOWN + training.GUESSED) * rate(batches, work, skip)

    alone = images(data.ours(0, few), take, 1)
    yield measured("training, images loaded by the training process", alone, "images/s")
    whole = images(data.ours(0, many, workers), take, ready)
    yield measured(f"training, loader processes: {workers}", whole, "images/s")
    reading = images(data.ours(0, many, workers), lambda batch: None, ready)
    yield measured(f"training: the input alone, loader processes: {workers}", reading, "images/s")
    (batch,) = data.ours(0, 1)
    network = images(repeat(batch.to(accelerator.device), few), take, 1)
    yield measured("training: the network alone", network, "images/s")
    waits = 100 * max(1 - whole / network, 0)
    yield measured(f"training: time that waits for images, loader processes: {workers}", waits, "%")
    saved = seconds_of(lambda: checkpoint.write(check.folder / "checkpoints", mine.checkpoint(next(number))))
    yield measured("training: a checkpoint on disk", saved, "s")
    if check.gpu:
        yield measured("training: memory of the GPU", torch.cuda.max_memory_reserved() / 1e9, "GB")


def labelling_rows(check: Check) -> Iterator[Row]:
    """Labelling with 12 views, as in benchmarks/labelling.py: with and without the CRF, and its parts alone."""
    teacher, samples = teacher_of(check)
    few, places = labelling.unmasked(samples), count()
    teacher = to_layout(teacher).to(check.device).eval()
    whole, bare = (labelling.labeller(teacher, crf_enabled=enabled) for enabled in (True, False))

    def label(labeller: Labeller) -> None:
        labelling.labelled(labeller, few, check.folder / f"labels-{next(places)}")

    for name, labeller in (("with", whole), ("without", bare)):
        took = seconds_of(partial(label, labeller))
        yield measured(f"labelling with 12 views, {name} the CRF", len(few) / took, "images/s")
    yield from apart(bare.predictor, few, check.folder)


def apart(predictor: Predictor, samples: Sequence[labelling.Unmasked], folder: Path) -> list[Row]:
    """Milliseconds of an image for each part of labelling, alone: data, network, CRF, encoding, disk."""
    images = [sample.read_image() for sample in samples]
    quick, ids = predictor.quickest(images[0]), [sample.id for sample in samples]
    probs = [quick.probabilities(image[None])[0].cpu().numpy() for image in images]
    pairs = list(zip(images, probs, strict=True))

    def encoded() -> list[Any]:
        return [label_image(*pair, refiner=unrefined, soft_classes=3) for pair in pairs]

    labels, origin = encoded(), store.Origin("0" * 64, pictures.CLASSES, soft_classes=3)
    (folder / "disk").mkdir()
    works = {
        "data: reading": lambda: [sample.read_image() for sample in samples],
        "network: 12 views": lambda: [quick.probabilities(image[None]).cpu() for image in images],
        "CRF, of one core": lambda: [crf.marginals(*pair, crf=labelling.OURS) for pair in pairs],
        "encoding, of one core": encoded,
        "disk: writing": lambda: store.write_shard(store.shard_path(folder / "disk", 0), labels, ids, origin),
    }
    each = {name: 1000 * seconds_of(work) / len(samples) for name, work in works.items()}
    cores = len(os.sched_getaffinity(0))
    each[f"CRF, shared by {cores} cores"] = each["CRF, of one core"] / cores
    return [measured(f"labelling, {name}", value, "ms an image") for name, value in each.items()]
