"""What annotation files of every format describe: pictures, and the shapes in them.

Coordinates are (x, y) in pixels of the picture as it was annotated, from its upper left corner.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from selftrain.data.faults import Fault
from selftrain.errors import DataError

CORNERS = 72  # of the polygon that stands for an ellipse
# Remarks, with the number of shapes.
NO_AREA = "points, lines and other shapes without an area were left out"
ONLY_BOXES = "objects have a box but no outline: their boxes are ignored"
HOLES = "outlines lie within an outline of the same object: they are holes"


@dataclass(frozen=True, eq=False)
class Runs:
    """A bitmap by run lengths: of zeros, then of ones, and so on.

    The bitmap is `size` (height, width). It begins at `corner` (top, left) of the picture, or covers it
    whole. With `by_column`, the runs go down the columns, as in COCO; otherwise along the rows.
    """

    counts: np.ndarray  # (N,) int64
    size: tuple[int, int]
    corner: tuple[int, int] | None = None
    by_column: bool = False

    def bitmap(self) -> np.ndarray:
        """The bitmap (height, width) bool."""
        flat = np.repeat(np.arange(len(self.counts)) % 2 == 1, self.counts)
        return flat.reshape(self.size[::-1]).T if self.by_column else flat.reshape(self.size)


@dataclass(frozen=True, eq=False)
class Ring:
    """A closed outline, (P, 2) float64 with P >= 3. A hole erases what was drawn before of the same shape."""

    points: np.ndarray
    hole: bool = False

    def __post_init__(self) -> None:
        if not np.isfinite(self.points).all():
            raise ValueError("coordinates are not finite numbers")


@dataclass(frozen=True, eq=False)
class Shape:
    """An object of a category: rings in drawing order, or runs.

    `ignored` are crowds and boxes without outline: their pixels are ignored. Shapes of a higher layer cover
    shapes of a lower one.
    """

    category: str
    rings: tuple[Ring, ...] = ()
    runs: Runs | None = None
    ignored: bool = False
    layer: int = 0

    @property
    def area(self) -> float:
        """In pixels of the annotated picture; overlapping rings count twice."""
        if self.runs is not None:
            return float(self.runs.counts[1::2].sum())
        return sum(-_area(ring.points) if ring.hole else _area(ring.points) for ring in self.rings)

    def content(self) -> tuple[object, ...]:
        """Everything that determines the pixels, for a hash."""
        rings = [(ring.points.tolist(), ring.hole) for ring in self.rings]
        runs = self.runs and (
            self.runs.counts.tolist(),
            self.runs.size,
            self.runs.corner,
            self.runs.by_column,
        )
        return self.category, rings, runs, self.ignored, self.layer


@dataclass(frozen=True, eq=False)
class Described:
    """A picture in an annotation file.

    `image` is the name as written, `also` are other names that the file may mean. `size` (height, width) is
    the size as written. With `relative`, coordinates are shares of the sides.
    """

    image: str
    shapes: tuple[Shape, ...] = ()
    size: tuple[int, int] | None = None
    also: tuple[str, ...] = ()
    relative: bool = False


@dataclass
class Parsed:
    """The content of an annotation file.

    `categories` are all names that the file declares or uses, in order. `merged` are names that
    several of its categories have. `remarks` count the shapes of a kind.
    """

    described: list[Described] = field(default_factory=list)
    categories: list[str] = field(default_factory=list)
    merged: list[str] = field(default_factory=list)
    remarks: Counter[str] = field(default_factory=Counter)

    def declare(self, category: str) -> str:
        """Add a category, unless it is known."""
        if category not in self.categories:
            self.categories.append(category)
        return category


def ring(numbers: object, file: Path, where: str) -> Ring | None:
    """The outline through x, y, x, y, … or [x, y], …; None if it has fewer than three corners.

    Raises DataError.
    """
    try:
        flat = np.asarray(numbers, np.float64).reshape(-1)
    except (TypeError, ValueError):
        flat = np.array([np.nan])
    if len(flat) % 2 or not np.isfinite(flat).all():
        raise DataError(
            Fault(str(file), f"{where} has an outline that is not pairs of numbers", "draw it again")
        )
    return Ring(flat.reshape(-1, 2)) if len(flat) >= 6 else None


def rectangle(left: float, top: float, right: float, bottom: float, degrees: float = 0) -> Ring:
    """A box, turned clockwise around its centre."""
    points = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float64)
    return Ring(turned(points, points.mean(axis=0), degrees))


def ellipse(centre: Sequence[float], radii: Sequence[float], degrees: float = 0) -> Ring:
    """An ellipse as a polygon of CORNERS corners, turned clockwise around its centre."""
    angle = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    points = np.stack([np.cos(angle) * radii[0], np.sin(angle) * radii[1]], axis=1) + np.asarray(centre)
    return Ring(turned(points, np.asarray(centre), degrees))


def turned(points: np.ndarray, centre: np.ndarray, degrees: float) -> np.ndarray:
    """Points (P, 2), turned clockwise (y points down) around a centre (2,)."""
    if not degrees:
        return points
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return (points - centre) @ np.array([[c, s], [-s, c]]) + centre


def runs_of(bitmap: np.ndarray, corner: tuple[int, int] | None = None) -> Runs:
    """The runs of a bitmap (H, W) bool, along its rows."""
    flat = np.concatenate([[False], bitmap.reshape(-1).astype(bool)])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate([[0], edges, [bitmap.size]]))
    return Runs(counts.astype(np.int64), (bitmap.shape[0], bitmap.shape[1]), corner)


def checked(runs: Runs, file: Path, where: str) -> Runs:
    """The runs. Raises DataError unless they fill their bitmap."""
    height, width = runs.size
    if len(runs.counts) == 0 or runs.counts.min() < 0 or runs.counts.sum() != height * width:
        what = f"{where} has run lengths of {runs.counts.sum()} pixels for a mask of {height}x{width}"
        raise DataError(Fault(str(file), what, "export the file again: it is damaged"))
    return runs


def nested(rings: list[Ring]) -> tuple[list[Ring], int]:
    """The rings of one object, in drawing order, and the number of holes.

    A ring within an odd number of others is a hole, a ring within a hole is filled again.
    """
    if len(rings) < 2:
        return rings, 0
    low, high = (np.array([edge(one.points, axis=0) for one in rings]) for edge in (np.min, np.max))
    depth = []
    for one, least, most in zip(rings, low, high, strict=True):
        around = np.flatnonzero((low <= least).all(axis=1) & (high >= most).all(axis=1)).tolist()
        depth.append(sum(_within(one, rings[place]) for place in around if rings[place] is not one))
    order = sorted(range(len(rings)), key=lambda place: depth[place])
    found = [Ring(rings[place].points, depth[place] % 2 == 1) for place in order]
    return found, sum(one.hole for one in found)


def _area(points: np.ndarray) -> float:
    x, y = points.T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


def _within(inner: Ring, outer: Ring) -> bool:
    """Whether a ring, whose box lies in the other ring's box, lies within the other ring."""
    a, b = inner.points, outer.points
    return _inside(a[:1], b) and _inside(a, b) and _area(a) < _area(b)


def _inside(points: np.ndarray, outline: np.ndarray) -> bool:
    """Whether all points (P, 2) lie within an outline (Q, 2), by the even-odd rule."""
    x, y = points[:, None, 0], points[:, None, 1]  # (P, 1) against the edges (Q,)
    (x1, y1), (x2, y2) = outline.T, np.roll(outline, -1, axis=0).T
    crosses = (y1 > y) != (y2 > y)
    with np.errstate(divide="ignore", invalid="ignore"):
        right = x < x1 + (y - y1) * (x2 - x1) / (y2 - y1)
    return bool(((crosses & right).sum(axis=1) % 2 == 1).all())
