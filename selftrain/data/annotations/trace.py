"""Outlines of masks.

A corner of an outline lies within its pixel, INSET from the pixel's edges. So every way to draw it gives the
same pixels: with the pixels on the outline (PIL, OpenCV, labelme, `draw`), or with the pixels whose centre is
inside (COCO's tools).

Regions are 4-connected: pixels that touch only at a corner belong to different regions. The outline of a
region with holes runs into each hole and back along one cut, which has no width and no effect on the pixels.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from selftrain.data.annotations.shape import Ring, Shape, runs_of

INSET = 1 / 16  # pixels; COCO's tools round coordinates to fifths, and must round this to 0
# Remarks on what outlines cannot express, with their number.
CUT_HOLES = "holes: the outline of a region has none, so it runs into each of them along a cut without width"
PARTS = "regions are shapes of their own: the format has no object of several outlines"


@dataclass(frozen=True)
class Corners:
    """The corners of all outlines of a bitmap, from top to bottom and from left to right.

    Corners 2k and 2k + 1 are the ends of a horizontal edge.
    """

    at: np.ndarray  # (N, 2) y, x of the corner on the grid between the pixels
    points: np.ndarray  # (N, 2) x, y within the pixel of the region
    beside: list[int]  # the other end of the vertical edge
    outer: np.ndarray  # (N,) bool: a right angle of the region; otherwise three right angles


def shapes_of(
    ids: np.ndarray, names: Mapping[int, str], *, bitmaps: bool, several: bool, remarks: Counter[str]
) -> list[Shape]:
    """The shapes of class ids (H, W) uint8; `names` are the categories of the ids that are drawn.

    With `bitmaps`, the shape of a class is one bitmap. Otherwise it has an outline for each region: one shape
    for all of them with `several`, or else one shape for each, which `remarks` count.
    """
    shapes: list[Shape] = []
    for number in np.unique(ids).tolist():
        if number not in names:
            continue
        bitmap = ids == number
        if bitmaps:
            shapes.append(Shape(names[number], runs=runs_of(bitmap)))
            continue
        rings, holes = outlines(bitmap)
        remarks.update({CUT_HOLES: holes} if holes else {})
        if several:
            shapes.append(Shape(names[number], tuple(rings)))
            continue
        remarks.update({PARTS: len(rings)} if len(rings) > 1 else {})
        shapes += [Shape(names[number], (ring,)) for ring in rings]
    return shapes


def outlines(bitmap: np.ndarray) -> tuple[list[Ring], int]:
    """The outline of each region of a bitmap (H, W) bool, and the number of their holes."""
    if not bitmap.any():
        return [], 0
    corners = _corners(bitmap)
    rings = _rings(corners)
    holes = [ring for ring in rings if not corners.outer[ring[0]]]
    cuts = _cuts(bitmap, corners, holes)
    points = corners.points.tolist()
    outsides = [ring for ring in rings if corners.outer[ring[0]]]
    return [Ring(np.array(list(_walk(ring, cuts, points)))) for ring in outsides], len(holes)


def pixels(shape: Shape) -> int:
    """The number of pixels of a shape that `shapes_of` made."""
    edges = tuple(Ring(np.round(ring.points)) for ring in shape.rings)  # the edges of the pixels
    return round(Shape(shape.category, edges, shape.runs).area)


def _corners(bitmap: np.ndarray) -> Corners:
    padded = np.pad(bitmap.astype(np.int8), 1)
    quarters = {
        (-1, -1): padded[:-1, :-1], (-1, 1): padded[:-1, 1:],
        (1, -1): padded[1:, :-1], (1, 1): padded[1:, 1:],
    }  # fmt: skip
    number = sum(quarters.values())  # of the four pixels around a corner that belong to the region
    diagonal = (number == 2) & (quarters[-1, -1] == quarters[1, 1])
    found = []  # y, x; dy, dx to the pixel of the region; dy, dx of the two edges; outer
    for (dy, dx), pixel in quarters.items():
        for chosen, inwards in (
            ((pixel == 1) & ((number == 1) | diagonal), 1),
            ((pixel == 0) & (number == 3), -1),
        ):
            y, x = np.nonzero(chosen)
            rest = [inwards * dy, inwards * dx, dy, dx, inwards > 0]
            found.append(np.column_stack([y, x, *(np.full(len(y), value) for value in rest)]))
    rows = np.concatenate(found)
    rows = rows[np.lexsort((rows[:, 5], rows[:, 1], rows[:, 0]))]
    down = np.lexsort((rows[:, 4], rows[:, 0], rows[:, 1]))
    beside = np.empty(len(rows), int)
    beside[down] = down[np.arange(len(rows)) ^ 1]
    points = (rows[:, :2] + INSET * rows[:, 2:4])[:, ::-1]
    return Corners(rows[:, :2], points, beside.tolist(), rows[:, 6] == 1)


def _rings(corners: Corners) -> list[list[int]]:
    """The corners along each closed line, with the region on the right hand.

    A line begins with its first corner. It is the outside of a region if that corner is an outer one, and a
    hole otherwise.
    """
    seen, rings = [False] * len(corners.beside), []
    for first, outer in enumerate(corners.outer.tolist()):
        if seen[first]:
            continue
        ring, place, level = [], first, outer
        while not seen[place]:
            seen[place] = True
            ring.append(place)
            place, level = place ^ 1 if level else corners.beside[place], not level
        rings.append(ring)
    return rings


Cuts = dict[int, list[tuple[list[float], list[int]]]]


def _cuts(bitmap: np.ndarray, corners: Corners, holes: Sequence[list[int]]) -> Cuts:
    """The holes to run into along each horizontal edge: the point of the edge, and the corners of the hole.

    The cut of a hole goes straight up from its first corner, to the edge where the region ends.
    """
    y, x = corners.at.T
    width = bitmap.shape[1] + 1
    starts = y[::2] * width + x[::2]
    cuts: Cuts = {}
    for hole in holes:
        bottom, column = int(y[hole[0]]), int(x[hole[0]]) - 1
        outside = np.flatnonzero(~bitmap[:bottom, column])
        top = int(outside[-1]) + 1 if len(outside) else 0
        edge = 2 * int(np.searchsorted(starts, top * width + column, side="right") - 1)
        cuts.setdefault(edge, []).append(([float(corners.points[hole[0], 0]), top + INSET], hole))
    for found in cuts.values():
        found.sort(key=lambda cut: cut[0])
    return cuts


def _walk(ring: list[int], cuts: Cuts, points: list[list[float]]) -> Iterator[list[float]]:
    """The points of an outline, with its holes, and with the holes that are reached from them."""
    waiting: list[int | list[float]] = list(reversed(ring))  # the next one is at the end
    while waiting:
        step = waiting.pop()
        if not isinstance(step, int):
            yield step
            continue
        yield points[step]
        for point, hole in reversed(cuts.get(step, [])):
            waiting += [point, points[hole[0]], *reversed(hole), point]
