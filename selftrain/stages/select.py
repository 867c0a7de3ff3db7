"""Select the labels of a store that the next student trains on. Another selection needs no relabelling."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np

from selftrain.columns import MANY
from selftrain.config import SelectConfig
from selftrain.data.labels import Readable
from selftrain.data.many import Picked
from selftrain.errors import ConfigError, LearningError
from selftrain.ids import IGNORE
from selftrain.inference import cleanup
from selftrain.labels import thresholds
from selftrain.labels.record import Label
from selftrain.labels.store import STAGES, LabelStore
from selftrain.scores import confusion, report
from selftrain.tables import bound, handed
from selftrain.targets import Target

LATER = ("decision", "min_area", "max_hole")  # settings that came after the first selections


@dataclass
class SelectedLabels:
    """A label store with thresholds applied. `data.batches` draws pseudo-labelled examples from it."""

    store: LabelStore
    everything: Sequence[Readable]
    classes: Sequence[str]
    rule: SelectConfig
    generation: int  # the generation that predicted them
    thresholds: np.ndarray  # (C,) in 0..1: the least confidence at which a pixel of a class is accepted
    class_weights: np.ndarray  # (C,)
    image_weights: np.ndarray  # (N,), 0 for images left out
    cleaning: cleanup.CleanUp | None = None  # pixels that it would change are rejected

    def __post_init__(self) -> None:
        self.chosen = np.flatnonzero(self.image_weights > 0)
        every = len(self.chosen) == len(self.everything)
        self.samples = self.everything if every else Picked(self.everything, self.chosen)
        self.floors = thresholds.floors(self.thresholds)  # (C,) in the store's steps of 1/255

    @property
    def accepted(self) -> bool:
        """Whether at least one pixel is accepted."""
        labels = (
            self.store.read(int(place)) for place in self.chosen
        )  # the first image nearly always suffices
        return any(self._accepts(label).any() for label in labels)

    def _accepts(self, label: Label) -> np.ndarray:
        """The accepted pixels (H, W) of a label."""
        accepted: np.ndarray = label.confidence >= self.floors[label.hard]
        return accepted & self._unchanged(label) if self.cleaning else accepted

    def _unchanged(self, label: Label) -> np.ndarray:
        """The pixels (H, W) that the clean-up leaves alone.

        The probabilities of the others belong to the class that they would lose.
        """
        assert self.cleaning is not None
        return self.cleaning.cleaned(label.hard) == label.hard

    def target(self, i: int, index: np.ndarray) -> Target[np.ndarray]:
        """See `data.labels.Labels.target`: soft labels are included, and rejected pixels have weight 0."""
        place = int(self.chosen[i])
        label = self.store.read(place)
        outside = index < 0
        hard = label.hard.reshape(-1)[index]
        accepted = ~outside & (label.confidence.reshape(-1)[index] >= self.floors[hard])
        if self.cleaning:
            accepted &= self._unchanged(label).reshape(-1)[index]
        weight = np.where(accepted, self.class_weights[hard] * self.image_weights[place], 0).astype(
            np.float32
        )
        return Target(
            np.where(accepted, hard, np.uint8(IGNORE)), weight, label.soft_at(index, len(self.classes))
        )

    def report(self) -> dict:
        """The content of selection.json.

        It has thresholds and kept shares per class, the images, and the quality of the labels if there are
        masks. The weights of more than MANY images are left out.
        """
        kept, histogram, many = self._kept(), self.store.histogram(), len(self.everything) > MANY
        above = np.arange(256)[None, :] >= self.floors[:, None]
        return {
            "generation": self.generation,
            "rule": _written(self.rule),
            "threshold": thresholds.TABLE.one(self.rule.threshold, "select.threshold").name,
            "thresholds": dict(zip(self.classes, self.thresholds.round(4).tolist(), strict=True)),
            "kept": dict(zip(self.classes, kept, strict=True)),
            "kept_share": float(histogram[above].sum() / max(histogram.sum(), 1)),
            "class_weights": dict(zip(self.classes, self.class_weights.round(4).tolist(), strict=True)),
            "images": len(self.everything),
            "images_kept": len(self.samples),
            **({} if many else {"image_weights": self.image_weights.round(4).tolist()}),
            "quality": self._quality(),
        }

    def _kept(self) -> list[float | None]:
        shares = thresholds.kept(self.store.histogram(), self.thresholds)
        return [None if np.isnan(share) else float(share) for share in shares]

    def _quality(self) -> dict | None:
        """Scores of the labels after each stage of labelling, over the images with masks."""
        stages = self.store.confusion()
        if stages is None:
            return None
        quality = {name: report(counts, self.classes) for name, counts in zip(STAGES, stages, strict=True)}
        return {**quality, "selected": report(self._selected_confusion(), self.classes)}

    def _selected_confusion(self) -> np.ndarray:
        counts = np.zeros((len(self.classes), len(self.classes)), np.int64)
        for place in map(int, self.chosen):
            mask = self.everything[place].read_mask()
            if mask is None:
                continue
            label = self.store.read(place)
            accepted = self._accepts(label)
            counts += confusion(label.hard, np.where(accepted, mask, np.uint8(IGNORE)), len(counts))
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
    """Apply `rule`: thresholds per class, class weights and image weights, from the store's statistics alone.

    `known` (C,) counts the pixels of each class in the labelled images' masks. `reliability` (N,) ranks and
    weights the images; without it all images are equal.
    """
    histogram = store.histogram()
    floors = threshold_of(rule, known)(histogram)
    return SelectedLabels(
        store,
        samples,
        classes,
        rule,
        generation,
        floors,
        thresholds.class_weights(histogram, floors, rule.balance),
        thresholds.image_weights(
            np.ones(len(store), np.float32) if reliability is None else reliability,
            rule.image_share,
            rule.weight_images,
        ),
        cleanup.of(rule.min_area, rule.max_hole, classes, "select"),
    )


def _written(rule: SelectConfig) -> dict[str, object]:
    """The settings as JSON. LATER ones are left out at their defaults, so selections of older runs stay."""
    usual = SelectConfig()
    return {
        name: value
        for name, value in asdict(rule).items()
        if name not in LATER or value != getattr(usual, name)
    }


def threshold_of(rule: SelectConfig, known: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The function of `select.threshold` from a histogram (C, 256) to thresholds (C,), with its settings.

    Raises ConfigError for an unknown rule or setting.
    """
    chosen = thresholds.TABLE.one(rule.threshold, "select.threshold")
    shared = {"keep": rule.keep, "confidence": rule.confidence, "known": known}
    return partial(bound(chosen), **handed(chosen.entry, f"select.threshold={chosen.name}", **shared))


def check_threshold(rule: SelectConfig) -> None:
    """Try the threshold rule on a few pixels.

    Raises ConfigError if it does not return a threshold in 0..1 for each class.
    """
    histogram = np.zeros((3, 256), np.int64)
    histogram[:2, 100:200] = 1  # the third class has no pixel
    found = np.asarray(threshold_of(rule, np.array([2, 1, 0]))(histogram))
    if found.shape != (3,) or not ((found >= 0) & (found <= 1)).all():
        raise ConfigError(
            f"select.threshold={rule.threshold} returns {found.tolist()}, "
            "not a threshold in 0..1 for each of 3 classes"
        )


def refuse_empty(rule: SelectConfig, where: object, *, settled: bool) -> None:
    """Handle the case that no pixel is accepted.

    Raises LearningError, unless the rule ends the run with the leader so far. With `settled`, an earlier
    student was trained with this rule, so this run cannot continue with another one.
    """
    if rule.on_empty == "fail":
        how = "choose another out= and" if settled else "run the same command with"
        raise LearningError(
            f"no pseudo-label is accepted (see {where}); {how} a lower select.confidence, "
            "a higher select.keep, or select.on_empty=labelled_only, "
            "which makes the leader so far the result"
        )
