"""Description of the data set to read. selftrain/datasets.py fills it in from the settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# what an earlier run knew of images, by the image's hash: its split, and the hash of its mask
Kept = Mapping[str, tuple[str, str | None]]


@dataclass(frozen=True)
class SplitSpec:
    """Division of samples into labelled, unlabelled, val and test (data.splits)."""

    train: str
    val: str
    test: str
    val_fraction: float
    test_fraction: float
    labels: int
    label_fraction: float
    choose: str
    group: str
    stratify: bool
    fold: list[int]
    seed: int
    kept: Kept = field(default_factory=dict)  # splits of an earlier run; not a setting

    @property
    def made(self) -> set[str]:
        """Which of val and test are drawn from the images with masks; the others are named."""
        return ({"val"} if self.fold or not self.val else set()) | (set() if self.test else {"test"})


@dataclass(frozen=True)
class StoreSpec:
    """How a remote store is read (data.store)."""

    cache: str
    cache_mb: int
    tries: int
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Spec:
    """The data set to read, and how. Fields have the names, types and meanings of the settings in `data`."""

    name: str
    format: str
    root: str
    images: str
    masks: str
    unlabelled: str
    tags: str
    suspects: str
    suspicion: Any
    annotations: str
    classes: list[str]
    values: list[Any]
    colours: list[list[int]]
    ignore: list[Any]
    ignore_colours: list[list[int]]
    threshold: int
    nearest: bool
    background: str
    order: str
    empty: str
    size: list[Any]
    range: list[Any]
    channels: int
    duplicates: str
    remember: bool
    extra: tuple["Extra", ...]
    store: StoreSpec
    splits: SplitSpec
    shapes: dict[str, int]
    changed: frozenset[str]  # the settings that differ from their defaults, such as "root" and "splits.val"
    debug: bool = False  # a small part of each split only

    @property
    def masks_optional(self) -> bool:
        """Whether training images need no masks: they may have tags, and val is named."""
        return bool(self.tags and self.splits.val)

    @property
    def target(self) -> tuple[Any, int] | None:
        """The size that images are resized to when they are read, by the rule of `selftrain.sizes`."""
        return (self.size[0], self.size[1]) if self.size else None


@dataclass(frozen=True)
class Extra:
    """An external labelled data set (data.extra): how it is read, and what its classes become."""

    setting: str  # its name among the settings, for messages: "data.extra.0"
    spec: Spec
    classes: dict[str, str | None]  # its class -> class of the data set; None: ignored
    weight: float  # of its pixels
