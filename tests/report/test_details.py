"""What the page shows beside scores: confusion, calibration, failures, time, settings."""

import copy
import re

import numpy as np
import pytest
from pages import (
    ALL_AROUND,
    CLASSES,
    Tags,
    a_report,
    branches,
    pictures,
    render,
    some_metrics,
    some_rows,
    three,
    with_all,
    with_details,
    words,
)

from selftrain.report import details, figures
from selftrain.report.details import Surroundings
from selftrain.report.embedded import Row


def test_further_scores_have_a_table_of_their_own() -> None:
    text = words(render(with_all(three())))
    assert "Score val, generation 0 val, generation 1 val, generation 2 test, leader test, teacher" in text
    assert "Dice 0.6100 0.6100 0.6100 0.6100 –" in text and "boundary F1 0.5200" in text
    assert "mIoU of small objects 0.1100" in text and "mIoU of medium" not in text
    assert "val dice" not in text  # not in the table of generations as well
    assert "0.75 % of the image's diagonal" in text and "COCO" in text


def test_the_confusion_matrix_has_shares_of_the_true_pixels() -> None:
    html = render(with_all(three()))
    assert "true class road tree car no class road 90 · 10 · tree · 100 · · car 20 · 79 1" in words(html)
    right = [a for tag, a in Tags(html).all if tag == "td" and a.get("class") == "right"]
    assert [a["style"] for a in right] == ["--p:90.0", "--p:100.0", "--p:79.0"]
    assert "Confusion" not in words(render(three()))


def test_of_many_classes_the_matrix_shows_those_with_most_wrong_pixels() -> None:
    names = [f"class {c}" for c in range(40)]
    counts = np.diag(np.arange(100, 140)).tolist()
    counts = [[*row, 0] for row in counts]
    counts[39][3] = 5
    grid = details.grid({"details": {"confusion": counts}}, names)
    assert (
        grid is not None and grid.left_out == 8 and len(grid.columns) == 32 and grid.rows[-1][0] == "class 39"
    )


def test_calibration_by_hand() -> None:
    text = words(render(with_all(three())))
    # 80 of 100 pixels sure, 65 of 100 right
    assert "road 0.800 0.650 +0.150 0.150 0.710" in text
    points = details.reliability(with_details({}), CLASSES)
    assert points == [details.Dot(0.7, 0.4, 0.5), details.Dot(0.9, 0.9, 0.5)]


def test_a_failure_is_a_sentence() -> None:
    row = {"id": "a", "miou": 0.3, "class": "car", "iou": 0.1}
    missed = row | {"truth": "car", "predicted": "road", "share": 0.2}
    taken = row | {"truth": "tree", "predicted": "car", "share": 0.6}
    said = [text for _, text in details.failures({"details": {"worst": [missed, taken, row]}}, "worst")]
    assert said == [
        "mIoU 0.300. Weakest: car, IoU 0.100; 20% of its pixels are predicted as road.",
        "mIoU 0.300. Weakest: car, IoU 0.100; 60% of the pixels predicted as car are tree.",
        "mIoU 0.300. Weakest: car, IoU 0.100.",
    ]
    text = words(render(with_all(three())))
    assert "car street/01 IoU 0.100; 60% of the pixels predicted as car are tree." in text


def test_worst_and_best_images_are_shown_with_their_failure() -> None:
    rows = [Row("street/01", some_rows()[0].cells, "Among the worst. It fails.")]
    html = render(three(), extremes=rows)
    assert "Worst and best val images" in html and "street/01 Among the worst. It fails." in words(html)
    assert len(pictures(html)) == 3


def test_time_settings_and_set_aside_images() -> None:
    text = words(render(three(), surroundings=ALL_AROUND))
    assert "gen0 training 1 min 30 s 81.8% 0.04 1.00 GB test 20 s 18.2% 0.01 2.00 GB all 1 min 50 s" in text
    assert "train.lr 0.001 0.01" in text and "raw/7: truncated" in text
    assert "No setting differs from the recipe" in words(
        render(three(), surroundings=Surroundings(changed=[]))
    )
    assert "No image was set aside" in words(render(three()))


def test_curves_of_training_images_are_beside_val_for_each_class() -> None:
    html = render(with_all(three()), metrics=some_metrics())
    (details_of,) = re.findall("<details>.*?</details>", html, re.DOTALL)
    assert details_of.count("Plot: car IoU, train and val.") == 1 and "Plot: road" not in details_of
    assert details_of.count(">train<") == details_of.count(">val<") == 1
    assert "Learning rate." in html


def test_any_detail_may_be_none_or_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("promotion", "curves", "stages", "beside", "reliability"):
        monkeypatch.setattr(figures, name, lambda *_, **__: None)
    whole = with_all(a_report([0.41], [True], best=0)) | {"test": None}
    every = branches(whole["generations"][0]["val"]["details"])
    for path in [path for path in every if len(path) < 4]:  # single bins have no place of their own
        for missing in (False, True):
            report = copy.deepcopy(whole)
            place: dict | list = report["generations"][0]["val"]["details"]
            for key in path[:-1]:
                place = place[key]
            if missing:
                del place[path[-1]]
            else:
                place[path[-1]] = None
            assert "None" not in words(render(report)), path
