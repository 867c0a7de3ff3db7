"""Settings of training: the network, its noise and losses, and the steps of a generation."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from selftrain.config.rules import AUTO, Sides, Some
from selftrain.tables import Bounds, Count, Must, OneOf, Place, Share, Size
from selftrain.values import Choice, Likely, Numbered, Weighted

PRECISIONS = {
    "auto": "the precision given to `accelerate launch` (--mixed_precision or its config file; `no` counts), "
    "else bf16 where it is faster than fp32 (GPUs, CPUs with AMX, AMD's CPUs with AVX-512); resolved when a "
    "run begins, and kept",
    "none": "fp32",
    "bf16": "bfloat16",
    "fp16": "half precision, on GPUs only",
}


ALWAYS = "always"  # a word of train.freeze


def _is_steps(freeze: object) -> bool:
    return freeze == ALWAYS or (isinstance(freeze, int) and freeze >= 0)


def _is_rising(scale: list[float]) -> bool:
    return len(scale) == 2 and 0 < scale[0] <= scale[1]


Zoom = Annotated[list[float], Must("be [least, most], both above 0", _is_rising)]


@dataclass
class ModelConfig:
    """The network, by its smp names."""

    arch: Annotated[Choice, "architecture"] = "unet"
    encoder: Annotated[str, "encoder; `tu-` and a timm name selects timm's encoder"] = "tu-resnet18"
    weights: Annotated[
        str | None,
        Place(),
        "weights of the encoder: null (random), imagenet (of a hub), package:NAME (of an installed package), "
        "a safetensors file, or auto: the first that is available of hub, package and random; run:DIR: the "
        "whole network that leads the run in DIR, encoder and decoder",
    ] = AUTO
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
    mix_labelled: Annotated[
        dict[str, Likely], "ways to mix labelled images with one another; one acts at a time"
    ] = field(default_factory=dict)
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
    labelled: Annotated[
        bool, "labelled images also get RandAugment, policies, geometry, colours and erasing"
    ] = False
    geometry: Annotated[dict[str, Likely], "geometric augmentations with their probabilities"] = field(
        default_factory=dict
    )
    policy: Annotated[
        dict[str, Likely], "policies, which draw operations of geometry and colour, with their probabilities"
    ] = field(default_factory=dict)
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
    distill: Annotated[
        dict[str, Weighted],
        "losses of labelled images against their teacher's stored labels, besides `labelled`",
    ] = field(default_factory=dict)
    online: Annotated[dict[str, Weighted], "losses of labels made in each step; empty: the method's own"] = (
        field(default_factory=dict)
    )
    image: Annotated[
        dict[str, Weighted],
        "losses of an image-level head, which learns the classes of whole images from masks and `data.tags`; "
        "empty: no such head",
    ] = field(default_factory=dict)
    balance: Annotated[
        Share, "labelled pixels of a class weigh (its share of the labelled pixels)^-balance, mean 1"
    ] = 0.5
    class_weights: Annotated[
        dict[str, float],
        Bounds(0),
        "factors on the weights of `balance`, by the name of the class, as in {car: 2}",
    ] = field(default_factory=dict)
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

    plan: Annotated[
        str,
        OneOf(
            {
                "none": "the settings as they are",
                AUTO: "sizes, steps, encoders and so on by rules from the data, the machine and `budget` "
                "(docs/plan.md), once, when the run begins; settings that are given stay",
            }
        ),
        "how settings that you did not give are chosen",
    ] = "none"
    steps: Annotated[Some, "optimizer steps of a generation"] = 1000
    labelled_batch: Annotated[Some, "labelled images in a step"] = 8
    unlabelled_batch: Annotated[
        Some, "unlabelled images in a step of a student or online method, besides the labelled ones"
    ] = 8
    crop: Annotated[
        Sides,
        "[height, width] of the training crops, in multiples of 32 for smp's networks; one number: a square",
    ] = field(default_factory=lambda: [128, 128])
    scale: Annotated[Zoom, "random zoom of every training image"] = field(default_factory=lambda: [0.75, 1.5])
    jitter: Annotated[
        Share,
        "change of brightness, contrast and saturation of every training image that is not labelled online",
    ] = 0.3
    flip: Annotated[bool, "mirror training images left to right, half of the time"] = True
    place: Annotated[Choice, "how the position of a crop is chosen"] = "uniform"
    sampler: Annotated[Choice, "how the labelled images of a step are sampled"] = "uniform"
    optimizer: Annotated[str, "any name that timm knows"] = "adamw"
    lookahead: Annotated[
        Count,
        "Lookahead (Zhang et al. 2019): steps (k) between two updates of the slow weights; 0: none",
    ] = 0
    lookahead_alpha: Annotated[Share, "Lookahead: how far the slow weights go towards the others"] = 0.5
    lr: Annotated[Size, "learning rate after the warm-up"] = 1e-3
    weight_decay: Annotated[Size, "weight decay of the optimizer"] = 1e-2
    encoder_lr: Annotated[
        Size, "the encoder's share of `lr`; pretrained encoders need a lower rate than the decoder"
    ] = 1.0
    layer_decay: Annotated[
        Share, "the learning rate of an encoder's layer as a share of the next one's (BEiT, Bao et al. 2022)"
    ] = 1.0
    freeze: Annotated[
        Any,
        Must("be a number of steps or always", _is_steps),
        "first steps of a generation in which the encoder keeps its weights and its batch-norm statistics",
    ] = 0
    feature_mb: Annotated[
        Count,
        "MB of memory for the features that an encoder with `freeze=always` computes of each image, if steps "
        "show images unchanged; same results, less time; 0: none",
    ] = 0
    groups: Annotated[Choice, "how parameters are grouped for the optimizer"] = "one"
    schedule: Annotated[Choice, "how the learning rate falls after the warm-up"] = "cosine"
    warmup: Annotated[Count, "steps of linear warm-up"] = 50
    clip: Annotated[Size, "largest norm of the gradient; 0: no limit"] = 1.0
    accumulate: Annotated[
        Some,
        "micro-batches per process and step, to save memory; the loss is the loss of the whole batch, but "
        "batch norm and the mixing of online methods see one micro-batch",
    ] = 1
    sync_bn: Annotated[
        bool,
        "several processes on GPUs: batch norm in training uses the statistics of all their images, not of "
        "each process's own",
    ] = False
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
    watch: Annotated[
        Count,
        "training images that are scored beside val at each evaluation, for the curves of the report; "
        "no decision depends on them",
    ] = 8
    patience: Annotated[
        Count,
        "evaluations on val in a row without a new best score after which a generation ends, with the "
        "averaged weights of that step; 0: it takes all steps",
    ] = 0
    eval_batch: Annotated[Some, "images per evaluation batch"] = 16


@dataclass
class GenerationConfig:
    """One generation. Settings that are null are taken from `model`, `train` and `select`."""

    arch: Annotated[Choice | None, "architecture; null: `model.arch`"] = None
    encoder: Annotated[str | None, "encoder; null: `model.encoder`"] = None
    decoder_channels: Annotated[
        list[int] | None, Bounds(1), "widths of the decoder; null: `model.decoder_channels`"
    ] = None
    weights: Annotated[str | None, Place(), "weights of the encoder, or random; null: `model.weights`"] = None
    steps: Annotated[int | None, Bounds(1), "optimizer steps; null: `train.steps`"] = None
    labelled_batch: Annotated[
        int | None, Bounds(1), "labelled images in a step; null: `train.labelled_batch`"
    ] = None
    unlabelled_batch: Annotated[
        int | None,
        Bounds(0),
        "unlabelled images in a step; 0: masks only, as to fine-tune the last student; null: "
        "`train.unlabelled_batch`",
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
    members: Annotated[
        dict[str, Numbered],
        "several networks instead of one, as in {seeds: 3} or {folds: 5}; their averaged probabilities are "
        "evaluated, used for labelling and exported as one network",
    ] = field(default_factory=dict)
    online: Annotated[str, "method that labels images in each step; empty: stored pseudo-labels, if any"] = ""
    from_tags: Annotated[
        bool,
        "first generation: the image-level head also learns from images with `data.tags` only, and its class "
        "activation maps are the pseudo-labels; only val needs masks",
    ] = False
    noise: NoiseConfig = field(default_factory=NoiseConfig)
