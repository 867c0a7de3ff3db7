"""report.html: what a run did and how far to trust it, on one page that needs nothing but itself."""

import base64
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
from PIL import Image

from selftrain import __version__, rundir
from selftrain.report import figures
from selftrain.report.palette import palette

TEMPLATE = Path(__file__).with_name("page.html.j2")
STAGES = {"raw": "raw", "tta": "TTA", "crf": "CRF", "selected": "selected"}
IGNORE = 255
SIDE = 320  # pixels; pictures are brought down to it
PIXELATED = 192  # pictures up to this side are shown with their pixels
HEAVY = 64_000  # bytes; a photograph whose PNG is larger travels as JPEG


@dataclass(frozen=True)
class Row:
    """Pictures to compare side by side.

    `cells`: caption and either an RGB picture (H, W, 3) uint8 or class ids (H, W) uint8, 255 = none, shown in their colours.
    """

    title: str
    cells: list[tuple[str, np.ndarray]]


def write(
    path: Path, report: dict, *, classes: list[str], metrics: list[dict], predictions: list[Row], pseudo_labels: list[Row]
) -> None:
    """Write report.html: one file without scripts, whose pictures and plots are part of it.

    `report` is the run's report.json and `metrics` are the rows of metrics.jsonl; what they lack shows as a dash.
    """
    page = render(report, classes=classes, metrics=metrics, predictions=predictions, pseudo_labels=pseudo_labels)
    rundir.write_bytes(path, page.encode())


def render(
    report: dict, *, classes: list[str], metrics: list[dict], predictions: list[Row], pseudo_labels: list[Row]
) -> str:
    """The page as text; see `write`."""
    generations = [Generation(k, row) for k, row in enumerate(report.get("generations") or [])]
    colours = palette(len(classes))
    return _environment().get_template(TEMPLATE.name).render(
        report=report,
        version=__version__,
        generations=generations,
        headline=headline(report, generations),
        remarks=remarks(report, generations),
        legend=[(name, "#" + bytes(colours[c]).hex()) for c, name in enumerate(classes)],
        classes=classes,
        stages=STAGES,
        plots=plots(report, generations, metrics),
        predictions=[pictures(row, colours) for row in predictions],
        pseudo_labels=[pictures(row, colours) for row in pseudo_labels],
    )


def pick(tree: object, *keys: object) -> object:
    """tree[key][key]..., or None where that leads nowhere."""
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
        return "teacher" if pick(self.row, "teacher") is None else "student"

    @property
    def dashes(self) -> str:
        return figures.dashes(self.number)


@dataclass(frozen=True)
class Headline:
    """The best generation against the teacher, on test, or on val where there is no test set."""

    split: str
    best: int | None
    score: float | None
    teacher: float | None
    classes: Mapping  # name -> IoU of the best
    teacher_classes: Mapping

    @property
    def gain(self) -> float | None:
        return difference(self.score, self.teacher)

    def change(self, name: str) -> float | None:
        return difference(number(self.classes, name), number(self.teacher_classes, name))


def headline(report: dict, generations: Sequence[Generation]) -> Headline:
    best = pick(report, "best")
    best = best if isinstance(best, int) and 0 <= best < len(generations) else None
    if pick(report, "test"):
        split, scores, teacher = "test", pick(report, "test"), pick(report, "teacher_test")
    else:
        split = "val"
        scores = pick(generations[best].row, "val") if best is not None else None
        teacher = pick(generations[0].row, "val") if generations else None
    ious, teacher_ious = (pick(part, "per_class") or {} for part in (scores, teacher))
    return Headline(split, best, number(scores, "miou"), number(teacher, "miou"), ious, teacher_ious)


def remarks(report: dict, generations: Sequence[Generation]) -> list[str]:
    """What a reader has to know before believing the numbers."""
    top = headline(report, generations)
    return [
        *_about_promotion(top, generations),
        *_about_scores(report, top),
        *_about_fairness(top, generations),
        *(
            f"Generation {g.number} is not exact: it was resumed under other conditions (such as another number of processes), "
            "so the same command may give other bits."
            for g in generations
            if g.exact is False
        ),
    ]


def _about_promotion(top: Headline, generations: Sequence[Generation]) -> Iterable[str]:
    if len(generations) == 1:
        yield "Only the teacher was trained: there is no student to compare it with."
    if top.best == 0 and len(generations) > 1:
        yield "No student beat the teacher on val: the teacher is the result of this run."
    incumbent: Generation | None = None
    for g in generations:
        if g.promoted is False and incumbent is not None:
            scores = f" ({g.miou:.4f} against {incumbent.miou:.4f})" if g.miou is not None and incumbent.miou is not None else ""
            yield f"Generation {g.number} did not beat generation {incumbent.number} on val{scores} and was not promoted."
        incumbent = g if g.promoted or incumbent is None else incumbent


def _about_scores(report: dict, top: Headline) -> Iterable[str]:
    if top.split == "val":
        yield "There is no test set. The scores at the top are those of val, which also chose the generation: they are optimistic."
    elif top.gain is not None and top.gain < 0:
        yield "On test the chosen generation is worse than the teacher. val chose it, and test is shown as it was read."
    exported = pick(report, "exported")
    if isinstance(exported, int) and exported != top.best:
        score = number(report, "exported_test", "miou")
        said = f" Its test mIoU is {score:.4f}." if score is not None else ""
        yield f"The export is generation {exported}, not the best one.{said}"


def _about_fairness(top: Headline, generations: Sequence[Generation]) -> Iterable[str]:
    if not top.best or top.gain is None:
        return
    ratios = {}
    for name, keys in {"parameters": ("model", "params"), "steps": ("steps",)}.items():
        mine, teachers = number(generations[top.best].row, *keys), number(generations[0].row, *keys)
        if mine and teachers and mine != teachers:
            ratios[name] = f"{mine / teachers:.2g} times the teacher's {name}"
    if ratios:
        yield (
            f"Generation {top.best} has {' and '.join(ratios.values())}, so the gain is not that of the pseudo-labels alone. "
            "recipe=supervised with its model and steps is the number to compare with."
        )
    yield "One run is one seed: a gain smaller than the spread between seeds says nothing."


def plots(report: dict, generations: Sequence[Generation], metrics: Sequence[Mapping]) -> dict[str, str | None]:
    """SVG by name, None where there is nothing to draw."""
    val = {g.number: _points(metrics, g.number, "val_miou") for g in generations}
    for g in generations:
        steps = number(g.row, "steps")
        if steps is not None and g.miou is not None:
            val[g.number].append((steps, g.miou))
    labelled, pseudo, accepted = (
        {g.number: _points(metrics, g.number, name) for g in generations} for name in ("labelled_loss", "pseudo_loss", "accepted")
    )
    quality = {
        g.number: [number(g.row, "labels", "quality", stage, "miou") for stage in STAGES] for g in generations
    }
    return {
        "promotion": figures.promotion(
            {g.number: g.miou for g in generations},
            {g.number: g.promoted for g in generations},
            headline(report, generations).best,
        )
        if len(generations) > 1
        else None,
        "val": figures.curves(val),
        "loss": figures.curves({g.number: labelled[g.number] or _points(metrics, g.number, "loss") for g in generations}, smooth=True),
        "pseudo_loss": figures.curves(pseudo, smooth=True),
        "accepted": figures.curves(accepted, smooth=True),
        "quality": figures.stages(quality, list(STAGES.values())),
    }


def _points(metrics: Sequence[Mapping], generation: int, name: str) -> list[tuple[float, float]]:
    rows = [row for row in metrics if row.get("stage") == f"gen{generation}"]
    pairs = [(number(row, "step"), number(row, name)) for row in rows]
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
    small = max(pixels.shape[:2]) <= PIXELATED
    if pixels.ndim == 2:
        image = Image.fromarray(_shrunk(pixels))
        image.putpalette(colours.astype(np.uint8).tobytes())
        kind, source = "mask", _embedded(image, "PNG", optimize=True, transparency=IGNORE)
    else:
        image = Image.fromarray(pixels)
        image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        kind, source = "photo", _embedded(image, "PNG", optimize=True)
        if len(source) > HEAVY * 4 / 3:
            source = _embedded(image, "JPEG", quality=90, subsampling=0)
    return Picture(caption, source, *image.size, f"{kind} pixelated" if small else kind)


def _shrunk(ids: np.ndarray) -> np.ndarray:
    """Class ids (H, W) brought down to SIDE by nearest."""
    height, width = ids.shape
    scale = max(1.0, max(height, width) / SIDE)
    rows, columns = ((np.arange(round(n / scale)) + 0.5) * scale for n in (height, width))
    return np.ascontiguousarray(ids[np.ix_(rows.astype(int).clip(max=height - 1), columns.astype(int).clip(max=width - 1))])


def _embedded(image: Image.Image, kind: str, **settings: object) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _environment() -> jinja2.Environment:
    """Everything is escaped, and what a report lacks is a dash."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: "–" if value is None else value,
    )
    environment.globals |= {"pick": pick, "number": number}
    environment.filters |= {
        "score": lambda value: _written(value, "{:.4f}"),
        "iou": lambda value: _written(value, "{:.3f}"),
        "gain": lambda value: _written(value, "{:+.4f}"),
        "change": lambda value: _written(value, "{:+.3f}"),
        "percent": lambda value: _written(value, "{:.1%}"),
        "count": lambda value: _written(value, "{:,.0f}"),
        "parameters": parameters,
        "clock": clock,
    }
    return environment


def _written(value: float | None, form: str) -> str | None:
    return None if value is None else form.format(value).replace("-", "−")


def parameters(count: float | None) -> str | None:
    """14300000 -> "14.3 M"."""
    if count is None:
        return None
    return f"{count / 1e6:.1f} M" if count >= 1e5 else f"{count / 1e3:.1f} k"


def clock(seconds: float | None) -> str | None:
    """3905 -> "1 h 5 min"."""
    if seconds is None:
        return None
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
