"""report.html: what a run did and how far to trust it, on one self-contained page."""

import base64
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from PIL import Image

from selftrain import __version__, files
from selftrain.ids import IGNORE
from selftrain.report import figures
from selftrain.report.palette import palette

TEMPLATE = Path(__file__).with_name("page.html.j2")
STAGES = {"raw": "raw", "tta": "TTA", "crf": "CRF", "selected": "selected"}
# Scores with their own place on the page, or their own warning.
OWN_PLACE = ("miou", "pixel_accuracy", "ece", "drift")
SIDE = 320  # pixels; larger pictures are resized to it
PIXELATED = 192  # pictures up to this side are shown without smoothing
HEAVY = 90_000  # characters; a photograph with a larger PNG is embedded as JPEG


@dataclass(frozen=True)
class Row:
    """Pictures to compare side by side.

    `cells`: caption and either an RGB picture (H, W, 3) uint8 or class ids (H, W) uint8, 255 = ignored, shown
    in class colours.
    """

    title: str
    cells: list[tuple[str, np.ndarray]]


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


def pick(tree: Any, *keys: object) -> Any:
    """tree[key][key]..., or None if a key is missing."""
    for key in keys:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree


def number(tree: object, *keys: object) -> float | None:
    """The finite number at tree[key][key]..., or None."""
    value = pick(tree, *keys)
    return value if isinstance(value, (int, float)) and math.isfinite(value) else None


def difference(new: float | None, old: float | None) -> float | None:
    return None if new is None or old is None else new - old


@dataclass(frozen=True)
class Generation:
    """One entry of report.json's generations."""

    number: int
    row: dict

    @property
    def miou(self) -> float | None:
        return number(self.row, "val", "miou")

    @property
    def promoted(self) -> bool | None:
        value = pick(self.row, "promoted")
        return value if isinstance(value, bool) else None

    @property
    def exact(self) -> bool | None:
        value = pick(self.row, "exact")
        return value if isinstance(value, bool) else None

    @property
    def role(self) -> str:
        return "student" if self.number else "teacher"

    @property
    def sources(self) -> str:
        """The data that it was trained on."""
        teacher, method = pick(self.row, "teacher"), pick(self.row, "online")
        return ", ".join(
            ["labels"]
            + ([f"unlabelled images ({method})"] if method else [])
            + ([f"generation {teacher}"] if teacher is not None else [])
        )

    @property
    def members(self) -> str | None:
        """The val scores of its networks, if there are several."""
        scores = [number(row, "val", "miou") for row in pick(self.row, "members") or []]
        known = [score for score in scores if score is not None]
        if not known:
            return None
        each = ", ".join(f"{score:.4f}" for score in known)
        honest = number(self.row, "out_of_fold", "miou")
        apart = f"; out of fold, on the labelled images: {honest:.4f}" if honest is not None else ""
        return f"generation {self.number}: {each} (mean {sum(known) / len(known):.4f}){apart}"

    @property
    def begun(self) -> str | None:
        """The source of its initial weights; None in older reports, which do not contain it."""
        rows = pick(self.row, "weights")
        if not isinstance(rows, list):
            return None
        return f"generation {self.number}: {', '.join(_taken(row) for row in rows) or 'random'}"

    @property
    def colour(self) -> str:
        return figures.colour(self.number)

    @property
    def dashes(self) -> str:
        return figures.dashes(self.number)


def _taken(row: object) -> str:
    """One source of weights, such as "247 of 247 encoder tensors from lite0.safetensors"."""
    counts = {part: (number(row, part), number(row, f"of_{part}")) for part in ("encoder", "decoder")}
    shares = [
        f"{count:.0f} of {of:.0f} {part} tensors"
        for part, (count, of) in counts.items()
        if count is not None and of is not None and (count or part == "encoder")
    ]
    return f"{' and '.join(shares) or 'some tensors'} from {pick(row, 'source') or 'a file'}"


def further(generations: Sequence[Generation]) -> list[str]:
    """Names of the numeric scores without their own place on the page, in the order of the reports."""
    scores = [
        name
        for g in generations
        for name in pick(g.row, "val") or {}
        if number(g.row, "val", name) is not None
    ]
    return [name for name in dict.fromkeys(scores) if name not in OWN_PLACE]


@dataclass(frozen=True)
class Headline:
    """Scores of the best generation and the teacher, on test, or on val if there is no test set."""

    split: str
    best: int | None
    best_scores: Mapping
    teacher_scores: Mapping

    @property
    def score(self) -> float | None:
        return number(self.best_scores, "miou")

    @property
    def teacher(self) -> float | None:
        return number(self.teacher_scores, "miou")

    @property
    def classes(self) -> Mapping:
        """IoU by class name."""
        return pick(self.best_scores, "per_class") or {}

    @property
    def teacher_classes(self) -> Mapping:
        return pick(self.teacher_scores, "per_class") or {}

    @property
    def gain(self) -> float | None:
        return difference(self.score, self.teacher)

    def change(self, name: str) -> float | None:
        return difference(number(self.classes, name), number(self.teacher_classes, name))


def headline(report: dict, generations: Sequence[Generation]) -> Headline:
    """The top of the page: the best generation against the first, on test, or on val without a test set."""
    best = pick(report, "best")
    best = best if isinstance(best, int) and 0 <= best < len(generations) else None
    if pick(report, "test"):
        split, scores, teacher = "test", pick(report, "test"), pick(report, "teacher_test")
    else:
        split = "val"
        scores = pick(generations[best].row, "val") if best is not None else None
        teacher = pick(generations[0].row, "val") if generations else None
    return Headline(split, best, scores or {}, teacher or {})


def remarks(report: dict, top: Headline, generations: Sequence[Generation]) -> list[str]:
    """Remarks that a reader needs before trusting the numbers."""
    return [
        *_about_promotion(top, generations),
        *_alarms(generations),
        *_about_scores(report, top),
        *_about_fairness(top, generations),
        *_about_exactness(generations),
    ]


def _about_promotion(top: Headline, generations: Sequence[Generation]) -> Iterable[str]:
    if len(generations) == 1:
        yield "Only the teacher was trained: there is no student to compare it with."
    if top.best == 0 and len(generations) > 1:
        yield "Every student is worse than the teacher on val: the teacher is the result of this run."
    incumbent: Generation | None = None  # the best leader so far
    for g in generations:
        if g.promoted is False and incumbent is not None:
            scores = (
                ""
                if difference(g.miou, incumbent.miou) is None
                else f" ({g.miou:.4f} against {incumbent.miou:.4f})"
            )
            yield (
                f"Generation {g.number} is worse than generation {incumbent.number} on val{scores} "
                "and was not promoted."
            )
        if incumbent is None or (g.promoted and (g.miou or 0) > (incumbent.miou or 0)):
            incumbent = g


def _alarms(generations: Sequence[Generation]) -> Iterable[str]:
    for g in generations:
        for alarm in [*(pick(g.row, "alarms") or []), *(pick(g.row, "labels", "alarms") or [])]:
            yield f"Generation {g.number}: {alarm}{'' if alarm.endswith('?') else '.'}"


def _about_scores(report: dict, top: Headline) -> Iterable[str]:
    if top.split == "val":
        yield "There is no test set. The scores at the top are optimistic: val also selected the generation."
    elif top.gain is not None and top.gain < 0:
        yield "On test, the generation selected on val is worse than the teacher."
    exported = pick(report, "exported")
    if isinstance(exported, int) and exported != top.best:
        score = number(report, "exported_test", "miou")
        its_score = f" Its test mIoU is {score:.4f}." if score is not None else ""
        yield f"The export is generation {exported}, not the best one.{its_score}"


def _about_fairness(top: Headline, generations: Sequence[Generation]) -> Iterable[str]:
    if not top.best or top.gain is None:
        return
    until = [g.row for g in generations[: top.best + 1]]
    sizes = [number(row, "model", "params") or 0 for row in until]
    steps = [number(row, "steps") or 0 for row in until]
    ratios = [
        (sizes[-1], sizes[0], "the teacher's parameters"),
        (sum(steps), steps[0], "the teacher's steps in total"),
    ]
    larger = [
        f"{mine / teachers:.2g} times {what}"
        for mine, teachers, what in ratios
        if teachers and mine != teachers
    ]
    if larger:
        yield (
            f"Generation {top.best} has {' and '.join(larger)}, "
            "so the gain does not come from the unlabelled images alone. "
            "Compare it with recipe=supervised, with the same model and the same total steps."
        )
    yield "One run is one seed: a gain smaller than the spread between seeds proves nothing."


def _about_exactness(generations: Sequence[Generation]) -> Iterable[str]:
    for g in generations:
        if g.exact is False:
            yield (
                f"Generation {g.number} is not exact: the run was resumed under different conditions "
                f"({'; '.join(pick(g.row, 'changed_conditions') or ['a different number of processes'])}), "
                "so the same command may give different bits."
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


@dataclass(frozen=True)
class Picture:
    """An <img>: `kind` is its CSS class."""

    caption: str
    source: str
    width: int
    height: int
    kind: str


def pictures(row: Row, colours: np.ndarray) -> tuple[str, list[Picture]]:
    """Title and pictures of a row. colours (256, 3) uint8."""
    return row.title, [_picture(caption, pixels, colours) for caption, pixels in row.cells]


def _picture(caption: str, pixels: np.ndarray, colours: np.ndarray) -> Picture:
    mask, small = pixels.ndim == 2, max(pixels.shape[:2]) <= PIXELATED
    image = Image.fromarray(pixels)
    image.thumbnail((SIDE, SIDE), Image.Resampling.NEAREST if mask else Image.Resampling.LANCZOS)
    if mask:
        image.putpalette(colours.tobytes())
        source = _embedded(image, "PNG", optimize=True, transparency=IGNORE)
    else:
        source = _embedded(image, "PNG", optimize=True)
        if len(source) > HEAVY:
            source = _embedded(image, "JPEG", quality=90, subsampling=0)
    kind = "mask" if mask else "photo"
    return Picture(caption, source, *image.size, f"{kind} pixelated" if small else kind)


def _embedded(image: Image.Image, kind: str, **settings: object) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


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
