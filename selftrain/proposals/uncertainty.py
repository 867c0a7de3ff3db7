"""How unsure networks are of an image. The table is UNCERTAINTIES.

An entry is a function of `Opinions` that returns a number for each pixel, (H, W) float32 of at least 0. It is
0 where the networks are sure. Only its proportions matter: `levels` divides it by its mean over the images.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from selftrain.errors import ConfigError
from selftrain.labels.thresholds import balanced
from selftrain.tables import Chosen, Table, handed

Floats = NDArray[np.float32]
STEPS = (1, 2, 4, 8)  # pixels to the nearest boundary at which a new zone begins
ZONES = len(STEPS) + 1
RARE = 0.5  # pixels of a class weigh (its share of the labelled pixels)^-RARE


@dataclass(frozen=True)
class Opinions:
    """What networks predict for one image: probabilities (C, H, W) float32."""

    mean: Tensor  # of the leader
    members: Sequence[Tensor] = ()  # of each network of the leader, if there are several
    past: Sequence[Tensor] = ()  # of earlier networks of the run


@dataclass(frozen=True)
class Uncertainty:
    """An entry of UNCERTAINTIES. `needs` names the part of `Opinions` that it cannot do without."""

    measure: Callable[..., Tensor]
    needs: str = ""


def entropy(opinions: Opinions) -> Tensor:
    """The entropy of a pixel's probabilities, as a share of the highest possible one (Settles 2009)."""
    return _entropy(opinions.mean)


def margin(opinions: Opinions) -> Tensor:
    """1 minus the difference of the two highest probabilities (Scheffer et al. 2001, Roth & Small 2006)."""
    highest = opinions.mean.topk(min(2, len(opinions.mean)), dim=0).values
    return 1 - highest[0] + highest[1:].sum(dim=0)


def past(opinions: Opinions) -> Tensor:
    """The share of the earlier networks that give the pixel another class (Yang et al. 2022, ST++)."""
    ids = opinions.mean.argmax(dim=0)
    return torch.stack([(one.argmax(dim=0) != ids).float() for one in opinions.past]).mean(dim=0)


def members(opinions: Opinions) -> Tensor:
    """The mutual information of class and network: what the networks disagree about (Houlsby et al. 2011).

    It is the entropy of their mean minus the mean of their entropies, as a share of the highest entropy. A
    pixel that is ambiguous to all of them alike has 0.
    """
    each = torch.stack(list(opinions.members))
    return (_entropy(each.mean(dim=0)) - torch.stack([_entropy(one) for one in each]).mean(dim=0)).clamp_min(
        0
    )


def _entropy(probs: Tensor) -> Tensor:
    return torch.special.entr(probs).sum(dim=0) / log(max(2, len(probs)))


UNCERTAINTIES = {
    "entropy": Uncertainty(entropy),
    "margin": Uncertainty(margin),
    "past": Uncertainty(past, needs="past"),
    "members": Uncertainty(members, needs="members"),
}
TABLE = Table(UNCERTAINTIES, main="weight", function=lambda entry: entry.measure)
OPTION = "--uncertainty"
ABSENT = {
    "past": "the run keeps no earlier network (snapshots, or generations before the leader)",
    "members": "the leader is a single network",
}


def chosen(given: Mapping[str, float], there: Sequence[str]) -> list[Chosen[Uncertainty]]:
    """The entries with their weights; without `given`, every entry whose needs are `there`.

    Raises ConfigError for an unknown name, a negative weight, and an entry that needs what is not there.
    """
    possible = {name: 1.0 for name, entry in UNCERTAINTIES.items() if not entry.needs or entry.needs in there}
    rows = {name: {"weight": weight} for name, weight in (given or possible).items()}
    found = TABLE.chosen(rows, OPTION)
    for one in found:
        handed(one.entry.measure, f"{OPTION} {one.name}")  # a measure receives Opinions only
        if one.entry.needs and one.entry.needs not in there:
            raise ConfigError(f"{OPTION} {one.name}: {ABSENT[one.entry.needs]}; leave it out")
    return found


@dataclass(frozen=True)
class Sums:
    """An image's uncertainties, by entry and zone. Everything is divided by the number of its pixels."""

    plain: Floats  # (M, ZONES) sums over the pixels of a zone
    weighted: Floats  # (M, ZONES) the same, each pixel weighted by the classes that it may have
    pixels: Floats  # (ZONES,)


def summed(
    opinions: Iterable[Opinions], entries: Sequence[Chosen[Uncertainty]], class_weights: Tensor
) -> Sums:
    """The sums of an image whose tiles have these `opinions`, one after the other; `class_weights` (C,)."""
    plain, weighted = np.zeros((2, len(entries), ZONES))
    pixels = np.zeros(ZONES)
    for one in opinions:
        zone = zones(one.mean.argmax(dim=0).cpu().numpy()).ravel()
        weights = torch.einsum("chw,c->hw", one.mean, class_weights.to(one.mean)).cpu().numpy().ravel()
        pixels += np.bincount(zone, minlength=ZONES)
        for number, entry in enumerate(entries):
            values = entry.entry.measure(one, **entry.settings).cpu().numpy().ravel()
            plain[number] += np.bincount(zone, values, ZONES)
            weighted[number] += np.bincount(zone, values * weights, ZONES)
    total = pixels.sum()
    return Sums(*((one / total).astype(np.float32) for one in (plain, weighted, pixels)))


def zones(ids: np.ndarray) -> np.ndarray:
    """The zone (H, W) of each pixel by its distance to the nearest boundary between classes of `ids` (H, W).

    Zone 0 contains the pixels beside a boundary. The last zone contains pixels at a distance of 8 or more.
    """
    edge = np.zeros(ids.shape, bool)
    down, right = ids[1:] != ids[:-1], ids[:, 1:] != ids[:, :-1]
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= right
    edge[:, :-1] |= right
    return np.digitize(cv2.distanceTransform((~edge).astype(np.uint8), cv2.DIST_C, 3), STEPS)


def levels(images: Sequence[Sums]) -> Floats:
    """How uncertain each image is by each entry (N, M); the mean over the images is 1, or 0 if none is.

    A pixel's uncertainty is divided by the mean uncertainty of all pixels of its zone, over all images. So an
    image does not come first because it has many boundaries, where every network is unsure. The result is a
    mean over the image's pixels, so that its size does not matter either. Pixels count more where the leader
    expects rare classes.
    """
    plain, pixels = (np.sum([getattr(one, name) for one in images], axis=0) for name in ("plain", "pixels"))
    usual = plain / np.maximum(pixels, 1e-12)  # (M, ZONES)
    scale = np.divide(1, usual, out=np.zeros_like(usual), where=usual > 0)
    found = np.stack([(one.weighted * scale).sum(axis=1) for one in images])
    return (found / np.maximum(found.mean(axis=0), 1e-12)).astype(np.float32)


def together(levels: Floats, entries: Sequence[Chosen[Uncertainty]]) -> Floats:
    """One number (N,) above 0 and at most 1 for each image: the weighted mean of its ranks by all entries.

    The most uncertain image by an entry has rank 1, the least uncertain one 1 / N, equal ones the same rank.
    Ranks make entries comparable, and no outlier outweighs the distance between images. Without entries, all
    images have 1.
    """
    if not entries:
        return np.ones(len(levels), np.float32)
    each = [np.searchsorted(np.sort(column), column, side="right") / len(column) for column in levels.T]
    return np.average(each, axis=0, weights=[one.amount for one in entries]).astype(np.float32)


def class_weights(pixels: NDArray[np.int64]) -> Tensor:
    """The weight (C,) of a pixel of each class, from the labelled pixels of each class.

    The mean weight over the labelled pixels is 1. A class without labelled pixels weighs as much as the
    rarest class with some.
    """
    weights = balanced(pixels, RARE)
    weights[pixels == 0] = weights.max()
    return torch.from_numpy(weights).float()
