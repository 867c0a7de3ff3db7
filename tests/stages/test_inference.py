"""How networks are asked about images."""

import numpy as np
from accelerate import Accelerator

from selftrain.config import DataConfig
from selftrain.models.build import build
from selftrain.models.fused import JoinedConvolution
from selftrain.stages.inference import Inference


def test_many_images_are_labelled_by_a_frozen_network_that_says_the_same():
    """Also where an image is larger than the window, of which only a part is looked at beforehand."""
    network = build("unet", "tu-resnet10t", classes=3, decoder_channels=[32, 16, 16, 8]).eval()
    inference = Inference.of(DataConfig(), 32, Accelerator(cpu=True))
    image = np.random.default_rng(0).integers(0, 256, (70, 45, 3), np.uint8)
    quick = inference.quickest(network, image)
    assert any(isinstance(module, JoinedConvolution) for module in quick.modules())
    expected, said = (inference.probabilities(one, image[None]).numpy() for one in (network, quick))
    np.testing.assert_allclose(said, expected, atol=1e-2)
