"""Each generation of a run as it will be: every fallback to `model`, `train` and `select` is decided here, once."""

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
    """One generation."""

    number: int
    arch: str
    encoder: str
    decoder_channels: list[int]
    channels: int  # of an image
    steps: int
    labelled_batch: int
    unlabelled_batch: int  # 0 where a step has labelled images only
    online: str  # name of `method`; empty: stored pseudo-labels, if any
    begins_as_teacher: bool
    noise: NoiseConfig
    augmentation: Augmentation
    select: SelectConfig

    @property
    def name(self) -> str:
        """The stage of the generation, in messages, metrics and random numbers."""
        return f"gen{self.number}"

    @property
    def method(self) -> type[Method]:
        """How it learns."""
        return METHODS[self.online]

    @property
    def needs_labels(self) -> bool:
        """Whether it learns from stored pseudo-labels of a teacher."""
        return self.number > 0 and not self.online

    @property
    def batch(self) -> int:
        """Images in a step."""
        return self.labelled_batch + self.unlabelled_batch


def plans(cfg: Config) -> list[Plan]:
    """The generations of a run, in their order."""
    return [_plan(cfg, number, own) for number, own in enumerate(cfg.generations)]


def _plan(cfg: Config, number: int, own: GenerationConfig) -> Plan:
    train, model = cfg.train, cfg.model
    return Plan(
        number=number,
        arch=own.arch or model.arch,
        encoder=own.encoder or model.encoder,
        decoder_channels=_own(own.decoder_channels, model.decoder_channels),
        channels=len(cfg.data.mean),
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
