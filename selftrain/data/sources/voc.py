"""The layout of VOCdevkit (Everingham et al., PASCAL VOC), also as CVAT and Datumaro export it.

* JPEGImages/, and palette or RGB PNGs in SegmentationClass/;
* ImageSets/Segmentation/{train,val,test}.txt, or default.txt: lists of names;
* labelmap.txt, if there is one: lines such as background:0,0,0:: with the names and colours of the classes.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from selftrain.data.dataset import DataSet
from selftrain.data.faults import Fault
from selftrain.data.sample import Copies
from selftrain.data.sources import folder
from selftrain.data.sources.named import root_of
from selftrain.data.spec import Spec
from selftrain.data.storage import open_regular
from selftrain.errors import ConfigError, DataError

LISTS = "ImageSets/Segmentation"
VOID = [224, 224, 192]  # the colour of VOC's outlines, index 255
CODES = ("values", "colours", "threshold")


def data_set(spec: Spec, copies: Copies) -> DataSet:
    """VOCdevkit: JPEGImages, SegmentationClass, ImageSets and, if there is one, labelmap.txt."""
    return folder.data_set(filled(spec, root_of(spec)), copies)


def filled(spec: Spec, root: Path) -> Spec:
    """The settings, with the places, lists and classes of VOC where they are not set. Raises DataError."""
    images = spec.images if "images" in spec.changed else "JPEGImages"
    masks = spec.masks if "masks" in spec.changed else "SegmentationClass"
    lists = {split: f"{LISTS}/{split}.txt" for split in ("train", "val", "test")}
    if not (root / lists["train"]).is_file():
        lists["train"] = f"{LISTS}/default.txt"
    found: dict[str, Any] = {
        split: name
        for split, name in lists.items()
        if f"splits.{split}" not in spec.changed and (root / name).is_file()
    }
    spec = replace(spec, splits=replace(spec.splits, **found), images=images, masks=masks)
    if "test" in found and not _has_masks(spec, root):
        spec = replace(spec, splits=replace(spec.splits, test=""))  # the masks of VOC's tests are not public
    labels = root / "labelmap.txt"
    return _with_labels(spec, labels) if labels.is_file() else spec


def colours() -> np.ndarray:
    """The colour map (256, 3) uint8 of VOC (VOClabelcolormap): the bits of an index, spread over RGB."""
    indices, found = np.arange(256), np.zeros((256, 3), np.uint8)
    for place in range(8):
        for channel in range(3):
            bit = (indices >> (3 * place + channel)) & 1
            found[:, channel] |= (bit << (7 - place)).astype(np.uint8)
    return found


def label_map(classes: Sequence[str]) -> str:
    """The labelmap.txt of classes with VOC's colours."""
    rows = [
        f"{name}:{','.join(map(str, colour))}::"
        for name, colour in zip(classes, colours().tolist(), strict=False)
    ]
    return "\n".join(["# label:color_rgb:parts:actions", *rows, ""])


def _has_masks(spec: Spec, root: Path) -> bool:
    """Whether the first image of the test list has a mask."""
    name = (_lines(root / spec.splits.test) or [""])[0].split()[:1]
    return bool(name) and (root / spec.masks / f"{name[0]}.png").is_file()


def _with_labels(spec: Spec, file: Path) -> Spec:
    """The settings with the classes and colours of labelmap.txt, where they are not set."""
    if any(name in spec.changed for name in CODES):
        return spec
    colours = dict(_label(line, file) for line in _lines(file))
    classes = spec.classes or list(colours)
    unknown = [name for name in classes if name not in colours]
    if unknown:
        raise ConfigError(
            f"data.classes names {unknown[0]!r}, but {file} has {', '.join(colours)}: "
            "take these, or set data.values"
        )
    settings: dict[str, Any] = {"classes": classes, "colours": [colours[name] for name in classes]}
    if "ignore_colours" not in spec.changed and VOID not in settings["colours"]:
        settings["ignore_colours"] = [VOID]
    return replace(spec, **settings)


def _label(line: str, file: Path) -> tuple[str, list[int]]:
    """The name and the colour of a line such as road:128,64,128::."""
    try:
        name, colour, *_ = line.split(":")
        red, green, blue = (int(number) for number in colour.split(","))
    except ValueError:
        what = f"has the line {line!r}, which is not name:red,green,blue::"
        raise DataError(Fault(str(file), what, "mend it, or remove the file and set data.classes")) from None
    return name, [red, green, blue]


def _lines(file: Path) -> list[str]:
    with open_regular(file) as stream:
        lines = [line.strip() for line in stream.read().decode("utf-8-sig", "replace").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]
