"""The reliability of a teacher's label for each image, by which images are ranked and weighted.

A measure is a function of a `Subject` that returns reliabilities (N,) float32. The most reliable image has
the largest value. Settings of a measure are keywords with a default.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator

from selftrain.config import SelectConfig
from selftrain.data.cache import Cache
from selftrain.data.labels import Readable
from selftrain.data.many import Picked
from selftrain.errors import ConfigError, naming_savings
from selftrain.inference.groups import neighbours, rank_share
from selftrain.inference.predictor import Predictor
from selftrain.labels.store import LabelStore
from selftrain.log import progress
from selftrain.scores import confusion, mean_iou
from selftrain.tables import Chosen, Table, handed


@dataclass(frozen=True)
class Subject:
    """A teacher's labels, and everything that a measure may use.

    `check` is called between batches and may raise to stop.
    """

    store: LabelStore
    samples: Sequence[Readable]  # the images of the store
    classes: int
    teacher: Callable[[], Predictor]  # loads the network
    # loads the earlier networks, if a measure needs them
    snapshots: Callable[[], Sequence[Predictor]]
    cache: Cache
    accelerator: Accelerator
    batch: int
    stage: str
    check: Callable[[], None]


@dataclass(frozen=True)
class Reliability:
    """An entry of RELIABILITIES."""

    measure: Callable[..., np.ndarray]
    looks: bool = False  # predicts the images again, which is slow; the result is kept in reliability.json
    snapshots: bool = False  # every generation keeps snapshots of its network


def confidence(subject: Subject) -> np.ndarray:
    """The mean confidence of an image's label."""
    return subject.store.confidence()


@naming_savings("labelling")
def agreement(subject: Subject) -> np.ndarray:
    """The mean over the snapshots of the mIoU between their labels and the teacher's, 0 to 1.

    The stability score of Yang et al. 2022 (ST++, section 3.3), divided by the number of snapshots. Each
    network predicts one plain view. Ranks share the images.
    """
    samples, accelerator = subject.samples, subject.accelerator
    mine, done = rank_share(len(samples), accelerator), 0
    teacher, snapshots = subject.teacher(), subject.snapshots()
    found = torch.zeros(len(samples), device=accelerator.device)
    with progress(f"{subject.stage} reliability", len(mine), show=accelerator.is_main_process) as show:
        for group in neighbours(Picked(samples, np.array(mine)), subject.batch, subject.cache.image):
            subject.check()
            images = np.stack([image for _, image in group])
            last = teacher.labels(images)
            earlier = [_mean_ious(past.labels(images), last, subject.classes) for past in snapshots]
            found[list(mine[done : done + len(group)])] = torch.from_numpy(np.mean(earlier, axis=0)).to(found)
            done += len(group)
            show(done)
    return accelerator.reduce(found, "sum").cpu().numpy()


RELIABILITIES = {
    "confidence": Reliability(confidence),
    "agreement": Reliability(agreement, looks=True, snapshots=True),
}
TABLE = Table(RELIABILITIES, function=lambda entry: entry.measure)


def chosen(rule: SelectConfig) -> Chosen[Reliability]:
    """The measure that `select.reliability` chooses. Raises ConfigError for an unknown measure or setting."""
    found = TABLE.one(rule.reliability, "select.reliability")
    handed(found.entry.measure, f"select.reliability={found.name}")  # a measure receives a Subject only
    return found


def measure(rule: SelectConfig, subject: Subject) -> np.ndarray:
    """Reliabilities (N,) of the images of `subject`. Raises ConfigError for any other result."""
    found, count = chosen(rule), len(subject.samples)
    reliability = np.asarray(found.entry.measure(subject, **found.settings), np.float32)
    if reliability.shape != (count,) or not np.isfinite(reliability).all():
        raise ConfigError(
            f"select.reliability={found.name} must return a finite number for each of {count} images"
        )
    return reliability


def _mean_ious(earlier: np.ndarray, last: np.ndarray, classes: int) -> list[float]:
    """The mean IoU of each pair of labels (N, H, W), over the classes that occur in either of them."""
    return [mean_iou(confusion(one, other, classes)) for one, other in zip(earlier, last, strict=True)]
