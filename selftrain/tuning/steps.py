"""The steps of tuning: what each measures on the images of val, and what it fits to the measurements."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selftrain.config import PredictConfig
from selftrain.ids import IGNORE
from selftrain.inference import decide
from selftrain.inference.predictor import Predictor
from selftrain.labels.crf import CRF, marginals
from selftrain.models import ensemble
from selftrain.scores import confusion, miou
from selftrain.tables import Table
from selftrain.tuning import fits
from selftrain.tuning.tuned import Tuned

VALUES = 2**22  # most probabilities of all images together to which thresholds are fitted
PIXELS = 2**17  # most pixels of all images together to which weights are fitted
CANDIDATES = ((0.5, 1), (1, 1), (2, 1), (1, 2), (2, 2))  # factors of the CRF's bilateral_compat and _srgb

Image = NDArray[np.uint8]  # (H, W, channels)
Planes = NDArray[np.float32]  # (C, H, W)
Asked = Callable[[Predictor], Sequence[Predictor]]
Measure = Callable[[Image, Planes, Image], Any]
Measured = Sequence[tuple[Any, ...]]  # for each image a measurement for each asked predictor
Fit = Callable[[Tuned, Measured], Tuned]


def _itself(predictor: Predictor) -> Sequence[Predictor]:
    return [predictor]


@dataclass(frozen=True)
class Step:
    """One thing that is tuned.

    `measure` gets an image, the probabilities that one of the `asked` predictors gives it, and its mask
    (H, W). `fit` gets the values tuned so far and the measurements of some images.
    """

    name: str  # the setting that asks for it
    measure: Measure
    fit: Fit
    asked: Asked = _itself


def asked_for(cfg: PredictConfig, images: int, predictor: Predictor, *, around: CRF) -> list[Step]:
    """The steps that the settings ask for, in order: a later one builds on the earlier ones.

    `images` is the size of val, `around` the middle of the CRFs that are tried.
    """
    fitted = cfg.average == "fitted"
    steps = [
        (fitted and len(_each_member(predictor)) > 1, members(images)),
        (fitted and len(predictor.views or ()) > 1, views(images)),
        (cfg.refine == "crf", crf(images, around)),
        (tunes_thresholds(cfg), thresholds(images)),
    ]
    return [step for asked, step in steps if asked]


def tunes_thresholds(cfg: PredictConfig) -> bool:
    """Whether the decision is by thresholds that nobody gave."""
    decision = Table(decide.DECISIONS).one(cfg.decision, "predict.decision")
    return decision.entry is decide.thresholds and not decision.settings["each"]


def members(images: int) -> Step:
    """The weights of an ensemble's networks that make val most likely (`fits.weights`).

    Every class of an image has a say: equally many pixels of each are drawn, as far as there are any.
    """

    def fit(tuned: Tuned, measured: Measured) -> Tuned:
        return replace(tuned, members=_weights(measured))

    return Step("predict.average of networks", partial(_likelihoods, PIXELS // images), fit, _each_member)


def views(images: int) -> Step:
    """The weights of a predictor's views, in the same way."""

    def fit(tuned: Tuned, measured: Measured) -> Tuned:
        return replace(tuned, views=_weights(measured))

    return Step("predict.average of views", partial(_likelihoods, PIXELS // images), fit, _each_view)


def _weights(measured: Measured) -> tuple[float, ...]:
    likelihoods = np.concatenate([np.stack(each) for each in measured], axis=1)
    return tuple(fits.weights(likelihoods).round(6).tolist())


def crf(images: int, around: CRF) -> Step:
    """The CRF of the highest mIoU out of a few around the settings `labels.crf`, or none."""
    grid = [
        replace(
            around,
            bilateral_compat=factor * around.bilateral_compat,
            bilateral_srgb=wider * around.bilateral_srgb,
        )
        for factor, wider in CANDIDATES
    ]

    def fit(tuned: Tuned, measured: Measured) -> Tuned:
        scores = [miou(counts) or 0.0 for counts in np.sum([counts for (counts,) in measured], axis=0)]
        return replace(tuned, crf=[None, *grid][int(np.argmax(scores))])

    return Step("predict.refine", partial(_refined, grid), fit)


def thresholds(images: int) -> Step:
    """The thresholds of the classes with the highest mIoU (`fits.thresholds`)."""

    def fit(tuned: Tuned, measured: Measured) -> Tuned:
        """`tuned` with the best thresholds; unchanged if no pixel has a class."""
        probs, truth = (
            np.concatenate(parts) for parts in zip(*(drawn for (drawn,) in measured), strict=True)
        )
        if not len(truth):
            return tuned
        found = fits.thresholds(probs, truth)
        return replace(tuned, thresholds=tuple(float(f"{value:.6g}") for value in found))

    return Step("predict.decision", partial(_drawn, VALUES // images), fit)


def _each_member(predictor: Predictor) -> Sequence[Predictor]:
    pairs = [
        pair
        for network in predictor.networks
        for pair in zip(ensemble.parts(network), ensemble.zooms_of(network), strict=True)
    ]
    return [replace(predictor, networks=(ensemble.joined([part], [zoom]),)) for part, zoom in pairs]


def _each_view(predictor: Predictor) -> Sequence[Predictor]:
    alone = np.eye(len(predictor.views or ()))
    return [replace(predictor, view_weights=tuple(row.tolist())) for row in alone]


def _likelihoods(most: int, image: Image, probs: Planes, mask: Image) -> NDArray[np.float32]:
    """The probabilities (n,) of the true class at equally many pixels of each class."""
    truth = mask.ravel()
    present = [np.flatnonzero(truth == c) for c in range(len(probs)) if (truth == c).any()]
    count = max(1, most // max(len(present), 1))
    chosen = np.concatenate([np.zeros(0, np.int64), *(_spread(places, count) for places in present)])
    return probs.reshape(len(probs), -1)[truth[chosen], chosen]


def _refined(grid: Sequence[CRF], image: Image, probs: Planes, mask: Image) -> NDArray[np.int64]:
    """Confusion counts (1 + G, C, C) without a CRF, and with each of `grid`."""
    maps = [probs, *(marginals(image, probs, crf=one) for one in grid)]
    return np.stack([confusion(one.argmax(axis=0), mask, len(one)) for one in maps])


def _drawn(
    most: int, image: Image, probs: Planes, mask: Image
) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
    """Probabilities (n, C) and true classes (n,) of pixels spread evenly over the image."""
    flat, truth = probs.reshape(len(probs), -1), mask.ravel()
    chosen = _spread(np.flatnonzero(truth != IGNORE), max(1, most // len(flat)))
    return flat[:, chosen].T.astype(np.float16), truth[chosen]


def _spread(places: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Up to `count` of `places`, evenly spaced."""
    if len(places) <= count:
        return places
    return places[np.linspace(0, len(places) - 1, count).round().astype(np.int64)]
