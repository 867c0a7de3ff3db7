"""The resolved plan of each generation. All fallbacks to `model`, `train` and `select` are decided here."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TypeVar

from selftrain import augmentation, members
from selftrain.config import Config, GenerationConfig, NoiseConfig, SelectConfig
from selftrain.data.augment.pipeline import Pipeline
from selftrain.data.batches import Augmentation
from selftrain.data.splits import group_names
from selftrain.inference import tta, windows
from selftrain.members import Member, Members
from selftrain.methods.base import Method
from selftrain.methods.table import METHODS
from selftrain.models.build import multiple_of
from selftrain.rng import Key
from selftrain.rundir import Generation, RunDir
from selftrain.tables import Chosen
from selftrain.values import Choice

T = TypeVar("T")
RANDOM = "random"  # generations.K.weights: random, whatever model.weights is


@dataclass(frozen=True)
class Plan:
    """The resolved settings of one generation, or of one of its networks (`of`)."""

    number: int
    arch: Choice
    encoder: str
    decoder_channels: list[int]
    channels: int  # of the images
    weights: str | None  # of the encoder, before its training; None: random
    steps: int
    labelled_batch: int
    unlabelled_batch: int  # 0 if a step has labelled images only
    online: str  # name of `method`; empty: stored pseudo-labels, if any
    begins_as_teacher: bool
    noise: NoiseConfig
    augmentation: Augmentation
    unnoised: Pipeline  # crops without noise
    select: SelectConfig
    groups: str = ""  # data.splits.group
    members: Members = field(default_factory=Members)
    member: Member = field(default_factory=Member)
    zoomed: Sequence[tuple[Augmentation, Pipeline]] = ()  # of each member, if there are several

    @property
    def name(self) -> str:
        """The name in messages, metrics and random keys: gen2, and gen2.1 for its second network."""
        return f"gen{self.number}" + (f".{self.member.number}" if self.member.number else "")

    @property
    def each(self) -> list["Plan"]:
        """The plan of each network of the generation."""
        if not self.members.several:
            return [self]
        pairs = zip(self.members.each, self.zoomed, strict=True)
        return [replace(self, member=one, augmentation=seen, unnoised=weak) for one, (seen, weak) in pairs]

    @property
    def zooms(self) -> list[float]:
        """The factor by which each network's images are resized."""
        return [one.zoom for one in self.members.each]

    def left_out(self, names: Sequence[str], seed: Key) -> list[int]:
        """The labelled images that this network does not train on; `names` has one name per image."""
        return self.member.left_out(group_names(names, self.groups), (seed, f"gen{self.number}", "members"))

    def home(self, run: RunDir) -> Generation:
        """The place of this network's checkpoints: one for each network, if there are several."""
        gen = run.generation(self.number)
        return gen.member(self.member.number) if self.members.several else gen

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


def window_of(cfg: Config) -> Chosen[windows.Window]:
    """The window of evaluations, pictures and the export: `predict.window`, else `labels.window`."""
    own = cfg.predict.window
    return windows.of(cfg.labels.window if own is None else own)


def window_of_labels(cfg: Config) -> Chosen[windows.Window]:
    """The window of labelling: `labels.windows`, else blended windows of `labels.window`."""
    own = cfg.labels.windows
    return windows.of(cfg.labels.window if own is None else own)


def views_of_labels(cfg: Config) -> tta.Views:
    """The views of labelling: `labels.views`, else the product of `labels.tta`."""
    own = cfg.labels.views
    return tta.Views(tta.views(**asdict(cfg.labels.tta))) if own is None else tta.of(own, "labels.views")


def plans(cfg: Config) -> list[Plan]:
    """The plans of a run's generations, in order."""
    return [_plan(cfg, number, own) for number, own in enumerate(cfg.generations)]


def _plan(cfg: Config, number: int, own: GenerationConfig) -> Plan:
    train, model, arch = cfg.train, cfg.model, own.arch or cfg.model.arch
    each = members.of(own.members, f"generations.{number}.members")
    zoomed = [augmentation.zoomed(train, one.zoom, multiple_of(arch)) for one in each.each]
    return Plan(
        number=number,
        arch=arch,
        encoder=own.encoder or model.encoder,
        decoder_channels=_own(own.decoder_channels, model.decoder_channels),
        channels=cfg.data.channels,
        weights=None if own.weights == RANDOM else _own(own.weights, model.weights),
        steps=_own(own.steps, train.steps),
        labelled_batch=_own(own.labelled_batch, train.labelled_batch),
        unlabelled_batch=train.unlabelled_batch if number or own.online else 0,
        online=own.online,
        begins_as_teacher=own.init == "teacher",
        noise=own.noise,
        augmentation=augmentation.of(train, own, number),
        unnoised=augmentation.weak(train),
        groups=cfg.data.splits.group,
        members=each,
        zoomed=[(augmentation.of(seen, own, number), augmentation.weak(seen)) for seen in zoomed],
        select=replace(cfg.select, image_share=_own(own.image_share, cfg.select.image_share)),
    )


def _own(own: T | None, common: T) -> T:
    return common if own is None else own
