"""Training on a review (data.reviewed): reviewed images among the labelled ones, without the rejected ones.

Of an image that was corrected in part, the painted pixels are known. It is a labelled image without the other
pixels, and it keeps its pseudo-label, in which the painted pixels have the painted class.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from selftrain.data.dataset import DataSet
from selftrain.data.labels import Labels, Readable, gather, known_to_be
from selftrain.data.many import Picked, finder, without
from selftrain.data.masks import resize_mask
from selftrain.data.sample import Sample, Source
from selftrain.errors import DataError
from selftrain.ids import IGNORE
from selftrain.targets import Target
from selftrain.verdicts import Planes, Review, Row, decided, decoded

EXTRA = "review"  # these images are only trained on, like images of data.extra
MARK = "@review-"  # between the id of an image and the hash of its mask
KEPT = 64  # decoded masks


@dataclass(frozen=True)
class ReviewedMask(Source):
    """The mask of a review: the ids that are known, IGNORE elsewhere."""

    path: Path
    classes: int
    shape: tuple[int, int]  # (height, width) of the image

    @property
    def name(self) -> str:
        return str(self.path)

    def read(self) -> np.ndarray:
        ids, known = _planes(self)
        return np.where(known, ids, np.uint8(IGNORE))

    def fingerprint(self) -> str | None:
        return self.path.stem


@lru_cache(maxsize=KEPT)
def _planes(mask: ReviewedMask) -> Planes:
    """The ids of a mask and where they are known, at the size of the image."""
    ids, known = decoded(mask.path.read_bytes(), str(mask.path), mask.classes)
    return resize_mask(ids, mask.shape), resize_mask(known.astype(np.uint8), mask.shape) > 0


def reviewed_id(sample: Readable) -> str:
    """The id of the image that a sample of `with_review` shows; of other samples, their own id."""
    return sample.id.partition(MARK)[0]


def check(review: Review, data: DataSet, setting: str, *, whole: bool = True) -> None:
    """Raises DataError if a review does not belong to a data set, or reviews an image of val or test.

    Without `whole`, the data set is a part of the reviewed one.
    """
    if review.classes != data.classes:
        raise DataError(
            f"{setting} reviews the classes {', '.join(review.classes)}, but the data set has "
            f"{', '.join(data.classes)}; name a review of the same classes"
        )
    split_of = {sample.id: split for split in ("val", "test") for sample in getattr(data, split)}
    known, find = {sample.id for sample in data.labelled}, finder(data.unlabelled)
    for row in decided(review.rows.values()):
        if row.image in split_of:
            raise DataError(
                f"{setting} reviews {row.image}, an image of {split_of[row.image]}, which must not train; "
                "continue the reviewed run, or take its splits with base="
            )
        if whole and row.image not in known and find(row.image) is None:
            raise DataError(
                f"{setting} reviews {row.image!r}, which is no image of the data set; restore the image, or "
                "name the review of another run"
            )


def with_review(data: DataSet, review: Review, folder: Path) -> DataSet:
    """The data set as a generation sees it: with reviewed images among the labelled ones.

    `folder` contains the masks. Only corrected images of which a part is known stay unlabelled as well. An
    image that has a mask of its own keeps it, and its verdict does not count.
    """
    rows = {row.image: row for row in decided(review.rows.values())}
    masked = [data.unlabelled[i] for i in _places(data.unlabelled, rows) if rows[data.unlabelled[i].id].mask]
    labelled = [_labelled(one, rows[one.id], folder, len(data.classes)) for one in masked]
    unlabelled = without(data.unlabelled, {name for name, row in rows.items() if not row.partial})
    return replace(data, labelled=[*data.labelled, *labelled], unlabelled=unlabelled)


def _places(samples: Sequence[Readable], rows: Mapping[str, Row]) -> list[int]:
    """The places of the samples that have a row, in order."""
    find = finder(samples)
    return sorted(place for name in rows if (place := find(name)) is not None)


def _labelled(sample: Sample, row: Row, folder: Path, classes: int) -> Sample:
    mask = ReviewedMask(folder / row.mask, classes, sample.read_size())
    # its own id: caches must not take this mask for another one of the image
    return replace(sample, id=f"{sample.id}{MARK}{row.sha256[:12]}", mask=mask, extra=EXTRA)


@dataclass(frozen=True)
class Corrected:
    """Pseudo-labels with the painted pixels of partial corrections, without images that need none."""

    labels: Labels
    places: np.ndarray  # of the images that are left
    masks: Mapping[str, ReviewedMask]  # of the partial corrections, by id
    classes: int

    @property
    def samples(self) -> Sequence[Readable]:
        return Picked(self.labels.samples, self.places)

    def target(self, i: int, index: np.ndarray) -> Target[np.ndarray]:
        """See `Labels.target`; a painted pixel is known as it is in a mask."""
        place = int(self.places[i])
        target, mask = self.labels.target(place, index), self.masks.get(self.labels.samples[place].id)
        if mask is None:
            return target
        ids, known = _planes(mask)
        truth = known_to_be(Target(gather(ids, index, IGNORE)), self.classes)
        return target.blended(truth, gather(known, index, 0))


def corrected(labels: Labels, review: Review, folder: Path, classes: int) -> Labels | None:
    """The pseudo-labels of a generation after a review; None if no image is left."""
    rows = {row.image: row for row in decided(review.rows.values())}
    found = {i: labels.samples[i] for i in _places(labels.samples, rows)}
    gone = [i for i, one in found.items() if not rows[one.id].partial]
    partial = [one for one in found.values() if rows[one.id].partial]
    masks = {
        one.id: ReviewedMask(folder / rows[one.id].mask, classes, one.read_size())
        for one in partial
        if isinstance(one, Sample)
    }
    left = np.delete(np.arange(len(labels.samples)), gone)
    return Corrected(labels, left, masks, classes) if len(left) else None
