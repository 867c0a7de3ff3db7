"""Pseudo-labelling against ttach's wrapper and pydensecrf, image after image; the CRF alone; the label store.

    python benchmarks/labelling.py [--images DIR] [--out labelling.json]

480x360, 11 classes, 12 views (three scales, both flips), U-Net with ResNet-18 in random weights, CRF of the defaults. DIR may
hold CamVid's images: how long a CRF takes depends on the picture. The reference is benchmarks/reference/labelling.py.
"""

import os
import shutil
import tempfile
import time
from dataclasses import asdict
from itertools import count
from pathlib import Path

import cv2
import numpy as np
import pictures
import torch
from reference import labelling as plain
from sides import Row, below, faster, finish, in_turns, parser

from selftrain.config import Config, LabelConfig, TTAConfig
from selftrain.data.batches import Cache
from selftrain.labels import crf, store
from selftrain.models.build import build, to_layout
from selftrain.preflight import accelerator_of
from selftrain.rng import rekey
from selftrain.stages.pseudo_label import Labeller

SCALES = [0.75, 1.0, 1.25]
LABELS = LabelConfig(tta=TTAConfig(hflip=True, vflip=True, scales=SCALES), shard=4, batch=4)
CRF = {name: value for name, value in asdict(LABELS.crf).items() if name not in ("enabled", "workers")}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--images", type=Path, help="a folder of 480x360 images; without it they are drawn")
    arguments = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        drawn = pictures.draw(Path(folder) / "drawn", 16)
        samples = (
            [pictures.Picture(path, path) for path in sorted(arguments.images.iterdir())[::20][:16]]
            if arguments.images
            else drawn
        )
        teacher = network()
        rows = [
            *labelling_rows(samples, teacher, Path(folder), arguments.rounds),
            *crf_rows(samples, teacher, arguments.rounds),
            *store_rows(samples, teacher, Path(folder), arguments.rounds),
        ]
    finish(rows, arguments.out)


def network() -> torch.nn.Module:
    """A teacher whose labels look like labels: the last layer's random scores, made decisive."""
    rekey(0)
    network = build("unet", "tu-resnet18", classes=pictures.CLASSES)
    with torch.no_grad():
        network.train()(torch.rand(8, 3, 192, 256))  # statistics for batch norm
        network.segmentation_head[0].weight *= 8
    return network.eval()


def labeller(teacher: torch.nn.Module, *, crf_enabled: bool = True) -> Labeller:
    cfg = Config()
    mean, std = (255 * torch.tensor(row).view(1, 3, 1, 1) for row in (cfg.data.mean, cfg.data.std))
    labels = LabelConfig(tta=LABELS.tta, shard=LABELS.shard, batch=LABELS.batch)
    labels.crf.enabled = crf_enabled
    return Labeller(teacher, pictures.CLASSES, labels, mean, std, accelerator_of(cfg), Cache(0))


class Unmasked(pictures.Picture):
    def read_mask(self) -> None:
        """An unlabelled image has none."""


def labelling_rows(samples: list, teacher: torch.nn.Module, folder: Path, rounds: int) -> list[Row]:
    unlabelled = [Unmasked(sample.image, sample.mask) for sample in samples]
    few = unlabelled[:8]
    wrapped = plain.wrap(teacher, SCALES)
    ours_in_layout = to_layout(build_copy(teacher)).eval()
    number = count()

    def label(network_labeller: Labeller) -> store.LabelStore:
        directory = folder / f"ours-{next(number)}"
        directory.mkdir()
        return network_labeller.label(few, directory, stage="bench", teacher="0" * 64, check=lambda: None)

    whole, bare = labeller(ours_in_layout), labeller(ours_in_layout, crf_enabled=False)
    seconds = in_turns(
        {
            "ours": lambda: label(whole),
            "inference": lambda: label(bare),
            "reference": lambda: plain.label(wrapped, [sample.image for sample in few], folder / "npz", CRF),
        },
        rounds,
    )
    made = label(whole)
    equal = np.mean(
        [(made.read(i).hard == np.load(folder / "npz" / f"{few[i].image.stem}.npz")["hard"]).mean() for i in range(len(few))]
    )
    images = [sample.read_image() for sample in few]
    probs = [pictures.probabilities(made.read(i).hard, np.random.default_rng(i)) for i in range(len(few))]
    alone = timed(lambda: [crf.refine(image, one, **CRF) for image, one in zip(images, probs, strict=True)])
    limit = max(seconds["inference"], alone / len(os.sched_getaffinity(0)))
    rates = (len(few) / seconds["ours"], len(few) / seconds["reference"])
    return [
        faster(f"pseudo-labelling ({equal:.1%} of the labels equal)", *rates, "images/s", 5),
        below("pseudo-labelling: wall / max(inference alone, CRF alone / cores)", seconds["ours"] / limit, "x", 1.15),
    ]


def build_copy(teacher: torch.nn.Module) -> torch.nn.Module:
    copy = build("unet", "tu-resnet18", classes=pictures.CLASSES)
    copy.load_state_dict(teacher.state_dict())
    return copy


def timed(function) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def teacher_says(samples: list, teacher: torch.nn.Module) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs of an image (H, W, 3) and probabilities (C, H, W)."""
    mean, std = (torch.tensor(row).view(3, 1, 1) for row in (plain.MEAN, plain.STD))
    pairs = []
    for sample in samples:
        image = sample.read_image()
        with torch.inference_mode():
            pixels = (torch.from_numpy(image).permute(2, 0, 1) / 255 - mean) / std
            pairs.append((image, plain.Padded(teacher)(pixels[None])[0].numpy()))
    return pairs


def crf_rows(samples: list, teacher: torch.nn.Module, rounds: int) -> list[Row]:
    pairs = teacher_says(samples[:4], teacher)
    torch.set_num_threads(1)

    def ours() -> list[np.ndarray]:
        return [crf.refine(image, probs, **CRF) for image, probs in pairs]

    def reference() -> list[np.ndarray]:
        return [plain.refine(image, probs, **CRF) for image, probs in pairs]

    equal = np.mean([(a.argmax(0) == b.argmax(0)).mean() for a, b in zip(ours(), reference(), strict=True)])
    seconds = in_turns({"ours": ours, "reference": reference}, rounds)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    row = faster(
        f"CRF ({equal:.2%} of the labels equal)",
        *(len(pairs) / seconds[name] for name in ("ours", "reference")),
        "images/s of a core",
        2,
    )
    return [row]


def store_rows(samples: list, teacher: torch.nn.Module, folder: Path, rounds: int) -> list[Row]:
    """One side: our records with three classes a pixel. The other: hard labels as PNG, probabilities as npz of float16."""
    pairs = [(image, crf.refine(image, probs, **CRF)) for image, probs in teacher_says(samples, teacher)]
    records, npz, largest = [], 0, 0.0
    place = folder / "store"
    place.mkdir()
    for i, (_, probs) in enumerate(pairs):
        hard = probs.argmax(axis=0).astype(np.uint8)
        records.append(store.encode(probs, hard, np.rint(255 * probs.max(axis=0)).astype(np.uint8), 3))
        np.savez(place / f"{i}.npz", probs=probs.astype(np.float16))
        npz += (place / f"{i}.npz").stat().st_size
        cv2.imwrite(str(place / f"{i}.png"), hard)
        label = store.decode(records[-1])
        kept = np.take_along_axis(probs, label.classes.astype(np.int64), axis=0)
        largest = max(largest, float(np.abs(kept - label.probs / 255)[label.probs > 0].max()))
    pixels = sum(probs[0].size for _, probs in pairs)
    ours = sum(map(len, records)) / pixels
    seconds = in_turns(
        {
            "ours": lambda: [store.decode(record) for record in records],
            "reference": lambda: [cv2.imread(str(place / f"{i}.png"), cv2.IMREAD_UNCHANGED) for i in range(len(pairs))],
        },
        rounds,
    )
    shutil.rmtree(place)
    decoded = [pixels * 8 / 2**20 / seconds["ours"], pixels / 2**20 / seconds["reference"]]  # 8 bytes a pixel, and 1
    return [
        Row("label store", ours, npz / pixels, "bytes a pixel", npz / pixels / ours, ">= 10x", npz / pixels / ours >= 10),
        below("label store: largest error of a stored probability", 255 * largest, "/255", 1.0),
        faster("label store: decoding, against hard labels as PNG", *decoded, "MB/s", 1),
    ]


if __name__ == "__main__":
    main()
