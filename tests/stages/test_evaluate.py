import numpy as np
import torch
from torchmetrics.classification import MulticlassJaccardIndex

from selftrain.stages.evaluate import Scores, iou_report

NAMES = ["a", "b", "c"]


def scores_of(probs, target):
    scores = Scores(3, torch.device("cpu"))
    scores.add(probs, target)
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


def test_miou_is_that_of_torchmetrics_over_the_whole_set():
    torch.manual_seed(0)
    probs, target = torch.rand(4, 3, 16, 16).softmax(dim=1), torch.randint(0, 3, (4, 16, 16))
    target[0, :4] = 255
    reference = MulticlassJaccardIndex(3, ignore_index=255)(probs.argmax(dim=1), target)
    assert abs(scores_of(probs, target)["miou"] - reference.item()) < 1e-6


def test_an_empty_set_has_no_scores():
    report = iou_report(np.zeros((3, 3)), NAMES)
    assert report == {"miou": None, "per_class": dict.fromkeys(NAMES), "pixel_accuracy": None, "drift": None}
