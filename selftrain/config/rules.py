"""Types and rules that several settings share."""

from typing import Annotated

from selftrain.tables import Bounds, Must

AUTO = "auto"  # decided once, when a run begins
RUN = "run:"  # of model.weights: the network that leads a run
Some = Annotated[int, Bounds(1)]  # a number of things, at least one
# standard deviations of the CRF in pixels or grey levels; the coordinates of a finer lattice would overflow
DEVIATION = Bounds(0.01, 1e4)


def _are_sides(crop: list[int]) -> bool:
    return len(crop) == 2 and min(crop) > 0


def are_sides_or_empty(sides: list[int]) -> bool:
    """Whether a setting has two lengths in pixels, or none."""
    return not sides or _are_sides(sides)


Sides = Annotated[list[int], Must("be [height, width], both above 0", _are_sides)]
