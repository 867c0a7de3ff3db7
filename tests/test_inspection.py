"""How names are aligned, and how values, names of classes, lists and folders are interpreted."""

import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zoo
from zoo_drawn import photo, save, scene, valued

from selftrain.data.bands import bands_of
from selftrain.data.load import load
from selftrain.datasets import spec_of
from selftrain.inspection.classes import tables
from selftrain.inspection.coding import codings, survey
from selftrain.inspection.init import init
from selftrain.inspection.names import Change, change, changed, keys, split_word, without_splits
from selftrain.inspection.pairing import pairs
from selftrain.inspection.pictures import folder_of, picture_of
from selftrain.inspection.splits import groups
from selftrain.settings import compose


def picture(text):
    return picture_of(Path("/root") / text, Path("/root"))


@pytest.mark.parametrize(
    ("mask", "image", "folders", "name"),
    [
        ("masks/1_L.png", "images/1.png", (("masks",), ("images",)), (("_", "L"), ())),
        ("gt/um_road_000.png", "im/um_000.png", (("gt",), ("im",)), (("road", "_"), ())),
        ("a/masks/x/seg_1.png", "a/x/img_1.png", (("masks",), ()), (("seg",), ("img",))),
        ("21_manual1.gif", "21_training.tif", ((), ()), (("manual", "1"), ("training",))),
    ],
)
def test_two_paths_differ_by_one_run_of_folders_and_one_of_the_name(mask, image, folders, name):
    one, other = picture(mask), picture(image)
    assert change(one, other) == Change(folders, name)
    assert {*keys(one)} & {*keys(other)}
    assert (other.folders, other.stem) in set(changed(one, change(one, other)))


def test_a_change_of_suffix_only_counts_the_suffixes():
    assert change(picture("a/1.png"), picture("a/1.jpg")) == Change(((), ()), ((), ()), (".png", ".jpg"))


def test_the_folders_of_splits_are_one_kind_of_change():
    train = change(picture("trainannot/1.png"), picture("train/1.png"))
    val = change(picture("valannot/2.png"), picture("val/2.png"))
    assert train != val and train.kind == val.kind
    assert change(picture("val_labels/1.png"), picture("test/1.png")).crosses_splits
    assert not train.crosses_splits


def test_the_masks_of_numbered_series_are_one_kind_and_stay_in_their_series():
    first, second = (
        change(picture(f"0{k}_GT/SEG/man_seg001.tif"), picture(f"0{k}/t001.tif")) for k in (1, 2)
    )
    assert first.kind == second.kind
    crossed = change(picture("01_GT/SEG/man_seg001.tif"), picture("02/t001.tif"))
    assert crossed.crosses_splits and not first.crosses_splits
    assert not change(picture("5_Labels/a_label.tif"), picture("2_Ortho/a_RGB.tif")).crosses_splits


@pytest.mark.parametrize(
    ("text", "split"),
    [("train2017", "train"), ("imagesTr", "train"), ("ISIC_Validation_Input", "val"), ("train_val", "train"),
     ("Testing", "test"), ("DUTS-TE-Image", "test"), ("DUTS-TR", "train"), ("latest", ""), ("trainer", ""), ("valley", "")],
)  # fmt: skip
def test_a_split_is_a_word_of_a_name(text, split):
    assert split_word(text) == split


def test_words_of_splits_are_taken_out_of_a_name():
    assert [without_splits(text) for text in ("train_labels", "labelsTr", "labels")] == [
        "labels",
        "labels",
        "labels",
    ]


def test_frames_of_a_video_are_no_masks_of_each_other(tmp_path):
    for i in range(9):
        image, ids = scene(i, 3)
        save(tmp_path / f"frames/clip_{i}.png", image)
        save(tmp_path / f"frames/clip_{i}_seg.png", ids)
    found = pairs(folder_of(tmp_path).pictures)
    assert [len(rule.mask_of) for rule in found.rules] == [9]
    assert all(mask.stem == f"{image.stem}_seg" for image, mask in found.rules[0].mask_of.items())


def masks_of(tmp_path, values, void=False):
    classes = len(values)
    for i in range(4):
        save(tmp_path / f"{i}.png", valued(scene(i, classes, void=void)[1], values))
    return survey(folder_of(tmp_path).pictures)


@pytest.mark.parametrize(
    ("values", "void", "settings"),
    [
        ([0, 1, 2], False, {"ignore": []}),
        ([0, 255], False, {"values": [0, 255], "ignore": []}),
        ([0, 1, 2], True, {"ignore": [255]}),  # 255 beside small ids
        ([0, 128, 255], False, {"values": [0, 128, 255], "ignore": []}),
        ([5, 900, 40000], False, {"values": [5, 900, 40000], "ignore": []}),
    ],
)
def test_the_values_of_masks_become_settings(values, void, settings, tmp_path):
    assert codings(masks_of(tmp_path, values, void))[0][1].settings() == settings


def test_many_ids_are_no_soft_edges(tmp_path):
    """ADE20K has 150 values; 0 and 255 may cover most pixels, too."""
    ids = np.zeros((60, 60), np.uint8)
    ids[:, 30:] = 255
    for k in range(1, 40):  # flat areas with values in between
        ids[(k - 1) // 8 * 8 : (k - 1) // 8 * 8 + 6, (k - 1) % 8 * 7 : (k - 1) % 8 * 7 + 6] = 30 + 5 * k
    save(tmp_path / "1.png", ids)
    assert not survey(folder_of(tmp_path).pictures).soft


@pytest.mark.parametrize(
    ("name", "text", "values", "colours"),
    [
        ("label_colors.txt", "64 128 64\tAnimal\n0 0 0\tVoid\n", {}, {0x408040: "Animal", 0: "Void"}),
        ("class_dict.csv", "name,r,g,b\nroad,1,2,3\ntree,0,255,0\n", {}, {0x010203: "road", 0x00FF00: "tree"}),
        ("labelmap.txt", "# label:color_rgb\nroad:1,2,3::\nbig tree:0,255,0::\n", {}, {0x010203: "road", 0xFF00: "big tree"}),
        ("_classes.csv", "Pixel Value, Class\n0, ground\n1, crack\n", {0: "ground", 1: "crack"}, {}),
        ("info.txt", "Idx\tRatio\tName\n1\t0.15\twall\n2\t0.11\tsky\n", {1: "wall", 2: "sky"}, {}),
        ("dataset.json", '{"labels": {"background": 0, "organ": 1}}', {0: "background", 1: "organ"}, {}),
        ("config.json", '{"labels": [{"name": "a", "color": [1, 2, 3]}, {"name": "b", "color": [0, 0, 0]}]}',
         {0: "a", 1: "b"}, {0x010203: "a", 0: "b"}),
        ("class_list.json", '{"#010203": "Car 1", "#00ff00": "Car 2"}', {}, {0x010203: "Car 1", 0xFF00: "Car 2"}),
        ("data.yaml", "names: {0: bolt, 1: nut}\n", {0: "bolt", 1: "nut"}, {}),
    ],
)  # fmt: skip
def test_tables_of_names_are_read(name, text, values, colours, tmp_path):
    (tmp_path / name).write_text(text)
    (table,) = tables([tmp_path / name])
    assert (table.values, table.colours) == (values, colours)


def test_a_text_without_names_is_no_table(tmp_path):
    (tmp_path / "README.txt").write_text("This data set was drawn.\nIt has images and masks.\n")
    assert tables([tmp_path / "README.txt"]) == []


def test_images_of_many_folders_stay_together(tmp_path):
    images = [picture(f"scans/patient{p}/slice_{i}.png") for p in range(6) for i in range(2)]
    assert groups(images) == "^[^/]+/([^/]+)/"
    assert groups(images[:8]) == ""  # four folders
    assert groups([picture(f"p{p}/image.png") for p in range(9)]) == ""  # one image in each


def test_no_patient_is_in_two_splits(tmp_path):
    zoo.lgg_mri(tmp_path / "lgg")
    init(tmp_path / "lgg", tmp_path / "mine.yaml", first=True)
    data = load(spec_of(compose([f"data={tmp_path / 'mine.yaml'}"]).data))
    patients = [{sample.id.split("/")[1] for sample in part} for part in (data.labelled, data.val, data.test)]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 6


def test_masks_in_no_list_are_left_out_and_this_is_said(tmp_path, capsys):
    for i in range(8):
        image, ids = scene(i, 3)
        save(tmp_path / f"set/im/{i}.png", image)
        save(tmp_path / f"set/gt/{i}.png", ids)
    for name, lines in (
        ("train", "im/0.png gt/0.png\nim/1.png gt/1.png\nim/2.png gt/2.png\n"),
        ("val", "3\n4\n"),
    ):
        (tmp_path / f"set/{name}.txt").write_text(lines)
    init(tmp_path / "set", tmp_path / "mine.yaml", first=True)
    assert "3 images with masks are in no list. leave them out" in capsys.readouterr().out
    data = load(spec_of(compose([f"data={tmp_path / 'mine.yaml'}"]).data))
    assert [len(part) for part in (data.labelled, data.val, data.test)] == [3, 2, 0]


def test_deep_images_that_are_nearly_black_are_scaled(tmp_path):
    zoo.scans_16_bit(tmp_path / "set")
    init(tmp_path / "set", tmp_path / "mine.yaml", first=True)
    assert compose([f"data={tmp_path / 'mine.yaml'}"]).data.range == ["percentile"]


@pytest.mark.parametrize("suffix", [".tif", ".npy"])
def test_images_of_five_bands_get_their_number_and_the_measured_scale(suffix, tmp_path, capsys):
    rng = np.random.default_rng(0)
    (tmp_path / "data/images").mkdir(parents=True)
    for i in range(8):
        bands = rng.integers(0, 256, (40, 48, 5)).astype(np.uint8)
        bands[..., 3], bands[..., 4] = bands[..., 3] // 2, 7  # the last one says nothing
        path = tmp_path / f"data/images/{i}{suffix}"
        np.save(path, bands) if suffix == ".npy" else tifffile.imwrite(path, bands, photometric="minisblack")
        save(tmp_path / f"data/masks/{i}.png", np.eye(40, 48, i, dtype=np.uint8))
    init(tmp_path / "data", tmp_path / "five.yaml", first=True)
    cfg = compose([f"data={tmp_path / 'five.yaml'}"]).data
    assert cfg.channels == 5
    assert cfg.mean == pytest.approx([0.5, 0.5, 0.5, 0.249, 7 / 255], abs=0.01)
    assert cfg.std == pytest.approx([0.29, 0.29, 0.29, 0.145, 1.0], abs=0.01)
    assert load(spec_of(cfg)).labelled[0].read_image().shape == (40, 48, 5)
    assert re.search(r"bands +5; mean \[", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("shape", "options", "bands"),
    [
        ((9, 11, 4), {"photometric": "rgb", "extrasamples": ["unassalpha"]}, 3),
        ((9, 11, 4), {"photometric": "rgb", "extrasamples": ["unspecified"]}, 4),
        ((9, 11, 4), {"photometric": "separated"}, 3),
        ((5, 9, 11), {"photometric": "minisblack"}, 5),
        ((9, 11), {"photometric": "minisblack"}, 1),
    ],
)
def test_transparency_and_inks_are_no_bands(shape, options, bands, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros(shape, np.uint8), **options)
    assert bands_of(tmp_path / "a.tif") == bands


def test_unlabelled_images_with_the_names_of_labelled_ones_are_asked_about(tmp_path, capsys):
    for i in range(6):
        image, ids = scene(i)
        save(tmp_path / f"set/{i:02d}.jpg", image)
        save(tmp_path / f"set/{i:02d}_mask.png", valued(ids, [0, 255]))
        save(tmp_path / f"set/unlabelled/{i:02d}.jpg", photo(50 + i))
    init(tmp_path / "set", tmp_path / "mine.yaml", first=True)
    assert "have the names of images with masks" in capsys.readouterr().out
