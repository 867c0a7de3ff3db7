import os
import pickle
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from selftrain.config import DataConfig, SplitConfig
from selftrain.data import shapes, sources
from selftrain.data.sources import SPLITS, DataSet, load, manifest, without
from selftrain.errors import ConfigError, DataError

pytestmark = pytest.mark.promise(
    "layouts and names of files (doubles, case, Unicode, links, missing masks): handled, or a fault that names them"
)

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"
RECIPES = Path(__file__).parents[2] / "recipes" / "data"


def picture(path: Path, value: int = 0, size: tuple[int, int] = (4, 6)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), value, np.uint8)).save(path)
    return path


def mask(path: Path, value: int = 0, size: tuple[int, int] = (4, 6)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size, value, np.uint8)).save(path)
    return path


def pairs(root: Path, names: list[str], folder: str = "") -> None:
    for value, name in enumerate(names):
        picture(root / "images" / folder / f"{name}.png", value)
        mask(root / "masks" / folder / f"{name}.png", value % 2)


def config(root: Path | str, *, splits: dict | None = None, **settings) -> DataConfig:
    settings = {"name": "folder", "source": "folder", "classes": ["ground", "thing"]} | settings
    return DataConfig(root=str(root), splits=SplitConfig(**(splits or {})), **settings)


def ids(data: DataSet) -> dict[str, list[str]]:
    return {split: [sample.id for sample in getattr(data, split)] for split in SPLITS}


def everyone(data: DataSet) -> list[str]:
    return [name for names in ids(data).values() for name in names]


NAMED = {"train": "train", "val": "val", "test": "test"}


@pytest.fixture
def by_folders(tmp_path: Path) -> Path:
    pairs(tmp_path, ["a_1", "a_2", "b_1", "b_2"], "train")
    pairs(tmp_path, ["c_1"], "val")
    pairs(tmp_path, ["d_1", "d_2"], "test")
    return tmp_path


# --- layouts


def test_images_and_masks_are_matched_and_splits_made(tmp_path: Path):
    pairs(tmp_path, [f"{i}" for i in range(10)])
    pairs(tmp_path, ["x"], "deeper/down")
    picture(tmp_path / "unlabelled" / "u1.JPG")
    data = load(config(tmp_path, unlabelled="unlabelled"))
    assert [len(getattr(data, split)) for split in SPLITS] == [7, 1, 2, 2]
    assert ids(data)["unlabelled"] == ["unlabelled/u1"]
    assert len(set(everyone(data))) == 12
    assert "images/deeper/down/x" in everyone(data)
    for sample in data.labelled + data.val + data.test:
        image, labels = sample.read_image(), sample.read_mask()
        assert image.shape == (4, 6, 3) and labels is not None
        assert (labels == image[..., 0] % 2).all()  # its own mask
    assert data.unlabelled[0].read_mask() is None
    assert data.warnings == [] and data.faults == []


def test_splits_by_folders(by_folders: Path):
    assert ids(load(config(by_folders, splits=NAMED))) == {
        "labelled": [f"images/train/{name}" for name in ("a_1", "a_2", "b_1", "b_2")],
        "unlabelled": [],
        "val": ["images/val/c_1"],
        "test": ["images/test/d_1", "images/test/d_2"],
    }


def test_split_folders_that_no_setting_names_are_refused_with_the_settings(by_folders: Path):
    with pytest.raises(ConfigError, match=r"data\.splits\.train=train data\.splits\.val=val data\.splits\.test=test"):
        load(config(by_folders))
    assert len(load(config(by_folders, splits={"train": "."})).labelled) == 5


def test_splits_by_list_files(tmp_path: Path):
    for name in ("train/1", "train/2", "my photo", "odd"):
        picture(tmp_path / "pics" / f"{name}.jpg")
    for name in ("train/1", "train/2", "my photo"):
        mask(tmp_path / "labels" / f"{name}.png")
    mask(tmp_path / "elsewhere" / "o d d_mask.png")
    (tmp_path / "train.txt").write_text("# mine\npics/train/2.jpg\n\npics/train/1.jpg\n")
    (tmp_path / "val.txt").write_bytes(b"\xef\xbb\xbfpics/my photo.jpg\r\n")
    (tmp_path / "test.txt").write_text("pics/odd.jpg\telsewhere/o d d_mask.png\n")
    splits = {"train": "train.txt", "val": "val.txt", "test": "test.txt"}
    data = load(config(tmp_path, images="pics", masks="labels", splits=splits))
    assert ids(data) == {
        "labelled": ["pics/train/1", "pics/train/2"], "unlabelled": [], "val": ["pics/my photo"], "test": ["pics/odd"],
    }  # fmt: skip
    assert data.test[0].mask == tmp_path / "elsewhere" / "o d d_mask.png"
    assert data.labelled[0].mask == tmp_path / "labels" / "train" / "1.png"
    (tmp_path / "test.txt").write_text("pics/odd.jpg elsewhere/o d d_mask.png\n")  # a blank after the suffix also parts
    assert load(config(tmp_path, images="pics", masks="labels", splits=splits)).test[0].mask == data.test[0].mask


def test_a_list_may_lie_outside_of_the_root(tmp_path: Path):
    pairs(tmp_path / "root", ["1", "2", "3", "4"])
    (tmp_path / "mine.txt").write_text("images/1.png\n")
    splits = {"train": str(tmp_path / "mine.txt"), "val_fraction": 0.3, "test_fraction": 0.3}
    with pytest.raises(DataError, match="cannot be divided"):
        load(config(tmp_path / "root", splits=splits))
    (tmp_path / "mine.txt").write_text("images/1.png\nimages/2.png\nimages/4.png")
    assert len(load(config(tmp_path / "root", splits=splits)).labelled) == 1


def test_unlabelled_folder_means_what_no_split_names(tmp_path: Path):
    pairs(tmp_path, [f"{i}" for i in range(6)])
    (tmp_path / "few.txt").write_text("images/0.png\nimages/1.png\nimages/2.png\n")
    data = load(config(tmp_path, unlabelled="images", splits={"train": "few.txt"}))
    assert ids(data)["unlabelled"] == ["images/3", "images/4", "images/5"]
    assert len(data.labelled) == 1 and data.unlabelled[0].read_mask() is not None  # known, to measure pseudo-labels


def test_masks_beside_unlabelled_images_are_found_unless_they_belong_to_others(tmp_path: Path):
    pairs(tmp_path, ["1", "2", "3"])
    picture(tmp_path / "unlabelled" / "1.png")
    picture(tmp_path / "unlabelled" / "7.png")
    mask(tmp_path / "masks" / "7.png")
    data = load(config(tmp_path, unlabelled="unlabelled"))
    assert [sample.has_mask for sample in data.unlabelled] == [False, True]


def test_images_without_masks_count_as_unlabelled_and_it_is_said(tmp_path: Path):
    pairs(tmp_path, ["1", "2", "3"])
    picture(tmp_path / "images" / "bare.png")
    data = load(config(tmp_path))
    assert ids(data)["unlabelled"] == ["images/bare"]
    assert "1 image below images/ without a mask" in data.warnings[0]


def test_missing_masks_are_faults_where_unlabelled_images_are_declared(tmp_path: Path):
    pairs(tmp_path, ["1", "2", "3"])
    picture(tmp_path / "images" / "bare.png")
    picture(tmp_path / "unlabelled" / "u.png")
    with pytest.raises(DataError, match=r"images/bare\.png: has no mask.*masks/bare\.png"):
        load(config(tmp_path, unlabelled="unlabelled"))


def test_missing_masks_beside_orphans_are_faults(tmp_path: Path):
    pairs(tmp_path, ["1", "2", "3"])
    picture(tmp_path / "images" / "4.png")
    mask(tmp_path / "masks" / "04.png")
    with pytest.raises(DataError, match=r"images/4\.png: has no mask"):
        load(config(tmp_path))


def test_missing_masks_of_val_are_faults(by_folders: Path):
    picture(by_folders / "images" / "val" / "bare.png")
    with pytest.raises(DataError, match=r"images/val/bare\.png: has no mask"):
        load(config(by_folders, splits=NAMED))


def test_orphan_masks_are_told(by_folders: Path):
    mask(by_folders / "masks" / "train" / "lost.png")
    assert "masks/train/lost.png" in load(config(by_folders, splits=NAMED)).warnings[0]


def test_no_match_at_all_says_how_names_are_matched(tmp_path: Path):
    picture(tmp_path / "images" / "1.png")
    mask(tmp_path / "masks" / "1_mask.png")
    with pytest.raises(DataError, match=r"images/1 has none; there are masks such as masks/1_mask\.png"):
        load(config(tmp_path))


def test_other_files_are_left_out_and_counted(tmp_path: Path):
    pairs(tmp_path, ["1", "2", "3"])
    for name in ("notes.txt", "a.gif", ".DS_Store", "._1.png"):
        (tmp_path / "images" / name).write_bytes(b"x")
    assert load(config(tmp_path)).warnings == ["files that are no images were left out: 1 .gif, 1 .txt"]


# --- faults of files


def fault(tmp_path: Path, **settings) -> str:
    with pytest.raises(DataError) as caught:
        load(config(tmp_path, **settings))
    return str(caught.value)


def test_jpeg_masks_have_a_message_of_their_own(tmp_path: Path):
    for name in "123":
        picture(tmp_path / "images" / f"{name}.png")
        picture(tmp_path / "masks" / f"{name}.jpg")
    message = fault(tmp_path)
    assert "masks/1.jpg: is a JPEG" in message and "2 more faults" in message


def test_two_masks_of_one_image_are_refused(tmp_path: Path):
    pairs(tmp_path, ["1", "2", "3"])
    mask(tmp_path / "masks" / "1.tif")
    assert "second mask" in fault(tmp_path)


@pytest.mark.parametrize("other", ["1.jpg", "deep/A.png"])
def test_two_images_of_one_name_are_refused(tmp_path: Path, other: str):
    pairs(tmp_path, ["1", "2", "3", "deep/a"])
    picture(tmp_path / "images" / other)
    mask((tmp_path / "masks" / other).with_suffix(".png"))
    assert "shares its name" in fault(tmp_path)


def test_unicode_forms_match_between_image_and_mask_and_clash_between_images(tmp_path: Path):
    composed, decomposed = unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")
    pairs(tmp_path, ["1", "2"])
    picture(tmp_path / "images" / f"{decomposed}.png")
    mask(tmp_path / "masks" / f"{composed}.png")
    data = load(config(tmp_path))
    assert f"images/{composed}" in everyone(data)
    picture(tmp_path / "images" / f"{composed}.png")
    assert "shares its name" in fault(tmp_path)


def test_strange_names_work_or_are_refused(tmp_path: Path):
    long = "n" * 251
    pairs(tmp_path, ["-rf", " ", "a.b", long, "日本"])
    assert {"images/-rf", "images/ ", "images/a.b", f"images/{long}", "images/日本"} == set(everyone(load(config(tmp_path))))
    for name in (b"new\nline.png", b"not-utf8-\xff.png"):
        path = os.path.join(os.fsencode(tmp_path / "images"), name)
        (tmp_path / "images" / "1.png").write_bytes(b"")
        os.rename(tmp_path / "images" / "1.png", path)
        message = fault(tmp_path)
        assert "not printable" in message and message.isprintable()
        os.remove(path)


@pytest.mark.parametrize("entry", ["../x.png", "/etc/passwd", "images/../../x.png", "images/nul\0.png", "images/\x1b[1m.png"])
def test_lists_cannot_leave_the_root(tmp_path: Path, entry: str):
    pairs(tmp_path / "root", ["1", "2", "3"])
    picture(tmp_path / "x.png")
    (tmp_path / "root" / "train.txt").write_text(f"{entry}\nimages/1.png\nimages/2.png\nimages/3.png\n")
    message = fault(tmp_path / "root", splits={"train": "train.txt"})
    assert "train.txt:1" in message and "no path below data.root" in message and message.isprintable()


def test_entries_that_do_not_exist_or_come_twice_are_named(tmp_path: Path):
    pairs(tmp_path, ["1", "2", "3", "4"])
    (tmp_path / "train.txt").write_text("images/1.png\nimages/2.png\nimages/3.png\nimages/1.png\nimages/none.png\nREADME\n")
    (tmp_path / "README").touch()
    (tmp_path / "val.txt").write_text("images/2.png\n")
    data = load(config(tmp_path, splits={"train": "train.txt", "val": "val.txt", "test_fraction": 0.5}), strict=False)
    assert [str(one).split(";")[0] for one in data.faults] == [
        "train.txt:5: names 'images/none.png', which does not exist",
        "train.txt:6: names 'README', which has no suffix of an image",
        "images/2.png: is named by data.splits.train and data.splits.val",
        "images/1.png: is named by data.splits.train twice",
    ]


def test_links_that_leave_the_root_are_refused_and_others_followed(tmp_path: Path):
    root = tmp_path / "root"
    pairs(root, ["1", "2"])
    picture(root / "store" / "3.png")
    mask(root / "masks" / "3.png")
    (root / "images" / "3.png").symlink_to(root / "store" / "3.png")
    (root / "images" / "loop").symlink_to(root / "images")
    (root / "images" / "self.png").symlink_to(root / "images" / "self.png")
    mask(root / "masks" / "self.png")
    (tmp_path / "link").symlink_to(root)  # the root itself may be a link
    assert len(everyone(load(config(tmp_path / "link")))) == 4
    picture(tmp_path / "outside" / "4.png")
    (root / "images" / "4.png").symlink_to(tmp_path / "outside" / "4.png")
    assert "images/4.png: is a link that leaves data.root" in fault(root)
    (root / "images" / "4.png").unlink()
    (root / "images" / "more").symlink_to(tmp_path / "outside")
    assert "images/more: is a link that leaves data.root" in fault(root)
    assert "leads out of data.root" in fault(root, unlabelled="images/more")


def test_faults_are_all_collected_when_asked(tmp_path: Path):
    pairs(tmp_path, ["1", "2", "3", "4"])
    mask(tmp_path / "masks" / "1.bmp")
    picture(tmp_path / "images" / "2.bmp")
    (tmp_path / "images" / "out.png").symlink_to("/etc/passwd")
    data = load(config(tmp_path), strict=False)
    assert {one.file for one in data.faults} == {"masks/1.png", "images/2.png", "images/out.png"}
    assert len(everyone(data)) == 4


# --- settings


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"source": "zip"}, "shapes, folder"),
        ({"classes": []}, "data.classes"),
        ({"classes": ["a", "a"]}, "different"),
        ({"values": [1]}, "1 entries for 2"),
        ({"values": [0, 255]}, r"data\.ignore=\[\]"),
        ({"values": [3, 3]}, "different numbers"),
        ({"values": [0, 70000]}, "65535"),
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
