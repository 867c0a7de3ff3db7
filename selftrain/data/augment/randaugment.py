"""RandAugment (Cubuk et al. 2020): N random operations of magnitude M for each image."""

from collections.abc import Callable
from dataclasses import dataclass

import albumentations.augmentations.pixel.functional as pixel
import cv2
import numpy as np

from selftrain.data.augment.colour import need_rgb
from selftrain.data.augment.view import about_centre, affine

MAX_MAGNITUDE = 30.0

Move = Callable[[float, tuple[int, int]], np.ndarray]
Recolour = Callable[[np.ndarray, float], np.ndarray]


@dataclass(frozen=True)
class Operation:
    """An operation of RandAugment: an affine map of the crop or a colour change, of strength in [-1, 1]."""

    name: str
    geometry: Move | None = None
    colour: Recolour | None = None


def _rotation(strength: float, crop: tuple[int, int]) -> np.ndarray:
    angle = np.deg2rad(30 * strength)
    return affine(a=np.cos(angle), b=np.sin(angle), c=-np.sin(angle), d=np.cos(angle))


def _sharpness(image: np.ndarray, strength: float) -> np.ndarray:
    blurred = cv2.filter2D(image, -1, np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13)
    return cv2.addWeighted(image, 1 + 0.9 * strength, blurred, -0.9 * strength, 0)


def _posterize(image: np.ndarray, strength: float) -> np.ndarray:
    return image & np.uint8(0xFF << round(4 * abs(strength)) & 0xFF)  # 8 to 4 bits


def _solarize(image: np.ndarray, strength: float) -> np.ndarray:
    return np.where(image >= 256 * (1 - abs(strength)), 255 - image, image)


SHIFT = 150 / 331  # largest translation as a share of the side: 150 pixels of 331 (Cubuk et al. 2020)
# The 14 operations and their ranges, from Cubuk et al. 2020, table 6, and torchvision.transforms.RandAugment.
OPERATIONS = (
    Operation("identity"),
    Operation("shear_x", geometry=lambda s, crop: affine(b=0.3 * s)),
    Operation("shear_y", geometry=lambda s, crop: affine(c=0.3 * s)),
    Operation("translate_x", geometry=lambda s, crop: affine(tx=SHIFT * s * crop[1])),
    Operation("translate_y", geometry=lambda s, crop: affine(ty=SHIFT * s * crop[0])),
    Operation("rotate", geometry=_rotation),
    Operation("brightness", colour=lambda image, s: pixel.adjust_brightness_torchvision(image, 1 + 0.9 * s)),
    Operation("colour", colour=lambda image, s: pixel.adjust_saturation_torchvision(image, 1 + 0.9 * s)),
    Operation("contrast", colour=lambda image, s: pixel.adjust_contrast_torchvision(image, 1 + 0.9 * s)),
    Operation("sharpness", colour=_sharpness),
    Operation("posterize", colour=_posterize),
    Operation("solarize", colour=_solarize),
    Operation(
        "autocontrast",
        colour=lambda image, s: pixel.auto_contrast(image, cutoff=0, ignore=None, method="cdf"),
    ),
    Operation("equalize", colour=lambda image, s: pixel.equalize(image, mode="cv")),
)


@dataclass(frozen=True)
class RandAugment:
    """`n` operations of `magnitude` (0 to MAX_MAGNITUDE) for each image.

    The geometry of the operations is composed with the crop's geometry. Their colours follow in order. So
    nothing is resampled twice. The result is close to the paper's strict sequence, but not equal to it.
    """

    n: int
    magnitude: float

    def operations(self, rng: np.random.Generator) -> list[Operation]:
        return [OPERATIONS[i] for i in rng.integers(len(OPERATIONS), size=self.n)]

    def strengths(self, rng: np.random.Generator) -> list[float]:
        """A strength in [-1, 1] for each operation: the magnitude with a random sign."""
        return [sign * self.magnitude / MAX_MAGNITUDE for sign in rng.choice([-1.0, 1.0], size=self.n)]


OFF = RandAugment(0, 0.0)


def moved(matrix: np.ndarray, chosen: list[tuple[Operation, float]], crop: tuple[int, int]) -> np.ndarray:
    """`matrix` (3, 3), followed by the geometry of the `chosen` operations at their strengths."""
    for operation, strength in chosen:
        if operation.geometry:
            matrix = about_centre(operation.geometry(strength, crop), crop) @ matrix
    return matrix


def recoloured(image: np.ndarray, chosen: list[tuple[Operation, float]]) -> np.ndarray:
    """`image` (h, w, 3), changed by the colours of the `chosen` operations at their strengths."""
    if chosen:
        need_rgb(image, "noise.rand_n or noise.policy")
    for operation, strength in chosen:
        if operation.colour:
            image = operation.colour(image, strength)
    return image
