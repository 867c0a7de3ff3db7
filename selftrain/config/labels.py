"""Settings of pseudo-labels: how a teacher labels, and what the next student trains on."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from selftrain.config.rules import DEVIATION, Some
from selftrain.sizes import SEEN, is_seen_size
from selftrain.tables import Bounds, Count, Must, OneOf, Share
from selftrain.values import Choice

MIN_AREA, MAX_HOLE = (
    "class: pixels; smaller regions of the class",
    "class: pixels; holes in the class up to this size",
)
Deviation = Annotated[float, DEVIATION]


def _are_scales(scales: list[float]) -> bool:
    return bool(scales) and min(scales) > 0 and len(set(scales)) == len(scales)


Scales = Annotated[list[float], Must("be positive and all different; [1.0] changes no size", _are_scales)]


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
class CamConfig:
    """Pseudo-labels from class activation maps, of a generation with `from_tags` (Zhou et al. 2016)."""

    background: Annotated[
        str, "class of the pixels where no other class of an image is active; empty: every class has a map"
    ] = "background"
    exponent: Annotated[
        float,
        Bounds(above=0),
        "exponent of the background's score (1 - the highest activation); larger: more objects",
    ] = 1.0


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
    views: Annotated[
        Choice | None, "the views whose probabilities are averaged; null: the product of `labels.tta`"
    ] = None
    size: Annotated[
        list[Any],
        Must(SEEN, is_seen_size),
        "size at which the teacher sees images, as `predict.size`; labels have the size of the images that "
        "training reads",
    ] = field(default_factory=list)
    refiner: Annotated[Choice, "how the averaged probabilities are refined"] = "crf"
    crf: CRFConfig = field(default_factory=CRFConfig)
    cams: CamConfig = field(default_factory=CamConfig)
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
    windows: Annotated[
        Choice | None, "how much of an image the teacher sees at once; null: as `labels.window` says"
    ] = None


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
    decision: Annotated[
        str,
        OneOf(
            {
                "stored": "the stored probabilities",
                "tuned": "divided by the teacher's tuned thresholds of `predict.decision`, with sum 1 again",
            }
        ),
        "probabilities of the labels, and with them classes and confidences",
    ] = "stored"
    balance: Annotated[float, "pixels of a class weigh (its share)^-balance, mean 1"] = 0.0
    image_share: Annotated[Share, "most reliable share of the images"] = 1.0
    reliability: Annotated[Choice, "measure of how reliable an image's labels are"] = "confidence"
    weight_images: Annotated[bool, "weight images in proportion to their reliability"] = False
    min_area: Annotated[
        dict[str, int],
        Bounds(0),
        f"{MIN_AREA} are rejected, such as {{car: 50}}; `rest`: all other classes",
    ] = field(default_factory=dict)
    max_hole: Annotated[dict[str, int], Bounds(0), f"{MAX_HOLE} are rejected; `rest`: all other classes"] = (
        field(default_factory=dict)
    )
    on_empty: Annotated[
        str,
        OneOf({"fail": "exit with code 8", "labelled_only": "the leader so far is the result"}),
        "what happens if no pseudo-label is accepted",
    ] = "fail"
