"""A whole run on annotation files, as a user starts it."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from selftrain.settings.changes import differences
from selftrain.settings.compose import compose


def scenes(root: Path, count: int = 10) -> None:
    """Grey pictures with a bright square, described by polygons; two more pictures have no annotation."""
    rng = np.random.default_rng(0)
    images, objects = [], []
    for place in range(count + 2):
        left, top = (int(number) for number in rng.integers(2, 12, 2))
        pixels = rng.integers(0, 60, (32, 32, 3), np.uint8)
        pixels[top : top + 17, left : left + 17] += 150
        (root / "photos").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(root / "photos" / f"{place}.png")
        if place < count:
            corners = [left, top, left + 16, top, left + 16, top + 16, left, top + 16]
            images.append({"id": place, "file_name": f"{place}.png", "height": 32, "width": 32})
            objects.append(
                {"id": place, "image_id": place, "category_id": 4, "segmentation": [corners], "iscrowd": 0}
            )
    content = {"images": images, "annotations": objects, "categories": [{"id": 4, "name": "square"}]}
    (root / "instances.json").write_text(json.dumps(content))


def test_a_run_learns_from_coco_polygons_and_resumes(run, tmp_path: Path):
    scenes(tmp_path)
    settings = [
        "recipe=smoke", "data=folder", "data.format=coco", f"data.root={tmp_path}", "data.images=photos",
        "data.annotations=instances.json", "data.classes=[background,square]", "data.unlabelled=", "generations=[{}]",
        "train.steps=25", "train.threads=1", "export.onnx=false", f"out={tmp_path / 'run'}",
    ]  # fmt: skip
    code, said, err = run(*settings)
    assert code == 0, err
    assert "10 shapes: where two overlap, the smaller one is on top (data.order=large)" in said
    assert "2 images that no annotation file describes: taken as unlabelled" in said
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["test"]["miou"] > 0.5
    content = json.loads((tmp_path / "instances.json").read_text())
    content["annotations"][0]["segmentation"] = [[0, 0, 9, 0, 9, 9]]
    (tmp_path / "instances.json").write_text(json.dumps(content))
    code, _, err = run(*settings)
    assert code == 3 and "changed (labelled: 1 other content, e.g. photos/0)" in err


def test_the_old_name_of_the_setting_is_known_of_stored_runs_and_named_to_users():
    new = compose(["data=folder"])

    tree = asdict(new)
    old = {**tree, "data": {**tree["data"], "source": tree["data"]["format"]}}
    del old["data"]["format"]
    assert differences(old, tree) == []
    with pytest.raises(Exception, match=r"data\.source: this setting is data\.format now"):
        compose(["data=folder", "data.source=folder"])
