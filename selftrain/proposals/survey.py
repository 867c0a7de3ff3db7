"""One look at every image: its features, and how unsure networks are of it. Little is kept of each."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from selftrain.data.images import resize_image
from selftrain.data.sample import Sample
from selftrain.errors import DataError, naming_savings
from selftrain.inference.predictor import Predictor
from selftrain.log import progress, say
from selftrain.proposals.features import Floats
from selftrain.proposals.uncertainty import Opinions, Sums, Uncertainty, levels, summed
from selftrain.scores import class_pixels
from selftrain.tables import Chosen

TILE = 1024  # pixels; of larger images, networks see a tile of this side at a time
Size = tuple[int, int]  # height, width
Pictures = list[tuple[Sample, np.ndarray]]


@dataclass(frozen=True)
class Jury:
    """The networks that are asked about an image, each with its plain view.

    `members` are the networks of the leader with their `shares` in its prediction, `past` earlier networks of
    the run. `seen_size` gives the size at which they see an image; None: as it is.
    """

    members: Sequence[Predictor]
    shares: Sequence[float]
    past: Sequence[Predictor]
    seen_size: Callable[[Size], Size] | None = None

    @property
    def parts(self) -> list[str]:
        """The optional parts of `Opinions` that this jury fills."""
        return ["members"] * (len(self.members) > 1) + ["past"] * bool(self.past)

    def at_seen_size(self, image: np.ndarray) -> np.ndarray:
        """An image (H, W, C) at the size at which the networks see it."""
        return (
            resize_image(image, self.seen_size((image.shape[0], image.shape[1]))) if self.seen_size else image
        )

    @torch.inference_mode()
    def opinions(self, images: np.ndarray) -> list[Opinions]:
        """What the networks predict for images (N, H, W, C) uint8 at their seen size."""
        each = [predictor.probabilities(images) for predictor in self.members]
        past = [predictor.probabilities(images) for predictor in self.past]
        mean = torch.stack([share * one for share, one in zip(self.shares, each, strict=True)]).sum(dim=0)
        several = each if len(each) > 1 else []
        return [
            Opinions(mean[i], [one[i] for one in several], [one[i] for one in past])
            for i in range(len(images))
        ]

    def of_tiles(self, image: np.ndarray) -> Iterator[tuple[tuple[slice, slice], Opinions]]:
        """What the networks predict for each tile of an image (H, W, C), with its place."""
        for top in range(0, image.shape[0], TILE):
            for left in range(0, image.shape[1], TILE):
                place = slice(top, top + TILE), slice(left, left + TILE)
                yield place, self.opinions(image[place][None])[0]


@dataclass(frozen=True)
class Surveyor:
    """What is asked about every image: `features` of an image (H, W, C), and the `entries` of a jury."""

    features: Callable[[np.ndarray], Floats]
    jury: Jury | None = None
    entries: Sequence[Chosen[Uncertainty]] = ()
    class_weights: Tensor = field(default_factory=lambda: torch.ones(1))
    batch: int = 8

    def sums(self, images: np.ndarray) -> list[Sums]:
        """The sums of images (N, H, W, C) of one size."""
        assert self.jury
        seen = np.stack([self.jury.at_seen_size(image) for image in images])
        if max(seen.shape[1:3]) <= TILE:
            found = [[one] for one in self.jury.opinions(seen)]
            return [summed(one, self.entries, self.class_weights) for one in found]
        return [
            summed((one for _, one in self.jury.of_tiles(image)), self.entries, self.class_weights)
            for image in seen
        ]


@dataclass(frozen=True)
class Survey:
    """The images that could be read, with what was found out about each."""

    samples: list[Sample]
    features: Floats  # (N, D)
    sums: list[Sums]  # empty without entries

    @property
    def levels(self) -> Floats:
        """The uncertainty of each image by each entry (N, M), see `uncertainty.levels`; (N, 0) without."""
        return levels(self.sums) if self.sums else np.zeros((len(self.samples), 0), np.float32)


@naming_savings("predicting")
def survey(samples: Sequence[Sample], asked: Surveyor, stage: str) -> Survey:
    """Look at every image once, in order. Unreadable ones are printed and left out.

    Progress lines begin with `stage`.
    """
    kept, rows, sums = list[Sample](), list[Floats](), list[Sums]()
    with progress(stage, len(samples)) as show:
        for first in range(0, len(samples), asked.batch):
            for group in _of_one_size(samples[first : first + asked.batch]):
                kept += [sample for sample, _ in group]
                rows += [asked.features(image) for _, image in group]
                if asked.entries:
                    sums += asked.sums(np.stack([image for _, image in group]))
            show(min(first + asked.batch, len(samples)))
    return Survey(kept, np.stack(rows) if rows else np.zeros((0, 1), np.float32), sums)


def labelled_pixels(samples: Sequence[Sample], classes: int) -> np.ndarray:
    """Pixels (C,) of each class in the masks of labelled images. Raises DataError."""
    masks = (sample.read_mask() for sample in samples)
    return sum(
        (class_pixels(mask, classes) for mask in masks if mask is not None), np.zeros(classes, np.int64)
    )


def _of_one_size(samples: Sequence[Sample]) -> Iterator[Pictures]:
    """Groups of neighbouring samples whose images have one size; unreadable images are printed."""
    for _, same in groupby(_read(samples), key=lambda pair: pair[1].shape):
        yield list(same)


def _read(samples: Sequence[Sample]) -> Iterator[tuple[Sample, np.ndarray]]:
    for sample in samples:
        try:
            yield sample, sample.read_image()
        except DataError as error:
            say(f"left out: {error}")
