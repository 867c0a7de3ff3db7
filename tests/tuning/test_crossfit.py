"""Cross-fitting on val, with networks whose probabilities are the pixels themselves."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from selftrain.anatomy import Anatomy
from selftrain.config import PredictConfig
from selftrain.data.cache import Cache
from selftrain.inference import tta, windows
from selftrain.inference.pixels import PixelScale
from selftrain.inference.predictor import Predictor
from selftrain.labels.crf import CRF
from selftrain.models.ensemble import Ensemble
from selftrain.scores import level
from selftrain.stages.evaluate import evaluate
from selftrain.tuning import steps
from selftrain.tuning.crossfit import FOLDS, Val, tune
from selftrain.tuning.tuned import UNTUNED, Tuned

NAMES = ["ground", "disc"]
FLIPS = tta.views(hflip=True, vflip=False, rotate90=False, scales=[1.0])
SMOOTH = CRF("lattice", 5, 1.0, 1.0, 4.0, 8.0, 2.0)


class Red(nn.Module):
    """The probability of class 1 is a channel of the image, red by default, divided by 255."""

    anatomy = Anatomy(multiple=1)

    def __init__(self, channel=0):
        super().__init__()
        self.channel = channel

    def forward(self, images):
        found = (images[:, self.channel] / 255).clamp(0.001, 0.999)
        return torch.stack([1 - found, found], dim=1).log()


@dataclass
class Drawn:
    """A sample in memory."""

    id: str
    image: np.ndarray
    mask: np.ndarray

    def read_image(self):
        return self.image

    def read_mask(self):
        return self.mask


def drawn(count=20, *, start=lambda i: 0.3, seed=0):
    """Images of random red; class 1 begins at `start(i)` of red in image i. Green is noise."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 8, 8, 3), np.uint8)
    masks = [(image[..., 0] / 255 >= start(i)).astype(np.uint8) for i, image in enumerate(images)]
    return [Drawn(str(i), image, mask) for i, (image, mask) in enumerate(zip(images, masks, strict=True))]


def val_of(samples, network=None):
    scale = PixelScale(torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1))
    accelerator, cache = Accelerator(cpu=True), Cache(10)

    def score(parts):
        return evaluate(parts, NAMES, batch=4, cache=cache, accelerator=accelerator)

    predictor = Predictor((network or Red(),), scale, windows.of(0), multiple=1)
    return Val(predictor, samples, cache, accelerator, 4, score, lambda: None, "gen0")


def tuned(samples, *wanted, network=None):
    val = val_of(samples, network)
    plain = val.score([(val.predictor, samples)])
    return tune(wanted, val, plain), plain


def test_a_threshold_that_holds_in_every_fold_is_found_and_kept():
    found, plain = tuned(drawn(), steps.thresholds(20))
    assert found.tuned.thresholds[1] == pytest.approx(0.3, abs=0.02)
    assert plain["miou"] < 0.75 and found.val["miou"] > 0.95
    row = found.facts["steps"][0]
    assert row["kept"] and row["before"] == plain["miou"] and row["cross_fitted"] == found.val["miou"]
    assert found.facts["plain"]["miou"] == plain["miou"] and len(found.val["miou_without"]) == 20
    assert Tuned.of({"tuned": found.facts}) == found.tuned


def test_a_threshold_that_holds_in_no_other_fold_is_not_kept():
    """The first folds need a high threshold and the others low ones: each is scored by what the rest needs."""
    found, plain = tuned(drawn(start=lambda i: 0.9 if i < 8 else 0.35 + 0.01 * i), steps.thresholds(20))
    row = found.facts["steps"][0]
    assert row["cross_fitted"] < row["before"] and not row["kept"]
    assert found.tuned == UNTUNED and found.val is plain and found.facts["values"] == {}


def test_masks_of_a_fold_have_no_part_in_its_own_values():
    samples, step = drawn(40), steps.thresholds(40)
    other = [replace(one, mask=1 - one.mask) if i < 8 else one for i, one in enumerate(samples)]

    def fitted(images):
        val = val_of(images)
        rows = val.measured(step, UNTUNED)
        return [
            step.fit(UNTUNED, [row for row, at in zip(rows, val.folds, strict=True) if at != fold])
            for fold in range(FOLDS + 1)
        ]

    before, after = fitted(samples), fitted(other)
    assert val_of(samples).folds == [fold for fold in range(FOLDS) for _ in range(8)]
    assert before[0] == after[0] and all(one != two for one, two in zip(before[1:], after[1:], strict=True))


def test_the_crossfitted_score_is_that_of_values_fitted_on_the_other_folds():
    samples, step = drawn(start=lambda i: 0.2 + 0.01 * i), steps.thresholds(20)
    found, _ = tuned(samples, step)
    val, parts = val_of(samples), []
    for fold in range(FOLDS):
        rest = [one for one, at in zip(samples, val.folds, strict=True) if at != fold]
        values = step.fit(UNTUNED, val_of(rest).measured(step, UNTUNED))
        own = [one for one, at in zip(samples, val.folds, strict=True) if at == fold]
        parts.append((values.predictor(val.predictor), own))
    assert val.score(parts)["miou"] == found.val["miou"]


def test_weights_of_networks_come_first_and_thresholds_build_on_them():
    """The second network sees noise only, so that the mean of both is worse than the first alone."""
    network = Ensemble([Red(), Red(1)], [1.0, 1.0])
    found, plain = tuned(drawn(), steps.members(20), steps.thresholds(20), network=network)
    assert found.tuned.members[0] > 0.8 and sum(found.tuned.members) == pytest.approx(1)
    assert [row["kept"] for row in found.facts["steps"]] == [True, True]
    assert found.facts["steps"][1]["before"] == found.facts["steps"][0]["cross_fitted"] > plain["miou"]
    joined = found.tuned.network(network)
    assert joined.weights == list(found.tuned.members) and joined.members[0] is network.members[0]


class Left(Red):
    """`Red` in the left half of an image; in the right half it says ground."""

    def forward(self, images):
        known = torch.arange(images.shape[3]) < images.shape[3] / 2
        ground = torch.tensor([2.0, 0.0])[:, None, None] * ~known
        return super().forward(images) * known + ground


def test_weights_of_views_are_fitted_where_there_are_views():
    """Red means something in the left half only, which the mirrored view does not look at."""
    samples = [replace(one, mask=one.mask * (np.arange(8) < 4)) for one in drawn(start=lambda i: 0.5)]
    val = val_of(samples, Left())
    val = replace(val, predictor=replace(val.predictor, views=FLIPS))
    step, plain = steps.views(20), val.score([(val.predictor, samples)])
    found = tune([step], val, plain)
    assert found.tuned.views[0] > 0.6 and sum(found.tuned.views) == pytest.approx(1)
    asked = found.tuned.predictor(val.predictor)
    alone = [one.probabilities(samples[0].image[None]) for one in step.asked(val.predictor)]
    mean = sum(weight * probs for weight, probs in zip(found.tuned.views, alone, strict=True))
    torch.testing.assert_close(asked.probabilities(samples[0].image[None]), mean)


def test_a_crf_is_kept_where_it_removes_noise():
    """A disc in colour, and a network that sees it through noise of its own channel."""
    rng, rows = np.random.default_rng(0), []
    y, x = np.mgrid[:32, :32]
    for i in range(20):
        mask = ((y - 10 - i % 8) ** 2 + (x - 16) ** 2 < 64).astype(np.uint8)
        image = np.stack([rng.integers(40, 160, mask.shape) + 60 * mask, 200 * mask, 200 * mask], axis=-1)
        rows.append(Drawn(str(i), image.astype(np.uint8), mask))
    found, plain = tuned(rows, steps.crf(20, SMOOTH))
    assert found.tuned.crf.bilateral_srgb in (8.0, 16.0) and found.val["miou"] > plain["miou"] + 0.1


def test_a_crf_that_only_harms_is_not_among_the_values():
    found, plain = tuned(drawn(start=lambda i: 0.5), steps.crf(20, SMOOTH))  # every pixel is on its own
    assert found.tuned == UNTUNED and found.val is plain and not found.facts["steps"][0]["kept"]


def test_below_twenty_images_nothing_is_tuned():
    found, plain = tuned(drawn(19), steps.thresholds(19))
    assert found.tuned == UNTUNED and found.val is plain
    assert found.facts == {"note": "predict.decision: not tuned, since val has 19 images and tuning needs 20"}


def test_settings_ask_for_steps_in_their_order():
    several, single = val_of([], Ensemble([Red(), Red(1)], [1.0, 1.0])).predictor, val_of([]).predictor

    def names(predictor=several, **settings):
        return [
            step.name for step in steps.asked_for(PredictConfig(**settings), 20, predictor, around=SMOOTH)
        ]

    every = {"decision": "thresholds", "refine": "crf", "average": "fitted"}
    assert names() == []
    assert names(**every) == ["predict.average of networks", "predict.refine", "predict.decision"]
    assert names(single, **every) == ["predict.refine", "predict.decision"]
    assert names(replace(single, views=FLIPS), average="fitted") == ["predict.average of views"]
    assert names(decision={"thresholds": {"each": [0.4, 0.6]}}) == []  # given, not tuned


def test_several_networks_are_compared_by_their_mean_and_what_tuning_adds():
    members = [{"val": {"miou": 0.4, "miou_without": [0.3]}}, {"val": {"miou": 0.6, "miou_without": [0.5]}}]
    report = {
        "val": {"miou": 0.7, "miou_without": [0.8]},
        "members": members,
        "tuned": {"plain": {"miou": 0.65, "miou_without": [0.7]}},
    }
    assert level(report) == {"miou": pytest.approx(0.55), "miou_without": [pytest.approx(0.5)]}
