import pytest
import torch

from selftrain.errors import ConfigError
from selftrain.inference.pixels import PixelScale

CPU = torch.device("cpu")


def test_grey_levels_become_deviations_from_the_mean():
    scale = PixelScale.of([0.0, 0.2], [1.0, 0.4], CPU)
    images = torch.tensor(
        [[[[0, 51], [255, 153]]]], dtype=torch.uint8
    )  # one row of two pixels with two channels
    found = scale.normalise(images)
    assert found.shape == (1, 2, 1, 2) and scale.channels == 2
    # 51 is the second channel's mean, 0.2 * 255; 153 lies one deviation, 0.4 * 255, above it.
    torch.testing.assert_close(found[0, :, 0], torch.tensor([[0.0, 1.0], [0.0, 1.0]]))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_scale_has_as_many_channels_as_the_images(channels):
    images = torch.full((2, 5, 7, channels), 255, dtype=torch.uint8)
    found = PixelScale.of([0.5] * channels, [0.25] * channels, CPU).normalise(images)
    torch.testing.assert_close(found, torch.full((2, channels, 5, 7), 2.0))
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_images_of_other_channels_are_refused_rather_than_broadcast():
    with pytest.raises(AssertionError, match="images of 3 channels, a scale of 1"):
        PixelScale.of([0.5], [0.25], CPU).normalise(torch.zeros(1, 2, 2, 3, dtype=torch.uint8))


def test_a_mean_and_a_deviation_for_each_channel():
    with pytest.raises(ConfigError, match=r"data\.mean has 3 channels and data\.std has 4"):
        PixelScale.of([0.5] * 3, [0.5] * 4, CPU)
