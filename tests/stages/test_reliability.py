from dataclasses import dataclass

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from selftrain.config import SelectConfig
from selftrain.data.cache import Cache
from selftrain.errors import ConfigError
from selftrain.inference import windows
from selftrain.inference.pixels import PixelScale
from selftrain.inference.predictor import Predictor
from selftrain.stages.reliability import RELIABILITIES, Reliability, Subject, agreement, chosen, measure


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


def predictor(value):
    scale = PixelScale(torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1))
    return Predictor((Threshold(value),), scale, windows.of(0))


def picture(name, red):
    red = np.asarray(red, np.uint8)
    return Picture(name, np.repeat(np.tile(red, (2, 1))[..., None], 3, axis=-1))


def test_the_mean_iou_of_earlier_labels_with_the_last_ones():
    samples = [
        picture("easy", [0, 0, 200, 200]),
        picture("half", [0, 90, 90, 200]),
        picture("other size", [200, 200]),
    ]
    scores = agreement(
        Subject(
            store=None, samples=samples, classes=3, teacher=lambda: predictor(100),
            snapshots=lambda: [predictor(50), predictor(120)],
            cache=Cache(1), accelerator=Accelerator(cpu=True), batch=2, stage="gen0", check=lambda: None,
        )
    )  # fmt: skip
    # Of "half" the first one calls 3 of 4 columns class 1, the last one 1 of 4: (1/3 + 1/3) / 2; the other agrees.
    assert scores == pytest.approx([1.0, (1 / 3 + 1) / 2, 1.0])


def subject(samples):
    return Subject(
        None,
        samples,
        3,
        teacher=None,
        snapshots=None,
        cache=None,
        accelerator=None,
        batch=2,
        stage="gen0",
        check=lambda: None,
    )


@pytest.mark.parametrize("returned", [[0.5], [0.5, np.nan]])
def test_a_measure_returns_a_finite_number_for_each_image(monkeypatch, returned):
    def mine(subject, *, factor: float = 1.0):
        return factor * np.array([0.5, 0.25])

    monkeypatch.setitem(RELIABILITIES, "mine", Reliability(mine))
    samples, rule = [picture("a", [0]), picture("b", [9])], SelectConfig(reliability={"mine": {"factor": 2}})
    assert measure(rule, subject(samples)).tolist() == [1.0, 0.5]
    monkeypatch.setitem(RELIABILITIES, "mine", Reliability(lambda subject: np.array(returned)))
    with pytest.raises(
        ConfigError, match=r"select\.reliability=mine must return a finite number for each of 2 images"
    ):
        measure(SelectConfig(reliability="mine"), subject(samples))


def test_only_the_measure_that_asks_for_snapshots_has_them_kept():
    assert [name for name in RELIABILITIES if chosen(SelectConfig(reliability=name)).entry.snapshots] == [
        "agreement"
    ]
    with pytest.raises(ConfigError, match="there is no 'hope'; there are confidence, agreement"):
        chosen(SelectConfig(reliability="hope"))
