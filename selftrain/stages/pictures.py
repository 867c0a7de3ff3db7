"""The pictures of a report: predictions of the generations on val images, and a few pseudo-labels."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from selftrain.data.images import as_rgb
from selftrain.data.labels import Labels, Readable
from selftrain.errors import naming_savings
from selftrain.inference.predictor import Predictor
from selftrain.labels.store import LabelStore
from selftrain.report.embedded import Covered, Gallery, Row

ROWS = 4
CLASSES = 12  # most images of `of_classes`
Labeller = Callable[[Readable], np.ndarray | None]  # the label (H, W) of an image, if it is known


class StoredLabels(Labels, Protocol):
    """Pseudo-labels of a store, filtered."""

    store: LabelStore
    everything: Sequence[Readable]  # the samples of the store
    chosen: np.ndarray  # (N,): the index in the store of each sample
    generation: int  # the generation that predicted them


@naming_savings("evaluating")
def predictions(predictors: Mapping[int, Predictor], samples: Sequence[Readable]) -> list[Row]:
    """Rows of an image, its mask and each generation's prediction, for samples spread over the set."""
    rows = []
    for i in _spread(len(samples)):
        image, truth = samples[i].read_image(), samples[i].read_mask()
        cells = [("image", as_rgb(image))] + ([("truth", truth)] if truth is not None else [])
        cells += [(f"generation {number}", one.labels(image[None])[0]) for number, one in predictors.items()]
        rows.append(Row(samples[i].id, cells))
    return rows


def pseudo_labels(labels: StoredLabels) -> list[Row]:
    """Rows of an image, its stored label, the accepted pixels, and the mask if there is one."""
    rows = []
    for place in _spread(len(labels.samples)):
        sample = labels.samples[place]
        image, truth = sample.read_image(), sample.read_mask()
        index = np.arange(image.shape[0] * image.shape[1]).reshape(image.shape[:2])
        label = labels.store.read(int(labels.chosen[place]))
        hard = labels.target(place, index).hard
        sureness = np.repeat(label.confidence[..., None], 3, axis=-1)  # (H, W, 3) grey
        cells = [
            ("image", as_rgb(image)),
            ("pseudo-label", label.hard),
            ("confidence", sureness),
            ("accepted", hard),
        ]
        if truth is not None:
            cells.append(("truth", truth))
        rows.append(Row(f"{sample.id}, labelled by generation {labels.generation}", cells))
    return rows


def _spread(count: int) -> list[int]:
    """Up to ROWS indices spread evenly over `count`."""
    return sorted({int(place) for place in np.linspace(0, count - 1, min(ROWS, count))})


@naming_savings("evaluating")
def extremes(predictor: Predictor, samples: Sequence[Readable], told: Sequence[tuple[str, str]]) -> list[Row]:
    """Rows of an image, its mask and the prediction, for the samples with the ids of `told`.

    `told` has an id and a note for each row; unknown ids are left out.
    """
    sample_of, rows = {sample.id: sample for sample in samples}, []
    for id_, note in told:
        if id_ in sample_of:
            image, truth = sample_of[id_].read_image(), sample_of[id_].read_mask()
            cells = [("image", as_rgb(image))] + ([("truth", truth)] if truth is not None else [])
            rows.append(Row(id_, [*cells, ("prediction", predictor.labels(image[None])[0])], note))
    return rows


@naming_savings("evaluating")
def of_classes(
    predictor: Predictor, samples: Sequence[Readable], told: Mapping[str, tuple[str, str]]
) -> Gallery:
    """The val image in which each class fails most; `told` has its id and a sentence for each class."""
    sample_of, notes = {sample.id: sample for sample in samples}, dict[str, list[str]]()
    for name, (id_, note) in told.items():
        if id_ in sample_of:
            notes.setdefault(id_, []).append(f"{name}: {note}")
    items = list[Covered]()
    for id_, sentences in list(notes.items())[:CLASSES]:
        image, truth = sample_of[id_].read_image(), sample_of[id_].read_mask()
        said = predictor.labels(image[None])[0]
        items.append(Covered(id_, " ".join(sentences), as_rgb(image), said, truth))
    return Gallery("The worst image of each class", "", items, over="prediction", under="mask")


@dataclass(frozen=True)
class Kind:
    """A kind of gallery: the numbers that choose its images, and its words."""

    numbers: str  # a name of `labels.numbers`
    title: str
    note: str
    said: str  # of an image, with its number
    under: str = ""  # the label to compare with
    over: str = "label"
    lowest: bool = False  # the images with the lowest numbers, not with the highest


CHANGED = "{:.1%} of the pixels differ"
CONFIDENT = ("By the mean confidence of the image's label.", "mean confidence {:.3f}")
KINDS = (
    Kind("confidence", "Least confident", *CONFIDENT, lowest=True),
    Kind("confidence", "Most confident", *CONFIDENT),
    Kind(
        "generations",
        "Changed most since the generation before",
        "By the share of the pixels whose class differs.",
        CHANGED,
        under="label of the generation before",
    ),
    Kind(
        "views",
        "Views that disagree most",
        "By the confidence that averaging takes from the single views (TTA).",
        "averaging takes {:.3f} of the confidence",
        under="label of one view",
        over="label of all views",
    ),
    Kind(
        "refiner",
        "Changed most by refinement",
        "By the share of the pixels whose class the refiner (CRF) changes.",
        CHANGED,
        under="before",
        over="after",
    ),
    Kind(
        "unlike",
        "Unlike every labelled image",
        "By the distance of brightness, colours and size to the nearest labelled image. The label of such an "
        "image deserves a look, and its mask would teach most.",
        "distance {:.3f}",
    ),
)


@naming_savings("labelling")
def galleries(
    labels: StoredLabels,
    earlier: Labeller,
    plain: Labeller = lambda sample: None,
    averaged: Labeller = lambda sample: None,
) -> list[Gallery]:
    """The images of a label store with the lowest or highest numbers (`labels.numbers`).

    `earlier` labels an image as an earlier generation did, `plain` from its unchanged view, and `averaged`
    from all views before refinement. A gallery without a label to compare with, or without a difference, is
    left out.
    """
    under = {"generations": earlier, "views": plain, "refiner": averaged}
    over = {"views": averaged}
    known = labels.store.numbers()
    found = [
        Gallery(
            kind.title,
            kind.note,
            _items(kind, labels, known[kind.numbers], under.get(kind.numbers), over.get(kind.numbers)),
            over=kind.over,
            under=kind.under,
        )
        for kind in KINDS
    ]
    return [one for one in found if one.items]


def _items(
    kind: Kind, labels: StoredLabels, numbers: np.ndarray, under: Labeller | None, over: Labeller | None
) -> list[Covered]:
    """The images of a gallery. `under` is the label to compare with; `over` replaces the stored label."""
    items = list[Covered]()
    for place in _extremes(numbers, lowest=kind.lowest, zero=under is None):
        sample = labels.everything[place]
        before = under(sample) if under else None
        if under and before is None:
            continue
        after = over(sample) if over else labels.store.read(place).hard
        assert after is not None
        image = as_rgb(sample.read_image())
        items.append(Covered(sample.id, kind.said.format(numbers[place]), image, after, before))
    return items


def _extremes(numbers: np.ndarray, *, lowest: bool, zero: bool) -> list[int]:
    """The places of up to ROWS extreme numbers, the most extreme one first.

    Without `zero`, numbers of 0 are left out: nothing differs. At most half of the known places are returned,
    so that no image is among the lowest and the highest.
    """
    known = np.flatnonzero(np.isfinite(numbers))
    order = known[np.argsort(numbers[known] if lowest else -numbers[known], kind="stable")]
    chosen = order[: min(ROWS, max(len(known) // 2, 1))]
    return [int(place) for place in chosen if zero or numbers[place] > 0]
