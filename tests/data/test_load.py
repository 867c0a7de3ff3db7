from pathlib import Path

import numpy as np
import pytest
from drawn_folders import NAMED, ids, mask, pairs, picture, spec
from PIL import Image

from selftrain.data.dataset import SPLITS, DataSet
from selftrain.data.division import Pool, divided
from selftrain.data.faults import FaultsError
from selftrain.data.load import SOURCES, levels_of, load, manifest
from selftrain.data.sample import Copies, Sample
from selftrain.data.sources.shapes import Drawing
from selftrain.data.spec import Spec
from selftrain.datasets import spec_of
from selftrain.errors import ConfigError, DataError
from selftrain.ids import IGNORE
from selftrain.settings import compose

pytestmark = pytest.mark.promise(
    "layouts and names of files (doubles, case, Unicode, links, missing masks): handled, or a fault that names them"
)

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"
RECIPES = Path(__file__).parents[2] / "recipes" / "data"


# --- settings


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"format": "zip"}, "shapes, folder"),
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
        ({"size": ["longest", 0]}, r"\[longest, side\]"),
        ({"size": ["middle", 9]}, r"\[shortest, side\]"),
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
        load(spec(tmp_path, **settings))


def test_an_empty_root_says_how_to_give_it():
    with pytest.raises(ConfigError, match=r"data\.root=/path"):
        load(spec(""))


def test_places_that_do_not_exist_are_named(tmp_path: Path):
    with pytest.raises(DataError, match="none is not a folder"):
        load(spec(tmp_path / "none"))
    with pytest.raises(DataError, match=r"data\.images: there is no folder"):
        load(spec(tmp_path))
    pairs(tmp_path, ["1", "2", "3"])
    with pytest.raises(DataError, match=r"data\.splits\.val: there is no folder .*valid"):
        load(spec(tmp_path, splits={"val": "valid"}))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no image below"):
        load(spec(tmp_path, images="empty"))


def test_a_class_of_255_needs_no_second_setting(by_folders: Path):
    mask(by_folders / "masks" / "train" / "a_1.png", 255)
    assert (load(spec(by_folders, splits=NAMED, values=[1, 255])).labelled[0].read_mask() == 1).all()
    assert (load(spec(by_folders, splits=NAMED, values=[1, 0])).labelled[0].read_mask() == 255).all()


def test_faults_of_files_come_before_the_setting_that_they_make_impossible(tmp_path: Path):
    pairs(tmp_path, ["1", "2", "3", "4", "5"])
    for name in "123":
        (tmp_path / "masks" / f"{name}.png").rename(tmp_path / "masks" / f"{name}.jpg")
    with pytest.raises(DataError, match=r"^masks/1\.jpg: is a JPEG.*2 more faults alike"):
        load(spec(tmp_path))
    with pytest.raises(FaultsError, match="is a JPEG") as caught:
        load(spec(tmp_path), strict=False)
    assert [one.file for one in caught.value.faults] == ["masks/1.jpg", "masks/2.jpg", "masks/3.jpg"]
    few = {"val": "val.txt", "test_fraction": 0.0, "labels": 2}
    (tmp_path / "val.txt").write_text("images/4.png\n")
    with pytest.raises(
        ConfigError, match=r"labels=2.*the files have faults, too: masks/1\.jpg: is a JPEG.*and 2 more"
    ):
        load(spec(tmp_path, splits=few))


def test_the_range_is_measured_over_labelled_and_unlabelled_images(by_folders: Path):
    for name, value in (("images/train/a_1", 500), ("unlabelled/u", 2500), ("images/val/c_1", 60_000)):
        (by_folders / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((4, 6), value, np.uint16)).save(by_folders / f"{name}.png")
    data = load(spec(by_folders, splits=NAMED, unlabelled="unlabelled"))
    assert levels_of(data, ["percentile"]) == (500, 2500)
    assert levels_of(data, ["dtype"]) is None and levels_of(data, [3, 9]) == (3, 9)


# --- the table of sources


def scenes(spec: Spec, copies: Copies) -> DataSet:
    """Ten scenes that are divided like files."""
    pool = [
        Sample(f"{i}", Drawing("image", 3, "val", i), Drawing("mask", 3, "val", i), spec.target, f"{i}")
        for i in range(10)
    ]
    return DataSet(spec.classes, *divided(Pool(pool, [], None, None), len(spec.classes), spec.splits, copies))


def test_a_new_source_is_one_function_and_one_entry(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(SOURCES, "scenes", scenes)
    data = load(spec("", format="scenes", size=[8, 9], splits={"labels": 5}))
    assert [len(getattr(data, split)) for split in SPLITS] == [5, 1, 2, 2]
    assert data.labelled[0].read_image().shape == (8, 9, 3)
    for seed in range(4):
        together = ids(load(spec("", format="scenes", splits={"seed": seed}), copies=[["0", "4", "7"]]))
        assert [len({"0", "4", "7"} & set(names)) for names in together.values()].count(0) == 3


# --- manifest


def test_the_manifest_hashes_every_file(by_folders: Path):
    picture(by_folders / "unlabelled" / "u.png")
    cfg = spec(by_folders, unlabelled="unlabelled", splits=NAMED)
    before = manifest(load(cfg))
    assert [len(before[split]) for split in SPLITS] == [4, 1, 1, 2]
    assert before["unlabelled"][0]["mask"] is None and len(before["val"][0]["mask"]) == 64
    assert manifest(load(cfg)) == before
    mask(by_folders / "masks" / "val" / "c_1.png", 1)
    after = manifest(load(cfg))
    assert after["val"] != before["val"] and after["labelled"] == before["labelled"]


# --- the recipes and the real data


def recipe(name: str, **settings) -> Spec:
    given = [f"data.{key}={value}" for key, value in settings.items()]
    return spec_of(compose([f"data={name}", *given]).data)


@pytest.mark.parametrize("name", ["shapes", "folder", "camvid", "nuclei"])
def test_every_recipe_is_a_valid_data_group(name: str):
    assert (RECIPES / f"{name}.yaml").read_text().startswith("# @package _global_\n")
    assert recipe(name).name == name and recipe("folder").unlabelled == "unlabelled"
    if name != "shapes":
        with pytest.raises(ConfigError, match=rf"data={name}.*data\.root=/path"):
            load(recipe(name))


@pytest.mark.skipif(not (DATA / "camvid").is_dir(), reason="../shared/data/camvid is absent")
def test_camvid():
    data = load(recipe("camvid", root=DATA / "camvid", **{"splits.labels": 23}))
    assert [len(getattr(data, split)) for split in SPLITS] == [23, 344, 101, 233]
    sequences = [sample.id.split("/")[-1].split("_")[0] for sample in data.labelled]
    assert [sequences.count(name) for name in ("0001TP", "0006R0", "0016E5")] == [4, 6, 13]
    assert data.val[0].read_image().shape == (360, 480, 3)
    values = np.unique(data.val[0].read_mask())
    assert values[-1] == IGNORE and values[:-1].max() < 11
    assert data.warnings == []


@pytest.mark.skipif(not (DATA / "nuclei").is_dir(), reason="../shared/data/nuclei is absent")
def test_nuclei():
    data = load(recipe("nuclei", root=DATA / "nuclei", **{"splits.labels": 40}))
    assert [len(getattr(data, split)) for split in SPLITS] == [40, 358, 133, 133]
    assert data.labelled[0].read_image().shape == (192, 192, 3)
    assert set(np.unique(data.labelled[0].read_mask())) == {0, 1}
