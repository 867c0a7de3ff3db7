"""The pictures of a report: what the generations say of val images, and what became of some pseudo-labels."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from selftrain.data.labels import Labels, Readable
from selftrain.errors import naming_savings
from selftrain.inference.predictor import Predictor
from selftrain.labels.store import LabelStore
from selftrain.report.page import Row

ROWS = 4


class StoredLabels(Labels, Protocol):
    """Pseudo-labels of a store, filtered."""

    store: LabelStore
    chosen: list[int]  # the place of each sample in the store
    generation: int  # whose labels they are


@naming_savings("evaluating")
def predictions(predictors: Mapping[int, Predictor], samples: Sequence[Readable]) -> list[Row]:
    """Rows of image, truth and what the networks of each generation predict, for samples spread over the set."""
    rows = []
    for i in _spread(len(samples)):
        image, truth = samples[i].read_image(), samples[i].read_mask()
        cells = [("image", image)] + ([("truth", truth)] if truth is not None else [])
        cells += [(f"generation {number}", one.labels(image[None])[0]) for number, one in predictors.items()]
        rows.append(Row(samples[i].id, cells))
    return rows


def pseudo_labels(labels: StoredLabels) -> list[Row]:
    """Rows of image, stored label, what is learnt from it, and the truth where there is a mask."""
    rows = []
    for place in _spread(len(labels.samples)):
        sample = labels.samples[place]
        image, truth = sample.read_image(), sample.read_mask()
        index = np.arange(image.shape[0] * image.shape[1]).reshape(image.shape[:2])
        label = labels.store.read(labels.chosen[place])
        hard = labels.target(place, index).hard
        sureness = np.repeat(label.confidence[..., None], 3, axis=-1)  # (H, W, 3) grey
        cells = [("image", image), ("pseudo-label", label.hard), ("confidence", sureness), ("accepted", hard)]
        if truth is not None:
            cells.append(("truth", truth))
        rows.append(Row(f"{sample.id}, labelled by generation {labels.generation}", cells))
    return rows


def _spread(count: int) -> list[int]:
    """Up to ROWS places spread evenly over `count`."""
    return sorted({int(place) for place in np.linspace(0, count - 1, min(ROWS, count))})
