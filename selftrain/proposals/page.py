"""Proposed images as a list, as CSV and as a gallery, and copies of their files."""

import csv
import io
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from selftrain.data.images import resize_image
from selftrain.data.masks import resize_mask
from selftrain.data.places import named
from selftrain.data.sample import Sample
from selftrain.data.sources.files import ImageFile
from selftrain.data.storage import content_of
from selftrain.errors import ConfigError
from selftrain.files import write_bytes
from selftrain.inspection.sheet import Cell, beside, fitted, overlay, write_cells
from selftrain.proposals.survey import Jury
from selftrain.proposals.uncertainty import entropy
from selftrain.report.palette import palette

LIST, TABLE, GALLERY = "next.txt", "next.csv", "next"
SHOWN = 100  # most images of the gallery
COLUMNS = {True: 2, False: 4}  # with the masks of a model, and without
NOTES = {
    True: "Left: the image. Middle: the model's mask. Right: bright where the model is unsure.",
    False: "The images in the order of the proposal.",
}


@dataclass(frozen=True)
class Proposal:
    """A proposed image: why it was chosen, and its file name among the proposed images, without suffix."""

    sample: Sample
    name: str
    rank: int
    distance: float  # to the nearest labelled or earlier proposed image; NaN: there is none
    uncertainty: float  # see `uncertainty.together`; 1 without a model
    levels: dict[str, float] = field(default_factory=dict)  # by entry of UNCERTAINTIES

    @property
    def components(self) -> dict[str, float]:
        """Every number that led to the choice; the score is the product of distance and uncertainty."""
        score = self.distance * self.uncertainty
        return {"score": score, "distance": self.distance, "uncertainty": self.uncertainty, **self.levels}


def write(
    folder: Path,
    title: str,
    rows: Sequence[tuple[str, str]],
    found: Sequence[Proposal],
    classes: Sequence[str],
    jury: Jury | None,
) -> list[Path]:
    """Write list, CSV and gallery of at least one proposal; `rows` are facts to show above the pictures."""
    lines, table = folder / LIST, folder / TABLE
    write_bytes(lines, "".join(f"{named(one.sample.image.name)}\n" for one in found).encode())
    write_bytes(table, _table(found))
    cells, told = [_cell(one, len(classes), jury) for one in found[:SHOWN]], jury is not None
    pages = write_cells(folder / GALLERY, title, rows, cells, classes, (COLUMNS[told], NOTES[told]))
    return [lines, table, *pages]


def _table(found: Sequence[Proposal]) -> bytes:
    """The CSV: rank, id, file and every component of the score; empty where a number is not defined."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["rank", "id", "file", *found[0].components])
    for one in found:
        numbers = ["" if math.isnan(value) else f"{value:.6g}" for value in one.components.values()]
        lines.writerow([one.rank, one.sample.id, named(one.sample.image.name), *numbers])
    return text.getvalue().encode()


def _cell(one: Proposal, classes: int, jury: Jury | None) -> Cell:
    numbers = (("distance", one.distance), *one.levels.items())
    told = ", ".join(f"{name} {value:.2f}" for name, value in numbers if not math.isnan(value))
    title = f"{one.rank}. {told}{': ' if told else ''}{one.sample.id}"
    image = one.sample.read_image()
    small = fitted(image)
    if jury is None:
        return Cell(title, small)
    size = (small.shape[0], small.shape[1])
    ids, unsure = _seen(jury, jury.at_seen_size(image))
    doubtful = np.repeat(resize_image(unsure[..., None], size), 3, axis=2)  # not the image: it may be dark
    return Cell(title, beside([small, overlay(small, resize_mask(ids, size), palette(classes)), doubtful]))


@torch.inference_mode()
def _seen(jury: Jury, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Class ids and doubt, both (H, W) uint8, of an image; 255 is the highest entropy in the image."""
    ids, doubt = np.empty(image.shape[:2], np.uint8), np.empty(image.shape[:2], np.float32)
    for place, opinions in jury.of_tiles(image):
        ids[place] = opinions.mean.argmax(dim=0).cpu().numpy()
        doubt[place] = entropy(opinions).cpu().numpy()
    return ids, (255 * doubt / max(float(doubt.max()), 1e-12)).round().astype(np.uint8)


def names_of(samples: Sequence[Sample]) -> list[str]:
    """A file name without suffix for each sample: the last part of its id or, if others share it, the id."""
    last = [sample.id.rpartition("/")[2] for sample in samples]
    shared = Counter(name.casefold() for name in last)
    return [
        sample.id.replace("/", "__") if shared[name.casefold()] > 1 else name
        for sample, name in zip(samples, last, strict=True)
    ]


def copies_of(found: Sequence[Proposal], folder: Path) -> dict[Path, Path]:
    """The image file of each proposal and its copy in `folder`.

    Raises ConfigError if a file of another content has the name of a copy.
    """
    files = {one.name: file for one in found if (file := file_of(one.sample))}
    copies = {file: folder / f"{name}{file.suffix}" for name, file in files.items()}
    taken = [copy for file, copy in copies.items() if copy.exists() and not _same(file, copy)]
    if taken:
        raise ConfigError(f"--copy {folder}: {taken[0]} exists with another content; choose another folder")
    return copies


def file_of(sample: Sample) -> Path | None:
    """The image file of a sample; None if it is drawn in code."""
    return sample.image.path if isinstance(sample.image, ImageFile) else None


def copy(copies: dict[Path, Path]) -> None:
    """Copy files to places that `copies_of` has checked; files that are there already stay."""
    for file, place in copies.items():
        if not place.exists():
            write_bytes(place, content_of(file))


def _same(file: Path, other: Path) -> bool:
    return other.is_file() and content_of(file) == other.read_bytes()
