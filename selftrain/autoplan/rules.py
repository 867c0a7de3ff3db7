"""The rules of `train.plan=auto`. docs/plan.md gives the source or the experiment behind each rule.

A rule is a function (Known) -> rows. It sees the values of the rules before it in `known.values`. Later rows
of the same setting replace earlier ones. A setting that the user gave keeps the user's value, and later rules
see that value.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from selftrain.autoplan import division
from selftrain.autoplan.division import Row
from selftrain.autoplan.facts import Facts
from selftrain.autoplan.machine import Machine
from selftrain.data.splits import FEW_MASKS


@dataclass(frozen=True)
class Level:
    """What a budget allows."""

    steps: int
    longest: tuple[int, int]  # the longest side of an image on a CPU and on a GPU
    encoders: tuple[
        tuple[str, str], tuple[str, str]
    ]  # on a CPU and on a GPU: of all generations, of growing ones
    scales: list[float]  # of TTA


LITE = "tu-tf_efficientnet_lite"
LEVELS = {
    "quick": Level(300, (256, 512), ((f"{LITE}0", f"{LITE}0"), ("tu-resnet34d", "tu-resnet34d")), [1.0]),
    "normal": Level(
        1000, (384, 768), ((f"{LITE}0", f"{LITE}1"), ("tu-resnet50d", "tu-resnet101d")), [0.75, 1.0, 1.25]
    ),
    "long": Level(
        4000, (512, 1024), ((f"{LITE}0", f"{LITE}2"), ("tu-resnet50d", "tu-resnet101d")), [0.75, 1.0, 1.25]
    ),
}
LITE_RATE = 2e-3  # of AdamW (docs/tuning.md)
MULTIPLE = 32  # of the sides of crops and windows
SMALLEST = 8  # pixels: objects smaller than this vanish in the coarse features of a network
CROP = (256, 512)  # the longest side of a crop, on a CPU and on a GPU
PASSES = 40  # least number of times that training sees each labelled image
PIXEL = 4000  # bytes that training needs for each pixel of a batch
WINDOW_PIXEL = 800  # bytes that inference needs for each pixel
SHARE = 0.5  # of the memory that a batch may take
CRF_OBJECT, CRF_SIDE = 16, 256  # pixels: the CRF erases smaller objects


@dataclass
class Known:
    """Everything that a rule may use."""

    facts: Facts
    machine: Machine
    level: Level
    growing: tuple[int, ...]  # the generations for which the recipe names an encoder of their own
    named: frozenset[str] = frozenset()  # of val and test: the splits that the data set itself has
    given: dict[str, Any] = field(default_factory=dict)  # what the user set
    values: dict[str, Any] = field(default_factory=dict)  # what the rules before set, and the user

    def of(self, pair: tuple[Any, Any]) -> Any:
        """The first of a pair on a CPU, the second on a GPU."""
        return pair[1] if self.machine.is_gpu else pair[0]

    def size(self) -> tuple[int, int]:
        """The median (height, width) of the images after resizing."""
        height, width = self.facts.height, self.facts.width
        size = self.values.get("data.size") or []
        if not size:
            return height, width
        if isinstance(size[0], str):
            side = max(height, width) if size[0] == "longest" else min(height, width)
            return round(height * size[1] / side), round(width * size[1] / side)
        return size[0], size[1]

    def zoom(self) -> float:
        """How much smaller objects become by resizing."""
        return self.size()[0] / self.facts.height


def derive(known: Known) -> list[Row]:
    """The settings of a plan with their reasons, in the order of the rules, without the given settings."""
    known.values = dict(known.given)
    rows: dict[str, Row] = {}
    for rule in RULES:
        for name, value, reason in rule(known):
            if name not in known.given:
                rows[name] = (name, value, reason)
                known.values[name] = value
    return list(rows.values())


def splits(known: Known) -> Iterator[Row]:
    """Few masks are not spent on a test set."""
    yield from division.shares(known.facts.masks, known.named)


def size(known: Known) -> Iterator[Row]:
    """Large images are made smaller, as long as the smallest objects stay visible."""
    facts, cap = known.facts, known.of(known.level.longest)
    longest = max(facts.height, facts.width)
    if longest <= cap:
        return
    visible = math.ceil(longest * SMALLEST / facts.object_side) if facts.object_side else 0
    side = min(max(cap, visible), 2 * cap, longest)
    why = f"images of {facts.height}x{facts.width} on a {known.machine.device} with this budget"
    if side > cap:
        why = f"objects of {facts.object_class} ({facts.object_side:.0f} pixels) must stay visible"
    if side < longest:
        yield "data.size", ["longest", _multiple(side)], why


def crop(known: Known) -> Iterator[Row]:
    """A crop shows as much of an image as fits, at most the whole."""
    cap = known.of(CROP)
    sides = [min(_multiple(side, up=True), cap) for side in known.size()]
    whole = all(side >= own for side, own in zip(sides, known.size(), strict=True))
    yield (
        "train.crop",
        sides,
        "the whole image" if whole else f"as much of {known.size()} as a step can afford",
    )


def batch(known: Known) -> Iterator[Row]:
    """A step shows 8 labelled images and 8 others; its micro-batches fit the memory."""
    height, width = known.values["train.crop"]
    images = known.given.get("train.labelled_batch", 8) + known.given.get("train.unlabelled_batch", 8)
    each = math.ceil(images / known.machine.processes)
    fit = max(1, int(known.machine.memory * SHARE / (height * width * PIXEL)))
    parts = next(parts for parts in (1, 2, 4, 8, 16) if parts == 16 or each / parts <= fit)
    if parts > 1:
        memory = known.machine.memory / 2**30
        yield (
            "train.accumulate",
            parts,
            f"{each} crops of {height}x{width} do not fit {memory:.0f} GiB at once",
        )


def steps(known: Known) -> Iterator[Row]:
    """The budget's steps, or more if each labelled image would be seen fewer than PASSES times."""
    masks = known.facts.labelled + known.facts.external  # a step draws from all of them alike
    wanted = math.ceil(PASSES * masks / known.given.get("train.labelled_batch", 8))
    count = max(known.level.steps, min(wanted, 4 * known.level.steps))
    why = f"each of {masks} masks is seen {PASSES} times" if count > known.level.steps else "the budget"
    yield "train.steps", count, why


def schedule(known: Known) -> Iterator[Row]:
    """Warm-up, averaging and evaluation in proportion to the steps."""
    count = known.values["train.steps"]
    yield "train.warmup", max(1, count // 20), "5 % of the steps"
    yield (
        "train.ema",
        round(min(max(1 - 5 / count, 0.9), 0.9995), 4),
        "the average spans a fifth of the steps",
    )
    often = max(1, math.ceil(count / 4))
    yield "train.eval_every", often, "four times in a generation"
    yield "train.checkpoint_every", min(often, 250), "four times in a generation, at least every 250 steps"


def encoders(known: Known) -> Iterator[Row]:
    """Encoders by device and budget; where the recipe lets students grow, the larger one."""
    first, larger = known.of(known.level.encoders)
    if "model.encoder" in known.given:
        return
    yield (
        "model.encoder",
        first,
        f"its ImageNet weights are published, and a {known.machine.device} can train it in this budget",
    )
    for number in known.growing:
        if larger != first:
            yield f"generations.{number}.encoder", larger, "the next size: the recipe lets this student grow"
        else:
            yield f"generations.{number}.encoder", None, "this budget has no time for a larger student"


def rate(known: Known) -> Iterator[Row]:
    """A higher learning rate than the default for the small encoders on which it was measured."""
    if str(known.values.get("model.encoder", "")).startswith(LITE) and "train.optimizer" not in known.given:
        yield "train.lr", LITE_RATE, "val preferred it for this encoder with ImageNet weights"


def labelling(known: Known) -> Iterator[Row]:
    """Views, windows and the CRF, by what the labels need and the memory allows."""
    several = len(known.level.scales) > 1
    why = "labels gain by several scales" if several else "this budget has no time for more scales"
    yield "labels.tta.scales", known.level.scales, why
    longest = max(known.size())
    fit = math.isqrt(int(known.machine.memory * SHARE / 2 / WINDOW_PIXEL))
    yield "labels.window", min(1024, max(_multiple(fit), 4 * MULTIPLE)), "windows of this side fit the memory"
    side = known.facts.object_side * known.zoom()
    if known.facts.channels != 3:
        yield (
            "labels.refiner",
            "none",
            f"the CRF compares colours, and images have {known.facts.channels} channels",
        )
    elif longest < CRF_SIDE or 0 < side < CRF_OBJECT:
        small = (
            f"objects of {known.facts.object_class} are {side:.0f} pixels wide"
            if side
            else f"images of {longest} pixels"
        )
        yield "labels.refiner", "none", f"{small}: the CRF would erase them"
    else:
        yield "labels.refiner", "crf", "images and objects are large enough for it"


def folds(known: Known) -> Iterator[Row]:
    """With few masks and much time, the teacher is an ensemble of folds."""
    facts = known.facts
    if known.level is LEVELS["long"] and 5 <= facts.labelled < FEW_MASKS:
        yield (
            "generations.0.members",
            {"folds": {"number": 5}},
            f"{facts.labelled} masks: each is also predicted by a network that did not see it",
        )


RULES: tuple[Callable[[Known], Iterator[Row]], ...] = (
    splits,
    size,
    crop,
    batch,
    steps,
    schedule,
    encoders,
    rate,
    labelling,
    folds,
)


def _multiple(side: float, *, up: bool = False) -> int:
    """The multiple of MULTIPLE beside `side`, at least one."""
    count = math.ceil(side / MULTIPLE) if up else side // MULTIPLE
    return max(int(count), 1) * MULTIPLE
