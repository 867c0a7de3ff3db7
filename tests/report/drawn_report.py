"""The report of a run as it could be, its page, and what a reader finds on it."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
from PIL import Image

from selftrain.report import page
from selftrain.report.embedded import Row

CLASSES = ["road", "tree", "car"]


def scores(miou: float, classes: list[str]) -> dict:
    ious = {name: miou for name in classes[:-1]} | {classes[-1]: None}
    return {"miou": miou, "per_class": ious, "pixel_accuracy": 0.8, "ece": 0.05}


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
        {"stage": "gen0/val", "step": 500, "miou": 0.41, "ece": 0.05},
    ]


def some_rows(side: int = 24) -> list[Row]:
    rng = np.random.default_rng(0)
    image, ids = (
        rng.integers(0, 256, (side, side, 3), dtype=np.uint8),
        rng.integers(0, 3, (side, side), dtype=np.uint8),
    )
    return [Row("street/01", [("image", image), ("truth", ids), ("generation 0", ids)])]


def render(
    report: dict,
    *,
    classes: list[str] = CLASSES,
    metrics: list[dict] | None = None,
    rows: list[Row] | None = None,
) -> str:
    return page.render(
        report, classes=classes, metrics=metrics or [], predictions=rows or [], pseudo_labels=rows or []
    )


def words(html: str) -> str:
    """What a reader sees, in one line."""
    text = re.sub(r"<style>.*?</style>|<svg.*?</svg>", "", html, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", text).split())


class Tags(HTMLParser):
    """Every tag with its attributes."""

    def __init__(self, html: str):
        super().__init__()
        self.all: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.all.append((tag, dict(attrs)))


def pictures(html: str) -> list[Image.Image]:
    sources = [attributes["src"] for tag, attributes in Tags(html).all if tag == "img"]
    return [Image.open(io.BytesIO(base64.b64decode(str(source).split(",")[1]))) for source in sources]
