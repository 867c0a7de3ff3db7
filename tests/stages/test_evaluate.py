import pytest
import torch
from torchmetrics.classification import MulticlassJaccardIndex

from selftrain.stages.evaluate import Scores, is_worse

NAMES = ["a", "b", "c"]


def scores_of(probs, target):
    scores = Scores(3, torch.device("cpu"))
    scores.add(probs, target, range(len(target)))
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


def test_the_miou_without_each_block_of_images():
    torch.manual_seed(0)
    probs, target = torch.rand(4, 3, 8, 8).softmax(dim=1), torch.randint(0, 3, (4, 8, 8))
    target[3] = 255  # a block of which nothing is known
    without = scores_of(probs, target)["miou_without"]
    assert without == [
        scores_of(probs[[i for i in range(4) if i != k]], target[[i for i in range(4) if i != k]])["miou"] for k in range(3)
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
    assert not is_worse(best, best) and not is_worse({"miou": None, "miou_without": []}, {"miou": None, "miou_without": []})
