"""Every setting of a run: name, type, default, range and meaning. YAML under recipes/ holds differences only.

A field says its range and meaning in its annotation, as a parameter of a table's entry does (tables.py):
`lr: Annotated[float, Bounds(0), "learning rate"] = 1e-3`. settings/check.py reads them, and docs/settings.md lists them.
Words that a table takes, the thresholds for example, are not repeated here: choices.py says which table it is.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any

from selftrain.tables import Bounds, Count, Must, OneOf, Place, Share, Size
from selftrain.values import Choice, Likely, Weighted

Some = Annotated[int, Bounds(1)]  # a number of things, at least one
Deviation = Annotated[float, Bounds(0.01, 1e4)]  # coordinates of finer lattices would overflow
PRECISIONS = {
    "auto": "what `accelerate launch` was told (--mixed_precision or its config file; `no` counts), else bf16 if the machine "
    "computes in it by itself; resolved when a run begins, and kept",
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
Positive = Annotated[list[float], Must("be three numbers above 0", lambda std: len(std) == 3 and min(std) > 0)]


@dataclass
class SplitConfig:
    """Who is labelled, unlabelled, val and test.

    `train`, `val` and `test` each name a folder under `data.images`, or a list file (one image path a line, relative
    to `data.root`). Empty: made from what no other split names.
    """

    train: Annotated[str, Place(), "folder or list file of the training images"] = ""
    val: Annotated[str, Place(), "folder or list file of the val images"] = ""
    test: Annotated[str, Place(), "folder or list file of the test images"] = ""
    val_fraction: Annotated[Share, "share of the labelled images that becomes val where `val` is empty"] = 0.2
    test_fraction: Annotated[Share, "share of the labelled images that becomes test where `test` is empty"] = 0.2
    labels: Annotated[
        Count, "how many training masks to use; the other training images count as unlabelled; 0: by `label_fraction`"
    ] = 0
    label_fraction: Annotated[float, Bounds(above=0, most=1), "share of the training masks to use where `labels` is 0"] = 1.0
    choose: Annotated[
        str,
        OneOf(
            {
                "spread": "evenly over groups and names",
                "random": "at random",
                "stratified": "by the content of the classes",
            }
        ),
        "which training masks are used",
    ] = "spread"
    group: Annotated[
        str,
        "regular expression; images whose names have the same text in its first group stay on one side of a made split",
    ] = ""
    seed: Annotated[int, "seed of the made splits and of the choice of masks"] = 0


@dataclass
class DataConfig:
    """Where the images are, and what their masks mean."""

    name: Annotated[str, "name of the data set in reports"] = "shapes"
    source: Annotated[str, "where the images come from"] = "shapes"
    root: Annotated[str, Place(), "folder of the data set"] = ""
    images: Annotated[str, Place(), "folder of the images, relative to `root`"] = "images"
    masks: Annotated[str, Place(), "folder of the masks, relative to `root`"] = "masks"
    unlabelled: Annotated[str, Place(), "folder or list file of images without masks, relative to `root`"] = ""
    classes: Annotated[list[str], "names of the classes"] = field(default_factory=list)
    values: Annotated[
        list[Any], "grey or palette value of each class, or a list of several, [0, [1, 2]]; empty: 0, 1, 2, ..."
    ] = field(default_factory=list)
    colours: Annotated[list[list[int]], "RGB colour of each class, instead of `values`"] = field(default_factory=list)
    ignore: Annotated[list[Any], "mask values that count for nothing; [rest]: all that are not declared"] = field(
        default_factory=lambda: [255]
    )
    ignore_colours: Annotated[list[list[int]], "mask colours that count for nothing"] = field(default_factory=list)
    size: Annotated[list[int], "[height, width] to which images are resized when read; empty: they keep their size"] = field(
        default_factory=list
    )
    range: Annotated[
        list[Any],
        "values of 16-bit images that become 0 and 255: [dtype] (0, 65535), [percentile] (measured), [lowest, highest]",
    ] = field(default_factory=lambda: ["dtype"])
    mean: Annotated[Triple, "mean of the pixels in 0..1, per channel"] = field(default_factory=lambda: [0.485, 0.456, 0.406])
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
        "what to do with equal pictures",
    ] = "group"
    cache_mb: Annotated[Count, "memory in MB for decoded images, of each process and each of its workers"] = 1024
    splits: SplitConfig = field(default_factory=SplitConfig)
    shapes: Annotated[dict[str, int], Bounds(0), "images in each split of the drawn data set"] = field(
        default_factory=lambda: {"labelled": 24, "unlabelled": 200, "val": 40, "test": 60}
    )


@dataclass
class ModelConfig:
    """A network by its smp names."""

    arch: Annotated[str, "architecture"] = "unet"
    encoder: Annotated[str, "encoder; `tu-` and a name of timm gives timm's"] = "tu-resnet18"
    weights: Annotated[str | None, Place(), "weights of the encoder: null, imagenet, or a safetensors file"] = None
    partial_weights: Annotated[bool, "take weights that fit only a part of the encoder; false: an error"] = False
    decoder_channels: Annotated[
        list[int], Bounds(1), "U-Net family: widths of the decoder from deep to shallow; empty: smp's"
    ] = field(default_factory=list)


@dataclass
class NoiseConfig:
    """What makes learning harder for a student (Xie et al. 2020, Noisy Student), or for an online generation."""

    rand_n: Annotated[Count, "RandAugment: operations per image (Cubuk et al. 2020)"] = 0
    rand_m: Annotated[float, Bounds(0, 30), "RandAugment: magnitude"] = 0.0
    cutmix: Annotated[Share, "probability that an unlabelled image gets a box of another one"] = 0.0
    mix: Annotated[dict[str, Likely], "further mixings of unlabelled images; one mixing acts at a time"] = field(
        default_factory=dict
    )
    paste: Annotated[Share, "probability that it is mixed with a labelled image, with its mask (Bai et al. 2023, BCP)"] = 0.0
    style: Annotated[
        Share, "probability of a labelled image in the colours of an unlabelled one of its kind (Reinhard et al. 2001)"
    ] = 0.0
    colour: Annotated[Share, "probability of colour noise: jitter, greyscale, blur (Yang et al. 2022, ST++)"] = 0.0
    cutout: Annotated[Share, "probability of a box of noise in the image, without label"] = 0.0
    dropout: Annotated[Share, "dropout of the features before the segmentation head"] = 0.0
    drop_path: Annotated[Share, "stochastic depth: probability that a block of the encoder is skipped"] = 0.0
    labelled: Annotated[bool, "the labelled images get RandAugment, geometry, colours and erasing as well"] = False
    geometry: Annotated[dict[str, Likely], "changes of geometry, with their probabilities"] = field(default_factory=dict)
    colours: Annotated[dict[str, Likely], "changes of colours, with their probabilities"] = field(default_factory=dict)
    erase: Annotated[dict[str, Likely], "erased parts of images, with their probabilities"] = field(default_factory=dict)


@dataclass
class LossConfig:
    """What is minimised on labelled and on unlabelled pixels."""

    labelled: Annotated[dict[str, Weighted], "losses of labelled pixels with their weights; 0 leaves one out"] = field(
        default_factory=lambda: {"ce": {"weight": 1.0, "smoothing": 0.1}}
    )
    pseudo: Annotated[dict[str, Weighted], "losses of stored pseudo-labels with their weights"] = field(
        default_factory=lambda: {"kl": {"weight": 1.0, "temperature": 1.0}}
    )
    online: Annotated[dict[str, Weighted], "losses of labels made in the step; empty: the method's own"] = field(
        default_factory=dict
    )
    balance: Annotated[Share, "labelled pixels of a class weigh (its share of the labelled pixels)^-balance, mean 1"] = 0.5
    unlabelled_weight: Annotated[Size, "weight of the loss on unlabelled images"] = 1.0
    threshold: Annotated[Share, "online: the confidence from which a pixel's label by the averaged network counts"] = 0.95
    adaptive: Annotated[bool, "fixmatch, unimatch_v2: `threshold` is the surest class's, others have lower ones (FreeMatch)"] = (
        False
    )
    ramp_up: Annotated[Share, "online: share of the steps in which the weight of unlabelled images grows to its value"] = 0.0


@dataclass
class TrainConfig:
    """One stage of training, counted in optimizer steps."""

    steps: Annotated[Some, "optimizer steps of a generation"] = 1000
    labelled_batch: Annotated[Some, "labelled images in a step"] = 8
    unlabelled_batch: Annotated[Some, "unlabelled images in a student's or an online step, besides the labelled ones"] = 8
    crop: Annotated[Sides, "[height, width] of what the network sees, in multiples of 32 for smp's networks"] = field(
        default_factory=lambda: [128, 128]
    )
    scale: Annotated[Zoom, "random zoom of every training image"] = field(default_factory=lambda: [0.75, 1.5])
    jitter: Annotated[
        Share, "change of brightness, contrast and saturation of every training image, save those labelled online"
    ] = 0.3
    flip: Annotated[bool, "mirror training images left to right, half of the time"] = True
    place: Annotated[Choice, "where a crop lies in its image"] = "uniform"
    sampler: Annotated[Choice, "which labelled images a step sees"] = "uniform"
    optimizer: Annotated[str, "any name that timm knows"] = "adamw"
    lr: Annotated[Size, "learning rate after the warm-up"] = 1e-3
    weight_decay: Annotated[Size, "weight decay of the optimizer"] = 1e-2
    groups: Annotated[Choice, "which parameters learn, and at which share of the learning rate"] = "one"
    schedule: Annotated[Choice, "how the learning rate falls after the warm-up"] = "cosine"
    warmup: Annotated[Count, "steps of linear warm-up"] = 50
    clip: Annotated[Size, "largest norm of the gradient; 0: no limit"] = 1.0
    accumulate: Annotated[
        Some,
        "micro-batches that a process goes through in a step, where memory is short; the loss stays that of the whole "
        "batch, while batch norm and the mixing of online methods see one micro-batch",
    ] = 1
    average: Annotated[Choice, "average of the weights, which is evaluated, teaches and is kept"] = "ema"
    ema: Annotated[Share, "decay of the moving average, `train.average=ema`"] = 0.995
    statistics: Annotated[
        Count, "batches of `eval_batch` without noise that measure batch norm's statistics at the end; 0: none"
    ] = 24
    precision: Annotated[str, OneOf(PRECISIONS), "what the network computes in"] = "auto"
    workers: Annotated[Count, "processes that load and augment; 0: the training process itself"] = 0
    threads: Annotated[Count, "threads of each process on a CPU; 0: its share of the cores"] = 0
    checkpoint_every: Annotated[Some, "steps between checkpoints"] = 250
    eval_every: Annotated[Count, "steps between evaluations on val; 0: only at the end"] = 250
    eval_batch: Annotated[Some, "images that are evaluated at once"] = 16


@dataclass
class GenerationConfig:
    """One generation; what is null is taken from `model` and `train`."""

    arch: Annotated[str | None, "architecture; null: `model.arch`"] = None
    encoder: Annotated[str | None, "encoder; null: `model.encoder`"] = None
    decoder_channels: Annotated[list[int] | None, Bounds(1), "widths of the decoder; null: `model.decoder_channels`"] = None
    steps: Annotated[int | None, Bounds(1), "optimizer steps; null: `train.steps`"] = None
    labelled_batch: Annotated[int | None, Bounds(1), "labelled images in a step; null: `train.labelled_batch`"] = None
    image_share: Annotated[float | None, Bounds(0, 1), "most reliable share of the images; null: `select.image_share`"] = None
    init: Annotated[
        str,
        OneOf({"random": "as the network comes", "teacher": "the teacher's weights, where they fit by name and shape"}),
        "what the network begins with",
    ] = "random"
    online: Annotated[str, "the method that makes labels in each step; empty: stored pseudo-labels, if any"] = ""
    noise: NoiseConfig = field(default_factory=NoiseConfig)


@dataclass
class TTAConfig:
    """Views whose probabilities are averaged (ttach). The views are the product of the lists."""

    hflip: Annotated[bool, "mirrored left to right"] = True
    vflip: Annotated[bool, "mirrored top to bottom"] = False
    rotate90: Annotated[bool, "turned by 90, 180 and 270 degrees"] = False
    scales: Annotated[Scales, "sizes, as multiples of the image's"] = field(default_factory=lambda: [1.0])


@dataclass
class CRFConfig:
    """Dense CRF (Kraehenbuehl & Koltun 2011); standard deviations in pixels and grey levels."""

    enabled: Annotated[bool, "false: labels.refiner=crf refines nothing"] = True
    backend: Annotated[str, "the implementation"] = "lattice"
    iterations: Annotated[Count, "mean-field iterations"] = 5
    gaussian_sxy: Annotated[Deviation, "smoothness: standard deviation of positions"] = 1.0
    gaussian_compat: Annotated[float, "smoothness: weight"] = 1.0
    bilateral_sxy: Annotated[Deviation, "appearance: standard deviation of positions"] = 20.0
    bilateral_srgb: Annotated[Deviation, "appearance: standard deviation of colours"] = 8.0
    bilateral_compat: Annotated[float, "appearance: weight; strong ones erase thin and rare classes (docs/lab-notes.md)"] = 2.0
    workers: Annotated[Count, "threads; 0: one per core"] = 0


@dataclass
class LabelConfig:
    """What the teacher says of the unlabelled images, stored unfiltered."""

    teacher: Annotated[
        str,
        OneOf({"leader": "the last generation that leads", "last": "the generation before, whatever its score on val"}),
        "who labels for the next generation",
    ] = "leader"
    tta: TTAConfig = field(default_factory=TTAConfig)
    refiner: Annotated[Choice, "what refines the averaged probabilities"] = "crf"
    crf: CRFConfig = field(default_factory=CRFConfig)
    soft_classes: Annotated[
        int, Bounds(1, 255), "most probable classes kept per pixel; the rest of the mass is spread over the others"
    ] = 3
    shard: Annotated[Some, "images per file of labels"] = 32
    batch: Annotated[Some, "images that are labelled at once"] = 8
    window: Annotated[
        int,
        Bounds(0),
        "larger images are labelled in windows of this side, which overlap by a quarter; a multiple as of train.crop, "
        "0: no windows",
    ] = 1024


@dataclass
class SelectConfig:
    """Which pixels and images the next student learns from. Acts when labels are read."""

    threshold: Annotated[Choice, "rule for the confidence from which a pixel's label counts"] = "quantile"
    confidence: Annotated[Share, "`global`: the threshold; `quantile`: the highest threshold of a class"] = 0.8
    keep: Annotated[
        Share, "`quantile`: least share of each predicted class's pixels that is kept; `distribution`: of all pixels"
    ] = 0.6
    balance: Annotated[float, "pixels of a class weigh (its share)^-balance, mean 1"] = 0.0
    image_share: Annotated[Share, "most reliable share of the images"] = 1.0
    reliability: Annotated[Choice, "how far an image's labels can be trusted"] = "confidence"
    weight_images: Annotated[bool, "images weigh in proportion to their reliability"] = False
    on_empty: Annotated[
        str,
        OneOf({"fail": "exit with code 8", "labelled_only": "the leader so far is the result"}),
        "what happens if no pseudo-label is accepted",
    ] = "fail"


@dataclass
class ExportConfig:
    """What a run leaves for use elsewhere."""

    generation: Annotated[
        str,
        OneOf({"best": "the last generation that leads", "last": "a small student meant for deployment"}),
        "which generation is exported",
    ] = "best"
    onnx: Annotated[bool, "export to ONNX, too"] = True


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
    generations: Annotated[list[GenerationConfig], Must("have at least one entry", bool), "one entry for each generation"] = (
        field(default_factory=lambda: [GenerationConfig()])
    )
