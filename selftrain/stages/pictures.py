"""The pictures of a report: predictions of the generations on val images, and a few pseudo-labels."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from selftrain.data.images import as_rgb
from selftrain.data.labels import Labels, Readable
from selftrain.errors import naming_savings
from selftrain.inference.predictor import Predictor
from selftrain.labels.store import LabelStore
from selftrain.report.embedded import Row

ROWS = 4


class StoredLabels(Labels, Protocol):
    """Pseudo-labels of a store, filtered."""

    store: LabelStore
    chosen: list[int]  # the index in the store of each sample
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
        label = labels.store.read(labels.chosen[place])
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

    `told` has an id and a note for each row; ids that no sample has are left out.
    """
    sample_of, rows = {sample.id: sample for sample in samples}, []
    for id_, note in told:
        if id_ in sample_of:
            image, truth = sample_of[id_].read_image(), sample_of[id_].read_mask()
            cells = [("image", as_rgb(image))] + ([("truth", truth)] if truth is not None else [])
            rows.append(Row(id_, [*cells, ("prediction", predictor.labels(image[None])[0])], note))
    return rows
