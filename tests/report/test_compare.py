"""Runs beside one another."""

import re

import numpy as np
import pytest
from pages import CHROMIUM, browser, words

from selftrain.report.compare import Comparison, Run, difference

IMAGES = {"val": [{"id": "a", "image": "01"}], "test": [{"id": "b", "image": "02"}]}


def scores(miou, without):
    return {
        "miou": miou,
        "per_class": {"road": miou + 0.1, "car": None},
        "dice": miou,
        "miou_without": without,
    }


def a_run(place, miou, without, *, label="", images=IMAGES, settings=None):
    first, last = scores(0.3, [0.3, 0.3, 0.3]), scores(miou, without)
    reports = [
        {"steps": 100, "val": first, "promoted": True, "seconds": 40.0, "train": {"miou": 0.9}},
        {"steps": 200, "val": last, "promoted": True, "seconds": 100.0},
    ]
    metrics = [
        {"stage": "gen0", "step": 50, "val_miou": 0.2, "train_miou": 0.7, "lr": 0.1, "labelled_loss": 2.0},
        {"stage": "gen1", "step": 50, "val_miou": 0.4, "lr": 0.1, "labelled_loss": 1.0},
    ]
    report = {"test": scores(miou - 0.05, without)}
    about = {"recipe": "st", "seed": 0, **(settings or {})}
    return Run(place, label or f"run{place}", about, reports, report, metrics, images)


BASE = a_run(0, 0.5, [0.5, 0.5, 0.5])
BETTER = a_run(1, 0.6, [0.58, 0.60, 0.62], label="<b>better</b>")


def test_the_paired_difference_and_its_error():
    """A jackknife over three blocks: sqrt(2 * variance of 0.08, 0.10, 0.12)."""
    found = difference(BETTER, BASE, "val")
    assert found.value == pytest.approx(0.1)
    assert found.error == pytest.approx(np.sqrt(2 * np.var([0.08, 0.10, 0.12])))
    assert str(found) == "+0.1000 ± 0.0231" and str(difference(BASE, BASE, "val")) == ""


def test_runs_with_other_images_have_no_difference():
    other = a_run(1, 0.6, [0.6, 0.6, 0.6], images={**IMAGES, "val": [{"id": "z"}]})
    assert str(difference(other, BASE, "val")) == "other val images"
    assert str(difference(other, BASE, "test")) == "+0.1000 ± 0.0000"
    assert str(difference(a_run(1, 0.6, [0.6]), BASE, "val")) == "not comparable"


def test_steps_of_a_curve_count_on_over_the_generations():
    assert BASE.points("val_miou", "val", "miou") == [(50, 0.2), (100, 0.3), (150, 0.4), (300, 0.5)]
    assert BASE.points("train_miou", "train", "miou") == [(50, 0.7), (100, 0.9)]
    assert BASE.points("lr") == [(50, 0.1), (150, 0.1)]


def test_an_unfinished_run_of_an_older_version_is_compared(capsys):
    old = Run(1, "old", {"recipe": "st", "seed": 1}, [{"val": {"miou": 0.4}, "promoted": True}], {}, [], {})
    comparison = Comparison([BASE, old], [("train.lr", ["0.1", "0.2"])])
    comparison.print()
    printed = capsys.readouterr().out
    assert "0.4000" in printed and "train.lr" in printed and "other" in printed
    assert "train.lr 0.1 0.2" in words(comparison.page())


def test_the_page_has_scores_curves_and_settings_and_names_are_text():
    html = Comparison([BASE, BETTER], [("train.lr", ["0.1", "0.2"])]).page()
    text = words(html)
    assert "+0.1000 ± 0.0231" in text and "mIoU 0.5000 0.6000 +0.100" in text and "road 0.6000 0.7000" in text
    assert "<b>better" not in html and "&lt;b&gt;better" in html
    assert html.count("<svg aria-hidden") == 4 and html.count("Plot:") == 4
    assert "stroke-dasharray" in html and not re.search(r"https?:|<script", html)
    assert "car" not in text  # no mask has it
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_equal_settings_are_said_to_be_equal():
    assert "All settings that affect results are equal" in Comparison([BASE, BETTER], []).page()


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on the PATH")
def test_a_browser_shows_the_comparison_without_an_error(tmp_path):
    Comparison([BASE, BETTER], [("train.lr", ["0.1", "0.2"])]).write(tmp_path / "compare.html")
    dom, said = browser(tmp_path / "compare.html")
    assert "CONSOLE" not in said and dom.count("data-run=") == 2
