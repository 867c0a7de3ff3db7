"""The page is whole, tells what happened, survives what is missing, and shows in a browser as it should."""

import copy
import re
from pathlib import Path

import numpy as np
import pytest
from pages import (
    CHROMIUM,
    HOSTILE,
    Tags,
    a_report,
    branches,
    browser,
    pictures,
    render,
    some_metrics,
    some_rows,
    three,
    words,
)

from selftrain.report import figures
from selftrain.report.embedded import Row
from selftrain.report.palette import palette
from selftrain.report.reading import Generation, headline
from selftrain.report.remarks import remarks


def test_a_score_that_the_page_does_not_know_gets_a_column_and_rows() -> None:
    report = three()
    for g, kappa in zip(report["generations"], (0.511, 0.522, 0.533), strict=True):
        g["val"] |= {"kappa": kappa, "kappa_of_classes": {"road": 0.777}}
    report["test"]["kappa"], report["teacher_test"]["kappa"] = 0.625, 0.5
    report["generations"][0]["labels"]["quality"]["tta"]["kappa"] = 0.444
    text = words(render(report))
    assert "ECE val kappa Model" in text and all(score in text for score in ("0.511", "0.522", "0.533"))
    assert "kappa 0.500 0.625 +0.125" in text  # teacher, best and change on test
    assert "kappa – 0.444 – –" in text and "0.777" not in text  # raw, TTA, CRF and selected labels
    assert "kappa" not in words(render(three()))


def test_a_leader_below_an_earlier_generation_is_not_called_best() -> None:
    report = a_report([0.41, 0.45, 0.449], [True, True, True], best=2)
    for row, shift in zip(report["generations"], (0, 0, 0.02), strict=True):
        row["val"]["miou_without"] = [row["val"]["miou"] + shift, row["val"]["miou"], row["val"]["miou"]]
    (said,) = (line for line in remarks_of(report).splitlines() if "although" in line)
    assert said.startswith(
        "Generation 2 leads although its val score is lower than the score of generation 1 (0.4490 against 0.4500): "
        "the difference, 0.0010, is within its standard error, 0.0133."
    )
    text = words(render(report))
    assert "2 student leader lower score exported" in text
    assert "although" not in remarks_of(three())


def test_top_line_compares_the_best_with_the_teacher_on_test() -> None:
    text = words(render(three()))
    assert "test mIoU, leader 0.4200 generation 1, the last promoted on val" in text
    assert "test mIoU, teacher 0.4000" in text
    assert "gain over the teacher +0.0200" in text
    assert "noisy_student on shapes 3 generations · 1 h 5 min of training · seed 3" in text


def test_generations_table_names_outcome_scores_and_model() -> None:
    text = words(render(three()))
    assert (
        "1 student leader exported 0.4500 0.800 0.050 unet tu-resnet18 24.3 M 500 labels, generation 0 1 min 15 s"
        in text
    )
    assert "2 student not promoted 0.4400" in text


def test_a_loss_on_test_is_shown_with_its_sign_and_said() -> None:
    report = three()
    report["test"]["miou"] = 0.38
    text = words(render(report))
    assert "gain over the teacher −0.0200" in text
    assert "On test, the generation selected on val is worse than the teacher" in text


def remarks_of(report: dict) -> str:
    generations = [Generation(k, row) for k, row in enumerate(report["generations"])]
    return "\n".join(remarks(report, headline(report, generations), generations))


def test_a_student_that_was_not_promoted_is_said_to_be() -> None:
    assert "Generation 2 is worse than generation 1 on val (0.4400 against 0.4500)" in remarks_of(three())


def test_a_run_without_a_better_student_says_that_the_teacher_is_the_result() -> None:
    report = a_report([0.41, 0.40], [True, False], best=0)
    assert "Every student is worse than the teacher on val" in remarks_of(report)
    text = words(render(report))
    assert "gain over the teacher none" in text
    assert "Change" not in text


def test_a_larger_student_is_not_credited_to_pseudo_labels_alone() -> None:
    report = three()
    said = "Generation 1 has 1.7 times the teacher's parameters and 2 times the teacher's steps in total, so the gain does not"
    assert said in remarks_of(report)
    for row in report["generations"]:
        row["model"]["params"] = 5
        row["steps"] = 0 if row["generation"] else 600  # as if a student had learnt nothing
    assert "times" not in remarks_of(report)


def test_an_inexact_generation_is_marked() -> None:
    report = three()
    assert "not exact" not in render(report)
    report["generations"][1]["exact"] = False
    assert "Generation 1 is not exact" in remarks_of(report)
    assert "leader exported not exact" in words(render(report))


def test_what_a_generation_learnt_from():
    rows = [{"teacher": None}, {"teacher": 0, "online": ""}, {"teacher": None, "online": "fixmatch"}]
    assert [Generation(k, row).sources for k, row in enumerate(rows)] == [
        "labels",
        "labels, generation 0",
        "labels, unlabelled images (fixmatch)",
    ]


def test_first_weights_are_told_by_generation() -> None:
    report = a_report([0.41, 0.45], [True, True], best=1)
    told = "240 of 247 encoder tensors from lite0.safetensors; generation 1: 240 of 247 encoder tensors and 54 of 54 decoder tensors"
    assert f"Weights before training: generation 0: {told} from generation 0." in words(render(report))
    report["generations"][0]["weights"] = []
    assert "Weights before training: generation 0: random; generation 1: 240" in words(render(report))


def test_reports_from_before_first_weights_were_recorded_are_a_page() -> None:
    report = three()
    for row in report["generations"]:
        del row["weights"]
    assert "Weights before training" not in words(render(report))


def test_alarms_are_remarks():
    report = three()
    report["generations"][1]["alarms"] = ["it has lost car (0.80 to 0.20) (val IoU)"]
    assert "Generation 1: it has lost car (0.80 to 0.20) (val IoU)." in remarks_of(report)


def test_an_export_that_is_not_the_best_is_named() -> None:
    report = three() | {"exported": 2, "exported_test": {"miou": 0.39}}
    assert "The export is generation 2, not the best one. Its test mIoU is 0.3900." in remarks_of(report)


def test_without_a_test_set_val_is_shown_and_called_optimistic() -> None:
    report = three() | {"test": None, "teacher_test": None}
    assert "There is no test set" in remarks_of(report)
    assert "val mIoU, leader 0.4500" in words(render(report))


def test_one_generation_has_nothing_to_compare() -> None:
    report = a_report([0.41], [True], best=0) | {"test": None, "teacher_test": None}
    html = render(report, metrics=some_metrics())
    assert "Only the teacher was trained" in html
    assert "val mIoU by generation" not in html
    assert 'id="labels"' not in html


def test_pseudo_labels_show_thresholds_kept_shares_and_every_stage() -> None:
    text = words(render(three()))
    assert "180 of 200 images are kept; the thresholds (quantile) accept 60.0% of all pixels." in text
    assert "road 0.750 60.0% 0.310 0.320 0.330 0.510" in text
    assert "car 0.750 – – – – –" in text


def test_pseudo_labels_without_masks_say_so() -> None:
    report = three()
    report["generations"][0]["labels"]["quality"] = None
    assert "no masks to measure against" in render(report)


def test_a_class_that_is_absent_is_a_dash_and_no_bar() -> None:
    (row,) = re.findall(
        r"<tr><th[^>]*><span[^>]*></span>car</th>.*?</tr>", render(a_report([0.4], [True], best=0)), re.DOTALL
    )
    assert "–" in row and "track" not in row


def test_any_value_may_be_none_or_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("promotion", "curves", "stages", "beside", "reliability"):
        monkeypatch.setattr(figures, name, lambda *_, **__: None)  # they have a test of their own
    whole = a_report([0.41, 0.45], [True, True], best=1, classes=["road", "car"])
    for path in branches(whole):
        for missing in (False, True):
            report = copy.deepcopy(whole)
            place: dict | list = report
            for key in path[:-1]:
                place = place[key]
            if missing and isinstance(place, dict):
                del place[path[-1]]
            else:
                place[path[-1]] = None
            html = render(report, classes=["road", "car"])
            assert "None" not in words(html), path


def test_an_empty_report_is_a_page() -> None:
    assert "– on – 0 generations" in words(render({}))


def test_plots_leave_out_what_is_no_number() -> None:
    nan = float("nan")
    broken: list[dict] = [
        {"stage": "gen0", "step": 10, "loss": None},
        {"stage": "gen0", "step": None, "loss": 1.0},
        {"step": 5},
    ]
    assert "<svg" not in render(a_report([0.4], [True], best=0) | {"generations": []}, metrics=broken)
    assert figures.curves({0: [(1, nan)], 1: []}) is None
    assert figures.promotion({0: None}, {0: True}, 0) is None
    assert figures.stages({0: [None, nan]}, ["raw", "TTA"]) is None
    assert "<path" in str(figures.curves({0: [(1, nan), (2, 0.5), (3, 0.6)], 1: []}, smooth=True))
    assert "<path" in str(figures.promotion({0: 0.4, 1: None, 2: 0.5}, {0: True, 1: None, 2: False}, 0))


def test_running_mean_of_worked_numbers() -> None:
    values = np.array([0.0, 3.0, 6.0, 3.0])
    assert figures._running_mean(values, 1).tolist() == [1.5, 3.0, 4.0, 4.5]


def test_a_long_curve_is_thinned() -> None:
    short, long = (
        figures.curves({0: [(t, 1 / t) for t in range(1, n)]}, smooth=True) for n in (figures.LIMIT, 50_000)
    )
    assert len(str(long)) < 1.5 * len(str(short))


def test_plots_share_no_id_and_follow_the_page() -> None:
    html = render(three(), metrics=some_metrics())
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert html.count("<svg aria-hidden") == 9
    assert "var(--g1)" in html and not re.search("#0a0b..", html)
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', html))
    assert used <= set(ids)


def test_names_are_text_never_markup() -> None:
    report = a_report([0.41, 0.45], [True, True], best=1, classes=HOSTILE) | {
        "recipe": HOSTILE[1],
        "data": HOSTILE[0],
    }
    rows = [Row(HOSTILE[1], [(HOSTILE[0], np.zeros((4, 4), np.uint8))])]
    html = render(report, classes=HOSTILE, rows=rows)
    tags = Tags(html).all
    assert "script" not in {tag for tag, _ in tags}
    assert not any(name.startswith("on") for _, attributes in tags for name in attributes)
    assert {str(attributes["src"])[:5] for tag, attributes in tags if tag == "img"} == {"data:"}
    assert "&lt;script&gt;alert(1)" in html and "{{ 7 * 7 }}" in html


def test_the_page_needs_nothing_but_itself() -> None:
    html = render(three(), metrics=some_metrics(), rows=some_rows())
    assert not re.search(r"https?:|//[a-z]|@import|<script", re.sub(r"base64,[^\"]*", "", html))
    links = [
        value
        for _, attributes in Tags(html).all
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href")
    ]
    assert all(str(link).startswith(("data:", "#")) for link in links)
    assert "default-src 'none'" in html


def test_every_picture_has_a_text_and_every_table_its_headers() -> None:
    html = render(three(), metrics=some_metrics(), rows=some_rows())
    alts = [attributes.get("alt") for tag, attributes in Tags(html).all if tag == "img"]
    assert alts[:3] == ["street/01: image", "street/01: truth", "street/01: generation 0"] and all(alts)
    assert all(attributes.get("scope") in ("row", "col") for tag, attributes in Tags(html).all if tag == "th")


def test_masks_keep_their_colours_and_ignored_pixels_are_transparent() -> None:
    ids = np.array([[0, 1], [2, 255]], np.uint8)
    (picture, _) = pictures(render({}, rows=[Row("a", [("truth", ids)])]))
    pixels = np.asarray(picture.convert("RGBA"))
    assert (pixels[..., :3] == palette(3)[ids]).all(axis=-1)[ids < 255].all()
    assert pixels[..., 3].tolist() == [[255, 255], [255, 0]]


def test_large_pictures_are_brought_down_and_small_ones_keep_their_pixels() -> None:
    rng = np.random.default_rng(0)
    image, ids = (
        rng.integers(0, 256, (400, 800, 3), dtype=np.uint8),
        rng.integers(0, 3, (400, 800), dtype=np.uint8),
    )
    large = render({}, rows=[Row("a", [("image", image), ("truth", ids)])])
    assert [(picture.size, picture.format) for picture in pictures(large)[:2]] == [
        ((320, 160), "JPEG"),
        ((320, 160), "PNG"),
    ]
    assert set(np.unique(np.asarray(pictures(large)[1]))) <= {0, 1, 2}
    small = render({}, rows=some_rows())
    assert np.array_equal(np.asarray(pictures(small)[0]), some_rows()[0].cells[0][1])
    assert 'class="photo pixelated"' in small and 'class="photo pixelated"' not in large


def test_a_page_has_a_moderate_size() -> None:
    rng = np.random.default_rng(0)
    image, ids = rng.integers(0, 256, (360, 480, 3), dtype=np.uint8), np.zeros((360, 480), np.uint8)
    rows = [Row(f"image {k}", [("image", image), *[("mask", ids)] * 5]) for k in range(6)]
    assert 100_000 < len(render(three(), metrics=some_metrics(), rows=rows).encode()) < 3_000_000


def test_the_same_run_gives_the_same_page() -> None:
    assert render(three(), metrics=some_metrics()) == render(three(), metrics=some_metrics())


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on the PATH")
def test_a_browser_shows_the_tables_and_reports_no_error(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    report = a_report([0.41, 0.45, 0.44], [True, True, False], best=1, classes=HOSTILE)
    path.write_text(render(report, classes=HOSTILE, metrics=some_metrics(), rows=some_rows()))
    dom, said = browser(path)
    assert "CONSOLE" not in said
    tags = Tags(dom).all
    assert [attributes["data-generation"] for _, attributes in tags if "data-generation" in attributes] == [
        "0",
        "1",
        "2",
    ]
    assert sum(tag == "svg" and "viewbox" in attributes for tag, attributes in tags) == 8
    assert "script" not in {tag for tag, _ in tags}
    assert sum(tag == "img" for tag, _ in tags) == 6


def test_the_page_says_what_was_tuned_and_with_which_gain() -> None:
    said = words(render(a_report([0.41, 0.45], [True, True], best=1)))
    assert "Generation 0: predict.refine: not tuned." in said
    assert "is kept: val mIoU 0.4000 without it, 0.4100 cross-fitted." in said


def test_variants_of_the_export_have_a_table() -> None:
    one = {
        "file": "int8.onnx",
        "mb": 14.5,
        "miou": 0.48,
        "miou_lost": 0.02,
        "same_ids": 0.991,
        "images_per_second": 20.0,
    }
    compared = {"images": 50, "threads": 2, "mb": 57.4, "miou": 0.5, "images_per_second": 8.3}
    variants = {"int8": one, "fp16": {"reason": "no operator <b>"}}
    page = render({**three(), "export": {"compared": compared, "variants": variants}})
    assert "int8.onnx 14.5 0.4800 +0.0200 99.1% 20.0" in words(page)
    assert "50 val images" in page and "not made: no operator &lt;b&gt;" in page
    assert "Variants of the export" not in render(three())
