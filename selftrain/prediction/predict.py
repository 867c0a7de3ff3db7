"""Label images with an exported model.

The results are masks of class ids or mask values, classes.json with the class names, and what is asked for
beside them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from selftrain.data.bands import GREY, RGB
from selftrain.data.faults import Fault
from selftrain.data.images import MAX_PIXELS, read_image, to_8_bits
from selftrain.errors import OPEN_FILES_ERRNOS, STORAGE_ERRNOS, DataError, naming_savings
from selftrain.files import read_manifest
from selftrain.inference.labeller import UNCHANGED, Changes, Found, Labeller
from selftrain.log import progress, say
from selftrain.prediction import videos
from selftrain.prediction.inputs import Inputs
from selftrain.prediction.outputs import IDS, PROBABILITIES, Geo, Outputs, check_out, classes_json
from selftrain.prediction.table import Areas, Table
from selftrain.prediction.tiffs import SUFFIXES, Canvas, Facts, Plane, facts_of
from selftrain.rundir import WEIGHTS

# A picture, a TIFF with a georeference, one of several pages, one that is read part by part, a video
PICTURE, PLACED, PAGES, LARGE, VIDEO = "picture", "placed", "pages", "large", "video"
SIDE = 1024  # pixels of the windows of a large TIFF, if the network sees whole images


@naming_savings("predicting")
def predict(
    directory: Path,
    images: Path | Sequence[Path],
    out: Path,
    *,
    changes: Changes = UNCHANGED,
    backend: str = "torch",
    form: str = "palette",
    extras: Sequence[str] = (),
    csv: bool = False,
    pictures: bool = False,
    again: bool = False,
    batch: int = 8,
) -> int:
    """Label images, videos and all images in folders with the export in `directory`; returns the count.

    The mask of images/a/b.jpg is out/a/b.png, at the image's size. If two images would share that name (b.jpg
    and b.png), each keeps its suffix: out/a/b.jpg.png. TIFFs with a georeference, with several pages, or too
    large for the memory get TIFFs, unless only `pictures` are written; videos get a folder of frames. `out`
    must be new, be empty, or contain predictions of the same export, settings and form. Images that are
    labelled already, and have not changed since, are left out, unless `again` is set.

    `changes` replace settings of the card. `form` is palette or grey (both contain class ids) or values (the
    values of the training masks). `extras` are some of EXTRAS, and `csv` is predictions.csv.

    Images that cannot be read are listed, and the rest is labelled. Raises ConfigError for unsuitable paths,
    IntegrityError for a damaged export, and, at the end, DataError if an image could not be labelled or there
    was no image.
    """
    paths = [images] if isinstance(images, Path) else list(images)
    labeller = Labeller.load(directory, changes, batch=batch, backend=backend)
    card = labeller.card
    if card.get("debug"):
        say(f"warning: the network was exported with {card['debug']}")
    table = Table(card["classes"], card.get("quality")) if csv else None
    outputs = Outputs(out, card, form, extras, table)
    weights = read_manifest(directory)["files"][WEIGHTS]
    described = classes_json(card, form, _made(card, weights, backend))
    inputs = Inputs.of(paths)
    check_out(out, paths, described, again=again)
    outputs.begin(described, again=again)
    work = Work(labeller, outputs, pictures=pictures)
    try:
        with progress("predict", inputs.count) as show:
            for _ in work.through(inputs):
                show(work.count)
    finally:
        if table:
            table.close()
    _tell(work, inputs)
    faults = [*inputs.faults, *work.faults]
    total = work.count + len(inputs.faults)
    if faults:
        rest = f"the other {total - len(faults)} are in {out}"
        raise DataError(f"{len(faults)} of {total} images could not be labelled (listed above); {rest}")
    return total


def _made(card: dict[str, Any], weights: str, backend: str) -> dict[str, Any]:
    """Everything that the predictions of a card depend on; other predictions are not mixed with them."""
    names = ("views", "decision", "refine", "cleanup", "gate", "least")
    return {
        "weights": weights,
        "backend": backend,
        **{name: card["input"].get(name) for name in ("window", "size", "predicted")},
        **{name: card.get(name) for name in names},
    }


def _tell(work: "Work", inputs: Inputs) -> None:
    for line in inputs.remarks():
        say(line)
    for fault in (*inputs.faults, *work.faults):
        say(str(fault))
    if table := work.outputs.table:
        if table.line is None:
            say("no score: the card has no `quality` (fewer than ten val images, or an earlier version)")
        elif not table.line["slope"]:
            say("the score is val's mean: there, confidence did not tell good predictions from bad ones")
    if work.there:
        say(f"{work.there} were labelled before; --again labels them anew")
    if work.labeller.predictor.tally.share:
        say(f"{work.labeller.predictor.tally.share:.1%} of the windows were skipped")


@dataclass(frozen=True)
class Whole:
    """A file that is labelled on its own: a large TIFF, several pages, a video."""

    label: Callable[[], None]


@dataclass(frozen=True)
class Target:
    """Where the prediction of an image goes."""

    file: Path
    name: PurePath  # of the mask, below the output folder
    facts: Facts | None = None  # of a TIFF
    kind: str = PICTURE
    image: np.ndarray | None = None
    frame: str = ""  # of a video

    @property
    def row(self) -> str:
        """The name of the image in the table: its path below the folder that was predicted."""
        return (self.name.parent / (self.frame or self.file.name)).as_posix()

    @property
    def rows(self) -> list[str]:
        """The names of its pages in the table, or its own."""
        pages = self.facts.pages if self.facts and self.kind == PAGES else None
        return [self.row] if pages is None else [f"{self.row}#{number}" for number in range(len(pages))]

    @property
    def geo(self) -> Geo:
        return self.facts.geo if self.facts else ()


class Work:
    """Labels the images of `Inputs` one after the other, and counts them."""

    def __init__(self, labeller: Labeller, outputs: Outputs, *, pictures: bool):
        self.labeller, self.outputs, self.pictures = labeller, outputs, pictures
        self.probabilities = PROBABILITIES in outputs.extras
        self.find = partial(labeller.find_all, probabilities=self.probabilities)
        self.count = self.there = 0
        self.faults: list[Fault] = []

    def through(self, inputs: Inputs) -> Iterator[None]:
        """Label all images; yields after each one."""
        for target, found in self.find(self._read(inputs)):
            try:
                if isinstance(found, Whole):
                    found.label()
                elif isinstance(found, Found):
                    self._write(target, found)
                elif isinstance(found, Fault):
                    self.faults.append(found)
            except DataError as error:
                self.faults.append(_fault_of(error))
            except OSError as error:
                if error.errno in STORAGE_ERRNOS | OPEN_FILES_ERRNOS:
                    raise
                what = f"cannot be written ({error.strerror})"
                fix = "rename the image or choose another folder"
                self.faults.append(Fault(str(self.outputs.out / target.name), what, fix))
            self.count += 1
            yield

    def _read(self, inputs: Inputs) -> Iterator[tuple[Target, np.ndarray | Whole | Fault | None]]:
        """Each image with its pixels, its fault, or how it is labelled on its own; None: it is there."""
        on_its_own = {PAGES: self._pages, LARGE: self._large, VIDEO: self._video}
        for file, name in inputs.files:
            target = self._target(file, name)
            if target.kind != VIDEO and self._is_there(target):
                self.there += 1
                yield target, None
            elif target.kind in on_its_own:
                yield target, Whole(partial(on_its_own[target.kind], target))
            else:
                try:
                    image = self._image(target)
                except DataError as error:
                    yield target, _fault_of(error)
                else:
                    yield replace(target, image=image), image

    def _target(self, file: Path, name: PurePath) -> Target:
        if videos.is_video(file) and not self.pictures:
            return Target(file, name.with_name(file.name), kind=VIDEO)
        facts = facts_of(file) if file.suffix.lower() in SUFFIXES and not self.pictures else None
        if facts is None:
            return Target(file, name)
        kind = PLACED if facts.geo else PICTURE
        if facts.is_large and not self.labeller.resizes:
            kind = LARGE
        if len(facts.pages) > 1 and self._has_pages:
            kind = PAGES
        return Target(file, name, facts, kind)

    @property
    def _has_pages(self) -> bool:
        """Whether the pages of a TIFF are images; with other channels than RGB or grey, they are bands."""
        return self.labeller.channels in (RGB, GREY)

    def _is_there(self, target: Target) -> bool:
        return self.outputs.has(target.file, target.name, target.rows, tiff=target.kind != PICTURE)

    def _image(self, target: Target, page: int | None = None) -> np.ndarray:
        """The image (H, W, C) uint8 of a file, or of one of its pages. Raises DataError(Fault)."""
        if page is None and target.facts and target.facts.frames > 1 and self._has_pages:
            page = target.facts.pages[0]  # the others are smaller copies of it
        return read_image(target.file, self.labeller.levels, self.labeller.channels, page=page)

    def _write(self, target: Target, found: Found) -> None:
        assert target.image is not None
        self._list(target.row, target.image.shape, found)
        if target.kind == PICTURE:
            self.outputs.picture(target.name, target.image, found)
        else:
            maps = self.outputs.maps(target.image, found)
            self.outputs.tiff(target.name, {kind: [one] for kind, one in maps.items()}, target.geo)

    def _list(self, row: str, shape: Sequence[int], found: Found) -> None:
        """Add a row to the table, if there is one."""
        if self.outputs.table:
            areas = Areas(len(self.labeller.card["classes"]))
            areas.add(found.ids, found.confidence)
            self.outputs.table.add(row, (shape[0], shape[1]), areas)

    def _pages(self, target: Target) -> None:
        """Label each page of a TIFF, and write TIFFs of as many pages."""
        assert target.facts is not None
        images = (self._image(target, page) for page in target.facts.pages)
        pages: dict[str, list[np.ndarray]] = {}
        for row, (image, found) in zip(target.rows, self.find((one, one) for one in images), strict=True):
            self._list(row, image.shape, found)
            for kind, one in self.outputs.maps(image, found).items():
                pages.setdefault(kind, []).append(one)
        self.outputs.tiff(target.name, pages, target.geo)

    def _large(self, target: Target) -> None:
        """Label a TIFF part by part, without ever holding it in memory, if it can be read in parts."""
        assert target.facts is not None
        try:
            plane = Plane(target.file, self.labeller.channels)
        except DataError:
            if target.facts.pixels > MAX_PIXELS:
                raise
            image = self._image(target)
            self._write(
                replace(target, image=image), *self.labeller.find([image], probabilities=self.probabilities)
            )
            return
        with plane, self.outputs.canvases(plane.size) as canvases:
            areas = self._fill(plane, canvases)
            if self.labeller.cleans:  # a region may be of any size, so the map of ids must fit in memory
                height, width = plane.size
                ids = self.labeller.cleaned(canvases[IDS].rows(0, height))
                canvases[IDS].put((slice(0, height), slice(0, width)), ids)
            if self.outputs.table:
                self.outputs.table.add(target.row, plane.size, areas)
            self.outputs.tiff(target.name, {kind: [one] for kind, one in canvases.items()}, target.geo)

    def _fill(self, plane: Plane, canvases: Mapping[str, Canvas]) -> Areas:
        """Fill the maps of a TIFF block by block."""
        areas, seen = Areas(len(self.labeller.card["classes"])), list[np.ndarray]()

        def read(rows: slice, columns: slice) -> np.ndarray:
            seen[:] = [to_8_bits(plane.read(rows, columns), self.labeller.levels)]
            return seen[0][None]

        blocks = self.labeller.blocks(plane.size, read, probabilities=self.probabilities, side=SIDE)
        for block, [found] in blocks:
            areas.add(found.ids, found.confidence)
            for kind, part in self.outputs.maps(seen[0][block.inner], found).items():
                canvases[kind].put(block.place, part)
        return areas

    def _video(self, target: Target) -> None:
        """Label each frame of a video into a folder with its name."""
        folder = self.outputs.out / target.name
        if videos.done(folder, target.file, self.outputs.since):
            self.there += 1
            return
        count = 0
        for frame, found in self.find(self._frames(target)):
            count += 1
            if found is not None:
                self._write(frame, found)
        videos.note(folder, count)

    def _frames(self, video: Target) -> Iterator[tuple[Target, np.ndarray | None]]:
        """Each frame of a video, without its pixels if it is labelled already."""
        for number, image in enumerate(videos.frames(video.file, self.labeller.channels)):
            name = f"{number:06d}"
            target = Target(video.file, video.name / f"{name}.png", image=image, frame=name)
            yield target, None if self._is_there(target) else image


def _fault_of(error: DataError) -> Fault:
    fault = error.args[0]
    if not isinstance(fault, Fault):
        raise error
    return fault
