"""Drawn combinations of the settings of docs/craft.md, at the size of tiny networks and images.

A combination has one or two choices of each of several items, so that settings meet which no other test joins.
`{files}` is the folder of the drawn data set, and `{earlier}` an earlier run.
"""

import random
from pathlib import Path

import numpy as np
from PIL import Image

from selftrain.data.sources.shapes import CLASSES, draw
from selftrain.data.suspects import Suspect, written

SMALL = [
    "data=folder", "data.root={files}", f"data.classes=[{','.join(CLASSES)}]", "data.size=[32,32]", "data.unlabelled=more",
    "data.tags=tags.csv", "data.splits.train=train", "data.splits.val=val", "data.splits.test=test", "model.decoder_channels=[8,8,8,8]",
    "train.steps=6", "train.warmup=1", "train.checkpoint_every=2", "train.eval_every=2", "train.statistics=1", "labels.shard=4",
    "select.confidence=0.5",
]  # fmt: skip
COUNTS = {"train": 8, "val": 20, "test": 2}  # 20: the least number of val images that decisions are tuned on
UNLABELLED = 6
UNCHANGED = [  # no step changes an image
    "train.freeze=always", "train.scale=[1,1]", "train.flip=false", "train.jitter=0", "generations.1.noise.labelled=false",
    "generations.1.noise.rand_n=0", "generations.1.noise.style=0", "generations.1.noise.colour=0", "generations.1.noise.cutmix=0",
    "generations.1.noise.paste=0", "generations.1.noise.drop_path=0",
]  # fmt: skip
PLAIN = ["model.decoder_channels=[]", "generations.1.noise.drop_path=0"]
VGG = ["model.encoder=tu-vgg16_bn", *PLAIN]

ITEMS: dict[str, list[list[str]]] = {
    "augmentation": [
        ["generations.1.noise.geometry={vflip: 0.3, rotate90: 0.3, rotate: 0.5, affine: {p: 0.5, shear: 0.2, shift: 0.1}}"],
        ["generations.1.noise.colours={brightness: 0.5, contrast: 0.5, saturation: 0.5, hue: 0.5, noise: 0.5, jpeg: 0.5}"],
        ["generations.1.noise.erase={cutout: 0.5}"],
        ["generations.1.noise.erase={coarse_dropout: 0.5, gridmask: {p: 0.5, keep_labels: true}}"],
        ["generations.1.noise.rand_n=0", "generations.1.noise.policy={randaugment: 0.5}"],
        ["generations.0.noise.labelled=true", "generations.0.noise.policy={trivial: 0.5}"],
        ["generations.1.noise.policy={autoaugment: 0.5}"],
        ["generations.1.noise.cutmix=0", "generations.1.noise.mix={mixup: {p: 0.5, alpha: 0.4}, classmix: 0.5}"],
        ["generations.1.noise.mix={snapmix: 0.5}"],
        ["generations.0.noise.mix_labelled={mixup: 0.4, cutmix: 0.3, classmix: 0.3}"],
        ["train.place={non_empty: {tries: 2, stored: true}}"],
        ["train.sampler={by_class: {share: 0.5}}"],
        ["generations.1.online=fixmatch", "loss.threshold=0.2"],
        ["generations.1.online=unimatch_v2", "generations.1.noise.mix={snapmix: 0.5}", "loss.threshold=0.2"],
        ["generations.1.online=cps", "loss.threshold=0.2"],
    ],
    "architectures": [
        ["model.arch=unetplusplus"],
        ["model.arch=manet"],
        ["model.arch=linknet", "model.decoder_channels=[]"],
        ["model.arch={fcn16s: {width: 0.0625}}", *VGG],
        ["model.arch=pspnet", "model.decoder_channels=[]"],
        ["model.arch=deeplabv3plus", "model.decoder_channels=[]"],
        ["model.arch=segformer", "model.decoder_channels=[]"],
        ["model.encoder=tu-test_vit", "model.arch={slim_dpt: {width: 0.25}}", *PLAIN],
        ["generations.1.encoder=tu-test_efficientnet"],
        ["model.arch={segnet: {width: 0.0625}}", *VGG],
        ["model.arch={fcn8s: {width: 0.0625}}", "generations.1.arch={fcn8s: {width: 0.125}}", *VGG],
        ["model.arch={deeplabv2: {width: 0.0625}}", *VGG],
        ["model.arch={deeplabv1: {width: 0.0625}}", *VGG],
    ],
    "transfer": [
        ["train.freeze=2", "train.encoder_lr=0.5", "train.layer_decay=0.9"],
        ["train.freeze=always", "generations.1.noise.drop_path=0"],
        ["train.feature_mb=100", *UNCHANGED],
        ["model.weights=run:{earlier}"],
        ["generations.1.init=teacher"],
    ],
    "optimisation": [
        ["train.optimizer=sgd", "train.lookahead=2", "train.lookahead_alpha=0.6"],
        ["train.optimizer=adan", "train.precision=bf16"],
        ["train.optimizer=lamb", "train.accumulate=2", "train.clip=0.1", "train.precision=bf16"],
        ["train.schedule={restarts: {first: 0.5, floor: 0.1}}"],
        ["train.schedule={plateau: {patience: 1}}"],
        ["train.schedule=one_cycle", "train.warmup=0"],
        ["train.schedule={step: {at: [0.3, 0.6]}}"],
        ["train.patience=1"],
        ["train.average={swa: {start: 0.25, period: 2, lr: 0.5}}"],
        ["train.average=none", "train.precision=bf16"],
        ["loss.labelled={ce: 0.5, ohem: 0.2, focal: 0.2, dice: 0.2, boundary: 0.01}", "loss.class_weights={disc: 2}"],
        ["loss.labelled={jaccard: 0.2, tversky: {weight: 0.2, exponent: 0.75}, lovasz: 0.2}"],
        ["loss.pseudo={kl: {weight: 0.7, temperature: 2}, ce: 0.3}", "loss.distill={kl: {weight: 0.7, temperature: 2}}"],
    ],
    "validation": [
        ["data.splits.fold=[1,2]", "data.splits.stratify=true"],
        ["data.splits.fold=[0,2]", "data.splits.group='^(.)-'"],
        ["data.splits.labels=6", "data.splits.choose=stratified"],
        ["debug=true"],
        ["train.watch=0", "train.eval_every=1"],
        ["seed=5", "data.splits.seed=2"],
    ],
    "ensembles": [
        ["generations.0.members={folds: 2}", "data.splits.stratify=true"],
        ["generations.0.members={seeds: {number: 2, share: 0.8, weights: [2, 1]}}"],
        ["generations.1.members={seeds: {number: 2, zooms: [1, 2]}}"],
        ["generations.0.members={epochs: {number: 2, last: 0.5}}"],
        ["generations.0.members={cycles: 2}", "train.schedule={restarts: {first: 0.5}}", "train.warmup=0"],
        ["generations.0.members={seeds: 2}", "generations.1.members={seeds: 2}", "export.distill=true"],
    ],
    "inference": [
        ["predict.views=d4"],
        ["predict.views={twelve: {scales: [0.5, 1]}}"],
        ["labels.views={product: {hflip: true, scales: [1, 2], weights: [2, 2, 1, 1]}}"],
        ["predict.size=[64,64]", "predict.window={centre: {side: 64, margin: 8}}"],
        ["predict.original=true", "labels.size=[scale,1.5]", "predict.window={slide: {side: 64, stride: 32}}"],
        ["predict.size=[scale,1.5]", "predict.window={sparse: {side: 32, sure: 0.3}}"],
        ["predict.decision=thresholds", "select.decision=tuned"],
        ["predict.refine=crf"],
        ["predict.views={product: {hflip: true}}", "predict.average=fitted"],
        ["predict.min_area={rest: 4}", "predict.max_hole={background: 6}", "select.min_area={rest: 3}"],
        ["loss.image.bce=0.5", "predict.gate=0.1"],
    ],
    "label noise": [
        ["data.suspects={files}/suspects.csv", "data.suspicion=drop"],
        ["data.suspects={files}/suspects.csv", "data.suspicion={weight: {factor: 0.5}}"],
        ["data.suspects={files}/suspects.csv", "data.suspicion=relabel"],
        ["loss.image.bce=0.5", "generations.0.from_tags=true"],
        ["loss.image.bce=0.5", "generations.0.from_tags=true", "data.suspects={files}/suspects.csv", "data.suspicion=drop"],
    ],
}  # fmt: skip


def drawn(rng: random.Random, least: int = 3, most: int = 6) -> list[str]:
    """Settings of `least` to `most` items, one or two choices of each; no setting has two values."""
    chosen: dict[str, str] = {}
    for item in rng.sample(list(ITEMS), rng.randint(least, most)):
        for choice in rng.sample(ITEMS[item], rng.randint(1, 2)):
            settings = {text.partition("=")[0]: text for text in choice}
            if all(chosen.get(name, text) == text for name, text in settings.items()):
                chosen |= settings
    return list(chosen.values())


def placed(settings: list[str], files: Path, earlier: Path) -> list[str]:
    """The settings with the paths of this machine."""
    return [text.replace("{files}", str(files)).replace("{earlier}", str(earlier)) for text in settings]


def write(root: Path) -> Path:
    """Drawn scenes with masks in three splits, others with tags only, and a list of two suspicious masks."""
    for split, count in COUNTS.items():
        for folder in ("images", "masks"):
            (root / folder / split).mkdir(parents=True)
        for number in range(count):
            _save(
                root, f"{split}/{_name(number)}", *draw(0, "labelled" if split == "train" else split, number)
            )
    (root / "more").mkdir()
    lines = ["image,classes"]
    for number in range(UNLABELLED):
        image, mask = draw(0, "unlabelled", number)
        Image.fromarray(image).save(root / "more" / f"{number:02}.png")
        lines.append(f"more/{number:02}.png,{';'.join(CLASSES[c] for c in np.unique(mask))}")
    (root / "tags.csv").write_text("\n".join(lines) + "\n")
    Image.fromarray(draw(0, "labelled", 1)[1]).save(root / "other.png")
    rows = [Suspect("images/train/0-0", relabelled="other.png"), Suspect("images/train/2-1")]
    (root / "suspects.csv").write_bytes(written(rows))
    return root


def _name(number: int) -> str:
    """Pairs of images begin alike, as images of one place might."""
    return f"{number // 2}-{number % 2}"


def _save(root: Path, name: str, image: np.ndarray, mask: np.ndarray) -> None:
    Image.fromarray(image).save(root / "images" / f"{name}.png")
    Image.fromarray(mask).save(root / "masks" / f"{name}.png")
