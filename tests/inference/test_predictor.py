"""How networks are asked about images."""

from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn

from selftrain.data.images import resize_image
from selftrain.inference import decide, tta, windows
from selftrain.inference.cleanup import CleanUp
from selftrain.inference.decide import argmax
from selftrain.inference.pixels import PixelScale
from selftrain.inference.predictor import Predictor, exact
from selftrain.models.build import build
from selftrain.models.fused import POSSIBLE, JoinedConvolution
from selftrain.models.outputs import Output
from selftrain.sizes import is_seen_size, seen_size

torch.set_num_threads(1)


class Red(nn.Module):
    """The logit of class 1 is the value of red, times a number; class 0 has none."""

    def __init__(self, factor=1.0):
        super().__init__()
        self.factor = factor

    def forward(self, images):
        red = self.factor * images[:, 0]
        return torch.stack([torch.zeros_like(red), red], dim=1)


class Placed(nn.Module):
    """Logits that grow to the right, wherever they are asked for."""

    def forward(self, images):
        ramp = torch.linspace(-1, 1, images.shape[3]).expand(len(images), 1, *images.shape[2:])
        return torch.cat([ramp, -ramp], dim=1)


def predictor(*networks, window=0, channels=3, **settings):
    scale = PixelScale(torch.zeros(1, channels, 1, 1), torch.ones(1, channels, 1, 1))
    return Predictor(networks, scale, windows.of(window), **settings)


def red(*values):
    """An image of one row, (1, 1, W, 3)."""
    return np.repeat(np.array([[values]], np.uint8)[..., None], 3, axis=-1)


def test_probabilities_and_labels_by_hand():
    asked = predictor(Red())
    probs = asked.probabilities(red(0, 2))
    torch.testing.assert_close(probs[0, 1, 0], torch.tensor([0.5, 1 / (1 + np.exp(-2))], dtype=torch.float32))
    labels = asked.labels(red(0, 2))
    assert labels.dtype == np.uint8 and labels.tolist() == [[[0, 1]]]


def test_several_networks_are_averaged_as_probabilities():
    first, second = predictor(Red(1.0)), predictor(Red(-3.0))
    together = predictor(Red(1.0), Red(-3.0))
    images = red(0, 1, 2)
    mean = (first.probabilities(images) + second.probabilities(images)) / 2
    torch.testing.assert_close(together.probabilities(images), mean)
    # Of red = 1: (0.731 + 0.047) / 2 is below 0.5, though the first network says class 1.
    assert first.labels(images)[0, 0, 1] == 1 and together.labels(images)[0, 0, 1] == 0


def test_views_are_averaged_and_plain_has_none():
    flips = tta.views(hflip=True, vflip=False, rotate90=False, scales=[1.0])
    viewed = predictor(Placed(), views=flips)
    images = np.zeros((1, 32, 64, 3), np.uint8)
    torch.testing.assert_close(viewed.probabilities(images), torch.full((1, 2, 32, 64), 0.5))
    assert torch.equal(viewed.plain().probabilities(images), predictor(Placed()).probabilities(images))
    assert not torch.allclose(viewed.plain().probabilities(images), viewed.probabilities(images))


def test_networks_are_put_in_eval_mode():
    network = nn.Sequential(nn.Dropout(0.9), Red()).train()
    predictor(network)
    assert not any(module.training for module in network.modules())


def test_pixel_logits_of_a_network_with_two_outputs_are_taken():
    class Both(Red):
        def forward(self, images):
            return Output(super().forward(images), images.mean(dim=(2, 3)))

    images = red(0, 1, 2)
    assert torch.equal(predictor(Both()).probabilities(images), predictor(Red()).probabilities(images))


def test_images_of_five_channels():
    network = nn.Conv2d(5, 2, 1)
    images = np.random.default_rng(0).integers(0, 256, (2, 7, 9, 5), np.uint8)
    found = predictor(network, channels=5).probabilities(images)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    torch.testing.assert_close(found, network(pixels).softmax(dim=1).detach())


def test_the_window_limits_what_a_network_sees():
    seen = []

    class Watched(Red):
        def forward(self, images):
            seen.append(tuple(images.shape[2:]))
            return super().forward(images)

    images = np.random.default_rng(0).integers(0, 3, (1, 32, 96, 3), np.uint8)
    windowed = predictor(Watched(), window=64)
    torch.testing.assert_close(windowed.probabilities(images), predictor(Red()).probabilities(images))
    assert set(seen) == {(32, 64)} and windowed.side == 64 and predictor(Red()).side == 0


def test_tiles_have_the_labels_of_the_whole():
    images = np.random.default_rng(0).integers(0, 2, (1, 40, 300, 3), np.uint8)
    assert np.array_equal(predictor(Red(), window=32).labels_in_tiles(images), images[..., 0])


def test_every_forward_pass_has_the_precision_that_is_asked_for():
    inside = []

    @contextmanager
    def noting():
        inside.append(True)
        yield
        inside.pop()

    class Noted(Red):
        def forward(self, images):
            assert inside
            return super().forward(images)

    predictor(Noted(), precision=noting).labels(red(1))
    with pytest.raises(AssertionError):
        predictor(Noted(), precision=nullcontext).labels(red(1))


def test_exact_forbids_the_tf32_that_a_gpu_would_take():
    with exact():
        assert not torch.backends.cudnn.allow_tf32 and torch.backends.cudnn.deterministic


def test_the_decision_gives_the_labels():
    asked = replace(predictor(Red()), decision=lambda probs: (probs[:, 1] > 0.9).to(torch.uint8))
    assert asked.labels(red(1, 2, 3)).tolist() == [[[0, 0, 1]]]  # 1 / (1 + exp(-x)) is 0.73, 0.88 and 0.95


@pytest.fixture(params=["no", "bf16"])
def accelerator(request):
    """accelerate keeps one precision per process, unless it is told to forget it."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield Accelerator(cpu=True, mixed_precision=request.param)
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.skipif(not POSSIBLE, reason="this torch has no oneDNN")
def test_many_images_are_labelled_by_a_fused_network_that_predicts_the_same(accelerator):
    """Also where an image is larger than the window, of which only a part is looked at beforehand."""
    network = build("unet", "tu-resnet10t", classes=3, decoder_channels=[32, 16, 16, 8])
    scale = PixelScale.of([0.5] * 3, [0.25] * 3, accelerator.device)
    asked = Predictor((network,), scale, windows.of(32), precision=accelerator.autocast)
    image = np.random.default_rng(0).integers(0, 256, (70, 45, 3), np.uint8)
    quick = asked.quickest(image)
    kinds = {
        module.weight.dtype for module in quick.networks[0].modules() if isinstance(module, JoinedConvolution)
    }
    assert kinds == {torch.bfloat16 if accelerator.mixed_precision == "bf16" else torch.float32}
    expected, found = (one.probabilities(image[None]).numpy() for one in (asked, quick))
    np.testing.assert_allclose(found, expected, atol=0.1 if accelerator.mixed_precision == "bf16" else 1e-4)


def test_a_refiner_gets_the_image_and_the_mean_of_all_views():
    def brighter(image, probs):
        return probs * (image[..., 0] > 1)

    flips = tta.views(hflip=True, vflip=False, rotate90=False, scales=[1.0])
    asked = predictor(Red(), Red(-1.0), views=flips, refiner=brighter)
    images = red(0, 1, 2)
    mean = replace(asked, refiner=None).probabilities(images)
    torch.testing.assert_close(asked.probabilities(images), mean * torch.tensor([0.0, 0.0, 1.0]))


def test_views_may_weigh_differently():
    flips = tta.views(hflip=True, vflip=False, rotate90=False, scales=[1.0])
    images = np.zeros((1, 32, 64, 3), np.uint8)
    first, second = (
        predictor(Placed(), views=flips, view_weights=weights).probabilities(images)
        for weights in ((1.0, 0.0), (0.0, 1.0))
    )
    assert torch.equal(first, predictor(Placed()).probabilities(images)) and not torch.allclose(first, second)
    both = predictor(Placed(), views=flips, view_weights=(3.0, 1.0)).probabilities(images)
    torch.testing.assert_close(both, (3 * first + second) / 4)


def test_images_may_be_seen_at_another_size():
    class Watched(Red):
        seen = ()

        def forward(self, images):
            self.seen = tuple(images.shape[2:])
            return super().forward(images)

    network = Watched()
    asked = predictor(network, seen_size=partial(seen_size, [], ["scale", 2]))
    images = np.random.default_rng(0).integers(0, 3, (2, 32, 48, 3), np.uint8)
    found = asked.probabilities(images)
    assert network.seen == (64, 96) and found.shape == (2, 2, 32, 48)
    larger = np.stack([resize_image(image, (64, 96)) for image in images])
    back = nn.functional.interpolate(predictor(Red()).probabilities(larger), size=(32, 48), mode="bilinear")
    torch.testing.assert_close(found, back)


@pytest.mark.parametrize(
    ("data", "predicted", "size"),
    [
        ([], [], (30, 60)),
        (["longest", 20], [], (10, 20)),
        (["longest", 20], ["longest", 80], (40, 80)),
        ([20, 20], ["scale", 1.5], (30, 30)),
        ([], ["scale", 0.5], (15, 30)),
        (None, [64, 64], (64, 64)),
    ],
)
def test_the_size_at_which_a_network_sees_an_image(data, predicted, size):
    assert seen_size(data, predicted, (30, 60)) == size


@pytest.mark.parametrize(
    "setting", [["scale"], ["scale", 0], ["scale", "2"], ["scale", -1], ["scale", 1, 2], [1.5, 2]]
)
def test_what_is_no_size_is_refused(setting):
    assert not is_seen_size(setting) and is_seen_size(["scale", 0.75])


def test_a_region_that_lies_in_several_tiles_is_one():
    """A line of 300 pixels over three tiles of 128: no tile shows all of it."""
    images = np.zeros((1, 40, 300, 3), np.uint8)
    images[:, 20] = 9
    for least, rows in ((300, 1), (301, 0)):
        asked = predictor(Red(), window=32, decision=decide.cleaned(argmax, CleanUp((0, least), (0, 0))))
        assert asked.labels_in_tiles(images).sum() == 300 * rows


def test_windows_that_are_skipped_are_counted():
    images = np.zeros((1, 32, 256, 3), np.uint8)
    images[:, :, :8] = 200
    asked = predictor(Cold(), window={"sparse": {"side": 32, "overlap": 0.0}})
    assert np.array_equal(asked.labels(images), images[..., 0] > 0)
    assert (asked.tally.seen, asked.tally.skipped) == (1, 7) and replace(asked).tally is asked.tally


class Cold(nn.Module):
    """Class 0 is sure where there is no red."""

    def forward(self, images):
        return torch.stack([50 - images[:, 0], images[:, 0] - 50], dim=1)
