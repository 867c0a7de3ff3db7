"""Small data sets in the formats of annotation programs, and the masks that are read of them."""

import json
from pathlib import Path

import numpy as np
import pytest
from drawn_folders import picture, spec

from selftrain.data.dataset import SPLITS, DataSet
from selftrain.data.load import load
from selftrain.data.sample import Sample
from selftrain.errors import DataError

SIZE = HEIGHT, WIDTH = (6, 8)  # of the pictures
BOX = [[1, 1], [4, 1], [4, 3], [1, 3]]  # covers rows 1 to 3 and columns 1 to 4
SMALL = [[2, 2], [3, 2], [3, 3], [2, 3]]  # covers rows 2 and 3 and columns 2 and 3
ALL = {"test_fraction": 0.0}


def grid(*boxes: tuple[int, int, int, int, int], size: tuple[int, int] = SIZE) -> np.ndarray:
    """A mask of boxes: top, bottom, left, right (all inclusive) and value, one over the other, on 0."""
    mask = np.zeros(size, np.uint8)
    for top, bottom, left, right, value in boxes:
        mask[top : bottom + 1, left : right + 1] = value
    return mask


def pictures(root: Path, *names: str, size: tuple[int, int] = SIZE) -> None:
    for value, name in enumerate(names):
        picture(root / name, 10 + value, size)


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def flat(points: list[list[float]]) -> list[float]:
    return [number for point in points for number in point]


def data(root: Path, form: str, *, splits: dict | None = None, **settings) -> DataSet:
    settings = {"name": form, "format": form, "classes": ["background", "car", "person"]} | settings
    return load(spec(root, splits=ALL if splits is None else splits, **settings))


def everything(found: DataSet) -> dict[str, Sample]:
    """Samples by the name of their image."""
    return {sample.id.rpartition("/")[2]: sample for split in SPLITS for sample in getattr(found, split)}


def masks(root: Path, form: str, **settings) -> dict[str, np.ndarray]:
    """The masks of all images by their names."""
    samples = everything(data(root, form, **settings))
    return {name: sample.read_mask() for name, sample in samples.items() if sample.mask}


def notes(root: Path, form: str, name: str = "a", **settings) -> tuple[str, ...]:
    """How the shapes of an image were placed."""
    sample = everything(data(root, form, **settings))[name]
    assert sample.mask
    return sample.mask.examine().notes


def fault(root: Path, form: str, **settings) -> str:
    with pytest.raises(DataError) as caught:
        data(root, form, **settings)
    return str(caught.value)


# --- COCO


def coco(images: list[dict], objects: list[dict], categories: list[tuple[int, str]] | None = None) -> dict:
    """The content of a COCO file, with the members that the format asks for."""
    categories = categories or [(1, "car"), (2, "person")]
    return {
        "info": {"year": "2023"},
        "licenses": [{"id": 1, "url": "", "name": "CC BY 4.0"}],
        "categories": [{"id": number, "name": name, "supercategory": "none"} for number, name in categories],
        "images": [{"license": 1, "height": SIZE[0], "width": SIZE[1], **image} for image in images],
        "annotations": [{"id": place, "iscrowd": 0, **one} for place, one in enumerate(objects)],
    }


def images(*names: str, **more) -> list[dict]:
    return [{"id": place, "file_name": name, **more} for place, name in enumerate(names)]


def thing(image: int, category: int, *outlines: list[list[float]], **more) -> dict:
    return {
        "image_id": image,
        "category_id": category,
        "segmentation": [flat(one) for one in outlines],
        **more,
    }


def two(root: Path, objects: list[dict], name: str = "a.png", **more) -> None:
    """Two pictures and the COCO file beside them; the second picture has no object."""
    pictures(root / "images", "a.png", "z.png")
    write(root / "images" / "_annotations.coco.json", coco(images(name, "z.png", **more), objects))
