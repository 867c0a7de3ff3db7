from pathlib import Path

import pytest
from drawn_folders import NAMED, ids, mask, pairs, picture, spec

from selftrain.data.load import load

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
