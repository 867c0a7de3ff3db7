"""Activation maps become probabilities of pixels by the classes that an image contains."""

import pytest
import torch

from selftrain.inference import windows
from selftrain.inference.cams import Seeds, predictor_of_maps
from selftrain.inference.pixels import PixelScale
from selftrain.inference.predictor import Predictor
from selftrain.models.build import build
from selftrain.models.heads import features_of, head_of

torch.set_num_threads(1)


def test_seeds_by_hand():
    """One row of three pixels, three classes; class 0 is the background, and the image lacks class 2."""
    maps = torch.tensor([[[[9.0, 9, 9]], [[4.0, 2, 0]], [[7.0, 7, 7]]]])
    found = Seeds(0, exponent=2.0).probabilities(maps, torch.tensor([[1, 1, 0]]))[0, :, 0]
    expected = torch.tensor([[0.0, 0.25 / 0.75, 1.0], [1.0, 0.5 / 0.75, 0.0], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(found, expected)


def test_without_a_background_every_class_has_a_map_and_pixels_without_evidence_are_uniform():
    maps = torch.tensor([[[[4.0, 2, 0]], [[0.0, 2, 0]]]])
    found = Seeds(None, exponent=2.0).probabilities(maps, torch.tensor([[True, True]]))[0, :, 0]
    torch.testing.assert_close(found, torch.tensor([[1.0, 0.5 / 1.5, 0.5], [0.0, 1 / 1.5, 0.5]]))


def predictor(network, **settings):
    return Predictor(
        (network,), PixelScale.of([0.5] * 3, [0.25] * 3, torch.device("cpu")), windows.of(64), multiple=32, **settings
    )  # fmt: skip


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build("unet", "tu-test_resnet", classes=3, decoder_channels=[8] * 5, image_head=True).eval()


def test_maps_are_positive_evidence_of_the_whole_image(network):
    images = torch.randint(0, 256, (2, 80, 96, 3), dtype=torch.uint8, generator=torch.manual_seed(0)).numpy()
    asked = predictor(network, gate=0.9)
    found = predictor_of_maps(asked).probabilities(images)
    with torch.inference_mode():
        padded = windows.pad(asked.pixels(images), 32)
        maps = head_of(network).maps(features_of(network.encoder(padded)), (96, 96))[:, :, :80].relu()
        network.image_head.seen.clear()
    torch.testing.assert_close(found, maps)
    assert found.shape == (2, 3, 80, 96) and (found > 0).any() and (found == 0).any()


def test_the_tags_of_a_large_image_are_the_largest_of_its_parts(network):
    images = torch.randint(0, 256, (1, 64, 128, 3), dtype=torch.uint8, generator=torch.manual_seed(0)).numpy()
    asked = predictor(network)
    whole, parts = asked.tags(images), [asked.tags(images[:, :, start : start + 64]) for start in (0, 64)]
    torch.testing.assert_close(whole, torch.maximum(*parts))


def test_a_gate_leaves_suppressed_classes_without_probability(network):
    images = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8, generator=torch.manual_seed(0)).numpy()
    tags = predictor(network).tags(images)[0]
    gate = float(tags.sort().values[1:].mean())  # between the second and the largest
    probs = predictor(network, gate=gate).probabilities(images)[0]
    assert (probs.amax(dim=(1, 2)) > 0).tolist() == (tags >= gate).tolist() and not (tags >= gate).all()
    assert (predictor(network).probabilities(images).amax(dim=(2, 3)) > 0).all()
