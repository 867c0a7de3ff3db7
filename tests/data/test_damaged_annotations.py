"""Annotation files with wrong values anywhere: a fault that names the file, or shapes that can be drawn."""

import base64
import copy
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from annotation_files import (
    BOX,
    HEIGHT,
    SIZE,
    WIDTH,
    coco,
    data,
    everything,
    flat,
    images,
    pictures,
    thing,
    write,
)
from PIL import Image

from selftrain.errors import ConfigError, DataError
from selftrain.ids import IGNORE

JUNK = [None, -1, 0, 1e30, 10**30, float("nan"), True, "", "x", "\0", [], {}, [[]], [1, 2], {"size": [9, 9]}]
RUNS = {"size": list(SIZE), "counts": [7, 3, 3, 3, 3, 3, 3, 3, 20]}


def bitmap() -> str:
    buffer = io.BytesIO()
    Image.fromarray(np.ones((2, 2), bool)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def labelme() -> dict:
    shapes = [
        {"label": "car", "points": BOX, "shape_type": "polygon"},
        {"label": "car", "points": BOX[::2], "shape_type": "rectangle"},
        {"label": "car", "points": BOX[::2], "shape_type": "circle"},
        {"label": "person", "points": BOX[::2], "shape_type": "mask", "mask": bitmap()},
    ]
    return {"shapes": shapes, "imagePath": "a.png", "imageHeight": HEIGHT, "imageWidth": WIDTH}


def labelstudio() -> list:
    plain = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}
    values = [
        {"points": BOX, "polygonlabels": ["car"]},
        {"x": 1, "y": 1, "width": 20, "height": 20, "rotation": 3, "rectanglelabels": ["car"]},
        {"x": 50, "y": 50, "radiusX": 20, "radiusY": 20, "rotation": 3, "ellipselabels": ["car"]},
        {"rle": [0, 0, 0, 192, 56, 145], "brushlabels": ["person"]},
    ]
    result = [{"type": "x", "value": value, **plain} for value in values[:3]]
    return [
        {"id": 1, "data": {"image": "a.png"}, "annotations": [{"was_cancelled": False, "result": result}]}
    ]


def whole_coco() -> dict:
    objects = [
        thing(0, 1, BOX, bbox=[1, 1, 2, 2]),
        {**thing(0, 2), "segmentation": RUNS},
        thing(0, 1, bbox=[1, 1, 2, 2]),
    ]
    return coco(images("a.png", "z.png"), objects)


def places(tree: object, path: tuple = ()) -> Iterator[tuple]:
    """The paths of all values in a JSON tree."""
    yield path
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in inner:
        yield from places(value, (*path, key))


def changed(tree: object, path: tuple, value: object) -> object:
    """A copy with another value at a path; without it, if the value is a KeyError."""
    if not path:
        return value
    tree = copy.deepcopy(tree)
    here = tree
    for key in path[:-1]:
        here = here[key]
    if value is KeyError:
        del here[path[-1]]
    else:
        here[path[-1]] = value
    return tree


def reads(root: Path, form: str, name: str) -> bool:
    """Whether the data set of `name` and of sound files can be read; otherwise the error must name the file."""
    try:
        found = data(root, form, images=".", annotations="labels", ignore=["rest"])
        for sample in everything(found).values():
            mask = sample.read_mask()
            assert mask is None or (mask.shape == SIZE and set(np.unique(mask)) <= {0, 1, 2, IGNORE})
    except (DataError, ConfigError) as error:
        assert name in str(error), error
        return False
    return True


@pytest.mark.parametrize(
    ("form", "content"), [("coco", whole_coco()), ("labelme", labelme()), ("labelstudio", labelstudio())]
)
def test_a_wrong_value_anywhere_is_a_fault_of_the_file_or_harmless(
    tmp_path: Path, form: str, content: object
):
    pictures(tmp_path, "a.png", "z.png", "x.png", "y.png")
    sound = json.dumps(content)
    for name in "xy":
        write(
            tmp_path / "labels" / f"{name}.json",
            sound.replace("a.png", f"{name}.png").replace("z.png", "gone.png"),
        )
    values = [*JUNK, KeyError]
    rng = np.random.default_rng(0)
    outcomes = []
    for path in places(content):
        for pick in rng.choice(len(values), 4, replace=False):
            if values[pick] is KeyError and not path:
                continue
            write(tmp_path / "labels" / "f.json", json.dumps(changed(content, path, values[pick])))
            outcomes.append(reads(tmp_path, form, "f.json"))
    assert len(outcomes) > 150 and any(outcomes) and not all(outcomes)


@pytest.mark.parametrize("form", ["cvat", "yolo"])
def test_torn_and_scrambled_text_is_a_fault_of_the_file_or_harmless(tmp_path: Path, form: str):
    pictures(tmp_path, "a.png", "x.png", "y.png")
    text = f"0 {' '.join(str(one / 8) for one in flat(BOX))}\n1 0.5 0.5 0.2 0.2\n" if form == "yolo" else (
        '<annotations><image id="0" name="a.png" width="8" height="6"><polygon label="car" '
        'points="1,1;4,1;4,3" z_order="0"/><mask label="car" rle="1, 2, 3" left="3" top="2" width="3" height="2"/>'
        '<box label="person" xtl="2.0" ytl="2.0" xbr="3.0" ybr="3.0"/></image></annotations>'
    )  # fmt: skip
    name = "a.txt" if form == "yolo" else "a.xml"
    for other in "xy":
        write(tmp_path / "labels" / f"{other}{name[1:]}", text.replace("a.png", f"{other}.png"))
    rng = np.random.default_rng(0)
    outcomes = []
    for _ in range(200):
        letters = list(text)
        for place in rng.integers(0, len(letters), rng.integers(1, 4)):
            letters[place] = '0129-.;,"<x \n'[rng.integers(13)]
        torn = "".join(letters)[: rng.integers(1, 2 * len(letters))]
        write(tmp_path / "labels" / name, torn)
        outcomes.append(reads(tmp_path, form, name))
    assert any(outcomes) and not all(outcomes)
