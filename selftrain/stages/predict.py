"""Label images with an exported model.

The results are PNGs of class ids or mask values, and classes.json with the class names.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch

from selftrain.data.faults import Fault
from selftrain.data.images import IMAGE_SUFFIXES, Levels, read_image, resize_image
from selftrain.data.sources.tree import Tree, suffix_counts, unread
from selftrain.data.strays import masks_beside
from selftrain.errors import OPEN_FILES_ERRNOS, STORAGE_ERRNOS, ConfigError, DataError, naming_savings
from selftrain.files import read_json, write_json
from selftrain.ids import IGNORE
from selftrain.inference.decide import at_size
from selftrain.inference.exported import load_export, predictor_of, seen_size
from selftrain.inference.predictor import Predictor
from selftrain.log import progress, say
from selftrain.report.palette import palette, save_palette_png, save_plain_png

CLASSES = "classes.json"
# windows; larger images are labelled tile by tile, as the probabilities of all pixels might not fit in memory
TILE = 4


NOTES = {  # the contents of the PNGs, by form
    "palette": "The PNGs hold class ids as palette indices. Read them with PIL: OpenCV's imread gives the "
    "colours instead of the ids; for it, write other PNGs by selftrain predict --grey or --values.",
    "grey": "The PNGs hold class ids as grey values.",
    "values": "The PNGs hold what the training masks hold, as in `masks`; of several values of a class, "
    "the first.",
}


@naming_savings("predicting")
def predict(
    directory: Path, images: Path, out: Path, *, tta_flip: bool = False, batch: int = 8, form: str = "palette"
) -> int:
    """Label every image in `images`, a folder or one file, with the export in `directory`; returns the count.

    The labels of images/a/b.jpg are out/a/b.png, at the image's size. If two images would share that name
    (b.jpg and b.png), each keeps its suffix: out/a/b.jpg.png. `out` must be new, be empty, or contain labels
    of the same classes and form. `form` is palette or grey (both contain class ids) or values (the values of
    the training masks).

    Images that cannot be read are listed, and the rest is labelled. Raises ConfigError for unsuitable paths,
    IntegrityError for a damaged export, and, at the end, DataError if an image could not be labelled or there
    was no image.
    """
    labeller = Labeller.load(directory, tta_flip=tta_flip, batch=batch)
    if labeller.card.get("debug"):
        say(f"warning: the network was exported with {labeller.card['debug']}")
    save, described = writer(labeller.card, form), classes_json(labeller.card, form)
    root, files, passed_over = images_in(images)
    _check_out(out, images, described)
    write_json(out / CLASSES, described)
    names = output_names([file.relative_to(root) for file in files])
    faults = list(passed_over)
    with progress("predict", len(files)) as show:
        for done, (file, result) in enumerate(labeller.label_all(files), start=1):
            fault = (
                result
                if isinstance(result, Fault)
                else _save(save, out / names[file.relative_to(root)], result)
            )
            if fault:
                faults.append(fault)
            show(done)
    for fault in faults:
        say(str(fault))
    if labeller.predictor.tally.share:
        say(f"{labeller.predictor.tally.share:.1%} of the windows were skipped")
    total = len(files) + len(passed_over)
    if faults:
        rest = f"the other {total - len(faults)} are in {out}"
        raise DataError(f"{len(faults)} of {total} images could not be labelled (listed above); {rest}")
    return total


@dataclass(frozen=True)
class Labeller:
    """An exported network with its card, which reads and labels files."""

    predictor: Predictor
    card: dict[str, Any]

    @classmethod
    def load(cls, directory: Path, *, tta_flip: bool = False, batch: int = 8) -> "Labeller":
        network, card = load_export(directory)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return cls(predictor_of(network, card, flip=tta_flip, batch=batch, device=device), card)

    def label_all(self, files: Iterable[Path]) -> Iterator[tuple[Path, np.ndarray | Fault]]:
        """Each file in order, with its class ids (H, W) uint8 or the fault that prevents them."""
        for group in self._groups(files):
            pictures = [picture for _, picture in group if isinstance(picture, np.ndarray)]
            labels = iter(self.label(pictures)) if pictures else iter(())
            for file, picture in group:
                yield file, picture if isinstance(picture, Fault) else next(labels)

    def label(self, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Class ids (H, W) uint8 for images (H, W, C) uint8 of one input size.

        If the card has an input size, images are resized to it.
        """
        if not (self.card["input"]["size"] or self.card["input"].get("predicted")):
            return list(self.predictor.labels_in_tiles(np.stack(pictures)))
        sizes = [(picture.shape[0], picture.shape[1]) for picture in pictures]
        seen = np.stack([resize_image(one, self.input_size(one)) for one in pictures])
        probs, decision = self.predictor.probabilities(seen), self.predictor.decision
        return [at_size(decision, one, own).cpu().numpy() for one, own in zip(probs, sizes, strict=True)]

    def input_size(self, picture: np.ndarray) -> tuple[int, int]:
        """(height, width) at which the network sees a picture (H, W, C)."""
        return seen_size(self.card, (picture.shape[0], picture.shape[1]))

    @property
    def levels(self) -> Levels | None:
        """The values of 16-bit images that became 0 and 255 in training.

        None (older exports): the high bytes were used.
        """
        found = self.card["input"].get("range")
        return (found[0], found[1]) if found else None

    def _exceeds(self, size: tuple[int, ...]) -> bool:
        return 0 < self.predictor.side < max(size)

    def _groups(self, files: Iterable[Path]) -> Iterator[list[tuple[Path, np.ndarray | Fault]]]:
        """Group neighbouring files for one forward pass: one input size, at most `batch` images.

        An image that is larger than a window is alone in its group.
        """
        group: list[tuple[Path, np.ndarray | Fault]] = []
        size: tuple[int, ...] | None = None
        for file in files:
            picture = _read(file, self.levels, len(self.card["mean"]))
            if isinstance(picture, np.ndarray):
                new = self.input_size(picture)
                if group and (new != size or len(group) >= self.predictor.batch or self._exceeds(new)):
                    yield group
                    group = []
                size = new
            group.append((file, picture))
        if group:
            yield group


def classes_json(card: dict[str, Any], form: str = "palette") -> dict[str, Any]:
    """{"note", "form", "ignore_index": 255, "classes": [{"id", "name", "colour": [r, g, b]}, ...], "masks"}.

    "masks" is {"values": [...]} or {"colours": [...]} of each class in the training masks, if the card has
    it.
    """
    colours = palette(len(card["classes"])).tolist()
    rows = [{"id": c, "name": name, "colour": colours[c]} for c, name in enumerate(card["classes"])]
    coding = {"masks": card["masks"]} if "masks" in card else {}
    return {
        "note": NOTES[form],
        "form": form,
        "ignore_index": card["ignore_index"],
        "classes": rows,
        **coding,
    }


def writer(card: dict[str, Any], form: str) -> Callable[[Path, np.ndarray], None]:
    """A function that writes class ids (H, W) uint8 to a PNG of a form.

    Raises ConfigError for values that the card lacks. The function raises it for pixels without a class.
    """
    if form != "values":
        return save_plain_png if form == "grey" else save_palette_png
    if "masks" not in card:
        made = card.get("selftrain", "an earlier version")
        what = f"the export was written by selftrain {made} and does not contain the values of the masks"
        raise ConfigError(f"--values: {what}; use --grey")
    table = _table(card["masks"])

    def write(path: Path, labels: np.ndarray) -> None:
        if (labels == IGNORE).any():  # a decision may leave pixels without a class
            raise ConfigError(
                f"--values: {path} has pixels without a class, which no mask value means; use --grey"
            )
        save_plain_png(path, table[labels])

    return write


def _table(coding: dict[str, list]) -> np.ndarray:
    """The value or colour of each class in the training masks: (C,) uint8 or uint16, or (C, 3) uint8."""
    if "colours" in coding:
        return np.array(coding["colours"], np.uint8)
    values = [value[0] if isinstance(value, list) else value for value in coding["values"]]
    return np.array(values, np.uint8 if max(values) <= 255 else np.uint16)


def output_names(files: Sequence[PurePath]) -> dict[PurePath, PurePath]:
    """Unique output names: a/b.jpg -> a/b.png, or a/b.jpg.png if several files would share a/b.png."""
    names = {file: file.with_suffix(".png") for file in files}
    while shared := {name for name, count in Counter(names.values()).items() if count > 1}:
        names |= {file: file.with_name(f"{file.name}.png") for file, name in names.items() if name in shared}
    return names


def images_in(images: Path) -> tuple[Path, list[Path], list[Fault]]:
    """The folder, its image files sorted by name, and the faults. Raises DataError if there is no image."""
    if images.is_file():
        file = images.absolute()
        return file.parent, [file], []
    if not images.is_dir():
        raise DataError(f"{images} is neither a folder nor a file; give a folder of images, or one image")
    tree = Tree(images.resolve())
    files = tree.walk(tree.root, IMAGE_SUFFIXES)
    beside = masks_beside(files)
    for remark in _remarks_on(tree, beside):
        say(remark)
    if not files and tree.faults:
        raise DataError(tree.faults[0])
    if not files and tree.left_out:
        raise DataError(unread(str(images), tree.left_out, "images", IMAGE_SUFFIXES))
    if not files:
        raise DataError(f"{images} contains no image ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return tree.root, [file for file in files if file not in beside], tree.faults


def _remarks_on(tree: Tree, beside: dict[Path, Path]) -> Iterator[str]:
    """One line for each kind of file that was passed over.

    `beside` maps masks to the images beside them.
    """
    if tree.left_out:
        yield f"skipped, since they are not images: {suffix_counts(tree.left_out)}"
    if tree.folders_left_out:
        yield tree.remark_on_folders()
    if beside:
        mask, image = next(iter(beside.items()))
        files = f"{len(beside)} file{'s' if len(beside) > 1 else ''}"
        such = f"such as {tree.relative(mask)} of {tree.relative(image)}"
        yield f"skipped, since they are masks beside their images: {files}, {such}"


def _check_out(out: Path, images: Path, classes: dict[str, Any]) -> None:
    """Raises ConfigError if labels could overwrite images or files other than labels of these classes."""
    target, source = out.resolve(), images.resolve()
    if target == (source if images.is_dir() else source.parent):
        raise ConfigError(f"-o {out} is the folder of the images; choose another one")
    if images.is_dir() and (target.is_relative_to(source) or source.is_relative_to(target)):
        raise ConfigError(f"one of -o {out} and {images} lies in the other; choose a folder beside them")
    if target.exists() and not target.is_dir():
        raise ConfigError(f"-o {out} is a file; choose a folder")
    if not target.is_dir() or not any(target.iterdir()):
        return
    if not (target / CLASSES).is_file():
        raise ConfigError(
            f"-o {out} is not empty and was not written by selftrain predict; choose a new folder"
        )
    there = {"form": "palette", **read_json(target / CLASSES)}  # earlier exports had one form only
    if any(there.get(name) != classes[name] for name in ("ignore_index", "classes")):
        raise ConfigError(f"-o {out} contains labels of other classes; choose a new folder")
    coded = classes["form"] == "values"
    if there["form"] != classes["form"] or (coded and there.get("masks") != classes["masks"]):
        raise ConfigError(f"-o {out} contains labels of another form ({there['form']}); choose a new folder")


def _read(file: Path, levels: Levels | None, channels: int) -> np.ndarray | Fault:
    try:
        return read_image(file, levels, channels)
    except DataError as error:
        fault = error.args[0]
        assert isinstance(fault, Fault)
        return fault


def _save(save: Callable[[Path, np.ndarray], None], path: Path, labels: np.ndarray) -> Fault | None:
    try:
        save(path, labels)
    except OSError as error:
        if error.errno in STORAGE_ERRNOS | OPEN_FILES_ERRNOS:
            raise
        return Fault(
            str(path), f"cannot be written ({error.strerror})", "rename the image or choose another folder"
        )
    return None
