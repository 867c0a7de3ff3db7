"""The report's plots as SVG.

Colours and font come from the surrounding page, so plots follow light and dark mode.
"""

import io
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeGuard

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Points = Sequence[tuple[float, float]]

# Placeholder colours that nothing else uses; in the SVG they are replaced by CSS variables of the page.
INK, MUTED, GRID, PAPER = "#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04"
COLOURS = [f"#0a0b1{k}" for k in range(6)]  # of generations; they repeat after the last one
VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--line", PAPER: "--paper"} | {
    c: f"--g{k}" for k, c in enumerate(COLOURS)
}
# Dash patterns, so that lines differ without colour.
DASHES = [(), (6, 2), (2, 2), (8, 2, 2, 2), (10, 3), (4, 1, 1, 1)]

SIZE = (4.9, 2.7)  # inches of 72 units: as wide as a phone, so text has one size on phone and desktop
# Shares of the width and height that leave room for the labels of ticks and for the titles of panels.
MARGINS = {"left": 0.15, "right": 0.985, "bottom": 0.12, "top": 0.91, "wspace": 0.06}
LIMIT = 160  # points of a curve; longer curves are averaged to this number


def promotion(
    scores: Mapping[int, float | None], promoted: Mapping[int, bool | None], best: int | None
) -> str | None:
    """val mIoU per generation (hollow if not promoted) and a line through the leaders.

    None without any score.
    """
    known = {k: score for k, score in scores.items() if _finite(score)}
    if not known:
        return None
    figure, axes = _panel()
    leaders = [(k, score) for k, score in known.items() if promoted.get(k)]
    axes.plot(*_columns(leaders), color=MUTED, linewidth=1.2, zorder=1)
    for k, score in known.items():
        edge = COLOURS[k % len(COLOURS)]
        axes.plot(
            k,
            score,
            "o",
            markersize=8,
            color=edge,
            markerfacecolor=edge if promoted.get(k) else PAPER,
            zorder=2,
        )
        # beside the rising line, not on it
        place, side = ((7, -12), "left") if any(j > k for j, _ in leaders) else ((0, 9), "center")
        weight = "bold" if k == best else "normal"
        axes.annotate(
            f"{score:.3f}",
            (k, score),
            place,
            textcoords="offset points",
            ha=side,
            color=INK,
            weight=weight,
            fontsize=10,
        )
    axes.margins(x=0.12, y=0.28)
    axes.set_xticks(list(known), [f"gen {k}" for k in known])
    return _svg(figure)


def curves(lines: Mapping[int, Points], *, smooth: bool = False) -> str | None:
    """One line per generation over its optimizer steps. None without any point.

    `smooth` draws a running mean over the faint measurements. NaN and infinite values are left out.
    """
    known = {k: [p for p in points if _finite(p[0]) and _finite(p[1])] for k, points in lines.items()}
    if not any(known.values()):
        return None
    figure, axes = _panel()
    for k, points in known.items():
        if points:
            _curve(axes, np.array(sorted(points), dtype=float), k, smooth=smooth)
    axes.margins(x=0.03, y=0.08)
    return _svg(figure)


def beside(left: Mapping[int, Points], right: Mapping[int, Points]) -> str | None:
    """Two plots of scores with one scale, training images left and val right. None without any point."""
    sides = [
        {k: sorted(p for p in points if _finite(p[0]) and _finite(p[1])) for k, points in lines.items()}
        for lines in (left, right)
    ]
    if not any(points for lines in sides for points in lines.values()):
        return None
    figure, panels = _panels()
    for axes, name, lines in zip(panels, ("train", "val"), sides, strict=True):
        axes.set_title(name, loc="left", fontsize=10.5, color=MUTED)
        for k, points in lines.items():
            if points:
                _curve(axes, np.array(points, dtype=float), k, smooth=False)
        axes.margins(x=0.05, y=0.08)
    return _svg(figure)


def reliability(lines: Mapping[int, Points]) -> str | None:
    """Share of correct pixels by confidence, one line per generation, and the diagonal.

    None without any point.
    """
    if not any(lines.values()):
        return None
    figure, axes = _panel()
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=(0, (1, 3)))
    for k, points in lines.items():
        axes.plot(*_columns(points), "o", markersize=3.5, **_look(k))
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
    return _svg(figure)


def stages(lines: Mapping[int, Sequence[float | None]], names: Sequence[str]) -> str | None:
    """A score of the pseudo-labels after each labelling stage, one line per generation.

    None without any score.
    """
    known = {k: [(i, v) for i, v in enumerate(line) if _finite(v)] for k, line in lines.items()}
    if not any(known.values()):
        return None
    figure, axes = _panel()
    for k, points in known.items():
        axes.plot(*_columns(points), "o", markersize=5, **_look(k))
    axes.margins(x=0.08, y=0.15)
    axes.set_xticks(range(len(names)), names)
    return _svg(figure)


def colour(generation: int) -> str:
    """The CSS colour of a generation."""
    return f"var({VARIABLES[COLOURS[generation % len(COLOURS)]]})"


def dashes(generation: int) -> str:
    """The dash pattern of a generation's line as an SVG attribute."""
    return " ".join(str(length) for length in _dashes(generation))


def _dashes(generation: int) -> tuple[int, ...]:
    """The dash pattern of a line; it differs where colours repeat."""
    return DASHES[(generation + generation // len(COLOURS)) % len(DASHES)]


def _curve(axes: "Axes", points: np.ndarray, generation: int, *, smooth: bool) -> None:
    """Draw the curve of a generation; points (N, 2) are step and value, in order."""
    points = np.array([chunk.mean(axis=0) for chunk in np.array_split(points, min(len(points), LIMIT))])
    look = _look(generation)
    if not smooth:
        axes.plot(*points.T, **look)
        axes.plot(*points[-1], "o", markersize=6, color=look["color"])
        return
    axes.plot(*points.T, color=look["color"], alpha=0.28, linewidth=0.8)
    axes.plot(points[:, 0], _running_mean(points[:, 1], max(len(points) // 12, 1)), **look)


def _running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """Mean over `width` neighbours on either side, over fewer at the ends."""
    window = np.ones(2 * width + 1)
    counts = np.convolve(np.ones(len(values)), window)[width:-width]
    return np.convolve(values, window)[width:-width] / counts


def _look(generation: int) -> dict:
    width, dash = 1.8, _dashes(generation)
    style = (0, tuple(length / width for length in dash)) if dash else "-"
    return {"color": COLOURS[generation % len(COLOURS)], "linewidth": width, "linestyle": style}


def _columns(points: Points) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _finite(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _panel() -> tuple["Figure", "Axes"]:
    figure = _figure()
    return figure, _styled(figure.add_subplot())


def _panels() -> tuple["Figure", list["Axes"]]:
    """Two plots beside each other with one vertical scale."""
    figure = _figure()
    first, second = figure.subplots(1, 2, sharey=True)
    return figure, [_styled(first, ticks=3), _styled(second, ticks=3)]


def _figure() -> "Figure":
    from matplotlib.figure import Figure  # not pyplot: no global state and no display

    figure = Figure(figsize=SIZE)
    figure.subplots_adjust(**MARGINS)  # a layout engine would draw every plot twice
    return figure


def _styled(axes: "Axes", *, ticks: int = 5) -> "Axes":
    from matplotlib.ticker import MaxNLocator

    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=10.5, labelcolor=MUTED, pad=5)
    axes.xaxis.set_major_locator(MaxNLocator(ticks, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    return axes


def _svg(figure: "Figure") -> str:
    """The figure as inline <svg>: text stays text, colours are CSS variables, ids are unique."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "selftrain"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(
        r"<metadata>.*?</metadata>|<style.*?</style>| xmlns(:\w+)?=\"[^\"]*\"", "", text, flags=re.DOTALL
    )
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text)
    text = re.sub(r"\s*\n\s*", " ", text)
    text = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>f{zlib.crc32(text.encode()):08x}", text)
    text = re.sub(r'<svg width="[^"]*" height="[^"]*"', '<svg aria-hidden="true" focusable="false"', text)
    for drawn, variable in VARIABLES.items():
        text = text.replace(drawn, f"var({variable})")
    return text
