"""Settings of the data: where images and masks are, and what the masks' values mean."""

import re
from dataclasses import dataclass, field
from typing import Annotated, Any

from selftrain.config.rules import AUTO, Some, are_sides_or_empty
from selftrain.sizes import WANTED, is_size
from selftrain.tables import INFINITY, Bounds, Count, Must, OneOf, Place, Share
from selftrain.values import Choice, Plain


def _is_fold(fold: list[int]) -> bool:
    return not fold or (len(fold) == 2 and 0 <= fold[0] < fold[1] > 1)


def _are_numbers(scale: list[Any], above: float = -INFINITY) -> bool:
    numbers = [value for value in scale if isinstance(value, int | float) and value > above]
    return len(numbers) == len(scale) > 0 or scale == [AUTO]


Means = Annotated[list[Any], Must("have a number for each channel, or be auto", _are_numbers)]
Positive = Annotated[
    list[Any],
    Must("have a number above 0 for each channel, or be auto", lambda std: _are_numbers(std, above=0.0)),
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
    stratify: Annotated[
        bool,
        "made splits, and the folds of `generations.members`, have about the same classes and areas of them",
    ] = False
    fold: Annotated[
        list[int],
        Must("be [fold, folds], such as [0,5] for the first of five, or []", _is_fold),
        "[fold, folds]: cross-validation; val is this fold of the labelled images, instead of `val` or "
        "`val_fraction` (selftrain folds trains all of them)",
    ] = field(default_factory=list)
    seed: Annotated[int, "seed of the made splits and of the choice of masks"] = 0


SECRETS = re.compile("secret|password|token|credential|connection_string|authorization|key$|access_key")
NOBODY = "anon"  # the token of gcsfs for public buckets


def _tells_no_secret(options: Any) -> bool:
    """Whether options of a file system contain no credentials, which config.yaml would keep."""
    if isinstance(options, list):
        return all(map(_tells_no_secret, options))
    if not isinstance(options, dict):
        return True
    return all(
        value == NOBODY or (not SECRETS.search(str(name).lower()) and _tells_no_secret(value))
        for name, value in options.items()
    )


@dataclass
class StoreConfig:
    """How images on object storage are read, if `data.root` is a URL such as s3://bucket/prefix."""

    cache: Annotated[
        str,
        Place(),
        "folder that keeps what was read; empty: `$XDG_CACHE_HOME/selftrain/store` or "
        "`~/.cache/selftrain/store`",
    ] = ""
    cache_mb: Annotated[
        int, Bounds(64), "disk space in MB of that folder; what was not used for the longest time goes first"
    ] = 20480
    tries: Annotated[
        Some,
        "tries of each request before the run ends with an error; between them it waits up to 0.5, 1, 2, ... "
        "30 s",
    ] = 8
    options: Annotated[
        dict[str, Plain],
        Must("contain no credentials: give them by the environment (AWS_PROFILE)", _tells_no_secret),
        "further arguments of the fsspec file system, such as {anon: true} for public buckets",
    ] = field(default_factory=dict)


@dataclass
class ExtraConfig:
    """An external labelled data set with its own classes. Its images are only trained on.

    `data` sets their size, their channels and their range of 16-bit values.
    """

    name: Annotated[str, "name of the data set, in ids; empty: extra0, extra1, ..."] = ""
    format: Annotated[str, "how its files are laid out, like `data.format`"] = "folder"
    root: Annotated[str, Place(), "folder of the data set"] = ""
    images: Annotated[str, Place(), "folder of the images, relative to `root`"] = "images"
    masks: Annotated[str, Place(), "folder of the masks, relative to `root`"] = "masks"
    classes: Annotated[
        dict[str, str | None],
        "its classes in the order of their values, each with the class of `data.classes` that it becomes; "
        "null: ignored",
    ] = field(default_factory=dict)
    values: Annotated[list[Any], "value of each of its classes, like `data.values`"] = field(
        default_factory=list
    )
    colours: Annotated[list[list[int]], "RGB colour of each of its classes, instead of `values`"] = field(
        default_factory=list
    )
    ignore: Annotated[list[Any], "its mask values that are ignored, like `data.ignore`"] = field(
        default_factory=lambda: [255]
    )
    ignore_colours: Annotated[list[list[int]], "its mask colours that are ignored"] = field(
        default_factory=list
    )
    annotations: Annotated[str, Place(), "its annotation files, like `data.annotations`"] = ""
    background: Annotated[
        str, "its class of the pixels outside of all shapes of annotation files; empty: they are ignored"
    ] = "background"
    weight: Annotated[float, Bounds(above=0), "weight of its pixels; pixels of `data` weigh 1"] = 1.0


@dataclass
class DataConfig:
    """The images of a data set, and the meaning of their masks."""

    name: Annotated[str, "name of the data set in reports"] = "shapes"
    format: Annotated[str, "form of the data: drawn images, mask files, or annotation files"] = "shapes"
    root: Annotated[str, Place(), "folder of the data set, or a URL such as s3://bucket/prefix"] = ""
    images: Annotated[str, Place(), "folder of the images, relative to `root`"] = "images"
    masks: Annotated[str, Place(), "folder of the masks, relative to `root`"] = "masks"
    unlabelled: Annotated[
        str,
        Place(),
        "folder or list file of images without masks, relative to `root`; or tar shards of such images: a "
        "folder of them, a .tar file, or a pattern such as shards/*.tar",
    ] = ""
    annotations: Annotated[
        str,
        Place(),
        "annotation file, folder of such files, or a name that lies in several folders, relative to `root`; "
        "empty: every such file below `root` (yolo: `labels`)",
    ] = ""
    classes: Annotated[list[str], "names of the classes"] = field(default_factory=list)
    values: Annotated[
        list[Any],
        "grey or palette value of each class, or a list of values, [0, [1, 2]]; empty: 0, 1, 2, ...; "
        "of annotation files: its category, or a list of categories; empty: of the class's name",
    ] = field(default_factory=list)
    colours: Annotated[list[list[int]], "RGB colour of each class, instead of `values`"] = field(
        default_factory=list
    )
    ignore: Annotated[
        list[Any], "mask values, or categories, that are ignored; [rest]: all that are not declared"
    ] = field(default_factory=lambda: [255])
    ignore_colours: Annotated[list[list[int]], "mask colours that are ignored"] = field(default_factory=list)
    tags: Annotated[
        str, Place(), "CSV file with the classes of whole images (image,classes), relative to `root`"
    ] = ""
    suspects: Annotated[str, Place(), "list of suspicious masks that `selftrain clean` wrote"] = ""
    suspicion: Annotated[Choice, "what training does with the masks of `suspects`"] = "drop"
    reviewed: Annotated[
        str,
        Place(),
        "the folder that `selftrain review` wrote, RUN/review: generations that begin from now on train on "
        "its accepted and corrected images as labelled ones, and leave out the rejected ones",
    ] = ""
    threshold: Annotated[
        int,
        Bounds(0, 65535),
        "grey masks of two classes: values from this one on are the second class; 0: off",
    ] = 0
    nearest: Annotated[bool, "undeclared mask values and colours become the nearest declared one"] = False
    background: Annotated[
        str, "class of the pixels outside of all shapes of annotation files; empty: they are ignored"
    ] = "background"
    order: Annotated[
        str,
        OneOf({"large": "large shapes first, small ones on top", "file": "as in the file"}),
        "order in which the shapes of annotation files are drawn",
    ] = "large"
    empty: Annotated[
        str,
        OneOf({"background": "they show the background only", "unlabelled": "they are unlabelled"}),
        "images that annotation files describe without any shape",
    ] = "background"
    size: Annotated[
        list[Any],
        Must(WANTED, is_size),
        "size to which images are resized when read: [height, width], or [longest, side] or "
        "[shortest, side], which keep the aspect ratio; empty: original sizes",
    ] = field(default_factory=list)
    range: Annotated[
        list[Any],
        "values of 16-bit images that become 0 and 255: [dtype] (0, 65535), [percentile] (measured), "
        "[lowest, highest]",
    ] = field(default_factory=lambda: ["dtype"])
    channels: Annotated[
        int, Bounds(1), "channels of the images; 3: RGB, 1: grey, other numbers: bands as stored"
    ] = 3
    mean: Annotated[
        Means,
        "mean of the pixels in 0..1, per channel; auto: as the encoder was pretrained, and of ImageNet for "
        "random weights",
    ] = field(default_factory=lambda: [AUTO])
    std: Annotated[Positive, "standard deviation of the pixels in 0..1, per channel; auto: as for `mean`"] = (
        field(default_factory=lambda: [AUTO])
    )
    duplicates: Annotated[
        str,
        OneOf(
            {
                "group": "they stay in one made split",
                "near": "as `group`, and nearly identical images do, too",
                "fault": "they are a fault of the data",
                "drop": "training images that are copies of val or test images are left out",
            }
        ),
        "how identical images are handled",
    ] = "group"
    tile: Annotated[
        list[int],
        Must("be [height, width], both above 0, or []", are_sides_or_empty),
        "[height, width] of the tiles of large images from which training draws; empty: whole images",
    ] = field(default_factory=list)
    stride: Annotated[
        list[int],
        Must("be [down, right], both above 0, or []", are_sides_or_empty),
        "pixels from one tile to the next; empty: `tile`, without overlap",
    ] = field(default_factory=list)
    reject: Annotated[
        Share,
        "probability that a labelled tile with the first class only (the background) makes room for another",
    ] = 0.0
    cache_mb: Annotated[Count, "memory in MB for decoded images, per process and per loader worker"] = 1024
    remember: Annotated[
        bool,
        "verify keeps a cache of sound files outside of the run directory, `$XDG_CACHE_HOME/selftrain` or "
        "`~/.cache/selftrain`; false: it neither reads nor writes it",
    ] = True
    extra: Annotated[list[ExtraConfig], "external labelled data sets; never in val or test"] = field(
        default_factory=list
    )
    store: StoreConfig = field(default_factory=StoreConfig)
    splits: SplitConfig = field(default_factory=SplitConfig)
    shapes: Annotated[dict[str, int], Bounds(0), "images per split of the drawn data set"] = field(
        default_factory=lambda: {"labelled": 24, "unlabelled": 200, "val": 40, "test": 60}
    )
