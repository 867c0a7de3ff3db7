"""Types and rules that several settings share."""

from typing import Annotated

from selftrain.tables import Bounds, Must

AUTO = "auto"  # decided once, when a run begins
Some = Annotated[int, Bounds(1)]  # a number of things, at least one


def _are_sides(crop: list[int]) -> bool:
    return len(crop) == 2 and min(crop) > 0


Sides = Annotated[list[int], Must("be [height, width], both above 0", _are_sides)]
