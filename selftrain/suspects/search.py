"""The labelled images of a run, ordered by suspicion, and the pixels that its folds would relabel."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from selftrain.data.sample import Sample
from selftrain.ids import IGNORE
from selftrain.inference.predictor import Predictor
from selftrain.labels.store import LabelStore
from selftrain.suspects.confident import Floats, Labelled, measured, of_images, suspicions, thresholds
from selftrain.suspects.kinds import Kind, kind_of


@dataclass(frozen=True)
class HeldOut:
    """A labelled image, and its stored prediction by the network that did not train on it."""

    sample: Sample
    store: LabelStore
    place: int

    def labelled(self) -> Labelled:
        """Its mask (H, W), and the predicted probabilities (C, H, W)."""
        mask = self.sample.read_mask()
        assert mask is not None
        return mask, self.store.read(self.place).soft(self.store.index.classes)


@dataclass(frozen=True)
class Doubtful:
    """An image with its suspicion, see `confident.of_images`."""

    image: HeldOut
    suspicion: float
    of_classes: Floats  # (C,) the suspicion of each class; NaN: absent
    faults: Floats  # (3, C), see `confident.Measured`

    def kind(self) -> Kind:
        """What seems to be wrong with the mask."""
        return kind_of(*self.image.labelled(), self.of_classes)


def ordered(images: Sequence[HeldOut], classes: int) -> list[Doubtful]:
    """The images, most suspicious first. Predictions are read twice, so that one is in memory at a time."""
    least = thresholds((one.labelled() for one in images), classes)
    found = [measured(*one.labelled(), least) for one in images]
    of_classes = suspicions(found)
    together = of_images(of_classes)
    order = np.argsort(-together, kind="stable")
    return [Doubtful(images[i], float(together[i]), of_classes[i], found[i].faults) for i in order]


def agreed(doubtful: Doubtful, folds: Sequence[Predictor]) -> np.ndarray:
    """The class (H, W) that all networks predict where the mask has another one; 255 for the other pixels.

    All but one of the networks trained on this mask. Where they contradict it, the other masks outweighed it.
    Ignored pixels stay ignored.
    """
    image, mask = doubtful.image.sample.read_image(), doubtful.image.labelled()[0]
    each = [predictor.labels_in_tiles(image[None])[0] for predictor in folds]
    same = np.all([one == each[0] for one in each], axis=0)
    return np.where(same & (each[0] != mask) & (mask != IGNORE), each[0], IGNORE).astype(np.uint8)


def chosen(doubtful: Sequence[Doubtful], *, count: int | None, least: float) -> Iterator[Doubtful]:
    """The first `count` images or, without it, those whose suspicion is `least` or more."""
    yield from doubtful[:count] if count is not None else (one for one in doubtful if one.suspicion >= least)
