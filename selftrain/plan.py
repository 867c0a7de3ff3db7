"""The resolved plan of each generation. All fallbacks to `model`, `train` and `select` are decided here."""

from dataclasses import dataclass, replace
from typing import TypeVar

from selftrain import augmentation
from selftrain.config import Config, GenerationConfig, NoiseConfig, SelectConfig
from selftrain.data.batches import Augmentation
from selftrain.methods.base import Method
from selftrain.methods.table import METHODS

T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """The resolved settings of one generation."""

    number: int
    arch: str
    encoder: str
    decoder_channels: list[int]
    channels: int  # of the images
    steps: int
    labelled_batch: int
    unlabelled_batch: int  # 0 if a step has labelled images only
    online: str  # name of `method`; empty: stored pseudo-labels, if any
    begins_as_teacher: bool
    noise: NoiseConfig
    augmentation: Augmentation
    select: SelectConfig

    @property
    def name(self) -> str:
        """The generation's name in messages, metrics and random keys."""
        return f"gen{self.number}"

    @property
    def method(self) -> type[Method]:
        """The training method."""
        return METHODS[self.online]

    @property
    def needs_labels(self) -> bool:
        """Whether the generation trains on a teacher's stored pseudo-labels."""
        return self.number > 0 and not self.online

    @property
    def batch(self) -> int:
        """The number of images in a step."""
        return self.labelled_batch + self.unlabelled_batch


def plans(cfg: Config) -> list[Plan]:
    """The plans of a run's generations, in order."""
    return [_plan(cfg, number, own) for number, own in enumerate(cfg.generations)]


def _plan(cfg: Config, number: int, own: GenerationConfig) -> Plan:
    train, model = cfg.train, cfg.model
    return Plan(
        number=number,
        arch=own.arch or model.arch,
        encoder=own.encoder or model.encoder,
        decoder_channels=_own(own.decoder_channels, model.decoder_channels),
        channels=cfg.data.channels,
        steps=_own(own.steps, train.steps),
        labelled_batch=_own(own.labelled_batch, train.labelled_batch),
        unlabelled_batch=train.unlabelled_batch if number or own.online else 0,
        online=own.online,
        begins_as_teacher=own.init == "teacher",
        noise=own.noise,
        augmentation=augmentation.of(train, own, number),
        select=replace(cfg.select, image_share=_own(own.image_share, cfg.select.image_share)),
    )


def _own(own: T | None, common: T) -> T:
    return common if own is None else own
