from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawn_folders import NAMED, ids, mask, pairs, picture, spec
from PIL import Image

from selftrain.data.division import Pool, class_shares, divided
from selftrain.data.load import load
from selftrain.data.sample import Sample
from selftrain.data.sources.shapes import Drawing
from selftrain.errors import DataError

pytestmark = pytest.mark.promise(
    "layouts and names of files (doubles, case, Unicode, links, missing masks): handled, or a fault that names them"
)


def test_images_beyond_the_label_budget_become_unlabelled_and_keep_their_masks(by_folders: Path):
    data = load(spec(by_folders, splits=NAMED | {"labels": 2, "group": "^([^_]+)_"}))
    assert [sample.id[-3] for sample in data.labelled] == ["a", "b"]
    assert len(data.unlabelled) == 2 and all(sample.read_mask() is not None for sample in data.unlabelled)


def test_the_budget_does_not_move_val_and_test(tmp_path: Path):
    pairs(tmp_path, [f"{i:02d}" for i in range(20)])
    whole, few = (load(spec(tmp_path, splits={"labels": labels})) for labels in (0, 3))
    assert ids(whole)["val"] == ids(few)["val"] and ids(whole)["test"] == ids(few)["test"]
    assert len(few.labelled) == 3 and len(few.unlabelled) == len(whole.labelled) - 3


def test_stratified_labels_show_every_class(tmp_path: Path):
    for i in range(20):
        picture(tmp_path / "images" / f"{i:02d}.png")
        mask(tmp_path / "masks" / f"{i:02d}.png", int(i >= 16))
    picture(tmp_path / "images" / "val" / "v.png")
    mask(tmp_path / "masks" / "val" / "v.png")
    splits = {"val": "val", "test_fraction": 0.0, "labels": 5, "choose": "stratified"}
    for seed in range(3):
        data = load(spec(tmp_path, splits=splits | {"seed": seed}))
        assert sorted(int(sample.read_mask().max()) for sample in data.labelled) == [0, 0, 0, 0, 1]
    assert data.test == []


# --- splits that a source names


def scenes(*names: str) -> list[Sample]:
    return [
        Sample(name, Drawing("image", 0, "val", 0), Drawing("mask", 0, "val", 0), name=name) for name in names
    ]


def test_named_splits_are_taken_as_they_are_and_the_others_made():
    splits = spec("", splits={"test_fraction": 0.5}).splits
    pool = Pool(scenes("a", "b", "c", "d"), scenes("z", "y"), scenes("v"), None)
    labelled, unlabelled, val, test = divided(pool, 6, splits, copies=())
    assert [sample.id for sample in val] == ["v"] and [sample.id for sample in unlabelled] == ["y", "z"]
    assert len(test) == 2 and sorted(sample.id for sample in labelled + test) == ["a", "b", "c", "d"]
    assert divided(replace(pool, test=[]), 6, splits, copies=()) == (pool.train, unlabelled, val, [])


def test_a_val_split_without_a_mask_is_refused():
    with pytest.raises(DataError, match=r"data\.splits\.val='v' contains no image with a mask"):
        divided(Pool(scenes("a", "b"), [], [], []), 6, spec("", splits={"val": "v"}).splits, copies=())


def test_the_share_of_a_class_leaves_out_ignored_pixels(by_folders: Path):
    file = by_folders / "masks" / "train" / "a_1.png"
    Image.fromarray(np.array([[0, 1, 1, 1, 255, 255]] * 4, np.uint8)).save(file)
    sample = load(spec(by_folders, splits=NAMED)).labelled[0]
    assert class_shares(sample, 2).tolist() == [0.25, 0.75]
    mask(file, 255)
    assert class_shares(sample, 2).tolist() == [0, 0]
