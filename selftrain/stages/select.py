"""Choose what of a label store the next student may learn from. Nothing is labelled again for another choice."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from selftrain.config import SelectConfig
from selftrain.data.labels import Readable
from selftrain.errors import ConfigError, LearningError
from selftrain.ids import IGNORE
from selftrain.labels import thresholds
from selftrain.labels.refine import confusion_of
from selftrain.labels.store import STAGES, LabelStore
from selftrain.stages.evaluate import iou_report
from selftrain.targets import Target


@dataclass
class SelectedLabels:
    """A label store seen through thresholds: what `data.batches` draws pseudo-labelled examples from."""

    store: LabelStore
    everything: Sequence[Readable]
    classes: Sequence[str]
    rule: SelectConfig
    generation: int  # whose labels they are
    thresholds: np.ndarray  # (C,) in 0..1; a pixel of class c is accepted from thresholds[c] on
    class_weights: np.ndarray  # (C,)
    image_weights: np.ndarray  # (N,), 0 for images left out

    def __post_init__(self) -> None:
        self.chosen = np.flatnonzero(self.image_weights > 0).tolist()
        self.samples = [self.everything[i] for i in self.chosen]
        self.floors = thresholds.floors(self.thresholds)  # (C,) in the store's steps of 1/255

    @property
    def accepted(self) -> bool:
        """Whether there is any pixel to learn from."""
        labels = map(self.store.read, self.chosen)  # the first one answers, nearly always
        return any((label.confidence >= self.floors[label.hard]).any() for label in labels)

    def target(self, i: int, index: np.ndarray) -> Target[np.ndarray]:
        """As `data.labels.Labels.target`, with soft labels; rejected pixels weigh 0."""
        label = self.store.read(self.chosen[i])
        outside = index < 0
        hard = label.hard.reshape(-1)[index]
        accepted = ~outside & (label.confidence.reshape(-1)[index] >= self.floors[hard])
        weight = np.where(accepted, self.class_weights[hard] * self.image_weights[self.chosen[i]], 0).astype(np.float32)
        return Target(np.where(accepted, hard, np.uint8(IGNORE)), weight, label.soft_at(index, len(self.classes)))

    def report(self) -> dict:
        """selection.json: thresholds and kept shares per class, images, and the labels' quality where masks exist."""
        kept, histogram = self._kept(), self.store.histogram()
        above = np.arange(256)[None, :] >= self.floors[:, None]
        return {
            "generation": self.generation,
            "rule": asdict(self.rule),
            "threshold": self.rule.threshold,
            "thresholds": dict(zip(self.classes, self.thresholds.round(4).tolist(), strict=True)),
            "kept": dict(zip(self.classes, kept, strict=True)),
            "kept_share": float(histogram[above].sum() / max(histogram.sum(), 1)),
            "class_weights": dict(zip(self.classes, self.class_weights.round(4).tolist(), strict=True)),
            "images": len(self.everything),
            "images_kept": len(self.samples),
            "image_weights": self.image_weights.round(4).tolist(),
            "quality": self._quality(),
        }

    def _kept(self) -> list[float | None]:
        shares = thresholds.kept(self.store.histogram(), self.thresholds)
        return [None if np.isnan(share) else float(share) for share in shares]

    def _quality(self) -> dict | None:
        """Scores of the labels after each stage of their making, over the images that have masks."""
        confusion = self.store.confusion()
        if confusion is None:
            return None
        quality = {name: iou_report(counts, self.classes) for name, counts in zip(STAGES, confusion, strict=True)}
        return {**quality, "selected": iou_report(self._selected_confusion(), self.classes)}

    def _selected_confusion(self) -> np.ndarray:
        counts = np.zeros((len(self.classes), len(self.classes)), np.int64)
        for place in self.chosen:
            mask = self.everything[place].read_mask()
            if mask is None:
                continue
            label = self.store.read(place)
            accepted = label.confidence >= self.floors[label.hard]
            counts += confusion_of(label.hard, np.where(accepted, mask, np.uint8(IGNORE)), len(counts))
        return counts


def select(
    store: LabelStore,
    samples: Sequence[Readable],
    classes: Sequence[str],
    rule: SelectConfig,
    *,
    generation: int,
    known: np.ndarray,
    reliability: np.ndarray | None = None,
) -> SelectedLabels:
    """Thresholds per class, class weights and image weights of `rule`, from the store's statistics alone.

    `known` (C,): pixels of each class in the labelled images' masks. `reliability` (N,): what images are ranked and weighed
    by; None: their mean confidence.
    """
    if rule.threshold not in thresholds.THRESHOLDS:
        raise ConfigError(f"select.threshold={rule.threshold!r} is none of {', '.join(thresholds.THRESHOLDS)}")
    histogram = store.histogram()
    floors = thresholds.THRESHOLDS[rule.threshold](histogram, keep=rule.keep, confidence=rule.confidence, known=known)
    return SelectedLabels(
        store,
        samples,
        classes,
        rule,
        generation,
        floors,
        thresholds.class_weights(histogram, floors, rule.balance),
        thresholds.image_weights(
            store.confidence() if reliability is None else reliability, rule.image_share, rule.weight_images
        ),
    )


def refuse_empty(rule: SelectConfig, where: object, *, settled: bool) -> None:
    """Without a single accepted pixel: raises LearningError, unless the rule says to end with the leader so far.

    `settled`: an earlier student has learnt by this rule, so the run can't go on by another one.
    """
    if rule.on_empty == "fail":
        how = "begin another out= with" if settled else "the same command goes on with"
        raise LearningError(
            f"no pseudo-label is accepted (see {where}); {how} a lower select.confidence, a higher select.keep, "
            "or select.on_empty=labelled_only, which takes what leads so far as the result"
        )
