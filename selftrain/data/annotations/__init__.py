"""Annotation files of other programs. Each module reads one format; `draw` turns shapes into class ids."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from PIL.Image import DecompressionBombError

from selftrain.data.annotations import coco, cvat, labelme, labelstudio, yolo
from selftrain.data.annotations.shape import Parsed
from selftrain.data.faults import Fault
from selftrain.data.storage import open_regular
from selftrain.errors import DataError


@dataclass(frozen=True)
class Format:
    """A format of annotation files: their suffix, and the function that reads one of them.

    `folder` is the usual folder of the files, if there is one. `lists` are files with names of categories;
    `names` reads them from folders.
    """

    suffix: str
    parse: Callable[[Path, bytes], Parsed]
    folder: str = ""
    lists: tuple[str, ...] = ()
    names: Callable[[Iterable[Path]], dict[str, str]] | None = None


# What parsers raise on values of the wrong kind or range.
DAMAGED = (
    LookupError, TypeError, ValueError, AttributeError, ArithmeticError, OSError, DecompressionBombError,
)  # fmt: skip
FORMATS = {
    "coco": Format(".json", coco.parse),
    "labelme": Format(".json", labelme.parse),
    "cvat": Format(".xml", cvat.parse),
    "labelstudio": Format(".json", labelstudio.parse),
    "yolo": Format(".txt", yolo.parse, "labels", yolo.LISTS, yolo.names),
}


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
