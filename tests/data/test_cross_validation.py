"""Cross-validation and stratified splits of a data set of files (data.splits.fold, stratify)."""

import numpy as np
import pytest
from PIL import Image

from selftrain.data.load import load
from selftrain.datasets import spec_of
from selftrain.errors import ConfigError, DataError
from selftrain.preflight import check
from selftrain.settings import compose


@pytest.fixture
def root(tmp_path):
    """Twelve images of 8x8 pixels in six scenes; scene c and d show class 1, by a quarter and by a half."""
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for number in range(12):
        scene = "abcdef"[number // 2]
        mask = np.zeros((8, 8), np.uint8)
        mask[: {"c": 2, "d": 4}.get(scene, 0)] = 1
        Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(tmp_path / f"images/{scene}{number}.png")
        Image.fromarray(mask).save(tmp_path / f"masks/{scene}{number}.png")
    return tmp_path


def loaded(root, *settings, copies=(), strict=True):
    common = [
        "data=folder",
        f"data.root={root}",
        "data.classes=[ground,thing]",
        "data.splits.test_fraction=0",
        "data.unlabelled=",
    ]
    return load(spec_of(compose([*common, *settings]).data), copies=copies, strict=strict)


def names(samples):
    return [one.name.rpartition("/")[2] for one in samples]


def test_each_image_is_in_val_of_one_fold_and_trains_the_others(root):
    parts = [loaded(root, f"data.splits.fold=[{fold},4]") for fold in range(4)]
    assert sorted(name for part in parts for name in names(part.val)) == sorted(
        [*names(parts[0].labelled), *names(parts[0].val)]
    )
    for part in parts:
        assert len(part.val) == 3 and len(part.labelled) == 9 and not part.test and not part.unlabelled
        assert not {*names(part.labelled)} & {*names(part.val)}
    assert "val is fold 1 of the folds 0 to 3: 3 of 12 labelled images" in parts[1].warnings


def test_groups_and_copies_stay_in_one_fold(root):
    ids = [one.id for one in loaded(root, "data.splits.fold=[0,3]").labelled][:2]
    for fold in range(3):
        found = loaded(root, f"data.splits.fold=[{fold},3]", "data.splits.group=([a-f])[0-9]+")
        assert len(found.val) == 4 and len({name[0] for name in names(found.val)}) == 2
        alike = loaded(root, f"data.splits.fold=[{fold},3]", copies=[ids])
        assert len({*ids} & {one.id for one in alike.val}) in (0, 2)


def test_folds_and_made_splits_have_like_classes_if_they_are_stratified(root):
    grouped = ("data.splits.group=([a-f])[0-9]+", "data.splits.stratify=true")
    for seed in range(4):
        drawn = f"data.splits.seed={seed}"
        for fold in range(2):
            found = loaded(root, f"data.splits.fold=[{fold},2]", *grouped, drawn)
            assert len({*"cd"} & {name[0] for name in names(found.val)}) == 1
        half = loaded(root, "data.splits.val_fraction=0.5", *grouped, drawn)
        assert len({*"cd"} & {name[0] for name in names(half.val)}) == 1 and len(half.val) == 6


def test_a_budget_of_masks_is_divided_and_a_named_val_takes_no_part(root):
    (root / "val.txt").write_text("images/a0.png\nimages/a1.png\n")
    found = loaded(root, "data.splits.val=val.txt", "data.splits.labels=6", "data.splits.fold=[2,3]")
    assert len(found.labelled) == 4 and len(found.val) == 2 and len(found.unlabelled) == 4
    everywhere = names([*found.labelled, *found.val, *found.unlabelled])
    assert len(everywhere) == 10 and not {"a0", "a1", "a0.png", "a1.png"} & {*everywhere}
    assert found.warnings[-1].endswith("; the 2 val images of the data set take no part")


def test_more_folds_than_groups_and_folds_that_do_not_exist_are_refused(root):
    with pytest.raises(ConfigError, match=r"data\.splits\.fold, the number of folds=7: .* only 6 groups"):
        loaded(root, "data.splits.fold=[0,7]", "data.splits.group=([a-f])[0-9]+")
    for wrong in ("[4,4]", "[0,1]", "[3]"):
        with pytest.raises(ConfigError, match=r"data\.splits\.fold"):
            loaded(root, f"data.splits.fold={wrong}")


def test_a_fold_of_a_run_whose_images_keep_their_split_is_refused(root):
    cfg = compose(["recipe=supervised", "base=runs/first", "data.splits.fold=[0,3]"])
    with pytest.raises(ConfigError, match="images keep their split; remove one of them"):
        check(cfg)


def test_an_unreadable_mask_stops_a_run_and_leaves_verify_its_list(root):
    (root / "masks/b2.png").write_bytes(b"no picture")
    for settings in (["data.splits.fold=[0,3]"], []):
        with pytest.raises(DataError, match="b2"):
            loaded(root, *settings, "data.splits.stratify=true")
        found = loaded(root, *settings, "data.splits.stratify=true", strict=False)
        assert len(found.labelled) + len(found.val) == 12
