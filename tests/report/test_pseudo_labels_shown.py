"""What a page shows of pseudo-labels before anyone trains on them, and its galleries with a slider."""

import re

import numpy as np
import pytest
from pages import (
    ALL_AROUND,
    Tags,
    pictures,
    render,
    some_facts,
    some_gallery,
    some_metrics,
    three,
    with_all,
    words,
)

from selftrain.report import figures
from selftrain.report.details import Surroundings
from selftrain.report.labelled import BARS, Bar
from selftrain.report.palette import palette


@pytest.fixture(autouse=True)
def without_plots(monkeypatch):
    for name in ("promotion", "curves", "stages", "beside", "reliability"):
        monkeypatch.setattr(figures, name, lambda *_, **__: None)  # they have tests of their own


def around(*galleries, failures=None):
    return Surroundings(labels={0: some_facts(list(galleries))}, failures=failures)


def test_shares_and_drift_by_hand():
    road, tree, car = some_facts().shares
    assert (road.masks, road.labels, road.accepted) == (0.5, 0.8, 0.75)
    assert (tree.masks, tree.labels, tree.accepted) == (0.5, 0.2, 0.25) and car.labels == 0
    assert np.allclose(some_facts().drift, (0.3, 0.25))
    text = words(render(three(), surroundings=around()))
    assert "30.0% for all labels, 25.0% for the accepted ones" in text
    assert "road 50.0% 80.0% +30.0% 75.0% tree 50.0% 20.0% −30.0% 25.0%" in text


def test_bars_of_a_histogram_are_divided_at_the_threshold():
    bars = some_facts().bars("road")
    assert len(bars) == BARS and bars[7] == Bar(1 / 3, 0) and bars[15] == Bar(0, 1)
    assert some_facts().bars("tree")[-1] == Bar(0, 1) and some_facts().bars("car") == []
    html = render(three(), surroundings=around())
    said = [a["aria-label"] for tag, a in Tags(html).all if tag == "svg" and "aria-label" in a]
    assert said == [
        f"Histogram of the confidence of {name}, from 0 to 1; 60.0% of the pixels are accepted"
        for name in ("road", "tree")
    ]


def test_without_masks_there_is_nothing_to_drift_from():
    facts = some_facts()
    facts.masks[:] = 0
    text = words(render(three(), surroundings=Surroundings(labels={0: facts})))
    assert "Drift" not in text and "Confidence of each class" in text


def test_every_gallery_has_a_slider_of_its_own_and_every_layer_a_text():
    html = render(three(), surroundings=around(some_gallery(), some_gallery(under=True)))
    stops = [a for tag, a in Tags(html).all if tag == "input"]
    names = dict.fromkeys(stop["name"] for stop in stops)
    assert list(names) == ["labels0-1", "labels0-2"] and {stop["type"] for stop in stops} == {"radio"}
    assert [stop["class"] for stop in stops] == [
        "p0",
        "p25",
        "p50",
        "p75",
        "p100",
        "bare",
        "p0",
        "p50",
        "p100",
    ]
    assert [stop["class"] for stop in stops if "checked" in stop] == ["p50", "p50"]
    layers = [(a["class"], a["alt"]) for tag, a in Tags(html).all if tag == "img"]
    assert layers[:2] == [("photo", "raw/0: image"), ("over", "raw/0: label")]
    assert layers[4:7] == [("photo", "raw/0: image"), ("under", "raw/0: before"), ("over", "raw/0: label")]
    assert "image left quarter with the label left half with the label" in words(html)
    assert "image before left half label, right half before label" in words(html)
    assert words(html).count("In the middle of the slider: left half label, right half before.") == 1
    photo, mask = pictures(html)[:2]
    assert photo.size == mask.size == (200, 200)
    assert np.unique(np.asarray(mask.convert("RGB")).reshape(-1, 3), axis=0).tolist() == [
        palette(3)[0].tolist()
    ]


def test_each_class_has_a_reliability_diagram_and_its_worst_image():
    html = render(with_all(three()), surroundings=around(failures=some_gallery(under=True)))
    said = [a["aria-label"] for tag, a in Tags(html).all if tag == "svg" and "aria-label" in a]
    assert said[:3] == [
        f"Reliability of {name}: 0.70 sure, 0.40 right; 0.90 sure, 0.90 right"
        for name in ("road", "tree", "car")
    ]
    section = re.search('aria-labelledby="class-failures".*?</section>', html, re.DOTALL)
    assert section and "worst-of-class" in section[0] and "raw/1" in section[0]


def test_the_page_of_a_run_that_goes_on_says_so_and_reloads_itself():
    report = with_all(three())
    del report["test"], report["teacher_test"], report["exported"]
    report["generations"][2] = {"unfinished": True, "online": ""}
    running = Surroundings(running="Written at 12:00.")
    html = render(
        report, metrics=[*some_metrics(), {"stage": "gen2", "step": 10, "loss": 3.0}], surroundings=running
    )
    text = words(html)
    assert "not finished The page reloads itself every 60 seconds. Written at 12:00." in text
    assert [a["content"] for tag, a in Tags(html).all if a.get("http-equiv") == "refresh"] == ["60"]
    assert "2 student not finished" in text and "val mIoU, leader 0.4500" in text
    assert "The test set is read when the run ends" in text and "There is no test set" not in text
    assert "12:00" not in words(render(with_all(three()), surroundings=ALL_AROUND))
    first = words(render({"generations": [{"unfinished": True}], "best": None}, surroundings=running))
    assert "0 teacher not finished" in first and "Only the teacher" not in first
    assert 'http-equiv="refresh"' not in render(with_all(three()), surroundings=ALL_AROUND)
