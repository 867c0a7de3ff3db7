"""Clean-up of label maps: small regions are removed, and holes are filled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from selftrain.errors import ConfigError
from selftrain.ids import IGNORE

REST = "rest"  # every class that is not named
EIGHT = np.ones((3, 3), bool)  # pixels of a region may touch at their corners; pixels of a hole may not
Ids = NDArray[np.uint8]


@dataclass(frozen=True)
class CleanUp:
    """The sizes, in pixels, of regions that are removed and of holes that are filled, by class."""

    min_area: tuple[int, ...]  # (C,) smaller regions are removed; 0: none
    max_hole: tuple[int, ...]  # (C,) holes up to this size are filled; 0: none

    def cleaned(self, labels: Ids) -> Ids:
        """Class ids (H, W) uint8 without small regions, and then without small holes.

        A pixel of a removed region gets the class of the nearest pixel that stays. A hole is a part of other
        classes that one class encloses. It gets that class. If nothing would stay, regions are not removed.
        Pixels of 255 have no class, and lie in no region.
        """
        return self._filled(self._without_small(labels))

    def _without_small(self, labels: Ids) -> Ids:
        doomed = np.zeros(labels.shape, bool)
        for number, least in enumerate(self.min_area):
            if least > 1:
                doomed |= _small(labels == number, least - 1, EIGHT)
        left_out = doomed | (labels == IGNORE)
        if not doomed.any() or left_out.all():
            return labels
        nearest = ndimage.distance_transform_edt(left_out, return_distances=False, return_indices=True)
        return np.where(doomed, labels[tuple(nearest)], labels)

    def _filled(self, labels: Ids) -> Ids:
        for number, most in enumerate(self.max_hole):
            if most:
                region = labels == number
                enclosed = ndimage.binary_fill_holes(region) & ~region
                labels = np.where(_small(enclosed, most), np.uint8(number), labels)
        return labels


def of(
    min_area: Mapping[str, int], max_hole: Mapping[str, int], classes: Sequence[str], section: str
) -> CleanUp | None:
    """The clean-up for two settings of `section`, by class name; None if both are empty.

    The name `rest` stands for all classes that a setting does not name. Raises ConfigError for unknown names.
    """
    if not min_area and not max_hole:
        return None
    pair = {"min_area": min_area, "max_hole": max_hole}
    return CleanUp(*(_by_class(given, classes, f"{section}.{name}") for name, given in pair.items()))


def _by_class(given: Mapping[str, int], classes: Sequence[str], setting: str) -> tuple[int, ...]:
    unknown = next((name for name in given if name not in (*classes, REST)), None)
    if unknown is not None:
        raise ConfigError(
            f"{setting}: there is no class {unknown!r}; there are {', '.join(classes)}, "
            f"and {REST} for all others"
        )
    return tuple(int(given.get(name, given.get(REST, 0))) for name in classes)


def _small(
    where: NDArray[np.bool_], most: int, structure: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """The connected parts of `where` (H, W) with at most `most` pixels."""
    parts, _ = ndimage.label(where, structure)
    chosen = np.bincount(parts.ravel()) <= most
    chosen[0] = False  # everything outside of `where`
    return np.asarray(chosen[parts])
