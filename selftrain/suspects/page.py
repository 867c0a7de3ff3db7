"""The list of suspicious masks as CSV, and as a page with pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from selftrain.data.masks import resize_mask
from selftrain.data.suspects import Suspect, written
from selftrain.files import write_bytes
from selftrain.ids import IGNORE
from selftrain.inspection.sheet import Cell, beside, fitted, overlay, write_cells
from selftrain.report.palette import palette, save_palette_png
from selftrain.suspects.search import Doubtful

LIST, PAGE, MASKS = "suspects.csv", "suspects", "relabelled"
SHOWN = 100  # most images of the page
WRONG = np.array([230, 0, 60])  # colour of the pixels that differ
NOTE = (
    "Each row: the image, its mask, the prediction of the network that did not train on it, the pixels that "
    "differ (red), and the mask after relabelling. The most suspicious mask comes first. Delete the lines of "
    "sound masks from the list."
)


@dataclass(frozen=True)
class Listed:
    """An image of the list, with the class ids (H, W) that the folds agree on; 255 where they do not."""

    doubtful: Doubtful
    agreed: np.ndarray


def write(
    folder: Path, title: str, rows: list[tuple[str, str]], found: Sequence[Listed], names: list[str]
) -> list[Path]:
    """Write the list, the masks for relabelling, and the page. Returns the list and the page.

    `rows` are facts to show above the pictures, `names` the names of the classes.
    """
    suspects, cells = list[Suspect](), list[Cell]()
    for number, one in enumerate(found):
        place = f"{MASKS}/{number:04d}.png" if (one.agreed != IGNORE).any() else ""
        if place:
            save_palette_png(folder / place, one.agreed)
        suspects.append(_suspect(one, names, place))
        if number < SHOWN:
            cells.append(_cell(f"{number + 1}. {_told(suspects[-1], one.doubtful, names)}", one, names))
    write_bytes(folder / LIST, written(suspects))
    _, page = write_cells(folder / PAGE, title, rows, cells, names, (1, NOTE))
    return [folder / LIST, page]


def _suspect(one: Listed, names: list[str], place: str) -> Suspect:
    kind = one.doubtful.kind()
    classes = ";".join(names[c] for c in kind.classes)
    return Suspect(
        one.doubtful.image.sample.id, f"{one.doubtful.suspicion:.2f}", kind.told(names), classes, place
    )


def _told(row: Suspect, doubtful: Doubtful, names: list[str]) -> str:
    """A row's title; its kind comes last, because the picture shortens titles from the left."""
    ious = [(1 - float(iou), name) for iou, name in zip(doubtful.faults[0], names, strict=True) if iou == iou]
    shown = ", ".join(f"{name} {iou:.2f}" for iou, name in sorted(ious))
    return f"{row.image}: IoU: {shown}; suspicion {row.suspicion}: {row.kind}"


def _cell(title: str, one: Listed, names: list[str]) -> Cell:
    colours, small = palette(len(names)), fitted(one.doubtful.image.sample.read_image())
    mask, probs = one.doubtful.image.labelled()
    predicted = probs.argmax(axis=0).astype(np.uint8)
    relabelled = np.where(one.agreed == IGNORE, mask, one.agreed)
    size = small.shape[:2]
    differs = resize_mask(((mask != predicted) & (mask != IGNORE)).astype(np.uint8), size) > 0
    red = np.where(differs[..., None], small * 0.3 + WRONG * 0.7, small).astype(np.uint8)
    seen = [overlay(small, resize_mask(ids, size), colours) for ids in (mask, predicted)]
    panels = [small, *seen, red, overlay(small, resize_mask(relabelled, size), colours)]
    return Cell(title, beside(panels))
