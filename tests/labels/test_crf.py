from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from selftrain.errors import ConfigError
from selftrain.labels.crf import CRF, marginals

SETTINGS: dict[str, Any] = {
    "backend": "lattice",
    "iterations": 5,
    "gaussian_sxy": 3.0,
    "gaussian_compat": 3.0,
    "bilateral_sxy": 30.0,
    "bilateral_srgb": 10.0,
    "bilateral_compat": 5.0,
}


def scene(height: int = 24, width: int = 40) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Black left, white right; probabilities that know the halves, but see their border five pixels too far left."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, width // 2 :] = 255
    right = np.where(np.arange(width) < width // 2 - 5, 0.2, 0.8) * np.ones((height, 1))
    return image, np.stack([1 - right, right]).astype(np.float32)


def test_the_border_moves_to_the_edge_of_the_image() -> None:
    image, probs = scene()
    refined = marginals(image, probs, crf=CRF(**SETTINGS))
    truth = (image[..., 0] > 0).astype(int)
    assert refined.shape == probs.shape and refined.dtype == np.float32
    np.testing.assert_allclose(refined.sum(axis=0), 1, atol=1e-5)
    assert (probs.argmax(axis=0) != truth).mean() == 5 / 40
    assert (refined.argmax(axis=0) != truth).mean() == 0


def test_a_grey_image_is_refined_as_three_equal_channels() -> None:
    image, probs = scene()
    found = marginals(image[..., :1], probs, crf=CRF(**SETTINGS))
    np.testing.assert_array_equal(found, marginals(image, probs, crf=CRF(**SETTINGS)))
    with pytest.raises(ValueError, match="does not belong"):
        marginals(np.zeros((*image.shape[:2], 5), np.uint8), probs, crf=CRF(**SETTINGS))


def test_without_kernels_or_iterations_the_probabilities_stay() -> None:
    image, probs = scene()
    for off in ({"gaussian_compat": 0.0, "bilateral_compat": 0.0}, {"iterations": 0}):
        np.testing.assert_allclose(marginals(image, probs, crf=CRF(**SETTINGS | off)), probs, atol=1e-4)


def noisy(classes: int, height: int = 120, width: int = 160) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A noisy picture of regions, and noisy probabilities of what they are."""
    rng = np.random.default_rng(0)
    coarse = rng.random((classes, 6, 8), dtype=np.float32)
    truth = np.stack(
        [cv2.resize(plane, (width, height), interpolation=cv2.INTER_CUBIC) for plane in coarse]
    ).argmax(axis=0)
    image = np.clip(
        200 // classes * (1 + truth[..., None]) + rng.normal(0, 12, (height, width, 3)), 0, 255
    ).astype(np.uint8)
    logits = 2.0 * (np.arange(classes)[:, None, None] == truth) + rng.normal(0, 1.5, (classes, height, width))
    return image, (np.exp(logits) / np.exp(logits).sum(axis=0)).astype(np.float32)


@pytest.mark.parametrize("near", [(1.0, 1.0), (2.0, 3.0), (3.0, 3.0)], ids=str)
@pytest.mark.parametrize("classes", [2, 5, 11, 19])
def test_the_labels_are_those_of_pydensecrf(classes: int, near: tuple[float, float]) -> None:
    """What the kernels change, they change alike, however the classes fill the packs."""
    image, probs = noisy(classes)
    settings = SETTINGS | dict(zip(("gaussian_sxy", "gaussian_compat"), near, strict=True))
    theirs = marginals(image, probs, crf=CRF(**settings | {"backend": "pydensecrf"}))
    ours = marginals(image, probs, crf=CRF(**settings))
    assert (theirs.argmax(axis=0) != probs.argmax(axis=0)).mean() > 0.05
    assert (ours.argmax(axis=0) == theirs.argmax(axis=0)).mean() >= 0.995
    np.testing.assert_allclose(ours.sum(axis=0), 1, atol=1e-5)


@pytest.mark.parametrize("classes", [2, 5, 11, 19])
def test_the_appearance_kernel_is_that_of_pydensecrf(classes: int) -> None:
    """Alone, the same lattice: the same numbers, but for what rounding makes of pixels between two classes."""
    image, probs = noisy(classes)
    settings = SETTINGS | {"gaussian_compat": 0.0}
    theirs = marginals(image, probs, crf=CRF(**settings | {"backend": "pydensecrf"}))
    assert np.abs(theirs - probs).max() > 0.5
    difference = np.abs(marginals(image, probs, crf=CRF(**settings)) - theirs)
    assert difference.mean() < 1e-5 and difference.max() < 0.02


@pytest.mark.parametrize("classes", [5, 19])
def test_energies_too_large_for_an_exponential_are_no_trouble(classes: int) -> None:
    image, probs = noisy(classes)
    settings = SETTINGS | {"gaussian_compat": 300.0}
    ours, theirs = (
        marginals(image, probs, crf=CRF(**settings | {"backend": backend}))
        for backend in ("lattice", "pydensecrf")
    )
    np.testing.assert_allclose(ours.sum(axis=0), 1, atol=1e-5)
    assert (ours.argmax(axis=0) == theirs.argmax(axis=0)).mean() >= 0.98


@pytest.mark.parametrize("deviation", [0.5, 3.0, 8.0])
def test_the_smoothness_kernel_is_exact(deviation: float) -> None:
    """One step of mean field against the sum over all pairs of pixels."""
    image, probs = noisy(3, 20, 30)
    settings = SETTINGS | {"gaussian_sxy": deviation, "bilateral_compat": 0.0, "iterations": 1}
    places = np.stack(np.mgrid[:20, :30], axis=-1).reshape(-1, 2)
    kernel = np.exp(-0.5 * ((places[:, None] - places[None]) ** 2).sum(axis=-1) / deviation**2)
    norm = 1 / np.sqrt(kernel.sum(axis=1))
    energies = np.log(probs.reshape(3, -1)) + 3.0 * (probs.reshape(3, -1) @ (norm[:, None] * kernel * norm))
    exact = np.exp(energies) / np.exp(energies).sum(axis=0)
    np.testing.assert_allclose(marginals(image, probs, crf=CRF(**settings)).reshape(3, -1), exact, atol=2e-3)


def test_equal_input_gives_equal_bits() -> None:
    image, probs = scene()
    assert (
        marginals(image, probs, crf=CRF(**SETTINGS)) == marginals(image, probs, crf=CRF(**SETTINGS))
    ).all()


def test_any_memory_layout_will_do() -> None:
    image, probs = scene()
    expected = marginals(image, probs, crf=CRF(**SETTINGS))
    flipped = np.ascontiguousarray(image[:, ::-1])[:, ::-1]
    flipped.flags.writeable = False
    channels_last = np.ascontiguousarray(np.moveaxis(probs, 0, -1))
    assert (marginals(flipped, np.moveaxis(channels_last, -1, 0), crf=CRF(**SETTINGS)) == expected).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1)])
def test_tiny_images_are_refined(size: tuple[int, int]) -> None:
    refined = marginals(
        np.zeros((*size, 3), np.uint8), np.full((3, *size), 1 / 3, np.float32), crf=CRF(**SETTINGS)
    )
    assert refined.shape == (3, *size) and np.isfinite(refined).all()


@pytest.mark.parametrize("size", [(24, 40), (23, 40, 3), (24, 40, 4), (2, 2, 3)])
def test_an_image_of_another_shape_is_refused(size: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="does not belong"):
        marginals(np.zeros(size, np.uint8), scene()[1], crf=CRF(**SETTINGS))


@pytest.mark.parametrize("name", ["gaussian_sxy", "bilateral_sxy", "bilateral_srgb"])
@pytest.mark.parametrize("value", [0.0, -1.0, 1e-9, float("nan"), float("inf")])
def test_a_deviation_that_would_crash_is_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match="must lie between"):
        marginals(*scene(), crf=CRF(**SETTINGS | {name: value}))
