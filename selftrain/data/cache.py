"""Decoded images and masks, kept in memory."""

from collections.abc import Callable

import numpy as np

from selftrain.data.labels import Readable


class Cache:
    """Decoded arrays within a memory budget.

    Once the budget is used up, reads go to the source: access is random, so no eviction pays.
    """

    def __init__(self, megabytes: float):
        self.left = megabytes * 2**20
        self.arrays: dict[tuple[str, str], np.ndarray] = {}

    def image(self, sample: Readable) -> np.ndarray:
        return self._get((sample.id, "image"), sample.read_image)

    def mask(self, sample: Readable) -> np.ndarray:
        """The mask of a sample that has one."""
        return self._get((sample.id, "mask"), sample.read_mask)  # type: ignore[arg-type]

    def _get(self, key: tuple[str, str], read: Callable[[], np.ndarray]) -> np.ndarray:
        found = self.arrays.get(key)
        if found is None:
            found = read()
            if found.nbytes <= self.left:
                self.left -= found.nbytes
                self.arrays[key] = found
        return found
