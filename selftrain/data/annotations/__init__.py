"""Annotation files of other programs. Each module reads and writes one format.

`draw` turns shapes into class ids, and `trace` turns class ids into shapes.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL.Image import DecompressionBombError

from selftrain.data.annotations import coco, cvat, labelme, labelstudio, yolo
from selftrain.data.annotations.shape import Described, Parsed
from selftrain.data.faults import Fault
from selftrain.data.storage import open_regular
from selftrain.errors import DataError


@dataclass(frozen=True)
class Format:
    """A format of annotation files: their suffix, and the functions that read and write one of them.

    `write` takes pictures and all categories. The file describes many pictures, unless `each` picture has a
    file. A shape has one outline, or `several`; with `bitmaps`, it may be a bitmap instead. `beside` is a
    further file that the program needs, written from the categories and the splits.

    `folder` is the usual folder of the files, if there is one. `lists` are files with names of categories;
    `names` reads them from folders.
    """

    suffix: str
    parse: Callable[[Path, bytes], Parsed]
    write: Callable[[Sequence[Described], Sequence[str]], bytes]
    each: bool = False
    several: bool = False
    bitmaps: bool = False
    beside: tuple[str, Callable[[Sequence[str], Sequence[str]], bytes]] | None = None
    folder: str = ""
    lists: tuple[str, ...] = ()
    names: Callable[[Iterable[Path]], dict[str, str]] | None = None


# What parsers raise on values of the wrong kind or range.
DAMAGED = (
    LookupError, TypeError, ValueError, AttributeError, ArithmeticError, OSError, DecompressionBombError,
)  # fmt: skip
FORMATS = {
    "coco": Format(".json", coco.parse, coco.write, several=True, bitmaps=True),
    "labelme": Format(".json", labelme.parse, labelme.write, each=True),
    "cvat": Format(".xml", cvat.parse, cvat.write, bitmaps=True),
    "labelstudio": Format(
        ".json", labelstudio.parse, labelstudio.write, bitmaps=True,
        beside=("interface.xml", labelstudio.interface),
    ),
    "yolo": Format(
        ".txt", yolo.parse, yolo.write, each=True, beside=("data.yaml", yolo.listing),
        folder="labels", lists=yolo.LISTS, names=yolo.names,
    ),
}  # fmt: skip


def read(name: str, file: Path) -> Parsed:
    """The content of an annotation file of the format `name`. Raises DataError with a Fault of the file."""
    may_be_empty = FORMATS[name].suffix == ".txt" and file.is_file() and file.stat().st_size == 0
    raw = b"" if may_be_empty else _content(file)
    try:
        return FORMATS[name].parse(file, raw)
    except DAMAGED as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        what = f"is damaged, or no {name} file ({reason})"
        raise DataError(Fault(str(file), what, "export it again, or change data.format")) from error


def _content(file: Path) -> bytes:
    with open_regular(file) as stream:
        return stream.read()
