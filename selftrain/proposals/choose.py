"""The choice of images that are uncertain and unlike one another."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.float32]
CHUNK = 4096  # images whose distances are computed at once


class Choice(NamedTuple):
    """A chosen image: its place, and its distance to labelled and chosen images; NaN if there were none."""

    place: int
    distance: float


def chosen(features: Floats, centres: Floats, uncertainty: Floats, count: int) -> list[Choice]:
    """`count` images out of `features` (N, D), each as far as possible from those before it.

    Core-set selection by k-centre greedy (Sener & Savarese 2018): the next image is the one whose distance to
    the nearest image that is labelled (`centres`, (L, D)) or already chosen is largest. Here the distance is
    multiplied by the image's `uncertainty` (N,). Without labelled images, the first one is near the mean of
    all images. Of equal images the first one is chosen. If there are fewer than `count`, all are chosen.
    """
    gain = _to_nearest(features, centres) if len(centres) else _to_mean(features)
    left, found = np.ones(len(features), bool), list[Choice]()
    for number in range(min(count, len(features))):
        place = int(np.where(left, gain * uncertainty, -1).argmax())
        first = not number and not len(centres)
        found.append(Choice(place, float("nan") if first else float(gain[place])))
        left[place] = False
        distance = np.linalg.norm(features - features[place], axis=1)
        gain = distance if first else np.minimum(gain, distance)
    return found


def _to_nearest(features: Floats, centres: Floats) -> Floats:
    """The distance (N,) of each image to the nearest centre."""
    others = torch.from_numpy(centres)
    parts = torch.from_numpy(features).split(CHUNK)
    exact = "donot_use_mm_for_euclid_dist"  # products would lose the digits of small distances
    return torch.cat([torch.cdist(part, others, compute_mode=exact).amin(dim=1) for part in parts]).numpy()


def _to_mean(features: Floats) -> Floats:
    """A number (N,) above 0, the largest for the image that is nearest to the mean of all."""
    distance = np.linalg.norm(features - features.mean(axis=0), axis=1)
    return 1 / (1e-6 + distance)
