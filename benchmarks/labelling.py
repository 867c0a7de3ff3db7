"""Pseudo-labelling compared with ttach and pydensecrf, image by image; the CRF alone; the label store.

    python benchmarks/labelling.py [--camvid ROOT] [--out labelling.json]

480x360, 11 classes, 12 views (three scales, both flips), U-Net with ResNet-18 after a short training, default
CRF. The time of the CRF and the size of labels depend on the pictures: drawn ones, or CamVid's test images.
The reference is benchmarks/reference/labelling.py.
"""

import os
import shutil
import tempfile
import time
import zlib
from dataclasses import asdict, dataclass
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pictures
import torch
from reference import labelling as plain
from sides import Row, below, faster, finish, in_turns, parser

from selftrain.config import Config, LabelConfig, TTAConfig
from selftrain.data.cache import Cache
from selftrain.data.load import load
from selftrain.datasets import spec_of
from selftrain.inference import tta, windows
from selftrain.inference.pixels import PixelScale
from selftrain.inference.predictor import Predictor
from selftrain.labels import crf, record, store
from selftrain.models.build import build, to_layout
from selftrain.preflight import accelerator_of, bf16_is_faster
from selftrain.pretraining import SCALE
from selftrain.rng import rekey
from selftrain.settings import compose
from selftrain.stages.pseudo_label import Labeller

SCALES = [0.75, 1.0, 1.25]
LABELS = LabelConfig(tta=TTAConfig(hflip=True, vflip=True, scales=SCALES), shard=8)
CRF = {
    name: value for name, value in asdict(LABELS.crf).items() if name not in ("enabled", "backend", "workers")
}
OURS = crf.CRF(LABELS.crf.backend, **CRF)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--camvid", type=Path, help="data.root of CamVid; without it pictures are drawn")
    arguments = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        known, samples = camvid(arguments.camvid) if arguments.camvid else drawn(Path(folder))
        teacher = trained(known)
        rows = [
            *labelling_rows(samples, teacher, Path(folder), arguments.rounds),
            *crf_rows(samples, teacher, arguments.rounds),
            *store_rows(samples, teacher, Path(folder), arguments.rounds),
        ]
    finish(rows, arguments.out)


def drawn(folder: Path, *, size: tuple[int, int] = pictures.CAMVID) -> tuple[list, list]:
    """Drawn samples to train a teacher on, and 16 for it to label."""
    found = pictures.draw(folder / "drawn", 32, size=size)
    return found[16:], found[:16]


def camvid(root: Path) -> tuple[list, list]:
    """The same from CamVid."""
    data = load(spec_of(compose(["data=camvid", f"data.root={root}"]).data))
    return data.labelled, data.test[:: len(data.test) // 16][:16]


def network() -> torch.nn.Module:
    rekey(0)
    return build("unet", "tu-resnet18", classes=pictures.CLASSES)


def trained(
    samples: list,
    steps: int = 200,
    *,
    crop: tuple[int, int] = (160, 192),
    device: str = "cpu",
) -> torch.nn.Module:
    """A teacher with realistic labels, after some plain training on crops on a device; it is on the CPU."""
    model = to_layout(network()).to(device).train()
    height, width = (whole - part for whole, part in zip(read_size(samples[0]), crop, strict=True))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    rng = np.random.default_rng(0)
    mean, std = (torch.tensor(row, device=device).view(1, 3, 1, 1) for row in (plain.MEAN, plain.STD))
    for _ in range(steps):
        chosen = [samples[i] for i in rng.integers(len(samples), size=8)]
        top, left = rng.integers(height), rng.integers(width)
        pixels, masks = (
            torch.from_numpy(
                np.stack([read(sample)[top : top + crop[0], left : left + crop[1]] for sample in chosen])
            ).to(device)
            for read in (lambda sample: sample.read_image(), lambda sample: sample.read_mask())
        )
        images = (pixels.permute(0, 3, 1, 2) / 255 - mean) / std
        with torch.autocast(device, torch.bfloat16):
            logits = model(images).float()
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits, masks.long(), ignore_index=255).backward()
        optimizer.step()
    return model.to("cpu", memory_format=torch.contiguous_format).eval()


def read_size(sample: Any) -> tuple[int, int]:
    """The height and width of a sample."""
    height, width = sample.read_image().shape[:2]
    return height, width


def labeller(teacher: torch.nn.Module, *, crf_enabled: bool = True) -> Labeller:
    cfg = Config()
    cfg.data.cache_mb = 0
    labels = LabelConfig(tta=LABELS.tta, shard=LABELS.shard)
    labels.crf.enabled = crf_enabled
    accelerator = accelerator_of(cfg)
    scale = PixelScale.of(*SCALE.values(), accelerator.device)
    views, precision = tta.views(**asdict(labels.tta)), accelerator.autocast
    predictor = Predictor((teacher,), scale, windows.of(labels.window), views=views, precision=precision)
    return Labeller(predictor, pictures.CLASSES, labels, Cache(cfg.data.cache_mb), accelerator)


@dataclass(frozen=True)
class Unmasked:
    """An unlabelled image."""

    id: str
    image: Path

    def read_image(self) -> np.ndarray:
        return cv2.cvtColor(cv2.imread(str(self.image)), cv2.COLOR_BGR2RGB)

    def read_mask(self) -> None:
        """An unlabelled image has no mask."""


def unmasked(samples: list) -> list[Unmasked]:
    """Samples of files without their masks."""
    return [Unmasked(sample.id, pictures.files_of(sample)[0]) for sample in samples]


def labelled(network_labeller: Labeller, samples: list[Unmasked], directory: Path) -> store.LabelStore:
    """The labels of all samples, stored in a new directory."""
    directory.mkdir()
    return network_labeller.label(samples, directory, stage="bench", teacher="0" * 64, check=lambda: None)


def labelling_rows(samples: list, teacher: torch.nn.Module, folder: Path, rounds: int) -> list[Row]:
    few = unmasked(samples)
    wrapped = plain.wrap(teacher, SCALES)
    ours_in_layout = to_layout(build_copy(teacher)).eval()
    number = count()

    def label(network_labeller: Labeller) -> store.LabelStore:
        return labelled(network_labeller, few, folder / f"ours-{next(number)}")

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
        [
            (made.read(i).hard == np.load(folder / "npz" / f"{few[i].image.stem}.npz")["hard"]).mean()
            for i in range(len(few))
        ]
    )
    images = [sample.read_image() for sample in few]
    probs = [pictures.probabilities(made.read(i).hard, np.random.default_rng(i)) for i in range(len(few))]
    alone = timed(
        lambda: [crf.marginals(image, one, crf=OURS) for image, one in zip(images, probs, strict=True)]
    )
    shared = alone / len(os.sched_getaffinity(0))
    rates = (len(few) / seconds["ours"], len(few) / seconds["reference"])
    goal = 5 if bf16_is_faster() else 1.3  # most of the gain is that of bf16
    return [
        faster(f"pseudo-labelling ({equal:.1%} of the labels equal)", *rates, "images/s", goal),
        below(
            "pseudo-labelling: wall / max(inference, CRF / cores)",
            seconds["ours"] / max(seconds["inference"], shared),
            "x",
            1.15,
        ),
        below(
            "pseudo-labelling: wall / (inference + CRF / cores)",
            seconds["ours"] / (seconds["inference"] + shared),
            "x",
            1.15,
        ),
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
        return [crf.marginals(image, probs, crf=OURS) for image, probs in pairs]

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
    """Our records with three classes per pixel, against PNGs of hard labels and npz of float16."""
    pairs = [
        (image, crf.marginals(image, probs, crf=OURS)) for image, probs in teacher_says(samples, teacher)
    ]
    records, npz, largest = [], 0, 0.0
    place = folder / "store"
    place.mkdir()
    for i, (_, probs) in enumerate(pairs):
        hard = probs.argmax(axis=0).astype(np.uint8)
        records.append(record.encode(probs, hard, np.rint(255 * probs.max(axis=0)).astype(np.uint8), 3))
        np.savez(place / f"{i}.npz", probs=probs.astype(np.float16))
        npz += (place / f"{i}.npz").stat().st_size
        cv2.imwrite(str(place / f"{i}.png"), hard)
        label = record.decode(records[-1])
        kept = np.take_along_axis(probs, label.classes.astype(np.int64), axis=0)
        largest = max(largest, float(np.abs(kept - label.probs / 255)[label.probs > 0].max()))
    pixels = sum(probs[0].size for _, probs in pairs)
    ours = sum(map(len, records)) / pixels
    streams = [stream for one in records for stream in streams_of(one)]
    seconds = in_turns(
        {
            "ours": lambda: [record.decode(one) for one in records],
            "inflating": lambda: [zlib.decompress(stream) for stream in streams],
            "reference": lambda: [
                cv2.imread(str(place / f"{i}.png"), cv2.IMREAD_UNCHANGED) for i in range(len(pairs))
            ],
        },
        rounds,
    )
    shutil.rmtree(place)
    bytes_a_pixel = {"ours": 8, "inflating": 8, "reference": 1}
    rates = {name: size * pixels / 2**20 / seconds[name] for name, size in bytes_a_pixel.items()}
    return [
        Row("label store", ours, npz / pixels, "bytes a pixel", npz / pixels / ours, ">= 10x", npz / pixels / ours >= 10),
        below("label store: largest error of a stored probability", 255 * largest, "/255", 1.0),
        faster(f"label store: decoding (zlib alone {rates['inflating']:.4g} MB/s), against hard labels as PNG",
               rates["ours"], rates["reference"], "MB/s", 1),
    ]  # fmt: skip


def streams_of(content: bytes) -> list[bytes]:
    """The zlib streams of a record."""
    ends = np.cumsum([record.HEADER.size, *record.HEADER.unpack_from(content)[4:]]).tolist()
    return [content[start:end] for start, end in pairwise(ends) if end > start]


if __name__ == "__main__":
    main()
