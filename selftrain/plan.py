"""The resolved plan of each generation. All fallbacks to `model`, `train` and `select` are decided here."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TypeVar

import numpy as np

from selftrain import augmentation, members
from selftrain.config import Config, GenerationConfig, NoiseConfig, SelectConfig, TrainConfig
from selftrain.data.augment.pipeline import Pipeline
from selftrain.data.batches import Augmentation
from selftrain.data.splits import group_names
from selftrain.errors import ConfigError
from selftrain.inference import tta, windows
from selftrain.members import Member, Members
from selftrain.methods.base import Method
from selftrain.methods.table import METHODS
from selftrain.models.build import multiple_of
from selftrain.optim.schedules import ROUNDING, SCHEDULES, cycles, restarts
from selftrain.rng import Key
from selftrain.rundir import Generation, RunDir
from selftrain.tables import Chosen, Table
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
    image_head: bool  # whether the network also says which classes an image contains
    from_tags: bool  # whether it learns from tags, and labels by class activation maps
    noise: NoiseConfig
    augmentation: Augmentation
    unnoised: Pipeline  # crops without noise
    select: SelectConfig
    groups: str = ""  # data.splits.group
    stratify: bool = False  # data.splits.stratify
    members: Members = field(default_factory=Members)
    member: Member = field(default_factory=Member)
    zoomed: Sequence[tuple[Augmentation, Pipeline]] = ()  # of each member, if there are several
    # Steps after which the averaged weights are a network of their own, besides the last step.
    moments: Sequence[int] = ()
    distilled: bool = False  # the student of an exported ensemble, which is no generation

    @property
    def name(self) -> str:
        """The name in messages, metrics and random keys: gen2, its second network gen2.1, gen2.student."""
        if self.distilled:
            return f"gen{self.number}.student"
        return f"gen{self.number}" + (f".{self.member.number}" if self.member.number else "")

    @property
    def each(self) -> list["Plan"]:
        """The plan of each network of the generation that is trained."""
        if not self.members.several:
            return [self]
        pairs = zip(self.members.each, self.zoomed, strict=True)
        return [replace(self, member=one, augmentation=seen, unnoised=weak) for one, (seen, weak) in pairs]

    @property
    def zooms(self) -> list[float]:
        """The factor by which each averaged network's images are resized."""
        return [one.zoom for one in self.members.each for _ in range(self.members.moments)]

    def left_out(self, names: Sequence[str], seed: Key, content: Callable[[], np.ndarray]) -> list[int]:
        """The labelled images that this network does not train on; `names` has one name per image.

        `content` reads the class shares of the images' pixels (N, C), for data.splits.stratify.
        """
        keys = (seed, f"gen{self.number}", "members")
        divides = self.members.several and self.stratify
        return self.member.left_out(group_names(names, self.groups), keys, content() if divides else None)

    def home(self, run: RunDir) -> Generation:
        """The place of this network's checkpoints: one for each network, if there are several."""
        gen = run.generation(self.number)
        if self.distilled:
            return gen.student
        return gen.member(self.member.number) if self.members.several else gen

    @property
    def method(self) -> type[Method]:
        """The training method."""
        return METHODS[self.online]

    @property
    def needs_labels(self) -> bool:
        """Whether the generation trains on a teacher's stored pseudo-labels."""
        learns = self.number > 0 and not self.online and self.unlabelled_batch > 0
        return self.distilled or learns

    @property
    def batch(self) -> int:
        """The number of images in a step."""
        return self.labelled_batch + self.unlabelled_batch

    def images(self, parts: int = 1) -> int:
        """The images that pass through networks together: of the largest of `parts` of a step.

        An online method passes several views of each unlabelled image, and each of its networks sees all.
        """
        labelled, unlabelled = (-(-size // parts) for size in (self.labelled_batch, self.unlabelled_batch))
        return (labelled + max(self.method.views, 1) * unlabelled) * self.method.networks


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


def student(cfg: Config, number: int, unlabelled: bool) -> Plan:
    """The plan of the student of an ensemble: one network with the settings of its generation, `number`.

    It learns from stored labels of all pixels; of labelled images only if there are no `unlabelled` ones.
    """
    own = replace(cfg.generations[number], members={}, online="")
    everything = SelectConfig(threshold="global", confidence=0.0)
    batch = (own.unlabelled_batch or cfg.train.unlabelled_batch) if unlabelled else 0
    found = _plan(cfg, number, own)
    return replace(found, distilled=True, unlabelled_batch=batch, select=everything)


def students(cfg: Config) -> list[Plan]:
    """The plans of students that `export.distill` may ask for; which one is known when an ensemble leads."""
    if not cfg.export.distill:
        return []
    several = [plan.number for plan in plans(cfg) if plan.members.several]
    return [student(cfg, number, unlabelled=True) for number in several]


def _plan(cfg: Config, number: int, own: GenerationConfig) -> Plan:
    train, model, arch = cfg.train, cfg.model, own.arch or cfg.model.arch
    each = members.of(own.members, f"generations.{number}.members")
    zoomed = [augmentation.zoomed(train, one.zoom, multiple_of(arch)) for one in each.each]
    steps = _own(own.steps, train.steps)
    return Plan(
        number=number,
        arch=arch,
        encoder=own.encoder or model.encoder,
        decoder_channels=_own(own.decoder_channels, model.decoder_channels),
        channels=cfg.data.channels,
        weights=None if own.weights == RANDOM else _own(own.weights, model.weights),
        steps=steps,
        labelled_batch=_own(own.labelled_batch, train.labelled_batch),
        unlabelled_batch=_own(own.unlabelled_batch, train.unlabelled_batch) if number or own.online else 0,
        online=own.online,
        begins_as_teacher=own.init == "teacher",
        image_head=bool(cfg.loss.image),
        from_tags=own.from_tags,
        noise=own.noise,
        augmentation=augmentation.of(train, own, number),
        unnoised=augmentation.weak(train),
        groups=cfg.data.splits.group,
        stratify=cfg.data.splits.stratify,
        members=each,
        moments=_moments(each, train, steps, f"generations.{number}"),
        zoomed=[(augmentation.of(seen, own, number), augmentation.weak(seen)) for seen in zoomed],
        select=replace(cfg.select, image_share=_own(own.image_share, cfg.select.image_share)),
    )


def _moments(each: Members, train: TrainConfig, steps: int, name: str) -> list[int]:
    """The steps after which a training's averaged weights are a further network, besides its last step.

    Raises ConfigError if there are too few steps, or too few cycles of the schedule.
    """
    count = each.moments
    if count == 1:
        return []
    if each.last:
        found = [round(steps * (1 - each.last * (1 - i / count))) for i in range(1, count)]
    else:
        found = _ends_of_cycles(train, steps, count, name)[:-1]
    if len({*found, steps}) < count or min(found) < 1:
        raise ConfigError(
            f"{name}.members: {steps} steps are too few for {count} different networks"
            f"{' in the last ' + format(each.last, '.0%') + ' of them' if each.last else ''}"
        )
    return found


def _ends_of_cycles(train: TrainConfig, steps: int, count: int, name: str) -> list[int]:
    """The last steps of the last `count` whole cycles. Raises ConfigError if the schedule has fewer."""
    schedule = Table(SCHEDULES).one(train.schedule, "train.schedule")
    if schedule.entry is not restarts:
        raise ConfigError(
            f"{name}.members.cycles keeps the ends of cycles, and train.schedule={schedule.name} has none; "
            "set train.schedule=restarts, or members={epochs: n}"
        )
    ends = cycles(first=schedule.settings["first"], grow=schedule.settings["grow"])
    if len(ends) < count or ends[-1] < 1 - ROUNDING:
        raise ConfigError(
            f"{name}.members.cycles={count}: train.schedule=restarts has {len(ends)} whole cycles, and the "
            f"last one ends after {ends[-1]:.0%} of the steps; change first and grow of the schedule"
        )
    warmup = train.warmup
    return [warmup + round(end * (steps - warmup)) for end in ends[-count:]]


def _own(own: T | None, common: T) -> T:
    return common if own is None else own
