"""What images look like: vectors (D,) float32 whose Euclidean distance tells how unlike two images are."""

from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from selftrain.anatomy import anatomy_of
from selftrain.data.images import as_rgb, resize_image
from selftrain.inference.predictor import Predictor
from selftrain.inference.windows import pad
from selftrain.models.heads import features_of
from selftrain.rng import generator

Floats = NDArray[np.float32]
SIDE = 256  # longest side in pixels at which an encoder sees an image
MOST = 256  # numbers that are kept of an image
SMALL = 64  # pixels of the square to which an image is reduced for its colours and textures
SHARES = (np.linspace(0.05, 0.95, 10) * SMALL * SMALL).astype(int)  # places of quantiles among sorted pixels
OCTAVES = 4  # scales at which texture is measured


@dataclass(frozen=True)
class Encoder:
    """The encoder of a predictor's first network: its deepest features, averaged over the image.

    They are scaled to length 1. More than MOST features are projected at random, which keeps distances within
    a few percent (Johnson & Lindenstrauss 1984), so that many images fit in memory.
    """

    predictor: Predictor
    projections: dict[int, torch.Tensor] = field(default_factory=dict)

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> Floats:
        """The features (D,) of an image (H, W, C) uint8."""
        network, scale = self.predictor.networks[0], min(1.0, SIDE / max(image.shape[:2]))
        height, width = (max(1, round(length * scale)) for length in image.shape[:2])
        pixels = pad(
            self.predictor.pixels(resize_image(image, (height, width))[None]), self.predictor.multiple
        )
        encoder = network.get_submodule(anatomy_of(network).encoder)
        with self.predictor.precision():
            deepest = features_of(encoder(pixels))[-1]
        pooled = deepest.float().flatten(2).mean(dim=2)[0]
        if len(pooled) > MOST:
            pooled = pooled @ self._projection(len(pooled)).to(pooled)
        return (pooled / pooled.norm().clamp_min(1e-12)).cpu().numpy()

    def _projection(self, width: int) -> torch.Tensor:
        if width not in self.projections:
            drawn = generator("projection", width).standard_normal((width, MOST), np.float32)
            self.projections[width] = torch.from_numpy(drawn)
        return self.projections[width]


def colours_and_textures(image: np.ndarray) -> Floats:
    """Features (D,) of an image (H, W, C) uint8 without a network.

    They are quantiles of L, a and b (CIELAB), and the mean and the spread of the differences between
    neighbouring pixels at several scales, across and down. Each is 0 to about 1.
    """
    small = cv2.resize(as_rgb(image), (SMALL, SMALL), interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB)
    colours = cv2.sort(lab.reshape(-1, 3).T, cv2.SORT_EVERY_ROW)[:, SHARES].ravel() / 255
    textures = list[float]()
    grey: np.ndarray = lab[..., 0].astype(np.float32) / 255
    for _ in range(OCTAVES):
        for difference in (np.diff(grey, axis=0), np.diff(grey, axis=1)):
            textures += [np.abs(difference).mean() * 4, difference.std() * 4]
        grey = cv2.pyrDown(grey)
    return np.concatenate([colours, textures]).astype(np.float32)
