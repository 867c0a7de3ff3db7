"""Masks of a model for proposed images, from which a person starts. The table is PREANNOTATIONS.

An entry writes files into a folder. Its arguments are `Drawn` masks, one at a time, and the classes and the
coding of the training masks. It never replaces a file, which a person may have corrected since.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from selftrain.prediction.outputs import writer


@dataclass(frozen=True)
class Drawn:
    """The mask of an image file at its own size."""

    name: str  # of the file to write, without suffix
    image: str  # the image file
    ids: np.ndarray  # (H, W) uint8 class ids


@dataclass(frozen=True)
class Coding:
    """The names of the classes, and the values or colours of the training masks (`load.mask_coding`)."""

    classes: Sequence[str]
    masks: dict[str, list[Any]]


Preannotation = Callable[[Path, Iterable[Drawn], Coding], int]


def png(folder: Path, drawn: Iterable[Drawn], coding: Coding) -> int:
    """PNGs with the values or colours of the training masks; returns how many were written.

    A corrected PNG is a mask of the data set as it is.
    """
    save, written = writer({"masks": coding.masks}, "values"), 0
    for one in drawn:
        file = folder / f"{one.name}.png"
        if not file.exists():
            save(file, one.ids)
            written += 1
    return written


PREANNOTATIONS: dict[str, Preannotation] = {"png": png}
