"""Cross-fitting: values tuned on val are measured on images that they were not tuned on.

Val is divided into FOLDS runs of neighbouring blocks (`scores.blocks`). For each fold, all steps are fitted
on the other folds, and score the fold. A step is kept only if this score is above the score without it. The
kept values are then those fitted on all of val.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from accelerate import Accelerator
from accelerate.utils import gather_object

from selftrain.data.cache import Cache
from selftrain.data.labels import Readable
from selftrain.errors import naming_savings
from selftrain.inference.groups import neighbours, rank_share
from selftrain.inference.predictor import Predictor
from selftrain.log import progress
from selftrain.scores import BLOCKS, blocks
from selftrain.tuning.steps import Step
from selftrain.tuning.tuned import UNTUNED, Tuned

LEAST = 20  # images of val: a block is at least one image
FOLDS = 5

Parts = Sequence[tuple[Predictor, list[Any]]]


@dataclass(frozen=True)
class Val:
    """The images with masks on which a generation is tuned, and how it is asked about them."""

    predictor: Predictor
    samples: Sequence[Readable]
    cache: Cache
    accelerator: Accelerator
    batch: int
    score: Callable[[Parts], dict]  # each predictor on its samples, and all of them as one set
    check: Callable[[], None]  # called between batches; may raise to stop
    stage: str
    shown: bool = True  # whether this process shows progress

    @property
    def folds(self) -> list[int]:
        """The fold of each image."""
        return [block * FOLDS // BLOCKS for block in blocks(len(self.samples))]

    def measured(self, step: Step, tuned: Tuned) -> list[Any]:
        """The measurements of all images in order, each by asked predictor. Ranks share the images."""
        asked = step.asked(tuned.predictor(self.predictor))
        mine = list(rank_share(len(self.samples), self.accelerator))
        rows: list[tuple[int, tuple[Any, ...]]] = []
        with progress(f"{self.stage} {step.name}", len(mine), show=self.shown) as show:
            for group in neighbours(mine, self.batch, lambda i: self.cache.image(self.samples[i])):
                self.check()
                images = np.stack([image for _, image in group])
                masks = [self.cache.mask(self.samples[i]) for i, _ in group]
                found = []
                for one in asked:  # not all at once: there may be many
                    probs = one.probabilities(images).cpu().numpy()
                    found.append([step.measure(*each) for each in zip(images, probs, masks, strict=True)])
                rows += zip((i for i, _ in group), zip(*found, strict=True), strict=True)
                show(len(rows))
        return [measured for _, measured in sorted(gather_object(rows), key=lambda row: row[0])]

    def crossfitted(self, each: Sequence[Tuned]) -> dict:
        """The scores with values of each fold's own."""
        return self.score(
            [
                (
                    each[fold].predictor(self.predictor),
                    [one for one, at in zip(self.samples, self.folds, strict=True) if at == fold],
                )
                for fold in range(FOLDS)
            ]
        )


@dataclass(frozen=True)
class Outcome:
    """The tuned values, the scores on val with them (cross-fitted), and facts for the report."""

    tuned: Tuned
    val: dict
    facts: dict[str, Any] | None  # None: nothing was to be tuned


@naming_savings("evaluating")
def tune(steps: Sequence[Step], val: Val, plain: dict) -> Outcome:
    """Take one step after the other, and keep each that gains. `plain` are the scores on val without steps.

    Below LEAST images nothing is tuned.
    """
    if not steps:
        return Outcome(UNTUNED, plain, None)
    if len(val.samples) < LEAST:
        names = " and ".join(step.name for step in steps)
        note = f"{names}: not tuned, since val has {len(val.samples)} images and tuning needs {LEAST}"
        return Outcome(UNTUNED, plain, {"note": note})
    # of each fold, fitted on the others; the last one is fitted on all images
    each, scores, rows = [UNTUNED] * (FOLDS + 1), plain, []
    for step in steps:
        tried = _fitted(step, each, val)
        found = val.crossfitted(tried)
        gains = (found["miou"] or 0.0) > (scores["miou"] or 0.0)
        rows.append(
            {"setting": step.name, "before": scores["miou"], "cross_fitted": found["miou"], "kept": gains}
        )
        if gains:
            each, scores = tried, found
    kept = {name: plain[name] for name in ("miou", "per_class", "miou_without")}
    return Outcome(each[-1], scores, {"plain": kept, "steps": rows, "values": each[-1].values})


def _fitted(step: Step, each: Sequence[Tuned], val: Val) -> list[Tuned]:
    """The values of each fold after one more step: an image has no part in the values of its own fold."""
    measured = {tuned: val.measured(step, tuned) for tuned in dict.fromkeys(each)}
    return [
        step.fit(tuned, [row for row, at in zip(measured[tuned], val.folds, strict=True) if at != fold])
        for fold, tuned in enumerate(each)
    ]
