"""Every setting of a run: name, type, default, range and meaning.

The YAML files under recipes/ contain differences only.

A field declares its range and meaning in its annotation, as the parameters of table entries do (tables.py):
`lr: Annotated[float, Bounds(0), "learning rate"] = 1e-3`. settings/check.py reads them, and docs/settings.md
lists them. The words of tables, for example thresholds, are not repeated here; choices.py maps settings to
tables.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any

from selftrain.tables import Bounds, Count, Must, OneOf, Place, Share, Size
from selftrain.values import Choice, Likely, Weighted

Some = Annotated[int, Bounds(1)]  # a number of things, at least one
Deviation = Annotated[float, Bounds(0.01, 1e4)]  # coordinates of finer lattices would overflow
PRECISIONS = {
    "auto": "the precision given to `accelerate launch` (--mixed_precision or its config file; `no` counts), "
    "else bf16 if the machine supports it natively; resolved when a run begins, and kept",
    "none": "fp32",
    "bf16": "bfloat16",
    "fp16": "half precision, on GPUs only",
}


def _are_sides(crop: list[int]) -> bool:
    return len(crop) == 2 and min(crop) > 0


def _is_rising(scale: list[float]) -> bool:
    return len(scale) == 2 and 0 < scale[0] <= scale[1]


def _are_scales(scales: list[float]) -> bool:
    return bool(scales) and min(scales) > 0 and len(set(scales)) == len(scales)


Sides = Annotated[list[int], Must("be [height, width], both above 0", _are_sides)]
Zoom = Annotated[list[float], Must("be [least, most], both above 0", _is_rising)]
Scales = Annotated[list[float], Must("be positive and all different; [1.0] changes no size", _are_scales)]
Triple = Annotated[list[float], Must("be three numbers", lambda mean: len(mean) == 3)]
Positive = Annotated[
    list[float], Must("be three numbers above 0", lambda std: len(std) == 3 and min(std) > 0)
]


@dataclass
class SplitConfig:
    """Which images are labelled, unlabelled, val and test.

    `train`, `val` and `test` each name a folder under `data.images`, or a list file (one image path per line,
    relative to `data.root`). If empty, the split is made from the images that no other split names.
    """

    train: Annotated[str, Place(), "folder or list file of the training images"] = ""
    val: Annotated[str, Place(), "folder or list file of the val images"] = ""
    test: Annotated[str, Place(), "folder or list file of the test images"] = ""
    val_fraction: Annotated[Share, "share of the labelled images that becomes val if `val` is empty"] = 0.2
    test_fraction: Annotated[Share, "share of the labelled images that becomes test if `test` is empty"] = 0.2
    labels: Annotated[
        Count,
        "number of training masks to use; other training images become unlabelled; 0: by `label_fraction`",
    ] = 0
    label_fraction: Annotated[
        float, Bounds(above=0, most=1), "share of the training masks to use if `labels` is 0"
    ] = 1.0
    choose: Annotated[
        str,
        OneOf(
            {
                "spread": "evenly over groups and names",
                "random": "at random",
                "stratified": "with about the class shares of all masks",
            }
        ),
        "how the training masks are chosen",
    ] = "spread"
    group: Annotated[
        str,
        "regular expression; images whose names match its first group with the same text stay on one side "
        "of a made split",
    ] = ""
    seed: Annotated[int, "seed of the made splits and of the choice of masks"] = 0


@dataclass
class DataConfig:
    """The images of a data set, and the meaning of their masks."""

    name: Annotated[str, "name of the data set in reports"] = "shapes"
    source: Annotated[str, "kind of data source"] = "shapes"
    root: Annotated[str, Place(), "folder of the data set"] = ""
    images: Annotated[str, Place(), "folder of the images, relative to `root`"] = "images"
    masks: Annotated[str, Place(), "folder of the masks, relative to `root`"] = "masks"
    unlabelled: Annotated[str, Place(), "folder or list file of images without masks, relative to `root`"] = (
        ""
    )
    classes: Annotated[list[str], "names of the classes"] = field(default_factory=list)
    values: Annotated[
        list[Any],
        "grey or palette value of each class, or a list of values, [0, [1, 2]]; empty: 0, 1, 2, ...",
    ] = field(default_factory=list)
    colours: Annotated[list[list[int]], "RGB colour of each class, instead of `values`"] = field(
        default_factory=list
    )
    ignore: Annotated[list[Any], "mask values that are ignored; [rest]: all undeclared values"] = field(
        default_factory=lambda: [255]
    )
    ignore_colours: Annotated[list[list[int]], "mask colours that are ignored"] = field(default_factory=list)
    size: Annotated[
        list[int], "[height, width] to which images are resized when read; empty: original sizes"
    ] = field(default_factory=list)
    range: Annotated[
        list[Any],
        "values of 16-bit images that become 0 and 255: [dtype] (0, 65535), [percentile] (measured), "
        "[lowest, highest]",
    ] = field(default_factory=lambda: ["dtype"])
    mean: Annotated[Triple, "mean of the pixels in 0..1, per channel"] = field(
        default_factory=lambda: [0.485, 0.456, 0.406]
    )
    std: Annotated[Positive, "standard deviation of the pixels in 0..1, per channel"] = field(
        default_factory=lambda: [0.229, 0.224, 0.225]
    )
    duplicates: Annotated[
        str,
        OneOf(
            {
                "group": "they stay in one made split",
                "fault": "they are a fault of the data",
                "drop": "training images that are copies of val or test images are left out",
            }
        ),
        "how identical images are handled",
    ] = "group"
    cache_mb: Annotated[Count, "memory in MB for decoded images, per process and per loader worker"] = 1024
    splits: SplitConfig = field(default_factory=SplitConfig)
    shapes: Annotated[dict[str, int], Bounds(0), "images per split of the drawn data set"] = field(
        default_factory=lambda: {"labelled": 24, "unlabelled": 200, "val": 40, "test": 60}
    )


@dataclass
class ModelConfig:
    """The network, by its smp names."""

    arch: Annotated[str, "architecture"] = "unet"
    encoder: Annotated[str, "encoder; `tu-` and a timm name selects timm's encoder"] = "tu-resnet18"
    weights: Annotated[
        str | None, Place(), "weights of the encoder: null, imagenet, or a safetensors file"
    ] = None
    partial_weights: Annotated[bool, "accept weights that fit only part of the encoder; false: an error"] = (
        False
    )
    decoder_channels: Annotated[
        list[int], Bounds(1), "U-Net family: decoder widths from deep to shallow; empty: smp's defaults"
    ] = field(default_factory=list)


@dataclass
class NoiseConfig:
    """Noise in a student's training (Xie et al. 2020, Noisy Student), or in an online generation."""

    rand_n: Annotated[Count, "RandAugment: operations per image (Cubuk et al. 2020)"] = 0
    rand_m: Annotated[float, Bounds(0, 30), "RandAugment: magnitude"] = 0.0
    cutmix: Annotated[Share, "probability that an unlabelled image gets a box from another one"] = 0.0
    mix: Annotated[dict[str, Likely], "further ways to mix unlabelled images; one acts at a time"] = field(
        default_factory=dict
    )
    paste: Annotated[
        Share,
        "probability that an unlabelled image is mixed with a labelled image and its mask "
        "(Bai et al. 2023, BCP)",
    ] = 0.0
    style: Annotated[
        Share,
        "probability that a labelled image gets the colours of an unlabelled one of the same modality "
        "(Reinhard et al. 2001)",
    ] = 0.0
    colour: Annotated[
        Share, "probability of colour noise: jitter, greyscale, blur (Yang et al. 2022, ST++)"
    ] = 0.0
    cutout: Annotated[Share, "probability of a box of noise in the image; its pixels have no label"] = 0.0
    dropout: Annotated[Share, "dropout of the features before the segmentation head"] = 0.0
    drop_path: Annotated[Share, "stochastic depth: probability that a block of the encoder is skipped"] = 0.0
    labelled: Annotated[bool, "labelled images also get RandAugment, geometry, colours and erasing"] = False
    geometry: Annotated[dict[str, Likely], "geometric augmentations with their probabilities"] = field(
        default_factory=dict
    )
    colours: Annotated[dict[str, Likely], "colour augmentations with their probabilities"] = field(
        default_factory=dict
    )
    erase: Annotated[dict[str, Likely], "erasing augmentations with their probabilities"] = field(
        default_factory=dict
    )


@dataclass
class LossConfig:
    """The losses on labelled and unlabelled pixels."""

    labelled: Annotated[
        dict[str, Weighted], "losses of labelled pixels with their weights; 0 disables a loss"
    ] = field(default_factory=lambda: {"ce": {"weight": 1.0, "smoothing": 0.1}})
    pseudo: Annotated[dict[str, Weighted], "losses of stored pseudo-labels with their weights"] = field(
        default_factory=lambda: {"kl": {"weight": 1.0, "temperature": 1.0}}
    )
    online: Annotated[dict[str, Weighted], "losses of labels made in each step; empty: the method's own"] = (
        field(default_factory=dict)
    )
    balance: Annotated[
        Share, "labelled pixels of a class weigh (its share of the labelled pixels)^-balance, mean 1"
    ] = 0.5
    unlabelled_weight: Annotated[Size, "weight of the loss on unlabelled images"] = 1.0
    threshold: Annotated[
        Share, "online: least confidence of the averaged network at which a pixel's label counts"
    ] = 0.95
    adaptive: Annotated[
        bool,
        "fixmatch, unimatch_v2: the most confident class has this `threshold`, others lower ones (FreeMatch)",
    ] = False
    ramp_up: Annotated[
        Share, "online: share of the steps over which the weight of unlabelled images ramps up"
    ] = 0.0


@dataclass
class TrainConfig:
    """One stage of training, counted in optimizer steps."""

    steps: Annotated[Some, "optimizer steps of a generation"] = 1000
    labelled_batch: Annotated[Some, "labelled images in a step"] = 8
    unlabelled_batch: Annotated[
        Some, "unlabelled images in a step of a student or online method, besides the labelled ones"
    ] = 8
    crop: Annotated[Sides, "[height, width] of the training crops, in multiples of 32 for smp's networks"] = (
        field(default_factory=lambda: [128, 128])
    )
    scale: Annotated[Zoom, "random zoom of every training image"] = field(default_factory=lambda: [0.75, 1.5])
    jitter: Annotated[
        Share,
        "change of brightness, contrast and saturation of every training image that is not labelled online",
    ] = 0.3
    flip: Annotated[bool, "mirror training images left to right, half of the time"] = True
    place: Annotated[Choice, "how the position of a crop is chosen"] = "uniform"
    sampler: Annotated[Choice, "how the labelled images of a step are sampled"] = "uniform"
    optimizer: Annotated[str, "any name that timm knows"] = "adamw"
    lr: Annotated[Size, "learning rate after the warm-up"] = 1e-3
    weight_decay: Annotated[Size, "weight decay of the optimizer"] = 1e-2
    groups: Annotated[Choice, "which parameters are trained, and at which share of the learning rate"] = "one"
    schedule: Annotated[Choice, "how the learning rate falls after the warm-up"] = "cosine"
    warmup: Annotated[Count, "steps of linear warm-up"] = 50
    clip: Annotated[Size, "largest norm of the gradient; 0: no limit"] = 1.0
    accumulate: Annotated[
        Some,
        "micro-batches per process and step, to save memory; the loss is the loss of the whole batch, but "
        "batch norm and the mixing of online methods see one micro-batch",
    ] = 1
    average: Annotated[Choice, "average of the weights; it is evaluated, teaches and is kept"] = "ema"
    ema: Annotated[Share, "decay of the moving average, `train.average=ema`"] = 0.995
    statistics: Annotated[
        Count,
        "batches of `eval_batch` crops without noise that recalibrate batch norm at the end; 0: none",
    ] = 24
    precision: Annotated[str, OneOf(PRECISIONS), "precision of the network's computations"] = "auto"
    workers: Annotated[Count, "processes that load and augment; 0: the training process itself"] = 0
    threads: Annotated[Count, "threads per process on a CPU; 0: the process's share of the cores"] = 0
    checkpoint_every: Annotated[Some, "steps between checkpoints"] = 250
    eval_every: Annotated[Count, "steps between evaluations on val; 0: only at the end"] = 250
    eval_batch: Annotated[Some, "images per evaluation batch"] = 16


@dataclass
class GenerationConfig:
    """One generation. Settings that are null are taken from `model`, `train` and `select`."""

    arch: Annotated[str | None, "architecture; null: `model.arch`"] = None
    encoder: Annotated[str | None, "encoder; null: `model.encoder`"] = None
    decoder_channels: Annotated[
        list[int] | None, Bounds(1), "widths of the decoder; null: `model.decoder_channels`"
    ] = None
    steps: Annotated[int | None, Bounds(1), "optimizer steps; null: `train.steps`"] = None
    labelled_batch: Annotated[
        int | None, Bounds(1), "labelled images in a step; null: `train.labelled_batch`"
    ] = None
    image_share: Annotated[
        float | None, Bounds(0, 1), "most reliable share of the images; null: `select.image_share`"
    ] = None
    init: Annotated[
        str,
        OneOf(
            {
                "random": "the weights of a new network",
                "teacher": "the teacher's weights, if they fit by name and shape",
            }
        ),
        "initial weights of the network",
    ] = "random"
    online: Annotated[str, "method that labels images in each step; empty: stored pseudo-labels, if any"] = ""
    noise: NoiseConfig = field(default_factory=NoiseConfig)


@dataclass
class TTAConfig:
    """Views whose probabilities are averaged (ttach). The views are the product of the lists."""

    hflip: Annotated[bool, "mirrored left to right"] = True
    vflip: Annotated[bool, "mirrored top to bottom"] = False
    rotate90: Annotated[bool, "rotated by 90, 180 and 270 degrees"] = False
    scales: Annotated[Scales, "sizes, as multiples of the image size"] = field(default_factory=lambda: [1.0])


@dataclass
class CRFConfig:
    """Dense CRF (Kraehenbuehl & Koltun 2011); standard deviations in pixels and grey levels."""

    enabled: Annotated[bool, "false: labels.refiner=crf does not refine"] = True
    backend: Annotated[str, "the implementation"] = "lattice"
    iterations: Annotated[Count, "mean-field iterations"] = 5
    gaussian_sxy: Annotated[Deviation, "smoothness: standard deviation of positions"] = 1.0
    gaussian_compat: Annotated[float, "smoothness: weight"] = 1.0
    bilateral_sxy: Annotated[Deviation, "appearance: standard deviation of positions"] = 20.0
    bilateral_srgb: Annotated[Deviation, "appearance: standard deviation of colours"] = 8.0
    bilateral_compat: Annotated[
        float, "appearance: weight; large ones erase thin and rare classes (docs/lab-notes.md)"
    ] = 2.0
    workers: Annotated[Count, "threads; 0: one per core"] = 0


@dataclass
class LabelConfig:
    """How the teacher labels the unlabelled images. Labels are stored unfiltered."""

    teacher: Annotated[
        str,
        OneOf(
            {
                "leader": "the last generation that leads",
                "last": "the previous generation, whatever its score on val",
            }
        ),
        "which generation labels for the next one",
    ] = "leader"
    tta: TTAConfig = field(default_factory=TTAConfig)
    refiner: Annotated[Choice, "how the averaged probabilities are refined"] = "crf"
    crf: CRFConfig = field(default_factory=CRFConfig)
    soft_classes: Annotated[
        int,
        Bounds(1, 255),
        "most probable classes stored per pixel; the remaining probability is spread over the others",
    ] = 3
    shard: Annotated[Some, "images per file of labels"] = 32
    batch: Annotated[Some, "images per labelling batch"] = 8
    window: Annotated[
        int,
        Bounds(0),
        "larger images are labelled in windows with this side, which overlap by a quarter; a multiple like "
        "train.crop, 0: no windows",
    ] = 1024


@dataclass
class SelectConfig:
    """The pixels and images that the next student trains on. Applied when labels are read."""

    threshold: Annotated[Choice, "rule for the least confidence of accepted pixels"] = "quantile"
    confidence: Annotated[Share, "`global`: the threshold; `quantile`: the highest threshold of a class"] = (
        0.8
    )
    keep: Annotated[
        Share,
        "`quantile`: least share of each predicted class's pixels that is kept; "
        "`distribution`: of all pixels",
    ] = 0.6
    balance: Annotated[float, "pixels of a class weigh (its share)^-balance, mean 1"] = 0.0
    image_share: Annotated[Share, "most reliable share of the images"] = 1.0
    reliability: Annotated[Choice, "measure of how reliable an image's labels are"] = "confidence"
    weight_images: Annotated[bool, "weight images in proportion to their reliability"] = False
    on_empty: Annotated[
        str,
        OneOf({"fail": "exit with code 8", "labelled_only": "the leader so far is the result"}),
        "what happens if no pseudo-label is accepted",
    ] = "fail"


@dataclass
class ExportConfig:
    """The export of a run."""

    generation: Annotated[
        str,
        OneOf(
            {
                "best": "the last generation that leads",
                "last": "the last generation, e.g. a small one to deploy",
            }
        ),
        "which generation is exported",
    ] = "best"
    onnx: Annotated[bool, "also export to ONNX"] = True


@dataclass
class Config:
    """One run."""

    recipe: Annotated[str, "name of the recipe"] = "noisy_student"
    out: Annotated[str, Place(), "the run directory; the same command again resumes"] = ""
    seed: Annotated[Count, "seed of everything random in the run"] = 0
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    labels: LabelConfig = field(default_factory=LabelConfig)
    select: SelectConfig = field(default_factory=SelectConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    generations: Annotated[
        list[GenerationConfig], Must("have at least one entry", bool), "one entry for each generation"
    ] = field(default_factory=lambda: [GenerationConfig()])
