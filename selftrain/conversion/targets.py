"""The formats that masks are converted to. Each function writes a folder that `selftrain` reads again."""

import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from selftrain.conversion.originals import Originals, Picture
from selftrain.data.annotations import FORMATS, panoptic
from selftrain.data.annotations.shape import Described
from selftrain.data.annotations.trace import shapes_of
from selftrain.data.faults import Fault
from selftrain.data.images import decode, geometry, to_rgb
from selftrain.data.sample import Source
from selftrain.data.sources import voc as voc_layout
from selftrain.data.sources.files import ImageFile
from selftrain.data.storage import content_of
from selftrain.errors import ConfigError, DataError
from selftrain.files import write_bytes
from selftrain.ids import IGNORE
from selftrain.log import progress
from selftrain.report.palette import save_plain_png

WITHOUT_PNG = ("CMYK", "YCbCr", "LAB", "HSV")  # modes of pictures that PNG lacks
UPRIGHT = "images have an EXIF turn, or are no files: they are written upright, as PNG"


@dataclass
class Output:
    """A folder that is being written."""

    folder: Path
    originals: Originals
    remarks: Counter[str] = field(default_factory=Counter)

    def pictures(self, images: str = "images") -> Iterator[tuple[Picture, str, np.ndarray]]:
        """Each picture, its path below the folder `images` with suffix, and its class ids (H, W) uint8.

        The image is written to the folder, if there is one. Raises DataError.
        """
        with progress("convert", len(self.originals.pictures)) as show:
            for done, one in enumerate(self.originals.pictures, start=1):
                ids = one.read()
                suffix = self._image(one, ids, self.folder / images / one.path) if one.image else ".png"
                yield one, f"{one.path}{suffix}", ids
                show(done)

    def _image(self, picture: Picture, ids: np.ndarray, target: Path) -> str:
        """Write the image to `target` and a suffix, which is returned."""
        source = picture.image
        assert source
        if source.size and source.size != ids.shape:
            shown = [f"{height}x{width}" for height, width in (ids.shape, source.size)]
            what = f"has a mask of {shown[0]}, but is {shown[1]} (height x width)"
            raise DataError(Fault(source.name, what, "name the folder that was predicted by --images"))
        if isinstance(source, ImageFile) and geometry(source.path)[1] == 1:
            content, suffix = content_of(source.path), source.path.suffix
        else:
            content, suffix = _png(_upright(source)), ".png"
            self.remarks[UPRIGHT] += 1
        write_bytes(target.with_name(target.name + suffix), content)
        return suffix


def _upright(source: Source) -> Image.Image:
    if not isinstance(source, ImageFile):
        return Image.fromarray(source.read())
    picture = decode(source.path)
    return to_rgb(source.path, picture) if picture.mode in WITHOUT_PNG else picture


def _png(picture: Image.Image) -> bytes:
    content = io.BytesIO()
    picture.save(content, format="PNG")
    return content.getvalue()


def shapes(output: Output, form_name: str, *, bitmaps: bool = False) -> dict[str, Any]:
    """Files of an annotation program, with outlines or bitmaps. The background is not drawn."""
    form, originals = FORMATS[form_name], output.originals
    drawn = {number: name for number, name in enumerate(originals.classes) if number != originals.background}
    ignored = _unused("ignore", originals.classes) if originals.background is not None else ""
    names = list(drawn.values())  # of the categories; ignored pixels are the last one
    folder = form.folder or ("images" if form.each else "annotations")
    pages: dict[str, list[Described]] = {split: [] for split in originals.splits}
    for picture, image, ids in output.pictures():
        if ignored and IGNORE not in drawn and (ids == IGNORE).any():
            drawn[IGNORE] = ignored
            names.append(ignored)
        output.remarks.update(_of_ignored(ids, ignored))
        found = shapes_of(ids, drawn, bitmaps=bitmaps, several=form.several, remarks=output.remarks)
        page = Described(image, tuple(found), (ids.shape[0], ids.shape[1]))
        if form.each:
            write_bytes(output.folder / folder / f"{picture.path}{form.suffix}", form.write([page], names))
        else:
            pages[picture.split].append(page)
    for split, described in pages.items() if not form.each else ():
        place = output.folder / folder / f"{split or 'default'}{form.suffix}"
        write_bytes(place, form.write(described, names))
    if form.beside:
        name, content = form.beside
        write_bytes(output.folder / name, content(names, originals.splits))
    background = originals.classes[originals.background] if originals.background is not None else ""
    ignore = [ignored] if IGNORE in drawn else []
    return {"format": form_name, "annotations": folder, "background": background, "ignore": ignore}


def _of_ignored(ids: np.ndarray, category: str) -> dict[str, int]:
    if not (ids == IGNORE).any():
        return {}
    how = f"they are shapes of the category {category!r}" if category else "no shape covers them"
    return {f"images have ignored pixels: {how}": 1}


def _unused(name: str, names: Sequence[str]) -> str:
    while name in names:
        name += "_"
    return name


def png(output: Output) -> dict[str, Any]:
    """Grey PNGs of class ids; 255 is ignored."""
    for picture, _, ids in output.pictures():
        save_plain_png(output.folder / "masks" / f"{picture.path}.png", ids)
    return {"format": "folder", "masks": "masks"}


def coco_panoptic(output: Output) -> dict[str, Any]:
    """COCO panoptic: every class is one segment of a picture."""
    rows: dict[str, list[dict[str, Any]]] = {split: [] for split in output.originals.splits}
    for picture, image, ids in output.pictures():
        file = f"{picture.path}.png"
        write_bytes(output.folder / "panoptic" / file, panoptic.png(ids))
        row = {"image": image, "png": file, "size": ids.shape, "segments": panoptic.segments(ids)}
        rows[picture.split].append(row)
    for split, found in rows.items():
        place = output.folder / "annotations" / f"panoptic_{split or 'default'}.json"
        write_bytes(place, panoptic.document(found, output.originals.classes))
    colours = panoptic.colours(len(output.originals.classes))
    return {"format": "folder", "masks": "panoptic", "colours": colours, "ignore_colours": [[0, 0, 0]]}


def voc(output: Output) -> dict[str, Any]:
    """Pascal VOC: JPEGImages, palette PNGs in SegmentationClass, lists and labelmap.txt."""
    classes, lists = output.originals.classes, dict[str, list[str]]()
    if any(":" in name for name in classes):
        raise ConfigError("labelmap.txt of VOC cannot name a class with a colon: rename it in data.classes")
    for one in output.originals.pictures:
        if "," in one.path or "\t" in one.path:
            what = "has a comma or a tab in its name, which separates columns in VOC's lists"
            raise DataError(Fault(one.path, what, "rename the image and its mask"))
    for picture, _, ids in output.pictures("JPEGImages"):
        mask = Image.fromarray(ids)
        mask.putpalette(voc_layout.colours().tobytes())
        write_bytes(output.folder / "SegmentationClass" / f"{picture.path}.png", _png(mask))
        lists.setdefault(picture.split or "default", []).append(picture.path)
    for split, names in lists.items():
        content = "".join(f"{name}\n" for name in names)
        write_bytes(output.folder / voc_layout.LISTS / f"{split}.txt", content.encode())
    write_bytes(output.folder / "labelmap.txt", voc_layout.label_map(classes).encode())
    return {"format": "voc"}


TARGETS: dict[str, Callable[[Output], dict[str, Any]]] = {  # by the names of TO
    "png": png,
    "voc": voc,
    "coco-panoptic": coco_panoptic,
    **{name: partial(shapes, form_name=name) for name in FORMATS},
    **{
        f"{name}-rle": partial(shapes, form_name=name, bitmaps=True)
        for name, form in FORMATS.items()
        if form.bitmaps
    },
}
