"""The scores and facts of a report.json, as the page shows them. Missing values are None."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from selftrain.report import figures
from selftrain.scores import level, paired

# Scores with their own place on the page, or their own warning.
OWN_PLACE = {
    *("miou", "pixel_accuracy", "ece", "drift"),
    *("dice", "boundary_f1", "miou_small", "miou_medium", "miou_large"),
}


def pick(tree: Any, *keys: object) -> Any:
    """tree[key][key]..., or None if a key is missing."""
    for key in keys:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree


def number(tree: object, *keys: object) -> float | None:
    """The finite number at tree[key][key]..., or None."""
    value = pick(tree, *keys)
    return value if isinstance(value, (int, float)) and math.isfinite(value) else None


def difference(new: float | None, old: float | None) -> float | None:
    return None if new is None or old is None else new - old


@dataclass(frozen=True)
class Generation:
    """One entry of report.json's generations."""

    number: int
    row: dict

    @property
    def miou(self) -> float | None:
        return number(self.row, "val", "miou")

    @property
    def promoted(self) -> bool | None:
        value = pick(self.row, "promoted")
        return value if isinstance(value, bool) else None

    @property
    def exact(self) -> bool | None:
        value = pick(self.row, "exact")
        return value if isinstance(value, bool) else None

    @property
    def role(self) -> str:
        return "student" if self.number else "teacher"

    @property
    def label(self) -> str:
        """Its name in the keys of plots."""
        return f"generation {self.number}{'' if self.number else ' (teacher)'}"

    @property
    def sources(self) -> str:
        """The data that it was trained on."""
        teacher, method = pick(self.row, "teacher"), pick(self.row, "online")
        return ", ".join(
            ["tags" if pick(self.row, "from_tags") else "labels"]
            + ([f"unlabelled images ({method})"] if method else [])
            + ([f"generation {teacher}"] if teacher is not None else [])
        )

    @property
    def members(self) -> str | None:
        """The val scores of its networks, if there are several."""
        scores = [number(row, "val", "miou") for row in pick(self.row, "members") or []]
        known = [score for score in scores if score is not None]
        if not known:
            return None
        each = ", ".join(f"{score:.4f}" for score in known)
        honest = number(self.row, "out_of_fold", "miou")
        apart = f"; out of fold, on the labelled images: {honest:.4f}" if honest is not None else ""
        return f"generation {self.number}: {each} (mean {sum(known) / len(known):.4f}){apart}"

    @property
    def networks(self) -> list[dict[str, Any]]:
        """One row for each of several networks: number, facts, score, and what the others add to it."""
        rows, model = pick(self.row, "members") or [], pick(self.row, "model") or {}
        zooms, weights = pick(model, "members") or [], pick(model, "member_weights") or []
        return [
            {
                "number": f"{self.number}.{i}",
                "zoom": zooms[i] if i < len(zooms) else None,
                "weight": weights[i] / sum(weights) if i < len(weights) else 1 / len(rows),
                "steps": number(row, "steps") or number(self.row, "steps"),
                "miou": number(row, "val", "miou"),
                "gain": number(row, "gain", "miou"),
                "error": number(row, "gain", "error"),
            }
            for i, row in enumerate(rows)
        ]

    @property
    def begun(self) -> str | None:
        """The source of its initial weights; None in older reports, which do not contain it."""
        rows = pick(self.row, "weights")
        if not isinstance(rows, list):
            return None
        return f"generation {self.number}: {', '.join(_taken(row) for row in rows) or 'random'}"

    @property
    def colour(self) -> str:
        return figures.colour(self.number)

    @property
    def dashes(self) -> str:
        return figures.dashes(self.number)


def compared(one: Generation, other: Generation) -> tuple[float, float] | None:
    """The difference of two generations' val scores and its standard error; None if a score is missing."""
    if one.miou is None or other.miou is None:
        return None
    try:
        return paired(level(one.row), level(other.row))
    except (KeyError, TypeError, ValueError):  # a report that lacks some of its values
        return None


def incumbents(generations: Sequence[Generation]) -> dict[int, Generation]:
    """The promoted generation with the highest val score before each generation but the first."""
    found: dict[int, Generation] = {}
    best: Generation | None = None
    for g in generations:
        if best is not None:
            found[g.number] = best
        if best is None or (g.promoted and (g.miou or 0) > (best.miou or 0)):
            best = g
    return found


def _taken(row: object) -> str:
    """One source of weights, such as "247 of 247 encoder tensors from lite0.safetensors"."""
    counts = {part: (number(row, part), number(row, f"of_{part}")) for part in ("encoder", "decoder")}
    shares = [
        f"{count:.0f} of {of:.0f} {part} tensors"
        for part, (count, of) in counts.items()
        if count is not None and of is not None and (count or part == "encoder")
    ]
    return f"{' and '.join(shares) or 'some tensors'} from {pick(row, 'source') or 'a file'}"


def further(generations: Sequence[Generation]) -> list[str]:
    """Names of the numeric scores without their own place on the page, in the order of the reports."""
    scores = [
        name
        for g in generations
        for name in pick(g.row, "val") or {}
        if number(g.row, "val", name) is not None
    ]
    return [name for name in dict.fromkeys(scores) if name not in OWN_PLACE]


@dataclass(frozen=True)
class Headline:
    """Scores of the best generation and the teacher, on test, or on val if there is no test set."""

    split: str
    best: int | None
    best_scores: Mapping
    teacher_scores: Mapping

    @property
    def score(self) -> float | None:
        return number(self.best_scores, "miou")

    @property
    def teacher(self) -> float | None:
        return number(self.teacher_scores, "miou")

    @property
    def classes(self) -> Mapping:
        """IoU by class name."""
        return pick(self.best_scores, "per_class") or {}

    @property
    def teacher_classes(self) -> Mapping:
        return pick(self.teacher_scores, "per_class") or {}

    @property
    def gain(self) -> float | None:
        return difference(self.score, self.teacher)

    def change(self, name: str) -> float | None:
        return difference(number(self.classes, name), number(self.teacher_classes, name))


def headline(report: dict, generations: Sequence[Generation]) -> Headline:
    """The top of the page: the best generation against the first, on test, or on val without a test set."""
    best = pick(report, "best")
    best = best if isinstance(best, int) and 0 <= best < len(generations) else None
    if pick(report, "test"):
        split, scores, teacher = "test", pick(report, "test"), pick(report, "teacher_test")
    else:
        split = "val"
        scores = pick(generations[best].row, "val") if best is not None else None
        teacher = pick(generations[0].row, "val") if generations else None
    return Headline(split, best, scores or {}, teacher or {})
