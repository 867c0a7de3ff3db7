"""The augmentation of one image, in this order: zoom, place, geometry, policies, colours, erasing.

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
from selftrain.data.augment.policies import Policy, Strong
from selftrain.data.augment.randaugment import OFF, RandAugment, moved, recoloured
from selftrain.data.augment.view import OUTSIDE, View, crop_matrix, warp
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
    policies: tuple[Chosen[Policy], ...] = ()  # after RandAugment
    colours: tuple[Chosen[Colour], ...] = ()
    erase: tuple[Chosen[Erase], ...] = ()

    @property
    def reads_stored(self) -> bool:
        """Whether the place of a crop depends on stored pseudo-labels: its setting `stored` is on."""
        return bool(self.place.settings.get("stored"))

    def view(self, image: np.ndarray, rng: np.random.Generator, mask: np.ndarray | None = None) -> View:
        """A random crop of `image` (H, W, C) uint8; `mask` (H, W) is for places that depend on it."""
        seen, operations = self._crop(image, rng, mask)
        return self._noisy(View(recoloured(seen.image, operations), seen.index), rng)

    def views(
        self, image: np.ndarray, rng: np.random.Generator, *, strong: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Views of one random crop, (1 + strong, h, w, C) uint8, its `index` (h, w), and the erased pixels.

        The first view has no noise. The others share its geometry, and differ from it by colours and erased
        parts, (strong, h, w) bool. Each draws its own colours of policies.
        """
        weak, _ = self._crop(image, rng, None)
        noisy = [self._noisy_view(weak, rng) for _ in range(strong)]
        erased = [(one.index == OUTSIDE) & (weak.index != OUTSIDE) for one in noisy]
        return np.stack([weak.image, *(one.image for one in noisy)]), weak.index, np.stack(erased)

    def _crop(
        self, image: np.ndarray, rng: np.random.Generator, mask: np.ndarray | None
    ) -> tuple[View, list[Strong]]:
        """The crop, with the geometry of the operations that are drawn, and the operations."""
        operations, chosen = self.randaugment.operations(rng), self._of_policies(rng)
        matrix = self._matrix(image.shape[:2], rng, mask)
        chosen = [*zip(operations, self.randaugment.strengths(rng), strict=True), *chosen]
        seen = warp(image, moved(matrix, chosen, self.crop), self.crop)
        pixels = seen.image
        for colour in self.always:
            pixels = bound(colour)(pixels, rng)
        return View(pixels, seen.index), chosen

    def _of_policies(self, rng: np.random.Generator) -> list[Strong]:
        return [one for policy in _active(self.policies, rng) for one in policy(rng)]

    def _matrix(self, size: tuple[int, ...], rng: np.random.Generator, mask: np.ndarray | None) -> np.ndarray:
        """Homogeneous map (3, 3), source pixel -> crop pixel, for an image of `size` (height, width)."""
        zoom = float(np.exp(rng.uniform(np.log(self.scale[0]), np.log(self.scale[1]))))
        place = bound(self.place)(rng, (size[0] * zoom, size[1] * zoom), self.crop, mask)
        matrix = crop_matrix(zoom, place)
        for geometry in _active(self.geometry, rng):
            matrix = geometry(rng, self.crop) @ matrix
        return matrix

    def _noisy(self, seen: View, rng: np.random.Generator) -> View:
        pixels = seen.image
        for colour in _active(self.colours, rng):
            pixels = colour(pixels, rng)
        seen = View(pixels, seen.index)
        for erase in _active(self.erase, rng):
            seen = erase(seen, rng)
        return seen

    def _noisy_view(self, weak: View, rng: np.random.Generator) -> View:
        if not self.colours:
            rng.uniform()  # earlier versions drew here; later draws of their runs must stay the same
        return self._noisy(View(recoloured(weak.image, self._of_policies(rng)), weak.index), rng)


def _active(
    chosen: Sequence[Chosen[Callable[..., Any]]], rng: np.random.Generator
) -> Iterator[Callable[..., Any]]:
    """The entries that act on this image. Each is drawn after the previous one has acted."""
    for one in chosen:
        if rng.uniform() < one.amount:
            yield bound(one)
