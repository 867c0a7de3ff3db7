"""A crop of an image as one index map.

All geometry (zoom, crop, flips, RandAugment's rotations, shears and shifts) is one affine map, applied once.
The image is interpolated bilinearly. A map of flat source indices is interpolated to the nearest pixel.
Whatever belongs to the pixels (masks, soft labels, weights) is gathered by that map. So it moves exactly
alike, and the cost depends on the crop, not on the image.
"""

from dataclasses import dataclass

import cv2
import numpy as np

GREY = (128, 128, 128)  # fills pixels outside of the image, as in RandAugment
OUTSIDE = -1  # index of pixels outside of the image


@dataclass(frozen=True)
class View:
    """A crop: `image` (h, w, C) uint8 and, per pixel, the flat `index` (h, w) into the source or OUTSIDE."""

    image: np.ndarray
    index: np.ndarray

    def take(self, plane: np.ndarray, fill: int) -> np.ndarray:
        """The values (h, w) of a source `plane` (H, W) at each pixel of the crop; `fill` outside."""
        return np.where(self.index == OUTSIDE, plane.dtype.type(fill), plane.reshape(-1)[self.index])


def affine(
    a: float = 1, b: float = 0, tx: float = 0, c: float = 0, d: float = 1, ty: float = 0
) -> np.ndarray:
    """Homogeneous matrix (3, 3) of the map (x, y) -> (a x + b y + tx, c x + d y + ty)."""
    return np.array([[a, b, tx], [c, d, ty], [0, 0, 1]], dtype=float)


def about_centre(matrix: np.ndarray, crop: tuple[int, int]) -> np.ndarray:
    """`matrix` (3, 3) with the centre of the crop (height, width) as its origin."""
    there = np.array([[1, 0, (crop[1] - 1) / 2], [0, 1, (crop[0] - 1) / 2], [0, 0, 1]])
    return there @ matrix @ np.linalg.inv(there)


def crop_matrix(zoom: float, place: tuple[float, float]) -> np.ndarray:
    """Homogeneous map (3, 3), source pixel -> pixel of a crop at `place` (top, left) of the zoomed image."""
    # Pixel centres: x -> zoom * (x + 0.5) - 0.5 - left. Whole shifts at zoom 1 keep pixels sharp.
    top, left = (round(side) for side in place) if zoom == 1.0 else place
    return np.array([[zoom, 0, 0.5 * zoom - 0.5 - left], [0, zoom, 0.5 * zoom - 0.5 - top], [0, 0, 1]])


def source_index(size: tuple[int, int], matrix: np.ndarray, crop: tuple[int, int]) -> np.ndarray:
    """Flat indices (h, w) of the source pixels nearest to the crop's pixels, or OUTSIDE."""
    height, width = size
    inverse = np.linalg.inv(matrix)
    xs, ys = np.arange(crop[1]), np.arange(crop[0])[:, None]
    column = np.rint(inverse[0, 0] * xs + inverse[0, 1] * ys + inverse[0, 2]).astype(np.int64)  # (h, w)
    row = np.rint(inverse[1, 0] * xs + inverse[1, 1] * ys + inverse[1, 2]).astype(np.int64)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return np.where(inside, row * width + column, OUTSIDE)


def warp(image: np.ndarray, matrix: np.ndarray, crop: tuple[int, int]) -> View:
    """The crop of `image` (H, W, C) by `matrix` (3, 3), which maps source pixels to crop pixels."""
    return View(_resampled(image, matrix, crop), source_index(image.shape[:2], matrix, crop))


def _resampled(image: np.ndarray, matrix: np.ndarray, crop: tuple[int, int]) -> np.ndarray:
    """Interpolated crop (h, w, C). Channels are warped singly unless RGB: OpenCV rounds pairs differently."""
    channels = image.shape[2]
    parts = [image] if channels == 3 else [image[..., i] for i in range(channels)]
    warped = [
        cv2.warpAffine(one, matrix[:2], crop[::-1], flags=cv2.INTER_LINEAR, borderValue=GREY) for one in parts
    ]
    return warped[0] if channels == 3 else np.stack(warped, axis=-1)
