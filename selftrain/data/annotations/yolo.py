"""YOLO polygons: a text file for each picture, a line for each object: its class and x, y, x, y, … as shares.

A line of a class and four numbers is a box (https://docs.ultralytics.com/datasets/segment/).
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import yaml

from selftrain.data.annotations.shape import ONLY_BOXES, Described, Parsed, Shape, rectangle, ring
from selftrain.data.faults import Fault
from selftrain.data.storage import open_regular
from selftrain.errors import DataError
from selftrain.files import plain_yaml

LISTS = ("classes.txt", "obj.names", "labels.txt")  # of class names; not annotations
ROUNDING = 5e-7  # shares have six decimals; a corner must not fall into the pixel before its own


def parse(file: Path, raw: bytes) -> Parsed:
    """The picture of a label file: labels/a/1.txt belongs to images/a/1.*. Categories are the numbers.

    Raises DataError.
    """
    parsed, shapes = Parsed(), list[Shape]()
    for number, line in enumerate(raw.decode("utf-8-sig").splitlines(), start=1):
        category, *rest = line.split() or [""]
        if not category:
            continue
        if not category.isdigit():
            what = f"line {number} is not a class number and coordinates"
            raise DataError(Fault(str(file), what, "name the folder of the labels by data.annotations"))
        parsed.declare(category)
        numbers = [float(one) for one in rest]
        if len(numbers) == 4:
            x, y, width, height = numbers
            box = rectangle(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            shapes.append(Shape(category, (box,), ignored=True))
            parsed.remarks[ONLY_BOXES] += 1
            continue
        outline = ring([share + ROUNDING for share in numbers], file, f"line {number}")
        if outline is None or (numbers and max(map(abs, numbers)) > 2):
            what = f"line {number} is not an outline of three or more corners as shares of the sides"
            raise DataError(Fault(str(file), what, "export the labels as YOLO segmentation again"))
        shapes.append(Shape(category, (outline,)))
    bare = str(file.with_suffix(""))
    before, labels, after = bare.rpartition("/labels/")
    image = f"{before}/images/{after}" if labels else bare
    parsed.described = [Described(image, tuple(shapes), also=(bare,), relative=True)]
    return parsed


def write(pages: Sequence[Described], names: Sequence[str]) -> bytes:
    """The label file of one picture. Every shape has one outline."""
    (page,) = pages
    assert page.size
    sides = page.size[::-1]
    lines = []
    for shape in page.shapes:
        shares = (shape.rings[0].points / sides).reshape(-1).tolist()
        lines.append(" ".join([str(names.index(shape.category)), *(f"{share:.9f}" for share in shares)]))
    return "".join(f"{line}\n" for line in lines).encode()


def listing(names: Sequence[str], splits: Sequence[str]) -> bytes:
    """The data.yaml of Ultralytics, beside the folders images and labels. It needs a val split: if there is
    none, the training images are named again."""
    folders = {split or "train": f"images/{split}".rstrip("/") for split in splits}
    train = folders.get("train", "images")
    tree = {"train": train, "val": train, **folders, "names": dict(enumerate(names))}
    return yaml.safe_dump(tree, allow_unicode=True, sort_keys=False).encode()


def names(folders: Iterable[Path]) -> dict[str, str]:
    """The class names by number, from the first YAML with `names`, or list of names, in the folders.

    Empty if there is none. Raises DataError.
    """
    for folder in folders:
        for file in [*sorted(folder.glob("*.y*ml")), *(folder / name for name in LISTS)]:
            found = _names_in(file) if file.is_file() else {}
            if found:
                return found
    return {}


def _names_in(file: Path) -> dict[str, str]:
    with open_regular(file) as stream:
        text = stream.read().decode("utf-8-sig")
    if file.name in LISTS:
        lines = [line.strip() for line in text.splitlines()]
        return {str(number): line for number, line in enumerate(lines) if line}
    try:
        given = plain_yaml(text).get("names") or {}
    except ValueError as error:
        raise DataError(
            Fault(str(file), f"cannot be read ({error})", "mend the YAML, or move it away")
        ) from None
    pairs = given.items() if isinstance(given, dict) else enumerate(given)
    return {str(number): str(name) for number, name in pairs}
