"""The files that predictions are written to: masks in their forms, and further files on request."""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from PIL import Image

from selftrain.data.images import as_rgb
from selftrain.errors import ConfigError
from selftrain.files import keep_json, read_json, write_bytes, write_json
from selftrain.ids import IGNORE
from selftrain.inference.labeller import Found
from selftrain.inspection.sheet import overlay
from selftrain.prediction.table import CSV, Table
from selftrain.prediction.tiffs import Canvas, write_tiff
from selftrain.report.palette import palette, save_palette_png, save_plain_png

CLASSES = "classes.json"
IDS = "ids"
CONFIDENCE, PROBABILITIES, OVERLAY = EXTRAS = ("confidence", "probabilities", "overlay")
FOLDERS = {name: f"_{name}" for name in EXTRAS}  # folders of the output
QUALITY = 90  # of JPEGs
FORMS = ("palette", "grey", "values")
NOTES = {  # the contents of the PNGs, by form
    "palette": "The PNGs hold class ids as palette indices. Read them with PIL: OpenCV's imread gives the "
    "colours instead of the ids; for it, write other PNGs by selftrain predict --grey or --values.",
    "grey": "The PNGs hold class ids as grey values.",
    "values": "The PNGs hold what the training masks hold, as in `masks`; of several values of a class, "
    "the first.",
}
Geo = Sequence[tuple[Any, ...]]


def classes_json(card: dict[str, Any], form: str = "palette", made: dict[str, Any] | None = None) -> dict:
    """{"note", "form", "ignore_index": 255, "classes": [{"id", "name", "colour": [r, g, b]}, ...], "masks"}.

    "masks" is {"values": [...]} or {"colours": [...]} of each class in the training masks, if the card has
    it. "made" is what the predictions were made with.
    """
    colours = palette(len(card["classes"])).tolist()
    rows = [{"id": c, "name": name, "colour": colours[c]} for c, name in enumerate(card["classes"])]
    return {
        "note": NOTES[form],
        "form": form,
        "ignore_index": card["ignore_index"],
        "classes": rows,
        **({"masks": card["masks"]} if "masks" in card else {}),
        **({"made": made} if made else {}),
    }


def coder(card: dict[str, Any], form: str) -> Callable[[np.ndarray, Path], np.ndarray]:
    """A function from class ids (H, W) uint8 to the pixels of a form; the path is for messages.

    Raises ConfigError for values that the card lacks. The function raises it for pixels without a class.
    """
    if form != "values":
        return lambda ids, _: ids
    if "masks" not in card:
        made = card.get("selftrain", "an earlier version")
        what = f"the export was written by selftrain {made} and does not contain the values of the masks"
        raise ConfigError(f"--values: {what}; use --grey")
    table = _table(card["masks"])

    def values(ids: np.ndarray, path: Path) -> np.ndarray:
        if (ids == IGNORE).any():  # a decision may leave pixels without a class
            raise ConfigError(
                f"--values: {path} has pixels without a class, which no mask value means; use --grey"
            )
        return table[ids]

    return values


def writer(card: dict[str, Any], form: str) -> Callable[[Path, np.ndarray], None]:
    """A function that writes class ids (H, W) uint8 to a PNG of a form, with the errors of `coder`."""
    coded = coder(card, form)
    if form == "palette":
        return save_palette_png
    return lambda path, ids: save_plain_png(path, coded(ids, path))


def _table(coding: dict[str, list]) -> np.ndarray:
    """The value or colour of each class in the training masks: (C,) uint8 or uint16, or (C, 3) uint8."""
    if "colours" in coding:
        return np.array(coding["colours"], np.uint8)
    values = [value[0] if isinstance(value, list) else value for value in coding["values"]]
    return np.array(values, np.uint8 if max(values) <= 255 else np.uint16)


# what a person chooses them by
OPTIONS = {
    "backend": "--backend",
    "views": "--tta",
    "refine": "--crf",
    "least": "--threshold",
    "predicted": "--size",
}


@dataclass
class Outputs:
    """The output folder of predictions, and what is written for each image."""

    out: Path
    card: dict[str, Any]
    form: str = "palette"
    extras: Sequence[str] = ()
    table: Table | None = None  # predictions.csv
    since: float = field(default=0.0, init=False)  # files that are older were made otherwise

    def __post_init__(self) -> None:
        self.coded, self.save = coder(self.card, self.form), writer(self.card, self.form)
        self.colours = palette(len(self.card["classes"]))

    def begin(self, described: dict[str, Any], *, again: bool) -> None:
        """Write classes.json, unless it is there. With `again`, what was written before does not count."""
        (write_json if again else keep_json)(self.out / CLASSES, described)
        self.since = (self.out / CLASSES).stat().st_mtime
        if self.table:
            self.table.open(self.out / CSV)

    def files(self, name: PurePath, *, tiff: bool) -> dict[str, Path]:
        """The files of an image by kind, the mask last: it is written when the others are there."""
        end = {CONFIDENCE: ".png", PROBABILITIES: ".npy", OVERLAY: ".jpg"}
        beside = {
            kind: (self.out / FOLDERS[kind] / name).with_suffix(".tif" if tiff else end[kind])
            for kind in self.extras
        }
        return {**beside, "mask": (self.out / name).with_suffix(".tif" if tiff else ".png")}

    def has(self, image: Path, name: PurePath, rows: Sequence[str], *, tiff: bool) -> bool:
        """Whether an image's files and rows are there, not older than the image and not made otherwise."""
        try:
            oldest = min(path.stat().st_mtime for path in self.files(name, tiff=tiff).values())
            listed = self.table is None or all(row in self.table for row in rows)
            return listed and oldest >= max(self.since, image.stat().st_mtime)
        except OSError:
            return False

    def picture(self, name: PurePath, image: np.ndarray, found: Found) -> None:
        """Write what is found in an image (H, W, C) uint8 as pictures."""
        files = self.files(name, tiff=False)
        if CONFIDENCE in files:
            save_plain_png(files[CONFIDENCE], sureness(found.confidence))
        if found.probabilities is not None and PROBABILITIES in files:
            content = io.BytesIO()
            np.save(content, found.probabilities)
            write_bytes(files[PROBABILITIES], content.getvalue())
        if OVERLAY in files:
            content = io.BytesIO()
            shown = Image.fromarray(overlay(as_rgb(image), found.ids, self.colours))
            shown.save(content, format="JPEG", quality=QUALITY)
            write_bytes(files[OVERLAY], content.getvalue())
        self.save(files["mask"], found.ids)

    def tiff(self, name: PurePath, maps: dict[str, list[Any]], geo: Geo = ()) -> None:
        """Write maps, one for each page, as TIFFs: "ids" and, for the extras, theirs.

        The maps are arrays or canvases: "ids" (H, W) uint8, "confidence" (H, W) uint8, "probabilities"
        (H, W, K) float16, "overlay" (H, W, 3) uint8.
        """
        files = self.files(name, tiff=True)
        for kind in self.extras:
            half = kind == PROBABILITIES
            write_tiff(
                files[kind],
                maps[kind],
                dtype=np.float32 if half else np.uint8,
                geo=geo,
                convert=(lambda tile: tile.astype(np.float32)) if half else None,
            )
        sample = self.coded(np.zeros((1, 1), np.uint8), files["mask"])
        write_tiff(
            files["mask"],
            maps[IDS],
            dtype=sample.dtype,
            geo=geo,
            colours=self.colours if self.form == "palette" else None,
            convert=lambda ids: self.coded(ids, files["mask"]),
            samples=sample.shape[2] if sample.ndim == 3 else 0,
            no_data=None if self.form == "values" else IGNORE,
        )

    def maps(self, image: np.ndarray, found: Found) -> dict[str, np.ndarray]:
        """The maps of `tiff` for an image (H, W, C) uint8, or for a part of one."""
        maps = {IDS: found.ids, CONFIDENCE: sureness(found.confidence)}
        if OVERLAY in self.extras:
            maps[OVERLAY] = overlay(as_rgb(image), found.ids, self.colours)
        if found.probabilities is not None:
            maps[PROBABILITIES] = np.moveaxis(found.probabilities, 0, 2)
        return {kind: one for kind, one in maps.items() if kind == IDS or kind in self.extras}

    @contextmanager
    def canvases(self, size: tuple[int, int]) -> Iterator[dict[str, Canvas]]:
        """Empty maps of `tiff` on the disk of the output folder."""
        kinds: dict[str, tuple[tuple[int, ...], Any]] = {
            CONFIDENCE: ((), np.uint8),
            OVERLAY: ((3,), np.uint8),
        }
        kinds[PROBABILITIES] = ((len(self.card["classes"]),), np.float16)
        wanted = {IDS: ((), np.uint8), **{kind: kinds[kind] for kind in self.extras}}
        maps = {kind: Canvas((*size, *bands), dtype, self.out) for kind, (bands, dtype) in wanted.items()}
        try:
            yield maps
        finally:
            for one in maps.values():
                one.close()


def sureness(confidence: np.ndarray) -> np.ndarray:
    """Confidence in 0..1 as grey levels, uint8."""
    return (confidence * 255).round().clip(0, 255).astype(np.uint8)


def check_out(out: Path, images: Sequence[Path], described: dict[str, Any], *, again: bool) -> None:
    """Raises ConfigError if predictions could overwrite images or files of others, or mix with other ones."""
    target = out.resolve()
    for given in images:
        source = given.resolve()
        if target == (source if given.is_dir() else source.parent):
            raise ConfigError(f"-o {out} is the folder of the images; choose another one")
        if given.is_dir() and (target.is_relative_to(source) or source.is_relative_to(target)):
            raise ConfigError(f"one of -o {out} and {given} lies in the other; choose a folder beside them")
    if target.exists() and not target.is_dir():
        raise ConfigError(f"-o {out} is a file; choose a folder")
    if not target.is_dir() or not any(target.iterdir()):
        return
    if not (target / CLASSES).is_file():
        raise ConfigError(
            f"-o {out} is not empty and was not written by selftrain predict; choose a new folder"
        )
    there = {"form": "palette", **read_json(target / CLASSES)}  # earlier exports had one form only
    if any(there.get(name) != described[name] for name in ("ignore_index", "classes")):
        raise ConfigError(f"-o {out} contains labels of other classes; choose a new folder")
    coded = described["form"] == "values"
    if there["form"] != described["form"] or (coded and there.get("masks") != described["masks"]):
        raise ConfigError(f"-o {out} contains labels of another form ({there['form']}); choose a new folder")
    if not again:
        _check_made(out, there.get("made"), described["made"])


def _check_made(out: Path, before: dict[str, Any] | None, now: dict[str, Any]) -> None:
    """Raises ConfigError if earlier predictions were made with another network or other settings."""
    fix = "--again predicts anew, or choose a new folder"
    if before is None:
        raise ConfigError(f"-o {out} contains labels of an earlier version, which may differ; {fix}")
    other = [OPTIONS.get(name, name) for name in now if before.get(name) != now[name]]
    if other:
        raise ConfigError(f"-o {out} contains labels that were made otherwise ({', '.join(other)}); {fix}")
