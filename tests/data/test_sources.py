import pickle
from pathlib import Path

import numpy as np
import pytest
from drawn_folders import NAMED, config, ids, mask, pairs, picture
from omegaconf import OmegaConf
from PIL import Image

from selftrain.config import DataConfig, SplitConfig
from selftrain.data import shapes, sources
from selftrain.data.faults import FaultsError
from selftrain.data.sources import SPLITS, levels_of, load, manifest, with_levels, without
from selftrain.errors import ConfigError, DataError

pytestmark = pytest.mark.promise(
    "layouts and names of files (doubles, case, Unicode, links, missing masks): handled, or a fault that names them"
)

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"
RECIPES = Path(__file__).parents[2] / "recipes" / "data"


# --- settings


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"source": "zip"}, "shapes, folder"),
        ({"classes": []}, "data.classes"),
        ({"classes": ["a", "a"]}, "different"),
        ({"values": [1]}, "1 entries for 2"),
        ({"values": [0, 255], "ignore": [255, 254]}, r"data\.ignore=\[\]"),
        ({"values": [0, 7], "ignore": [7]}, "different numbers"),
        ({"values": [3, 3]}, "different numbers"),
        ({"values": [0, 70000]}, "65535"),
        ({"values": [0, [1, 0]]}, "different numbers"),
        ({"values": [0, [1, "road"]]}, r"data\.values=\[0,\[1,2\]\]"),
        ({"values": [0, []]}, "without a value"),
        ({"ignore": ["others"]}, r"data\.ignore=rest"),
        ({"range": ["12 bits"]}, r"data\.range=\[0,4095\]"),
        ({"colours": [[0, 0, 0]]}, "1 entries for 2"),
        ({"colours": [[0, 0, 0], [0, 0, 256]]}, "0 to 255"),
        ({"colours": [[0, 0, 0], [0, 0, 0]]}, "different colours"),
        ({"colours": [[0, 0, 0], [1, 1, 1]], "values": [0, 1]}, "two ways"),
        ({"ignore_colours": [[0, 0, 0]]}, "0 entries for 2"),
        ({"size": [3]}, "height, width"),
        ({"size": [0, 3]}, "height, width"),
        ({"images": "../other"}, r"data\.images.*below data\.root"),
        ({"unlabelled": "/other"}, r"data\.unlabelled.*below data\.root"),
        ({"masks": "images"}, "same folder"),
        ({"splits": {"val_fraction": 0.0}}, "val_fraction"),
        ({"splits": {"labels": 9}}, r"labels=9.*3 images"),
    ],
)
def test_wrong_settings_say_what_is_right(tmp_path: Path, settings: dict, says: str):
    pairs(tmp_path, ["1", "2", "3", "4", "5"])
    with pytest.raises(ConfigError, match=says):
        load(config(tmp_path, **settings))


def test_an_empty_root_says_how_to_give_it():
    with pytest.raises(ConfigError, match=r"data\.root=/path"):
        load(config(""))


def test_places_that_do_not_exist_are_named(tmp_path: Path):
    with pytest.raises(DataError, match="is no folder"):
        load(config(tmp_path / "none"))
    with pytest.raises(DataError, match=r"data\.images: there is no folder"):
        load(config(tmp_path))
    pairs(tmp_path, ["1", "2", "3"])
    with pytest.raises(DataError, match=r"data\.splits\.val: there is no folder .*valid"):
        load(config(tmp_path, splits={"val": "valid"}))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no image below"):
        load(config(tmp_path, images="empty"))


def test_a_class_of_255_needs_no_second_setting(by_folders: Path):
    mask(by_folders / "masks" / "train" / "a_1.png", 255)
    assert (load(config(by_folders, splits=NAMED, values=[1, 255])).labelled[0].read_mask() == 1).all()
    assert (load(config(by_folders, splits=NAMED, values=[1, 0])).labelled[0].read_mask() == 255).all()


def test_faults_of_files_come_before_the_setting_that_they_make_impossible(tmp_path: Path):
    pairs(tmp_path, ["1", "2", "3", "4", "5"])
    for name in "123":
        (tmp_path / "masks" / f"{name}.png").rename(tmp_path / "masks" / f"{name}.jpg")
    with pytest.raises(DataError, match=r"^masks/1\.jpg: is a JPEG.*2 more faults alike"):
        load(config(tmp_path))
    with pytest.raises(FaultsError, match="is a JPEG") as caught:
        load(config(tmp_path), strict=False)
    assert [one.file for one in caught.value.faults] == ["masks/1.jpg", "masks/2.jpg", "masks/3.jpg"]
    few = {"val": "val.txt", "test_fraction": 0.0, "labels": 2}
    (tmp_path / "val.txt").write_text("images/4.png\n")
    with pytest.raises(ConfigError, match=r"labels=2.*the files have faults, too: masks/1\.jpg: is a JPEG.*and 2 more"):
        load(config(tmp_path, splits=few))


# --- labels


def test_images_beyond_the_label_budget_become_unlabelled_and_keep_their_masks(by_folders: Path):
    data = load(config(by_folders, splits=NAMED | {"labels": 2, "group": "^([^_]+)_"}))
    assert [sample.id[-3] for sample in data.labelled] == ["a", "b"]
    assert len(data.unlabelled) == 2 and all(sample.read_mask() is not None for sample in data.unlabelled)


def test_the_budget_does_not_move_val_and_test(tmp_path: Path):
    pairs(tmp_path, [f"{i:02d}" for i in range(20)])
    whole, few = (load(config(tmp_path, splits={"labels": labels})) for labels in (0, 3))
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
        data = load(config(tmp_path, splits=splits | {"seed": seed}))
        assert sorted(int(sample.read_mask().max()) for sample in data.labelled) == [0, 0, 0, 0, 1]
    assert data.test == []


# --- reading


def test_samples_come_at_the_size_of_the_settings(by_folders: Path):
    sample = load(config(by_folders, splits=NAMED, size=[8, 3])).labelled[1]
    assert sample.read_image().shape == (8, 3, 3) and sample.read_mask().shape == (8, 3)
    assert (sample.read_mask() == 1).all()


def test_a_mask_of_another_size_is_refused_though_it_would_be_resized(by_folders: Path):
    mask(by_folders / "masks" / "train" / "a_1.png", size=(6, 4))
    sample = load(config(by_folders, splits=NAMED, size=[8, 8])).labelled[0]
    with pytest.raises(DataError, match="its image is 4x6"):
        sample.read_mask()


def test_several_values_of_a_class_and_the_ignored_rest_reach_the_masks(by_folders: Path):
    file = by_folders / "masks" / "train" / "a_1.png"
    Image.fromarray(np.array([[0, 1, 2, 7, 9, 0]] * 4, np.uint8)).save(file)
    sample = load(config(by_folders, splits=NAMED, values=[0, [1, 2]], ignore=["rest"])).labelled[0]
    assert sample.read_mask()[0].tolist() == [0, 1, 1, 255, 255, 0]


def test_16_bit_images_are_read_by_the_range_of_the_settings(by_folders: Path):
    file = by_folders / "images" / "train" / "a_1.png"
    Image.fromarray(np.full((4, 6), 2000, np.uint16)).save(file)
    for settings, value in (({}, 2000 >> 8), ({"range": [0, 4000]}, 128), ({"range": ["percentile"]}, 2000 >> 8)):
        data = load(config(by_folders, splits=NAMED, **settings))
        assert (data.labelled[0].read_image() == value).all()
    data = with_levels(data, [1000, 3000])  # as it was measured
    assert (data.labelled[0].read_image() == 128).all() and (data.labelled[1].read_image() == 1).all()
    assert with_levels(data, None) == data


def test_the_range_is_measured_over_labelled_and_unlabelled_images(by_folders: Path):
    for name, value in (("images/train/a_1", 500), ("unlabelled/u", 2500), ("images/val/c_1", 60_000)):
        (by_folders / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((4, 6), value, np.uint16)).save(by_folders / f"{name}.png")
    data = load(config(by_folders, splits=NAMED, unlabelled="unlabelled"))
    assert levels_of(data, ["percentile"]) == (500, 2500)
    assert levels_of(data, ["dtype"]) is None and levels_of(data, [3, 9]) == (3, 9)


def test_samples_travel_to_workers(by_folders: Path):
    sample = load(config(by_folders, splits=NAMED)).labelled[0]
    assert pickle.loads(pickle.dumps(sample)) == sample


# --- drawn data


def test_shapes_are_drawn_by_the_seed_of_the_splits():
    cfg = DataConfig(shapes={"labelled": 3, "unlabelled": 4, "val": 2, "test": 1}, splits=SplitConfig(seed=5))
    data = load(cfg)
    assert [len(getattr(data, split)) for split in SPLITS] == [3, 4, 2, 1]
    assert data.classes == list(shapes.CLASSES) and data.val[1].id == "val/00001"
    image, labels = shapes.draw(5, "val", 1)
    assert np.array_equal(data.val[1].read_image(), image) and np.array_equal(data.val[1].read_mask(), labels)
    assert data.unlabelled[0].read_mask() is not None


def test_a_label_budget_holds_for_drawn_data_too():
    data = load(DataConfig(splits=SplitConfig(labels=6)))
    assert len(data.labelled) == 6 and len(data.unlabelled) == 200 + 18


@pytest.mark.parametrize(
    "settings",
    [
        {"root": "/data"},
        {"classes": ["a", "b"]},
        {"values": [1, 2]},
        {"range": ["percentile"]},
        {"shapes": {"labelled": 1, "val": 1}},
        {"shapes": {"labelled": 0, "unlabelled": 1, "val": 1, "test": 1}},
        {"shapes": {"labelled": 1, "unlabelled": -1, "val": 1, "test": 1}},
        {"splits": SplitConfig(val="val")},
        {"splits": SplitConfig(seed=-1)},
    ],
)
def test_settings_that_drawn_data_would_ignore_are_refused(settings: dict):
    with pytest.raises(ConfigError):
        load(DataConfig(**settings))


# --- manifest


def test_the_manifest_hashes_every_file(by_folders: Path):
    picture(by_folders / "unlabelled" / "u.png")
    cfg = config(by_folders, unlabelled="unlabelled", splits=NAMED)
    before = manifest(load(cfg))
    assert [len(before[split]) for split in SPLITS] == [4, 1, 1, 2]
    assert before["unlabelled"][0]["mask"] is None and len(before["val"][0]["mask"]) == 64
    assert manifest(load(cfg)) == before
    mask(by_folders / "masks" / "val" / "c_1.png", 1)
    after = manifest(load(cfg))
    assert after["val"] != before["val"] and after["labelled"] == before["labelled"]


def test_the_manifest_of_drawn_data_is_its_recipe():
    entry = manifest(load(DataConfig(splits=SplitConfig(seed=7))))
    assert entry["drawn"] == {"seed": 7} and entry["test"][0] == {"id": "test/00000"}


def test_samples_set_aside_are_left_out(by_folders: Path):
    data = load(config(by_folders, splits=NAMED | {"labels": 1}))
    gone = data.unlabelled[1].id
    assert gone not in ids(without(data, {gone}))["unlabelled"] and len(without(data, {gone}).unlabelled) == 2


# --- the recipes and the real data


def recipe(name: str, **settings) -> DataConfig:
    merged = OmegaConf.merge(OmegaConf.structured(DataConfig), OmegaConf.load(RECIPES / f"{name}.yaml").data, settings)
    return OmegaConf.to_object(merged)


@pytest.mark.parametrize("name", ["shapes", "folder", "camvid", "nuclei"])
def test_every_recipe_is_a_valid_data_group(name: str):
    assert (RECIPES / f"{name}.yaml").read_text().startswith("# @package _global_\n")
    assert recipe(name).name == name and recipe("folder").unlabelled == "unlabelled"
    if name != "shapes":
        with pytest.raises(ConfigError, match=rf"data={name}.*data\.root=/path"):
            load(recipe(name))


@pytest.mark.skipif(not (DATA / "camvid").is_dir(), reason="../shared/data/camvid is absent")
def test_camvid():
    data = load(recipe("camvid", root=str(DATA / "camvid"), splits={"labels": 23}))
    assert [len(getattr(data, split)) for split in SPLITS] == [23, 344, 101, 233]
    sequences = [sample.id.split("/")[-1].split("_")[0] for sample in data.labelled]
    assert [sequences.count(name) for name in ("0001TP", "0006R0", "0016E5")] == [4, 6, 13]
    assert data.val[0].read_image().shape == (360, 480, 3)
    values = np.unique(data.val[0].read_mask())
    assert values[-1] == sources.images.IGNORE and values[:-1].max() < 11
    assert data.warnings == []


@pytest.mark.skipif(not (DATA / "nuclei").is_dir(), reason="../shared/data/nuclei is absent")
def test_nuclei():
    data = load(recipe("nuclei", root=str(DATA / "nuclei"), splits={"labels": 40}))
    assert [len(getattr(data, split)) for split in SPLITS] == [40, 358, 133, 133]
    assert data.labelled[0].read_image().shape == (192, 192, 3)
    assert set(np.unique(data.labelled[0].read_mask())) == {0, 1}
