"""report.html: what a run did and how far to trust it, on one self-contained page."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from selftrain import __version__
from selftrain.report import details, figures
from selftrain.report.details import Surroundings
from selftrain.report.embedded import Gallery, Row, pictures, stacks
from selftrain.report.palette import palette
from selftrain.report.reading import (
    Generation,
    Headline,
    compared,
    difference,
    further,
    headline,
    incumbents,
    number,
    pick,
)
from selftrain.report.remarks import remarks

TEMPLATE = Path(__file__).with_name("page.html.j2")
REFRESH = 60  # seconds after which the page of a run that goes on is loaded again
STAGES = {"raw": "raw", "tta": "TTA", "crf": "CRF", "selected": "selected"}


def render(
    report: dict,
    *,
    classes: list[str],
    metrics: list[dict],
    predictions: list[Row],
    pseudo_labels: list[Row],
    extremes: Sequence[Row] = (),
    surroundings: Surroundings = Surroundings(),  # noqa: B008  (never changed)
) -> str:
    """report.html as text: one page without scripts that contains its pictures and plots.

    `report` is the run's report.json and `metrics` are the rows of metrics.jsonl. `extremes` are the leader's
    worst and best val images. Missing values are shown as dashes.
    """
    generations = [Generation(k, row) for k, row in enumerate(report.get("generations") or [])]
    colours, top = palette(len(classes)), headline(report, generations)
    before = incumbents(generations)
    leads_below = {
        g.number: found[0] < 0
        for g in generations
        if g.promoted and g.number in before and (found := compared(g, before[g.number]))
    }
    leader_val = pick(generations[top.best].row, "val") if top.best is not None else None
    return template(TEMPLATE.name).render(
        report=report,
        student=pick(report, "student"),
        version=__version__,
        generations=generations,
        headline=top,
        remarks=remarks(report, top, generations, finished=not surroundings.running),
        legend=[(name, f"#{bytes(colours[c]).hex()}") for c, name in enumerate(classes)],
        stages=STAGES,
        further=further(generations),
        below=leads_below,
        score_table=details.score_table(report, generations, top),
        grid=details.grid(top.best_scores, classes),
        calibration=details.calibration(top.best_scores, classes),
        failures=details.failures_of_classes(leader_val or {}),
        costs=details.costs(surroundings.times),
        surroundings=surroundings,
        class_curves=class_curves(generations, metrics, classes),
        extremes=[pictures(row, colours) for row in extremes],
        labelled=[g for g in generations if pick(g.row, "labels")],
        measured=[g for g in generations if pick(g.row, "labels", "quality")],
        plots=plots(top, generations, metrics, classes),
        predictions=[pictures(row, colours) for row in predictions],
        pseudo_labels=[pictures(row, colours) for row in pseudo_labels],
        class_reliability=details.reliability_of_classes(top.best_scores, classes),
        failure_pictures=_shown(surroundings.failures, colours) if surroundings.failures else None,
        galleries={
            k: [_shown(one, colours) for one in facts.galleries] for k, facts in surroundings.labels.items()
        },
        refresh=REFRESH,
    )


def _shown(gallery: Gallery, colours: np.ndarray) -> dict[str, Any]:
    """A gallery as the template `wipe` takes it."""
    parts = {"title": gallery.title, "note": gallery.note, "middle": gallery.middle, "stops": gallery.stops}
    return {**parts, "stacks": stacks(gallery, colours)}


def plots(
    top: Headline, generations: Sequence[Generation], metrics: Sequence[Mapping], classes: Sequence[str]
) -> dict[str, str | None]:
    """SVG by name, None if there is nothing to draw."""

    def logged(name: str) -> dict[int, list[tuple[float, float]]]:
        return {g.number: points_of(metrics, f"gen{g.number}", name) for g in generations}

    def scored(split: str) -> dict[int, list[tuple[float, float]]]:
        return {g.number: _scored(metrics, g, split, f"{split}_miou", "miou") for g in generations}

    def quality(score: str) -> dict[int, list[float | None]]:
        return {
            g.number: [number(g.row, "labels", "quality", stage, score) for stage in STAGES]
            for g in generations
        }

    scores, promoted = ({g.number: g.miou for g in generations}, {g.number: g.promoted for g in generations})
    train, val, total, names = scored("train"), scored("val"), logged("loss"), list(STAGES.values())
    dots = {g.number: details.reliability(pick(g.row, "val") or {}, classes) for g in generations}
    sure = {k: [(dot.sure, dot.right) for dot in own] for k, own in dots.items()}
    return {
        "promotion": figures.promotion(scores, promoted, top.best) if len(generations) > 1 else None,
        "val": figures.beside(train, val) if any(train.values()) else figures.curves(val),
        "lr": figures.curves(logged("lr")),
        "reliability": figures.reliability(sure),
        "loss": figures.curves(
            {k: points or total[k] for k, points in logged("labelled_loss").items()}, smooth=True
        ),
        "pseudo_loss": figures.curves(logged("pseudo_loss"), smooth=True),
        "accepted": figures.curves(logged("accepted"), smooth=True),
        "quality": figures.stages(quality("miou"), names),
        "quality_accuracy": figures.stages(quality("pixel_accuracy"), names),
    }


def class_curves(
    generations: Sequence[Generation], metrics: Sequence[Mapping], classes: Sequence[str]
) -> list[tuple[str, str]]:
    """Class and SVG of its IoU on training images and on val; of many classes, those with the lowest IoU."""

    def lines(split: str, name: str) -> dict[int, list[tuple[float, float]]]:
        return {
            g.number: _scored(metrics, g, split, f"{split}_iou/{name}", "per_class", name)
            for g in generations
        }

    last = generations[-1].row if generations else {}
    lowest = sorted(classes, key=lambda name: number(last, "val", "per_class", name) or 0)[: details.MOST]
    logged = {key for row in metrics for key in row if "_iou/" in key}
    drawn = [name for name in classes if name in lowest and f"val_iou/{name}" in logged]
    plotted = [(name, figures.beside(lines("train", name), lines("val", name))) for name in drawn]
    return [(name, svg) for name, svg in plotted if svg]


def _scored(
    metrics: Sequence[Mapping], g: Generation, split: str, name: str, *keys: str
) -> list[tuple[float, float]]:
    """A score by step: what was logged in training, and at the end the finished network's from its report."""
    points = points_of(metrics, f"gen{g.number}", name)
    steps, last = number(g.row, "steps"), number(g.row, split, *keys)
    return points if steps is None or last is None else [*points, (steps, last)]


def points_of(metrics: Sequence[Mapping], stage: str, name: str) -> list[tuple[float, float]]:
    """Step and value of a stage's rows that contain both."""
    pairs = [(number(row, "step"), number(row, name)) for row in metrics if row.get("stage") == stage]
    return [(step, value) for step, value in pairs if step is not None and value is not None]


@cache
def template(name: str) -> jinja2.Template:
    """A template of this folder: all values are escaped, missing values are dashes."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: "–" if value is None else value,
    )
    environment.globals |= {"pick": pick, "number": number, "difference": difference}
    environment.filters |= {
        "score": lambda value: _written(value, "{:.4f}"),
        "iou": lambda value: _written(value, "{:.3f}"),
        "gain": lambda value: _written(value, "{:+.4f}"),
        "change": lambda value: _written(value, "{:+.3f}"),
        "percent": lambda value: _written(value, "{:.1%}"),
        "points": lambda value: _written(value, "{:+.1%}"),
        "count": lambda value: _written(value, "{:,.0f}"),
        "sign": lambda value: "" if not value else "up" if value > 0 else "down",
        "parameters": parameters,
        "clock": clock,
        "gigabytes": lambda value: _written(value and value / 2**30, "{:.2f} GB"),
        "hours": lambda value: _written(value, "{:.2f}"),
    }
    return environment.get_template(name)


def _written(value: float | None, form: str) -> str | None:
    return None if value is None else form.format(value).replace("-", "−")


def parameters(count: float | None) -> str | None:
    """Format a count: 14300000 -> "14.3 M"."""
    if count is None:
        return None
    return f"{count / 1e6:.1f} M" if count >= 1e5 else f"{count / 1e3:.1f} k"


def clock(seconds: float | None) -> str | None:
    """Format a duration: 3905 -> "1 h 5 min"."""
    if seconds is None:
        return None
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
