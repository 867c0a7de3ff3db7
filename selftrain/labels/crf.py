"""The dense CRF. Other threads can run while it computes, except with pydensecrf, which holds the GIL."""

import ctypes
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydensecrf.densecrf import DenseCRF2D

from selftrain.config import CRFConfig
from selftrain.config.rules import DEVIATION
from selftrain.errors import ConfigError, ResourceError

FLOOR = 1e-5  # least probability: with less, one bad pixel could outweigh any neighbourhood

Planes = NDArray[np.float32]


@dataclass(frozen=True)
class CRF:
    """A dense CRF (Kraehenbuehl & Koltun 2011).

    It has two kernels: a smoothness kernel (gaussian) and an appearance kernel (bilateral).
    `sxy` and `srgb` are standard deviations in pixels and grey levels; `compat` is the weight of a kernel.
    `backend` is `lattice` (mean_field.cpp) or `pydensecrf`, the reference. The reference takes two to four
    times as long, and one label in a thousand differs (docs/performance.md).

    Raises ConfigError for an unknown backend and for deviations out of the range of the lattice.
    """

    backend: str
    iterations: int
    gaussian_sxy: float
    gaussian_compat: float
    bilateral_sxy: float
    bilateral_srgb: float
    bilateral_compat: float

    def __post_init__(self) -> None:
        for name in ("gaussian_sxy", "bilateral_sxy", "bilateral_srgb"):
            fault = DEVIATION.fault(getattr(self, name))
            if fault:
                raise ConfigError(f"labels.crf.{name}={getattr(self, name)} must {fault}")
        if self.backend not in BACKENDS:
            raise ConfigError(f"labels.crf.backend={self.backend} must be one of {', '.join(BACKENDS)}")


def crf_of(cfg: CRFConfig) -> CRF:
    """The CRF of the settings `labels.crf`."""
    return CRF(**{name: value for name, value in asdict(cfg).items() if name not in ("enabled", "workers")})


def marginals(image: NDArray[np.uint8], probs: Planes, *, crf: CRF) -> Planes:
    """A dense CRF aligns label borders with image edges; settings in `labels.crf`.

    The unaries are probs (C, H, W); the kernels are over an image (H, W, 3), or (H, W, 1), whose grey level
    counts as three equal channels. Returns the marginals (C, H, W)
    of the mean field. They are near 0 or 1 wherever neighbours agree: good as labels, over-confident as
    probabilities.

    Raises ValueError for shapes that do not match, ResourceError if memory runs out.
    """
    if image.shape[2:] == (1,):
        image = np.repeat(image, 3, axis=2)
    if probs.ndim != 3 or not probs.size or image.shape != (*probs.shape[1:], 3):
        raise ValueError(
            f"an image of shape {image.shape} does not belong to probabilities of shape {probs.shape}"
        )
    unary = np.maximum(np.ascontiguousarray(probs, np.float32), FLOOR)
    np.log(unary, out=unary)
    return BACKENDS[crf.backend](np.require(image, np.uint8, ["C", "W"]), unary, crf)


def _lattice(image: NDArray[np.uint8], unary: Planes, crf: CRF) -> Planes:
    marginals, gaussian = np.empty_like(unary), (crf.gaussian_sxy, crf.gaussian_compat)
    bilateral = (crf.bilateral_sxy, crf.bilateral_srgb, crf.bilateral_compat)
    if compiled().mean_field(unary, image, marginals, *unary.shape, crf.iterations, *gaussian, *bilateral):
        raise ResourceError(
            f"no memory for the CRF of an image of {image.shape[1]}x{image.shape[0]}; "
            "lower labels.crf.workers"
        )
    return marginals


@cache
def compiled() -> ctypes.CDLL:
    """The library that was compiled from mean_field.cpp when selftrain was installed.

    Raises ConfigError if it cannot be loaded.
    """
    try:
        library = ctypes.CDLL(str(Path(__file__).with_name("_mean_field.so")))
    except OSError as error:
        raise ConfigError(
            f"selftrain's compiled part cannot be loaded ({error}); "
            "install it again, or set labels.crf.backend=pydensecrf"
        ) from None
    floats, bytes_ = (np.ctypeslib.ndpointer(kind, flags="C_CONTIGUOUS") for kind in (np.float32, np.uint8))
    library.mean_field.argtypes = [floats, bytes_, floats, *[ctypes.c_int] * 4, *[ctypes.c_float] * 5]
    return library


def _pydensecrf(image: NDArray[np.uint8], unary: Planes, crf: CRF) -> Planes:
    classes, height, width = unary.shape
    field = DenseCRF2D(width, height, classes)
    field.setUnaryEnergy(-unary.reshape(classes, -1))
    if crf.gaussian_compat:
        field.addPairwiseGaussian(sxy=crf.gaussian_sxy, compat=crf.gaussian_compat)
    if crf.bilateral_compat:
        field.addPairwiseBilateral(
            sxy=crf.bilateral_sxy, srgb=crf.bilateral_srgb, rgbim=image, compat=crf.bilateral_compat
        )
    return np.array(field.inference(crf.iterations), np.float32).reshape(unary.shape)


BACKENDS = {"lattice": _lattice, "pydensecrf": _pydensecrf}
