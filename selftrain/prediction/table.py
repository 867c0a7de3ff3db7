"""predictions.csv: a row for each image, with the area and mean confidence of each class and a score."""

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from selftrain import quality
from selftrain.errors import ConfigError
from selftrain.files import TEMPORARY

CSV = "predictions.csv"
FACTS = ("image", "height", "width", "confidence", "score")


class Areas:
    """Pixels and sums of confidence by class, and of pixels without one, of an image or of its parts."""

    def __init__(self, classes: int):
        self.pixels, self.sure = np.zeros(classes + 1), np.zeros(classes + 1)

    def add(self, ids: np.ndarray, confidence: np.ndarray) -> None:
        """Add a part: ids and confidence, each (H, W)."""
        which, length = np.minimum(ids.ravel(), len(self.pixels) - 1), len(self.pixels)
        self.pixels += np.bincount(which, minlength=length)
        self.sure += np.bincount(which, weights=confidence.ravel().astype(np.float64), minlength=length)


@dataclass
class Table:
    """predictions.csv of an output folder, which grows row by row."""

    classes: Sequence[str]
    line: dict[str, Any] | None  # "quality" of the card
    _names: set[str] = field(default_factory=set, init=False)
    _repeated: bool = field(default=False, init=False)
    _file: Any = field(default=None, init=False)

    @property
    def heading(self) -> list[str]:
        """The names of the columns."""
        return [*FACTS, *[f"{what} of {name}" for name in self.classes for what in ("pixels", "confidence")]]

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def open(self, path: Path) -> None:
        """Continue a table, or begin one. A row that a kill has torn is removed.

        Raises ConfigError for a table of other columns.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _mend(path)
            with open(path, newline="") as file:
                rows = csv.reader(file)
                heading = next(rows, None)
                if heading not in (None, self.heading):
                    raise ConfigError(f"{path} has other columns; remove it, or choose a new folder")
                self._names = {row[0] for row in rows}
        new = not path.exists() or not path.stat().st_size
        self._file, self._path = open(path, "a", newline=""), path  # noqa: SIM115  (closed by `close`)
        if new:
            self._write(self.heading)

    def add(self, name: str, size: tuple[int, int], areas: Areas) -> None:
        """Add the row of an image of `size` (height, width)."""
        sure = areas.sure.sum() / max(areas.pixels.sum(), 1)
        score = quality.expected(self.line, sure)
        row = [name, *size, f"{sure:.4f}", "" if score is None else f"{score:.4f}"]
        for count, each in zip(areas.pixels[:-1], areas.sure[:-1], strict=True):
            row += [str(int(count)), f"{each / count:.4f}" if count else ""]
        self._repeated |= name in self._names
        self._names.add(name)
        self._write(row)

    def close(self) -> None:
        """Keep the last row of each image, if some images have several."""
        if self._file is None:
            return
        self._file.close()
        if self._repeated:
            with open(self._path, newline="") as file:
                last = {row[0]: place for place, row in enumerate(csv.reader(file))}
            kept, temporary = set(last.values()), self._path.with_name(f".{CSV}{TEMPORARY}")
            with open(self._path, newline="") as file, open(temporary, "w", newline="") as new:
                rows = csv.writer(new)
                rows.writerows(row for place, row in enumerate(csv.reader(file)) if place in kept)
            os.replace(temporary, self._path)

    def _write(self, row: Sequence[object]) -> None:
        """Write a row as a whole, so that a kill tears no earlier one."""
        text = io.StringIO(newline="")
        csv.writer(text).writerow(row)
        self._file.write(text.getvalue())
        self._file.flush()


def _mend(path: Path) -> None:
    """Remove an unfinished last line."""
    with open(path, "rb+") as file:
        length = file.seek(0, os.SEEK_END)
        while length:
            start = max(0, length - 4096)
            file.seek(start)
            end = file.read(length - start).rfind(b"\n")
            if end >= 0:
                file.truncate(start + end + 1)
                return
            length = start
        file.truncate(0)
