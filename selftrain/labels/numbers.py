"""A few numbers of each labelled image, by which a report chooses the images that it shows.

labels/images-00000.json ...   the numbers of the images of a shard, written before the shard

They lie beside the shards and not in them: labels keep their bytes, and the labels of older versions, which
have no such files, stay valid. Nothing but a report reads them.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selftrain.errors import IntegrityError
from selftrain.files import read_json, write_json
from selftrain.labels.record import Labelled

# confidence: its mean over the pixels
# views: the mean confidence of single views minus the confidence of their average; 0 if all views agree
# refiner, generations: shares of the pixels whose class the refiner, or the new generation, has changed
# unlike: the distance to the nearest labelled image (data.likeness)
NAMES = ("confidence", "views", "refiner", "generations", "unlike")
DIGITS = 6


def file_of(directory: Path, number: int) -> Path:
    """The file with the numbers of shard `number`."""
    return directory / f"images-{number:05d}.json"


def write(path: Path, labels: Sequence[Labelled]) -> None:
    """Write the numbers of a shard's images: a list for each name, with null for what is not known."""
    rows = [{name: round(value, DIGITS) for name, value in one.numbers.items()} for one in labels]
    write_json(path, {name: [row.get(name) for row in rows] for name in NAMES})


def read(directory: Path, sizes: Sequence[int]) -> dict[str, NDArray[np.float32]]:
    """The numbers (N,) of all images by name, for shards of `sizes` images; NaN where one is not known.

    A file that is missing or damaged counts as not known: labels are complete without it.
    """
    found = {name: np.full(sum(sizes), np.nan, np.float32) for name in NAMES}
    first = 0
    for number, size in enumerate(sizes):
        rows = {}
        with suppress(IntegrityError):
            rows = read_json(file_of(directory, number), *NAMES)
        for name in rows.keys() & found.keys():
            found[name][first : first + size] = _known(rows[name], size)
        first += size
    return found


def _known(values: object, size: int) -> NDArray[np.float32]:
    with suppress(TypeError, ValueError):
        known = np.array(values, np.float32)  # null becomes NaN
        if known.shape == (size,):
            return known
    return np.full(size, np.nan, np.float32)
