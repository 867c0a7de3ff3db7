from dataclasses import dataclass

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn
from torchmetrics.classification import MulticlassJaccardIndex

from selftrain.data.cache import Cache
from selftrain.inference import decide, windows
from selftrain.inference.decide import argmax
from selftrain.inference.pixels import PixelScale
from selftrain.inference.predictor import Predictor
from selftrain.scores import is_worse
from selftrain.stages.evaluate import Scores, TagScores, evaluate

NAMES = ["a", "b", "c"]


def scores_of(probs, target):
    scores = Scores(3, torch.device("cpu"))
    scores.add(probs, argmax(probs), target, range(len(target)))
    return scores.report(NAMES)


def test_scores_by_hand():
    """Four pixels: a said a, a said b, b said b, one ignored."""
    target = torch.tensor([[[0, 0], [1, 255]]])
    label = torch.tensor([[[0, 1], [1, 2]]])
    report = scores_of(torch.nn.functional.one_hot(label, 3).permute(0, 3, 1, 2).float(), target)
    assert report["per_class"] == {"a": 0.5, "b": 0.5, "c": None}
    assert report["miou"] == 0.5
    assert abs(report["pixel_accuracy"] - 2 / 3) < 1e-9
    assert abs(report["ece"] - 1 / 3) < 1e-6  # always sure, right in two of three


def test_a_pixel_without_a_class_is_a_miss_and_has_no_confidence():
    """Six pixels of a: three are called a, one b, two have no class."""
    label = torch.tensor([[[0, 0, 0, 1, 255, 255]]], dtype=torch.uint8)
    scores = Scores(2, torch.device("cpu"))
    probs = torch.full((1, 2, 1, 6), 0.5)
    scores.add(probs, label, torch.zeros_like(label), [0])
    report = scores.report(["a", "b"])
    assert report["per_class"] == {"a": 3 / 6, "b": None} and report["pixel_accuracy"] == 3 / 6
    assert report["ece"] == pytest.approx(3 / 4 - 0.5)  # of the four pixels that have a class
    assert report["drift"] == pytest.approx(1 / 4)


def test_miou_is_that_of_torchmetrics_over_the_whole_set():
    torch.manual_seed(0)
    probs, target = torch.rand(4, 3, 16, 16).softmax(dim=1), torch.randint(0, 3, (4, 16, 16))
    target[0, :4] = 255
    reference = MulticlassJaccardIndex(3, ignore_index=255)(probs.argmax(dim=1), target)
    assert abs(scores_of(probs, target)["miou"] - reference.item()) < 1e-6


def test_the_miou_without_each_block_of_images():
    torch.manual_seed(0)
    probs, target = torch.rand(4, 3, 8, 8).softmax(dim=1), torch.randint(0, 3, (4, 8, 8))
    target[3] = 255  # a block of which nothing is known
    without = scores_of(probs, target)["miou_without"]
    assert without == [
        scores_of(probs[[i for i in range(4) if i != k]], target[[i for i in range(4) if i != k]])["miou"]
        for k in range(3)
    ]


@pytest.mark.parametrize(
    ("mine", "without", "worse"),
    [
        (0.49, [0.47, 0.51, 0.49], False),  # the difference depends on the image
        (0.49, [0.49, 0.49, 0.49], True),  # it does not
        (0.51, [0.51, 0.51, 0.51], False),
        (0.10, [0.05, 0.15, 0.10], True),
    ],
)
def test_worse_is_what_is_below_by_more_than_one_standard_error(mine, without, worse):
    best = {"miou": 0.5, "miou_without": [0.5, 0.5, 0.5]}
    assert is_worse({"miou": mine, "miou_without": without}, best) == worse
    assert not is_worse(best, best) and not is_worse(
        {"miou": None, "miou_without": []}, {"miou": None, "miou_without": []}
    )


@dataclass
class Picture:
    id: str
    red: list

    def read_image(self):
        return np.repeat(np.array([self.red], np.uint8)[..., None], 3, axis=-1)  # one row

    def read_mask(self):
        return (np.array([self.red]) > 3).astype(np.uint8)


class Red(nn.Module):
    """The logit of class 1 is the value of red."""

    def forward(self, images):
        return torch.stack([torch.zeros_like(images[:, 0]), images[:, 0]], dim=1)


@pytest.mark.parametrize(("decision", "accuracy", "low"), [("argmax", 5 / 12, 2 / 9), ("sure", 1.0, 1.0)])
def test_the_labels_of_the_decision_are_measured(monkeypatch, decision, accuracy, low):
    """In the masks, class 1 begins at a red of 4. For argmax it begins at 1, so only the two zeros are low; for `sure` at 4."""
    monkeypatch.setitem(decide.DECISIONS, "sure", lambda probs: (probs[:, 1] > 0.97).to(torch.uint8))
    scale = PixelScale(torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1))
    predictor = Predictor((Red(),), scale, windows.of(0), decision=decide.of(decision))
    samples = [Picture("a", [0, 1, 2, 3]), Picture("b", [4, 2, 3, 1, 0, 5]), Picture("c", [1, 4])]
    found = evaluate(
        [(predictor, samples)], ["low", "high"], batch=2, cache=Cache(1), accelerator=Accelerator(cpu=True)
    )
    assert found["pixel_accuracy"] == pytest.approx(accuracy) and found["per_class"]["low"] == pytest.approx(
        low
    )
    assert len(found["miou_without"]) == 3


def test_an_evaluation_with_a_name_shows_its_progress(capsys):
    scale = PixelScale(torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1))
    predictor = Predictor((Red(),), scale, windows.of(0), decision=decide.of("argmax"))
    parts = [(predictor, [Picture("a", [0, 5])]), (predictor, [Picture("b", [4, 0]), Picture("c", [1, 4])])]
    for stage in ("", "gen0 val"):
        evaluate(
            parts, ["low", "high"], batch=2, cache=Cache(1), accelerator=Accelerator(cpu=True), stage=stage
        )
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 and lines[0].startswith("gen0 val  3/3")


def test_precision_and_recall_of_image_level_classes_by_hand():
    """Three images with the classes a; a and b; b. Found from 0.5 on: a and b; a; none. Class c never occurs."""
    masks = torch.tensor([[[0, 255]], [[0, 1]], [[1, 1]]], dtype=torch.uint8)
    probs = torch.tensor([[0.9, 0.5, 0.1], [0.8, 0.4, 0.0], [0.3, 0.2, 0.0]])
    tags = TagScores(0.5, torch.zeros(3, 3, dtype=torch.float64))
    tags.add(probs[:2], masks[:2])
    tags.add(probs[2:], masks[2:])
    assert tags.report(NAMES) == {
        "threshold": 0.5,
        "precision": {"a": 1.0, "b": 0.0, "c": None},
        "recall": {"a": 1.0, "b": 0.0, "c": None},
    }
    tags.add(torch.tensor([[0.6, 0.7, 0.6]]), masks[2:])
    assert tags.report(NAMES)["precision"] == {"a": 2 / 3, "b": 0.5, "c": 0.0}
    assert tags.report(NAMES)["recall"] == {"a": 1.0, "b": 1 / 3, "c": None}
