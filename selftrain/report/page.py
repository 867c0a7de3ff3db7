"""report.html: what a run did and how far to trust it, on one self-contained page."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import jinja2

from selftrain import __version__, files
from selftrain.report import figures
from selftrain.report.embedded import Row, pictures
from selftrain.report.palette import palette
from selftrain.report.reading import Generation, Headline, difference, further, headline, number, pick
from selftrain.report.remarks import remarks

TEMPLATE = Path(__file__).with_name("page.html.j2")
STAGES = {"raw": "raw", "tta": "TTA", "crf": "CRF", "selected": "selected"}


def write(
    path: Path,
    report: dict,
    *,
    classes: list[str],
    metrics: list[dict],
    predictions: list[Row],
    pseudo_labels: list[Row],
) -> None:
    """Write report.html: one file without scripts that contains its pictures and plots.

    `report` is the run's report.json and `metrics` are the rows of metrics.jsonl. Missing values are shown as
    dashes.
    """
    page = render(
        report, classes=classes, metrics=metrics, predictions=predictions, pseudo_labels=pseudo_labels
    )
    files.write_bytes(path, page.encode())


def render(
    report: dict, *, classes: list[str], metrics: list[dict], predictions: list[Row], pseudo_labels: list[Row]
) -> str:
    """The page as text; see `write`."""
    generations = [Generation(k, row) for k, row in enumerate(report.get("generations") or [])]
    colours, top = palette(len(classes)), headline(report, generations)
    return _template().render(
        report=report,
        student=pick(report, "student"),
        version=__version__,
        generations=generations,
        headline=top,
        remarks=remarks(report, top, generations),
        legend=[(name, f"#{bytes(colours[c]).hex()}") for c, name in enumerate(classes)],
        stages=STAGES,
        further=further(generations),
        labelled=[g for g in generations if pick(g.row, "labels")],
        measured=[g for g in generations if pick(g.row, "labels", "quality")],
        plots=plots(top, generations, metrics),
        predictions=[pictures(row, colours) for row in predictions],
        pseudo_labels=[pictures(row, colours) for row in pseudo_labels],
    )


def plots(
    top: Headline, generations: Sequence[Generation], metrics: Sequence[Mapping]
) -> dict[str, str | None]:
    """SVG by name, None if there is nothing to draw."""

    def logged(name: str) -> dict[int, list[tuple[float, float]]]:
        return {g.number: _points(metrics, f"gen{g.number}", name) for g in generations}

    def quality(score: str) -> dict[int, list[float | None]]:
        return {
            g.number: [number(g.row, "labels", "quality", stage, score) for stage in STAGES]
            for g in generations
        }

    scores, promoted = ({g.number: g.miou for g in generations}, {g.number: g.promoted for g in generations})
    val, total, names = logged("val_miou"), logged("loss"), list(STAGES.values())
    for g in generations:
        steps = number(g.row, "steps")
        if steps is not None and g.miou is not None:
            val[g.number].append((steps, g.miou))
    return {
        "promotion": figures.promotion(scores, promoted, top.best) if len(generations) > 1 else None,
        "val": figures.curves(val),
        "loss": figures.curves(
            {k: points or total[k] for k, points in logged("labelled_loss").items()}, smooth=True
        ),
        "pseudo_loss": figures.curves(logged("pseudo_loss"), smooth=True),
        "accepted": figures.curves(logged("accepted"), smooth=True),
        "quality": figures.stages(quality("miou"), names),
        "quality_accuracy": figures.stages(quality("pixel_accuracy"), names),
    }


def _points(metrics: Sequence[Mapping], stage: str, name: str) -> list[tuple[float, float]]:
    """Step and value of a stage's rows that contain both."""
    pairs = [(number(row, "step"), number(row, name)) for row in metrics if row.get("stage") == stage]
    return [(step, value) for step, value in pairs if step is not None and value is not None]


@cache
def _template() -> jinja2.Template:
    """The template: all values are escaped, missing values are dashes."""
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
        "count": lambda value: _written(value, "{:,.0f}"),
        "sign": lambda value: "" if not value else "up" if value > 0 else "down",
        "parameters": parameters,
        "clock": clock,
    }
    return environment.get_template(TEMPLATE.name)


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
