"""The augmentation of one image, in this order: zoom, place, geometry, RandAugment, colours, erasing.

Entries draw from the generator in this order, and only if they are active. So a new entry in a table changes
nothing for runs that do not choose it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from selftrain.data.augment import places
from selftrain.data.augment.colour import Colour
from selftrain.data.augment.erase import Erase
from selftrain.data.augment.geometry import Geometry
from selftrain.data.augment.places import Place
from selftrain.data.augment.randaugment import OFF, RandAugment, moved, recoloured
from selftrain.data.augment.view import View, crop_matrix, warp
from selftrain.tables import Chosen, bound

ANYWHERE: Chosen[Place] = Chosen("uniform", places.uniform, 1.0, {})


@dataclass(frozen=True)
class Pipeline:
    """An augmentation pipeline: crops of `crop` (height, width), zoomed by a random factor within `scale`."""

    crop: tuple[int, int]
    scale: tuple[float, float] = (1.0, 1.0)
    place: Chosen[Place] = ANYWHERE
    geometry: tuple[Chosen[Geometry], ...] = ()
    always: tuple[Chosen[Colour], ...] = ()  # colours of every image, before RandAugment's
    randaugment: RandAugment = OFF
    colours: tuple[Chosen[Colour], ...] = ()
    erase: tuple[Chosen[Erase], ...] = ()

    def view(self, image: np.ndarray, rng: np.random.Generator, mask: np.ndarray | None = None) -> View:
        """A random crop of `image` (H, W, C) uint8; `mask` (H, W) is for places that depend on it."""
        seen = self._before_noise(image, rng, mask)
        seen = View(self._noisy(seen.image, rng), seen.index)
        for erase in _active(self.erase, rng):
            seen = erase(seen, rng)
        return seen

    def views(
        self, image: np.ndarray, rng: np.random.Generator, *, strong: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Views of one random crop, (1 + strong, h, w, C) uint8, and its `index` (h, w).

        The first view has no noise. The others differ from it only by `colours`.
        """
        weak = self._before_noise(image, rng, None)
        noisy = [self._noisy_view(weak.image, rng) for _ in range(strong)]
        return np.stack([weak.image, *noisy]), weak.index

    def _before_noise(self, image: np.ndarray, rng: np.random.Generator, mask: np.ndarray | None) -> View:
        operations = self.randaugment.operations(rng)
        matrix = self._matrix(image.shape[:2], rng, mask)
        chosen = list(zip(operations, self.randaugment.strengths(rng), strict=True))
        seen = warp(image, moved(matrix, chosen, self.crop), self.crop)
        pixels = seen.image
        for colour in self.always:
            pixels = bound(colour)(pixels, rng)
        return View(recoloured(pixels, chosen), seen.index)

    def _matrix(self, size: tuple[int, ...], rng: np.random.Generator, mask: np.ndarray | None) -> np.ndarray:
        """Homogeneous map (3, 3), source pixel -> crop pixel, for an image of `size` (height, width)."""
        zoom = float(np.exp(rng.uniform(np.log(self.scale[0]), np.log(self.scale[1]))))
        place = bound(self.place)(rng, (size[0] * zoom, size[1] * zoom), self.crop, mask)
        matrix = crop_matrix(zoom, place)
        for geometry in _active(self.geometry, rng):
            matrix = geometry(rng, self.crop) @ matrix
        return matrix

    def _noisy(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        for colour in _active(self.colours, rng):
            pixels = colour(pixels, rng)
        return pixels

    def _noisy_view(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if not self.colours:
            rng.uniform()  # earlier versions drew here; later draws of their runs must stay the same
        return self._noisy(pixels, rng)


def _active(
    chosen: Sequence[Chosen[Callable[..., Any]]], rng: np.random.Generator
) -> Iterator[Callable[..., Any]]:
    """The entries that act on this image. Each is drawn after the previous one has acted."""
    for one in chosen:
        if rng.uniform() < one.amount:
            yield bound(one)
