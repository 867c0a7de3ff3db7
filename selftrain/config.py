"""Every setting of a run: name, type, default and meaning. YAML under recipes/ holds differences only."""

from dataclasses import asdict, dataclass, field
from typing import Any

from selftrain.values import Likely, Weighted


@dataclass
class SplitConfig:
    """Who is labelled, unlabelled, val and test.

    `train`, `val` and `test` each name a folder under `data.images`, or a list file (one image path a line, relative
    to `data.root`). Empty: made from what no other split names.
    """

    train: str = ""
    val: str = ""
    test: str = ""
    val_fraction: float = 0.2  # of the labelled images, where `val` is empty
    test_fraction: float = 0.2  # likewise
    labels: int = 0  # how many training masks to use; the other training images count as unlabelled. 0: by label_fraction
    label_fraction: float = 1.0  # share of the training masks to use, where `labels` is 0
    choose: str = "spread"  # which ones: spread (evenly over groups and names) | random | stratified (by class content)
    group: str = ""  # regular expression; what its first group matches in an image's name is kept on one side of a made split
    seed: int = 0


@dataclass
class DataConfig:
    """Where the images are, and what their masks mean."""

    name: str = "shapes"
    source: str = "shapes"  # shapes (drawn from a seed) | folder
    root: str = ""
    images: str = "images"
    masks: str = "masks"
    unlabelled: str = ""  # folder or list file of images without masks, relative to root
    classes: list[str] = field(default_factory=list)
    # grey or palette value of each class, or a list of several, [0, [1, 2]]; empty: 0, 1, 2, ...
    values: list[Any] = field(default_factory=list)
    colours: list[list[int]] = field(default_factory=list)  # or the RGB colour of each class
    # mask values that count for nothing; [rest]: all that are not declared
    ignore: list[Any] = field(default_factory=lambda: [255])
    ignore_colours: list[list[int]] = field(default_factory=list)
    size: list[int] = field(default_factory=list)  # [height, width] that images are brought to when read; empty: as they are
    # values of 16-bit images that become 0 and 255: [dtype] (0, 65535) | [percentile] (measured) | [lowest, highest]
    range: list[Any] = field(default_factory=lambda: ["dtype"])
    mean: list[float] = field(default_factory=lambda: [0.485, 0.456, 0.406])
    std: list[float] = field(default_factory=lambda: [0.229, 0.224, 0.225])
    duplicates: str = "group"  # equal pictures: group (kept in one made split) | fault | drop (not trained on if in val or test)
    cache_mb: int = 1024  # memory for decoded images, of each process and each of its workers
    splits: SplitConfig = field(default_factory=SplitConfig)
    shapes: dict[str, int] = field(
        default_factory=lambda: {"labelled": 24, "unlabelled": 200, "val": 40, "test": 60}
    )  # images in each split of the drawn data set


@dataclass
class ModelConfig:
    """A network by its smp names. `weights`: null, imagenet, or a safetensors file."""

    arch: str = "unet"
    encoder: str = "tu-resnet18"
    weights: str | None = None
    partial_weights: bool = False  # take weights that fit only a part of the encoder; false: an error
    decoder_channels: list[int] = field(default_factory=list)  # U-Net family: widths from deep to shallow; empty: smp's


@dataclass
class NoiseConfig:
    """What makes learning harder for a student (Xie et al. 2020, Noisy Student), or for an online generation."""

    rand_n: int = 0  # RandAugment: operations per image (Cubuk et al. 2020)
    rand_m: float = 0.0  # RandAugment: magnitude, 0 to 30
    cutmix: float = 0.0  # probability that an unlabelled image gets a box of another one
    mix: dict[str, Likely] = field(default_factory=dict)  # further mixings of data/mixing.py with their probabilities
    paste: float = 0.0  # probability that it is mixed with a labelled image, with its mask (Bai et al. 2023, BCP)
    style: float = 0.0  # probability of a labelled image in the colours of an unlabelled one of its kind (Reinhard et al. 2001)
    colour: float = 0.0  # probability of colour noise: jitter, greyscale, blur (Yang et al. 2022, ST++)
    cutout: float = 0.0  # probability of a box of noise in the image, without label
    dropout: float = 0.0  # on the features before the segmentation head
    drop_path: float = 0.0  # stochastic depth of the encoder
    labelled: bool = False  # the labelled images get RandAugment, colour noise and cutout, too


@dataclass
class LossConfig:
    """What is minimised on labelled and on unlabelled pixels."""

    # Losses with their weights, of objectives/losses.py; a weight of 0 leaves one out
    labelled: dict[str, Weighted] = field(default_factory=lambda: {"ce": {"weight": 1.0, "smoothing": 0.1}})
    pseudo: dict[str, Weighted] = field(default_factory=lambda: {"kl": {"weight": 1.0, "temperature": 1.0}})  # stored labels
    online: dict[str, Weighted] = field(default_factory=dict)  # labels made in the step; empty: the method's own loss
    balance: float = 0.5  # labelled pixels of a class weigh (its share of the labelled pixels)^-balance, mean 1
    unlabelled_weight: float = 1.0
    threshold: float = 0.95  # online: the confidence from which a pixel's label by the averaged network counts
    adaptive: bool = False  # fixmatch, unimatch_v2: `threshold` is the surest class's, others have lower ones (FreeMatch)
    ramp_up: float = 0.0  # online: share of the steps in which the weight of unlabelled images grows to its value


@dataclass
class TrainConfig:
    """One stage of training, counted in optimizer steps."""

    steps: int = 1000
    labelled_batch: int = 8
    unlabelled_batch: int = 8  # unlabelled images that a student's or an online step has on top of the labelled ones
    crop: list[int] = field(default_factory=lambda: [128, 128])  # [height, width] of what the network sees
    scale: list[float] = field(default_factory=lambda: [0.75, 1.5])  # random zoom of every training image
    jitter: float = 0.3  # brightness, contrast and saturation change of every training image, save those labelled online
    flip: bool = True
    optimizer: str = "adamw"  # any name that timm knows
    lr: float = 1e-3
    weight_decay: float = 1e-2
    schedule: str = "cosine"  # cosine | poly
    warmup: int = 50  # steps of linear warm-up
    clip: float = 1.0  # gradient norm; 0: off
    ema: float = 0.995  # decay of the averaged weights, which are what is evaluated and teaches
    statistics: int = 24  # batches (of eval_batch) without noise to measure batch norm's statistics over at the end; 0: none
    # auto | none (fp32) | bf16 | fp16 (GPUs only). auto is resolved when a run begins and kept: the precision that
    # `accelerate launch` was told (--mixed_precision or its config file; `no` counts), else bf16 if the machine has it
    precision: str = "auto"
    workers: int = 0  # processes that load and augment; 0: the training process itself
    threads: int = 0  # of each process on a CPU; 0: its share of the cores
    checkpoint_every: int = 250
    eval_every: int = 250  # steps between looks at val; 0: only at the end
    eval_batch: int = 16


@dataclass
class GenerationConfig:
    """One generation; what is null is taken from `model` and `train`."""

    arch: str | None = None
    encoder: str | None = None
    decoder_channels: list[int] | None = None
    steps: int | None = None
    labelled_batch: int | None = None
    image_share: float | None = None  # null: that of `select`
    init: str = "random"  # random | teacher: begin with those of the teacher's weights that fit by name and shape
    online: str = ""  # mean_teacher | fixmatch | unimatch_v2 | cps: labels made in each step; empty: stored ones, if any
    noise: NoiseConfig = field(default_factory=NoiseConfig)


@dataclass
class TTAConfig:
    """Views whose probabilities are averaged (ttach). The views are the product of the lists."""

    hflip: bool = True
    vflip: bool = False
    rotate90: bool = False
    scales: list[float] = field(default_factory=lambda: [1.0])


@dataclass
class CRFConfig:
    """Dense CRF (Kraehenbuehl & Koltun 2011); standard deviations in pixels and grey levels."""

    enabled: bool = True
    backend: str = "lattice"  # lattice (our own) | pydensecrf (the reference, slower)
    iterations: int = 5
    gaussian_sxy: float = 1.0
    gaussian_compat: float = 1.0
    bilateral_sxy: float = 20.0
    bilateral_srgb: float = 8.0
    bilateral_compat: float = 2.0  # gentle: strong ones erase thin and rare classes (docs/lab-notes.md)
    workers: int = 0  # threads; 0: one per core


@dataclass
class LabelConfig:
    """What the teacher says of the unlabelled images, stored unfiltered."""

    teacher: str = "leader"  # who that is: leader (the last generation that leads) | last (the one before, whatever val says)
    tta: TTAConfig = field(default_factory=TTAConfig)
    crf: CRFConfig = field(default_factory=CRFConfig)
    soft_classes: int = 3  # most probable classes kept per pixel; the rest of the mass is spread over the others
    shard: int = 32  # images per shard
    batch: int = 8
    window: int = 1024  # larger images are labelled in windows of this side, overlapping by a quarter


@dataclass
class SelectConfig:
    """Which pixels and images the next student learns from. Acts when labels are read."""

    threshold: str = "quantile"  # global | per class: quantile (CBST), distribution (as the masks, DARS), adaptive (FreeMatch)
    confidence: float = 0.8  # the floor of `global`; the ceiling of a class's threshold in `quantile`
    keep: float = 0.6  # least share of each predicted class's pixels that `quantile` keeps; of all pixels: `distribution`
    balance: float = 0.0  # pixels of a class weigh (its share)^-balance, mean 1
    image_share: float = 1.0  # most reliable share of the images
    reliability: str = "confidence"  # of an image: confidence (mean of its pixels) | agreement (with the teacher's past, ST++)
    weight_images: bool = False  # images weigh in proportion to their reliability
    on_empty: str = "fail"  # no pseudo-label accepted: fail (exit 8) | labelled_only (the leader so far is the result)


@dataclass
class ExportConfig:
    generation: str = "best"  # best (the last that leads) | last (a small student meant for deployment)
    onnx: bool = True


@dataclass
class Config:
    """One run."""

    recipe: str = "noisy_student"
    out: str = ""
    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    labels: LabelConfig = field(default_factory=LabelConfig)
    select: SelectConfig = field(default_factory=SelectConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    generations: list[GenerationConfig] = field(default_factory=lambda: [GenerationConfig()])

    def of_generation(self, number: int, name: str) -> int:
        """A generation's own setting `name`, or that of `train`."""
        own = getattr(self.generations[number], name)
        return getattr(self.train, name) if own is None else own


# What runs had that began before these settings were there, where that is not the default of today.
EARLIER = {"loss.balance": 0.0}

# Settings that a resume may change: they decide how a run works, not what it does. Another number of threads rounds
# otherwise; conditions.json records that.
HARMLESS = {
    "out", "data.root", "data.cache_mb", "train.workers", "train.threads", "train.checkpoint_every", "labels.crf.workers",
    "export.onnx", "model.partial_weights",
}  # fmt: skip

# Settings that a resume may change, though sums are then rounded differently and batch norm is measured over other crops:
# memory that is short must not cost a trained teacher. conditions.json records the change.
ROUNDING = {"train.eval_batch", "labels.batch"}


def flat(config: Config | dict, prefix: str = "") -> dict[str, object]:
    """Settings as {"train.lr": 0.001, "generations.0.steps": 500, ...}; lists of plain values stay lists."""
    tree = config if isinstance(config, dict) else asdict(config)
    rows: dict[str, object] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            rows |= flat(value, f"{prefix}{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            rows |= flat({str(i): entry for i, entry in enumerate(value)}, f"{prefix}{name}.")
        else:
            rows[f"{prefix}{name}"] = value
    return rows


def differences(old: dict, new: dict) -> list[str]:
    """Settings that change results and differ, as "name: old -> new".

    What `old` does not have is from before that setting was there: it had what is the default now, or what EARLIER says.
    """
    after = flat(new)
    before = {name: value for name, value in _defaults(flat(old)).items() if name in after} | flat(old)
    names = [name for name in before | after if name not in HARMLESS | ROUNDING]
    return [
        f"{name}: {before.get(name, 'absent')} -> {after.get(name, 'absent')}"
        for name in names
        if before.get(name, "absent") != after.get(name, "absent")
    ]


def _defaults(rows: dict) -> dict[str, object]:
    """The default of every setting, and of those of each generation that `rows` have."""
    whole = asdict(Config())
    del whole["generations"]
    numbers = {name.split(".")[1] for name in rows if name.startswith("generations.")}
    own = flat(asdict(GenerationConfig()))
    return flat(whole) | EARLIER | {f"generations.{number}.{name}": value for number in numbers for name, value in own.items()}
