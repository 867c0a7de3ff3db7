"""How long a run will take: measured speeds of its networks times the work of its stages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from selftrain.config import Config
from selftrain.data.dataset import DataSet
from selftrain.inference import tta
from selftrain.plan import Plan, students, views_of_labels
from selftrain.sizes import seen_size

Size = tuple[int, int]  # height, width
FEWEST = 50  # steps; with fewer, a generation learns nothing, and labelling takes most of the time
OVERHEAD = 1.25  # of a stage over its passes through networks: reading, augmentation, losses, the optimizer


@dataclass(frozen=True)
class Speed:
    """Seconds that one network needs on this machine."""

    train: float  # a forward and a backward pass of one crop
    predict: float  # a forward pass, for each pixel
    refine: float = 0.0  # the refinement of a pseudo-label, for each pixel
    step: float | None = None  # an optimizer step, if whole ones were timed
    label: float | None = None  # the label of an image, if whole ones were timed


@dataclass(frozen=True)
class Work:
    """The images of a run: how many, and the usual number of pixels of one."""

    val: int
    test: int
    unlabelled: int
    pixels: int
    processes: int = 1
    labelled: int = 0


def work_of(data: DataSet, processes: int) -> Work:
    """The work of a data set; the usual image is the median of a few."""
    few = (data.unlabelled or data.val)[:: max(len(data.unlabelled or data.val) // 8, 1)]
    sizes = sorted(height * width for height, width in (sample.read_size() for sample in few))
    pixels = sizes[len(sizes) // 2] if sizes else 0
    counts = (len(data.val), len(data.test), len(data.unlabelled))
    return Work(*counts, pixels, processes, len(data.labelled))


def forecast(
    cfg: Config, planned: Sequence[Plan], speeds: Mapping[int, Speed], work: Work
) -> dict[str, float]:
    """The seconds of each stage of a run, by the name of its progress line, in order."""
    seconds: dict[str, float] = {}
    labelled = passes(views_of_labels(cfg), cfg.labels.size)
    predicted = passes(tta.of(cfg.predict.views), cfg.predict.size)
    for plan in planned:
        speed = speeds[plan.number]
        if plan.needs_labels:
            teacher = speeds[plan.number - 1]
            images = labelled * teacher.predict * planned[plan.number - 1].members.count + teacher.refine
            each = work.pixels * images if teacher.label is None else teacher.label
            seconds[f"gen{plan.number - 1} labels"] = work.unlabelled * each / work.processes
        watched = min(cfg.train.watch, work.labelled)
        evaluation = (work.val + watched) * work.pixels * speed.predict * predicted / work.processes
        for one in plan.each:
            seconds[one.name] = plan.steps * _step(plan, speed, work) + evaluation * _evaluations(cfg, plan)
    for one in students(cfg)[-1:]:
        seconds[one.name] = one.steps * _step(one, speeds[one.number], work)
    tested = work.test if cfg.test.read == "end" else 0
    read = {planned[0].number, planned[-1].number}  # the first generation and, most likely, the last one
    each = predicted * sum(speeds[number].predict for number in read)
    seconds["test"] = tested * work.pixels * each / work.processes
    return seconds


def passes(views: tta.Views, seen: Sequence[Any], own: Size = (1000, 1000)) -> float:
    """The pixels that pass through a network for one pixel of an image that is seen at the size `seen`."""
    sizes = tta.sizes_of(views.transforms, seen_size([], seen, own))
    return sum(height * width for height, width in sizes) / (own[0] * own[1])


def steps_in(minutes: float, short: Mapping[str, float], long: Mapping[str, float], counts: Size) -> int:
    """The steps of a generation that fill `minutes`, at least FEWEST.

    `short` and `long` are the forecasts for the steps in `counts`, of which the time is a linear function.
    """
    few, many = sum(short.values()), sum(long.values())
    each = (many - few) / (counts[1] - counts[0])
    return max(FEWEST, int(counts[0] + (minutes * 60 - few) / each))


def told(seconds: Mapping[str, float], *, patient: bool = False) -> str:
    """The forecast as a line to print. `patient`: generations may end before all their steps."""
    longest = sorted(seconds, key=lambda name: -seconds[name])[:3]
    parts = ", ".join(f"{name} {clock(seconds[name])}" for name in seconds if name in longest)
    about = "at most about" if patient else "about"
    parts = f"mostly {parts}" if len(longest) < len(seconds) else parts
    return f"this run will take {about} {clock(sum(seconds.values()))} ({parts})"


def clock(seconds: float) -> str:
    """A duration in words: 40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def _step(plan: Plan, speed: Speed, work: Work) -> float:
    """The seconds of one optimizer step."""
    if speed.step is not None:
        return speed.step
    online = plan.unlabelled_batch * (speed.train / 3 if plan.method.views else 0)  # labels of the weak view
    return OVERHEAD * (plan.images() * speed.train + online) / work.processes


def _evaluations(cfg: Config, plan: Plan) -> int:
    return 1 + (plan.steps - 1) // cfg.train.eval_every if cfg.train.eval_every else 1
