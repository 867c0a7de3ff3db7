"""CVAT for images 1.1: one XML with an `image` element for each picture.

Source: https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/
"""

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from selftrain.data.annotations.document import lacking
from selftrain.data.annotations.shape import (
    NO_AREA,
    Described,
    Parsed,
    Ring,
    Runs,
    Shape,
    checked,
    ellipse,
    rectangle,
    ring,
    runs_of,
)  # fmt: skip
from selftrain.data.faults import Fault
from selftrain.errors import DataError

KINDS = {"polygon", "box", "ellipse", "mask", "polyline", "points", "cuboid", "skeleton"}


def parse(file: Path, raw: bytes) -> Parsed:
    """The pictures of a CVAT file; z_order is the layer of a shape. Raises DataError."""
    try:
        root = ElementTree.fromstring(raw)
    except ElementTree.ParseError as error:
        raise DataError(Fault(str(file), f"is not XML ({error})", "export it from CVAT again")) from None
    if root.tag != "annotations":
        raise DataError(lacking(file, f"a CVAT file: it begins with <{root.tag}>, not with <annotations>"))
    if root.find("track") is not None:
        what = "is in the format CVAT for video"
        raise DataError(Fault(str(file), what, "export the task as CVAT for images 1.1"))
    parsed = Parsed()
    for label in root.iterfind("meta//label/name"):
        parsed.declare(label.text or "")
    for image in root.iterfind("image"):
        shapes = [_shape(file, one, parsed) for one in image if one.tag in KINDS]
        size = int(image.attrib["height"]), int(image.attrib["width"])
        parsed.described.append(
            Described(image.attrib["name"], tuple(shape for shape in shapes if shape), size)
        )
    return parsed


def write(pages: Sequence[Described], names: Sequence[str]) -> bytes:
    """The CVAT file of pictures. Every shape has one outline, or is a mask."""
    root = Element("annotations")
    SubElement(root, "version").text = "1.1"
    labels = SubElement(SubElement(SubElement(root, "meta"), "job"), "labels")
    for name in names:
        label = SubElement(labels, "label")
        SubElement(label, "name").text = name
        SubElement(label, "type").text = "any"
        SubElement(label, "attributes")
    for number, page in enumerate(pages):
        assert page.size
        height, width = map(str, page.size)
        image = SubElement(root, "image", id=str(number), name=page.image, width=width, height=height)
        for shape in page.shapes:
            kind, drawn = _drawn(shape)
            fixed = {"label": shape.category, "source": "file", "occluded": "0", "z_order": "0"}
            SubElement(image, kind, fixed | drawn)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def _drawn(shape: Shape) -> tuple[str, dict[str, str]]:
    """The kind of a shape's element, and the attributes that say which pixels it has."""
    if shape.runs is None:
        return "polygon", {"points": ";".join(f"{x},{y}" for x, y in shape.rings[0].points.tolist())}
    bitmap = shape.runs.bitmap()
    rows, columns = (np.flatnonzero(bitmap.any(axis=axis)) for axis in (1, 0))
    top, left = int(rows[0]), int(columns[0])
    runs = runs_of(bitmap[top : rows[-1] + 1, left : columns[-1] + 1])
    place = {"left": left, "top": top, "width": runs.size[1], "height": runs.size[0]}
    numbers = {name: str(number) for name, number in place.items()}
    return "mask", {"rle": ", ".join(map(str, runs.counts.tolist())), **numbers}


def _shape(file: Path, one: Element, parsed: Parsed) -> Shape | None:
    category = parsed.declare(one.attrib["label"])
    layer = int(one.get("z_order", 0))
    if one.tag == "mask":
        counts = np.array([int(number) for number in one.attrib["rle"].split(",")], np.int64)
        top, left, height, width = (int(one.attrib[name]) for name in ("top", "left", "height", "width"))
        runs = checked(Runs(counts, (height, width), (top, left)), file, f"a mask of {category!r}")
        return Shape(category, runs=runs, layer=layer)
    outline = _outline(file, one, category)
    if outline is None:
        parsed.remarks[NO_AREA] += 1
        return None
    return Shape(category, (outline,), layer=layer)


def _outline(file: Path, one: Element, category: str) -> Ring | None:
    """The outline of a polygon, box or ellipse; None for a shape without an area."""
    degrees = float(one.get("rotation", 0))
    if one.tag == "polygon":
        points = [pair.split(",") for pair in one.attrib["points"].split(";")]
        return ring(points, file, f"a polygon of {category!r}")
    if one.tag == "box":
        left, top, right, bottom = (float(one.attrib[name]) for name in ("xtl", "ytl", "xbr", "ybr"))
        return rectangle(left, top, right, bottom, degrees)
    if one.tag == "ellipse":
        x, y, rx, ry = (float(one.attrib[name]) for name in ("cx", "cy", "rx", "ry"))
        return ellipse((x, y), (rx, ry), degrees)
    return None
