"""The facade data set, a COCO export of Roboflow: read, and compared with PIL. Nothing is trained on it."""

import json
from pathlib import Path

import numpy as np
import pytest
from drawn_folders import spec
from PIL import Image, ImageDraw

from selftrain.data.dataset import SPLITS
from selftrain.data.load import load

ROOT = Path(__file__).parents[2] / ".." / "shared" / "data" / "facade"
FILE = "_annotations.coco.json"
CLASSES = [
    "background", "balcony-fence", "car", "facade", "fence", "non-building-infrastructure", "shop", "street",
    "traffic-infrastructure", "vegetation", "window",
]  # fmt: skip

pytestmark = pytest.mark.skipif(not ROOT.is_dir(), reason="../shared/data/facade is absent")


@pytest.fixture(scope="module")
def facade():
    splits = {"train": "train", "val": "val", "test": "test"}
    return load(
        spec(ROOT, name="facade", format="coco", images=".", annotations=FILE, classes=CLASSES, splits=splits)
    )


def test_the_splits_and_remarks(facade):
    assert [len(getattr(facade, split)) for split in SPLITS] == [424, 0, 50, 124]
    said = "\n".join(facade.warnings)
    assert "19,316 shapes" in said and "several categories have the name facade: they are merged" in said
    assert facade.faults == [] and len(facade.warnings) == 2


@pytest.mark.parametrize(
    ("split", "name", "step"), [("val", "val", 5), ("test", "test", 10), ("labelled", "train", 40)]
)
def test_every_pixel_is_what_pil_draws_of_the_file(facade, split: str, name: str, step: int):
    content = json.loads((ROOT / name / FILE).read_text())
    number = {one["id"]: CLASSES.index(one["name"]) for one in content["categories"]}
    image_of = {one["file_name"].rsplit(".", 1)[0]: one["id"] for one in content["images"]}
    samples = getattr(facade, split)
    assert {sample.id.split("/")[1] for sample in samples} == set(image_of)
    for sample in samples[::step]:
        objects = [
            one for one in content["annotations"] if one["image_id"] == image_of[sample.id.split("/")[1]]
        ]
        assert np.array_equal(sample.read_mask(), reference(objects, number)), sample.id


def reference(objects: list[dict], number: dict[int, int]) -> np.ndarray:
    """The mask by PIL: each object on a canvas of its own, pasted from the largest area to the smallest."""
    pasted = []
    for one in objects:
        (outline,) = one["segmentation"]
        canvas = Image.new("1", (512, 512))
        ImageDraw.Draw(canvas).polygon(outline, fill=1, outline=1)
        x, y = np.array(outline[::2]), np.array(outline[1::2])
        area = abs((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) / 2
        pasted.append((area, np.asarray(canvas), number[one["category_id"]]))
    mask = np.zeros((512, 512), np.uint8)
    for _, covered, value in sorted(pasted, key=lambda one: -one[0]):
        mask[covered] = value
    return mask
