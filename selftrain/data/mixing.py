"""CutMix for dense labels (Yun et al. 2019; French et al. 2020): a box of one example replaced by that of its partner."""

from dataclasses import fields, replace
from typing import TypeVar

import numpy as np

E = TypeVar("E")


def box(rng: np.random.Generator, height: int, width: int) -> tuple[slice, slice]:
    """A box whose share of the area is uniform (Beta(1, 1)) and whose centre is anywhere; it is cut off at the border."""
    side = np.sqrt(rng.uniform())
    tall, wide = round(side * height), round(side * width)
    top, left = int(rng.integers(height)) - tall // 2, int(rng.integers(width)) - wide // 2
    return slice(max(top, 0), max(top + tall, 0)), slice(max(left, 0), max(left + wide, 0))


def cutmix(example: E, partner: E, area: tuple[slice, slice]) -> E:
    """`example`, a dataclass of arrays (h, w, ...), with the box `area` of every array taken from `partner`."""
    mixed = {}
    for field in fields(example):  # type: ignore[arg-type]
        plane = getattr(example, field.name).copy()
        plane[area] = getattr(partner, field.name)[area]
        mixed[field.name] = plane
    return replace(example, **mixed)  # type: ignore[type-var]
