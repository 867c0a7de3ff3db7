"""The details of a run as its page shows them: further scores, confusion, calibration, failures, costs.

Missing values are None, and a report of an older version has few of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from selftrain.report.embedded import Gallery
from selftrain.report.labelled import LabelFacts
from selftrain.report.reading import Generation, Headline, number, pick
from selftrain.scores import BINS

# Scores with a row of their own, by their names in a report.
SCORES = {
    "miou": "mIoU",
    "dice": "Dice",
    "pixel_accuracy": "pixel accuracy",
    "boundary_f1": "boundary F1",
    "miou_small": "mIoU of small objects",
    "miou_medium": "mIoU of medium objects",
    "miou_large": "mIoU of large objects",
    "ece": "ECE",
}
MOST = 32  # classes in the confusion matrix and the curves; the page shows the weakest ones of more


@dataclass(frozen=True)
class Surroundings:
    """What a page shows beside report.json and metrics.jsonl.

    `times` are the rows of times.jsonl. `changed` are settings that differ from the recipe: name, the
    recipe's value, the run's value. None means that the recipe is not known. `set_aside` gives the reason by
    image. `labels` are facts about the labels of generations. `failures` shows the worst val image of each
    class. `running` says how far a run is that is not finished.
    """

    times: Sequence[Mapping[str, Any]] = ()
    changed: Sequence[tuple[str, str, str]] | None = None
    set_aside: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[int, LabelFacts] = field(default_factory=dict)
    failures: Gallery | None = None
    running: str = ""


@dataclass(frozen=True)
class Grid:
    """A confusion matrix: for each true class its name, and the percentages of its pixels by prediction."""

    columns: list[str]
    rows: list[tuple[str, list[float]]]
    left_out: int  # classes


def score_table(
    report: Mapping, generations: Sequence[Generation], top: Headline
) -> tuple[list[str], list[tuple[str, list[float | None]]]]:
    """Heads of columns, and rows of a score's name and its values; rows without any value are left out."""
    columns = [(f"val, generation {g.number}", pick(g.row, "val")) for g in generations]
    if pick(report, "test"):
        columns += [("test, leader", pick(report, "test"))]
        columns += [("test, teacher", pick(report, "teacher_test"))] if top.best else []
    rows = [(label, [number(scores, name) for _, scores in columns]) for name, label in SCORES.items()]
    known = [(label, values) for label, values in rows if any(value is not None for value in values)]
    return [head for head, _ in columns], known


def grid(scores: Mapping, classes: Sequence[str]) -> Grid | None:
    """The confusion matrix of a split's scores; None without counts."""
    counts = pick(scores, "details", "confusion")
    if not _is_matrix(counts, len(classes), len(classes) + 1):
        return None
    matrix = np.array(counts, float)
    true = matrix.sum(axis=1)
    shares = 100 * matrix / np.maximum(true, 1)[:, None]
    wrong = true - np.diag(matrix)
    shown = sorted(np.argsort(-wrong, kind="stable")[:MOST])
    names = [*classes, "no class"]
    columns = [*shown, len(classes)] if matrix[:, -1].any() else shown
    rows = [(classes[r], [float(shares[r, c]) for c in columns]) for r in shown if true[r]]
    return Grid([names[c] for c in columns], rows, len(classes) - len(shown)) if rows else None


def _is_matrix(rows: object, height: int, width: int) -> bool:
    """Whether `rows` are (height, width) numbers."""
    if not isinstance(rows, list) or len(rows) != height:
        return False
    return all(isinstance(row, list) and len(row) == width and None not in row for row in rows)


@dataclass(frozen=True)
class Calibration:
    """How sure the predictions of a class are, and how often they are right."""

    name: str
    confidence: float | None
    right: float | None
    error: float | None
    boundary_f1: float | None

    @property
    def values(self) -> tuple[float | None, ...]:
        """Boundary F1, mean confidence, share that is right, and calibration error."""
        return self.boundary_f1, self.confidence, self.right, self.error

    @property
    def gap(self) -> float | None:
        """Mean confidence minus the share of correct pixels: above 0, the predictions are too sure."""
        return None if self.confidence is None or self.right is None else self.confidence - self.right


def calibration(scores: Mapping, classes: Sequence[str]) -> list[Calibration]:
    """A row for each class; [] without counts."""
    rows = []
    for name in classes if pick(scores, "details", "calibration") else ():
        pixels, sure, right = (part.sum() for part in _bins(scores, name))
        known = pixels > 0
        error, f1 = (number(scores, "details", part, name) for part in ("ece", "boundary_f1"))
        rows.append(
            Calibration(name, sure / pixels if known else None, right / pixels if known else None, error, f1)
        )
    return rows


@dataclass(frozen=True)
class Dot:
    """A bin of a reliability diagram: mean confidence, share of right pixels, share of all pixels."""

    sure: float
    right: float
    share: float


def reliability(scores: Mapping, classes: Sequence[str]) -> list[Dot]:
    """The bins that have pixels, of all `classes` together."""
    sums = [np.sum([_bins(scores, name)[part] for name in classes], axis=0) for part in range(3)]
    if not classes or not sums[0].any():
        return []
    every = sums[0].sum()
    return [
        Dot(sure / pixels, right / pixels, pixels / every)
        for pixels, sure, right in zip(*sums, strict=True)
        if pixels
    ]


def reliability_of_classes(scores: Mapping, classes: Sequence[str]) -> list[tuple[str, list[Dot]]]:
    """`reliability` of each predicted class that has pixels; of many classes, the worst calibrated ones."""
    drawn = [(name, dots) for name in classes if (dots := reliability(scores, [name]))]
    errors = {name: number(scores, "details", "ece", name) or 0.0 for name, _ in drawn}
    worst = sorted(errors, key=lambda name: -errors[name])[:MOST]
    return [(name, dots) for name, dots in drawn if name in worst]


def _bins(scores: Mapping, name: str) -> np.ndarray:
    """Pixels, sum of confidence and correct pixels of a class, (3, BINS); zeros if they are not known."""
    bins = pick(scores, "details", "calibration", name)
    return np.array(bins, float) if _is_matrix(bins, 3, BINS) else np.zeros((3, BINS))


def failures(scores: Mapping, kind: str) -> list[tuple[str, str]]:
    """The ids of the "worst" or "best" images, each with a sentence about its weakest class."""
    rows = pick(scores, "details", kind) or []
    return [(row["id"], _of_image(row)) for row in rows if isinstance(row, Mapping) and pick(row, "id")]


def failures_of_classes(scores: Mapping) -> dict[str, tuple[str, str]]:
    """By class: the id of the image in which it has the lowest IoU, and a sentence about it."""
    rows = pick(scores, "details", "worst_of_class") or {}
    return {name: (row["id"], _of_class(row)) for name, row in rows.items() if pick(row, "id")}


def _of_image(row: Mapping) -> str:
    """Such as "mIoU 0.312. Weakest: car, IoU 0.020; 81% of its pixels are predicted as road."."""
    miou, iou = number(row, "miou"), number(row, "iou")
    if miou is None or iou is None or not pick(row, "class"):
        return ""
    return f"mIoU {miou:.3f}. Weakest: {row['class']}, IoU {iou:.3f}{_confusion(row)}."


def _of_class(row: Mapping) -> str:
    """Such as "IoU 0.020; 81% of its pixels are predicted as road."."""
    iou = number(row, "iou")
    return "" if iou is None else f"IoU {iou:.3f}{_confusion(row)}."


def _confusion(row: Mapping) -> str:
    """The confusion that costs the class of a row most pixels; "" if there is none."""
    share, names = number(row, "share"), [pick(row, part) for part in ("class", "truth", "predicted")]
    if share is None or None in names:
        return ""
    own, truth, predicted = names
    if truth == own:
        return f"; {share:.0%} of its pixels are predicted as {predicted}"
    return f"; {share:.0%} of the pixels predicted as {own} are {truth}"


@dataclass(frozen=True)
class Cost:
    """What a stage of a run took, over all processes that worked on it."""

    stage: str
    seconds: float
    process_hours: float
    memory: float | None  # bytes


def costs(times: Sequence[Mapping[str, Any]]) -> list[Cost]:
    """The stages of a run in the order in which they began; rows of one stage are added up."""
    rows: dict[str, Cost] = {}
    for row in times:
        stage, seconds = str(row.get("stage")), number(row, "seconds") or 0.0
        hours = seconds * (number(row, "processes") or 1) / 3600
        old = rows.get(stage, Cost(stage, 0.0, 0.0, None))
        memory = max((m for m in (old.memory, number(row, "memory")) if m is not None), default=None)
        rows[stage] = Cost(stage, old.seconds + seconds, old.process_hours + hours, memory)
    return list(rows.values())
