"""A contact sheet of augmentation: labelled images beside what training makes of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from selftrain.data.batches import Augmentation, StepDataset
from selftrain.data.cache import Cache
from selftrain.data.dataset import DataSet
from selftrain.data.examples import Example
from selftrain.data.labels import Labels, MaskLabels, known_to_be
from selftrain.data.sample import Sample
from selftrain.errors import DataError
from selftrain.inspection.pictures import some
from selftrain.inspection.sheet import Cell, pair, write_cells
from selftrain.report.palette import palette
from selftrain.rng import batch_ids
from selftrain.targets import Target

IMAGES, VIEWS = 4, 2  # images that are shown, and views of each
CACHE = 512.0  # MB of decoded images
NOTE = (
    "Each pair: an image, and its mask in class colours; pixels without a label are striped. "
    "Unlabelled images are shown by labelled ones, whose masks stand for pseudo-labels."
)


@dataclass(frozen=True)
class KnownLabels:
    """Masks in the form of pseudo-labels without errors, as `Labels`."""

    labels: Labels
    classes: int

    @property
    def samples(self) -> list[Sample]:
        return list(self.labels.samples)  # type: ignore[arg-type]

    def target(self, i: int, index: np.ndarray) -> Target[np.ndarray]:
        """See `data.labels.Labels.target`."""
        return known_to_be(self.labels.target(i, index), self.classes)


def write_augmented(
    stem: Path,
    data: DataSet,
    how: Augmentation,
    rows: list[tuple[str, str]],
    *,
    unlabelled: bool,
    seed: int = 0,
) -> list[Path]:
    """Write <stem>.png and <stem>.html: some labelled images, and views of each by both pipelines.

    `unlabelled` tells whether the generation has unlabelled images. `rows` are facts to show above the
    pictures. Raises DataError if there is no labelled image.
    """
    chosen = some(data.labelled, IMAGES)
    if not chosen:
        raise DataError(f"{data.root}: no labelled image to show")
    drawn = list(_cells(chosen, data, how, unlabelled=unlabelled, seed=seed))
    columns = 1 + VIEWS * (1 + unlabelled)
    return write_cells(stem, f"Augmentation of {stem.name}", rows, drawn, data.classes, (columns, NOTE))


def _cells(
    chosen: list[Sample], data: DataSet, how: Augmentation, *, unlabelled: bool, seed: int
) -> Iterator[Cell]:
    """A row for each image: itself, its views as a labelled image, and its views as an unlabelled one."""
    count, keys, cache = len(chosen), (seed, "show-augment"), Cache(CACHE)
    labels, colours = MaskLabels(chosen, cache.mask), palette(len(data.classes))
    examples = StepDataset(
        labels,
        data.unlabelled or chosen,
        KnownLabels(labels, len(data.classes)),
        sizes=(count, count),
        classes=len(data.classes),
        augmentation=how,
        sampler=lambda batch, step, keys: list(range(batch)),
        cache=cache,
        keys=keys,
    )
    for place, sample in enumerate(chosen):
        yield pair(sample.id, cache.image(sample), cache.mask(sample), colours)
        for kind, step in product(["labelled", "unlabelled"][: 1 + unlabelled], range(VIEWS)):
            order = batch_ids(count, count, step, *keys, "pseudo")
            slot = place if kind == "labelled" else count + order.index(place)
            example = examples[step, slot]
            assert isinstance(example, Example)
            yield pair(kind, example.image, example.target.hard, colours, example.target.soft)
