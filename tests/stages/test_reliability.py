from dataclasses import dataclass

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from selftrain.data.cache import Cache
from selftrain.stages.inference import Inference
from selftrain.stages.reliability import agreement


@dataclass
class Picture:
    id: str
    image: np.ndarray

    def read_image(self):
        return self.image

    def read_mask(self):
        return None


class Threshold(nn.Module):
    """Class 1 where red is above a value, else class 0; class 2 nowhere."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, images):
        above = (images[:, 0] > self.value).float()
        return 9 * torch.stack([1 - above, above, torch.zeros_like(above)], dim=1)


def picture(name, red):
    red = np.asarray(red, np.uint8)
    return Picture(name, np.repeat(np.tile(red, (2, 1))[..., None], 3, axis=-1))


def test_the_mean_iou_of_earlier_labels_with_the_last_ones():
    samples = [picture("easy", [0, 0, 200, 200]), picture("half", [0, 90, 90, 200]), picture("other size", [200, 200])]
    scores = agreement(
        [Threshold(50).eval(), Threshold(120).eval()], Threshold(100).eval(), samples,
        Inference(Accelerator(cpu=True), Cache(1), torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1), window=0),
        classes=3, batch=2, stage="gen0", check=lambda: None,
    )  # fmt: skip
    # Of "half" the first one calls 3 of 4 columns class 1, the last one 1 of 4: (1/3 + 1/3) / 2; the other agrees.
    assert scores == pytest.approx([1.0, (1 / 3 + 1) / 2, 1.0])
