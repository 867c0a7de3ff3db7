"""Dense CRF refinement. Its backends let other threads run, but for pydensecrf, which holds the GIL."""

import ctypes
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydensecrf.densecrf import DenseCRF2D

from selftrain.errors import ConfigError, ResourceError

DEVIATIONS = (0.01, 1e4)  # pixels or grey levels; coordinates of finer lattices would overflow
FLOOR = 1e-5  # no probability is less, or one bad pixel could outweigh any neighbourhood

Planes = NDArray[np.float32]


def refine(
    image: NDArray[np.uint8],
    probs: NDArray[np.float32],
    *,
    backend: str = "lattice",
    iterations: int,
    gaussian_sxy: float,
    gaussian_compat: float,
    bilateral_sxy: float,
    bilateral_srgb: float,
    bilateral_compat: float,
) -> NDArray[np.float32]:
    """Marginals (C, H, W) of a fully connected CRF whose unaries are probs (C, H, W), for an image (H, W, 3).

    Kraehenbuehl & Koltun 2011: mean field with a smoothness kernel (positions / `gaussian_sxy`) and an appearance kernel
    (positions / `bilateral_sxy`, colours / `bilateral_srgb`), each weighted by its compat. The marginals are near 0 or 1
    wherever neighbours agree: good as labels, over-confident as probabilities.

    `backend`: `lattice` (mean_field.cpp) or `pydensecrf`, the reference, which takes two to four times as long and gives
    the same labels but for one in a thousand (docs/performance.md).
    Raises ValueError for shapes that do not belong together, ConfigError for a standard deviation that no lattice can have,
    ResourceError where memory does not suffice.
    """
    for deviation in (gaussian_sxy, bilateral_sxy, bilateral_srgb):
        if not DEVIATIONS[0] <= deviation <= DEVIATIONS[1]:
            raise ConfigError(
                f"a standard deviation of the CRF must lie between {DEVIATIONS[0]} and {DEVIATIONS[1]:.0f}, not {deviation}"
            )
    if probs.ndim != 3 or not probs.size or image.shape != (*probs.shape[1:], 3):
        raise ValueError(f"an image of shape {image.shape} does not belong to probabilities of shape {probs.shape}")
    unary = np.maximum(np.ascontiguousarray(probs, np.float32), FLOOR)
    np.log(unary, out=unary)
    kernels = (gaussian_sxy, gaussian_compat, bilateral_sxy, bilateral_srgb, bilateral_compat)
    return BACKENDS[backend](np.require(image, np.uint8, ["C", "W"]), unary, iterations, *kernels)


def _lattice(image: NDArray[np.uint8], unary: Planes, iterations: int, *kernels: float) -> Planes:
    marginals = np.empty_like(unary)
    if compiled().mean_field(unary, image, marginals, *unary.shape, iterations, *kernels):
        raise ResourceError(f"no memory for the CRF of an image of {image.shape[1]}x{image.shape[0]}; lower labels.crf.workers")
    return marginals


@cache
def compiled() -> ctypes.CDLL:
    """mean_field.cpp as it was compiled when selftrain was installed. Raises ConfigError where that cannot be loaded."""
    try:
        library = ctypes.CDLL(str(Path(__file__).with_name("_mean_field.so")))
    except OSError as error:
        raise ConfigError(
            f"selftrain's compiled part cannot be loaded ({error}); install it again, or set labels.crf.backend=pydensecrf"
        ) from None
    floats, bytes_ = (np.ctypeslib.ndpointer(kind, flags="C_CONTIGUOUS") for kind in (np.float32, np.uint8))
    library.mean_field.argtypes = [floats, bytes_, floats, *[ctypes.c_int] * 4, *[ctypes.c_float] * 5]
    return library


def _pydensecrf(image: NDArray[np.uint8], unary: Planes, iterations: int, *kernels: float) -> Planes:
    gaussian_sxy, gaussian_compat, bilateral_sxy, bilateral_srgb, bilateral_compat = kernels
    classes, height, width = unary.shape
    field = DenseCRF2D(width, height, classes)
    field.setUnaryEnergy(-unary.reshape(classes, -1))
    if gaussian_compat:
        field.addPairwiseGaussian(sxy=gaussian_sxy, compat=gaussian_compat)
    if bilateral_compat:
        field.addPairwiseBilateral(sxy=bilateral_sxy, srgb=bilateral_srgb, rgbim=image, compat=bilateral_compat)
    return np.array(field.inference(iterations), np.float32).reshape(unary.shape)


BACKENDS = {"lattice": _lattice, "pydensecrf": _pydensecrf}
