"""Pages as tests read them: reports to show, their words and tags, and what a browser makes of them."""

import base64
import io
import re
import shutil
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from selftrain.report import page
from selftrain.report.details import Surroundings
from selftrain.report.embedded import Covered, Gallery, Row
from selftrain.report.labelled import LabelFacts

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))),
    None,
)


def words(html: str) -> str:
    """What a reader sees, in one line."""
    text = re.sub(r"<style>.*?</style>|<svg.*?</svg>", "", html, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", text).split())


def browser(path: Path) -> tuple[str, str]:
    """The document as headless Chromium shows it, and what the browser says."""
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-component-update",
        "--disable-sync",
    ]
    flags += [
        "--disable-background-networking",
        "--enable-logging=stderr",
        f"--user-data-dir={path.parent / 'profile'}",
    ]
    shown = subprocess.run(
        [str(CHROMIUM), *flags, "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return shown.stdout, shown.stderr


class Tags(HTMLParser):
    """Every tag with its attributes."""

    def __init__(self, html: str):
        super().__init__()
        self.all: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.all.append((tag, dict(attrs)))


CLASSES = ["road", "tree", "car"]
TRIED = {"setting": "predict.decision", "before": 0.40, "cross_fitted": 0.41, "kept": True}
HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "$x^2$ & {{ 7 * 7 }}"]


def scores(miou: float, classes: list[str]) -> dict:
    ious = {name: miou for name in classes[:-1]} | {classes[-1]: None}
    return {"miou": miou, "per_class": ious, "pixel_accuracy": 0.8, "ece": 0.05}


def with_details(row: dict) -> dict:
    """Scores of CLASSES with what a closer look finds: 20 % of the car pixels are called road."""
    # pixels, sum of confidence and right pixels: two of the bins have some
    bins = [[0.0] * 13 + two for two in ([50.0, 50.0], [35.0, 45.0], [20.0, 45.0])]
    worst = {"id": "street/01", "miou": 0.3, "class": "car", "iou": 0.1}
    confused = {"truth": "car", "predicted": "road", "share": 0.2}
    taken = {"truth": "tree", "predicted": "car", "share": 0.6}
    details = {
        "confusion": [[90, 0, 10, 0], [0, 100, 0, 0], [20, 0, 79, 1]],
        "boundary_f1": {"road": 0.71, "tree": None, "car": 0.33},
        "ece": dict.fromkeys(CLASSES, 0.15),
        "calibration": dict.fromkeys(CLASSES, bins),
        "worst": [worst | confused],
        "best": [{"id": "street/09", "miou": 0.9, "class": "tree", "iou": 0.8}],
        "worst_of_class": {"car": worst | taken},
    }
    more = {"dice": 0.61, "boundary_f1": 0.52, "miou_small": 0.11, "miou_medium": None, "miou_large": 0.72}
    return row | more | {"details": details}


def with_all(report: dict) -> dict:
    for g in report["generations"]:
        g["val"] = with_details(g["val"])
        g["train"] = {"images": 8, "miou": 0.8, "per_class": dict.fromkeys(CLASSES, 0.8)}
    report["test"] = with_details(report["test"])
    return report


ALL_AROUND = Surroundings(
    times=[
        {"stage": "gen0 training", "seconds": 60.0, "processes": 2, "memory": 2**30},
        {"stage": "test", "seconds": 20.0, "processes": 2, "memory": 2**31},
        {"stage": "gen0 training", "seconds": 30.0, "processes": 1, "memory": None},
    ],
    changed=[("train.lr", "0.001", "0.01")],
    set_aside={"raw/7": "truncated"},
)


def labels(generation: int, classes: list[str]) -> dict:
    quality = {"raw": 0.31, "tta": 0.32, "crf": 0.33, "selected": 0.51}
    return {
        "generation": generation,
        "threshold": "quantile",
        "thresholds": dict.fromkeys(classes, 0.75),
        "kept": dict.fromkeys(classes[:-1], 0.6) | {classes[-1]: None},
        "kept_share": 0.6,
        "images": 200,
        "images_kept": 180,
        "quality": {stage: scores(miou, classes) for stage, miou in quality.items()},
    }


def taken(source: str, decoder: int) -> dict:
    return {"source": source, "encoder": 240, "of_encoder": 247, "decoder": decoder, "of_decoder": 54}


def a_report(val: list[float], promoted: list[bool], best: int, classes: list[str] = CLASSES) -> dict:
    """A run whose generations have these scores on val; the best has 0.42 on test, the teacher 0.40."""
    generations = [
        {
            "generation": k,
            "model": {"arch": "unet", "encoder": "tu-resnet18", "params": 14_300_000 + 10_000_000 * k},
            "steps": 500,
            "weights": [taken("lite0.safetensors", 0) if k == 0 else taken(f"generation {k - 1}", 54)],
            "teacher": None if k == 0 else k - 1,
            "val": scores(miou, classes),
            "tuned": {"steps": [TRIED]} if k else {"note": "predict.refine: not tuned"},
            "promoted": lead,
            "exact": True,
            "seconds": 75.0,
            "labels": labels(k, classes) if k < len(val) - 1 else None,
        }
        for k, (miou, lead) in enumerate(zip(val, promoted, strict=True))
    ]
    test, teacher = scores(0.42 if best else 0.40, classes), scores(0.40, classes)
    run = {"seed": 3, "recipe": "noisy_student", "data": "shapes", "seconds": 3905.0}
    return {
        "generations": generations,
        "best": best,
        "exported": best,
        "test": test,
        "teacher_test": teacher,
        **run,
    }


def three() -> dict:
    return a_report([0.41, 0.45, 0.44], [True, True, False], best=1)


def some_metrics() -> list[dict]:
    rows = [
        {"stage": "gen0", "step": t, "loss": 100 / t, "labelled_loss": 100 / t, "lr": 1e-3}
        for t in range(10, 501, 10)
    ]
    rows += [
        {"stage": "gen1", "step": t, "loss": 1.0, "pseudo_loss": 90 / t, "accepted": 0.6}
        for t in range(10, 501, 10)
    ]
    return [
        *rows,
        {"stage": "gen0", "step": 250, "val_miou": 0.3},
        {
            "stage": "gen1",
            "step": 250,
            "val_miou": 0.3,
            "val_iou/car": 0.2,
            "train_miou": 0.6,
            "train_iou/car": 0.5,
        },
        {"stage": "gen0/val", "step": 500, "miou": 0.41, "ece": 0.05},
    ]


def some_rows(side: int = 24) -> list[Row]:
    rng = np.random.default_rng(0)
    image, ids = (
        rng.integers(0, 256, (side, side, 3), dtype=np.uint8),
        rng.integers(0, 3, (side, side), dtype=np.uint8),
    )
    return [Row("street/01", [("image", image), ("truth", ids), ("generation 0", ids)])]


def some_gallery(under: bool = False, side: int = 200) -> Gallery:
    """Two white images under masks: the upper one is all road, the lower one all tree."""
    white, road, tree = (
        np.full((side, side, *more), value, np.uint8) for more, value in (((3,), 255), ((), 0), ((), 1))
    )
    items = [
        Covered(f"raw/{k}", "mean confidence 0.400", white, road, tree if under else None) for k in range(2)
    ]
    return Gallery("Least confident", "By confidence.", items, over="label", under="before" if under else "")


def some_facts(galleries: list[Gallery] | None = None) -> LabelFacts:
    """Labels of 8 road pixels, 6 of them accepted, and 2 tree pixels; the masks have 5 of each."""
    histogram = np.zeros((3, 256), np.int64)
    histogram[0, [100, 200]], histogram[1, 255] = (2, 6), 2
    masks, floors = np.array([5, 5, 0]), np.array([150, 0, 0])
    return LabelFacts(CLASSES, histogram, masks, floors, galleries or [])


def render(
    report: dict,
    *,
    classes: list[str] = CLASSES,
    metrics: list[dict] | None = None,
    rows: list[Row] | None = None,
    **others: Any,
) -> str:
    return page.render(
        report,
        classes=classes,
        metrics=metrics or [],
        predictions=rows or [],
        pseudo_labels=rows or [],
        **others,
    )


def pictures(html: str) -> list[Image.Image]:
    sources = [attributes["src"] for tag, attributes in Tags(html).all if tag == "img"]
    return [Image.open(io.BytesIO(base64.b64decode(str(source).split(",")[1]))) for source in sources]


def branches(tree: object, path: tuple = ()) -> Iterator[tuple]:
    """The path of every value of a tree of dicts and lists."""
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in entries:
        yield (*path, key)
        yield from branches(value, (*path, key))
