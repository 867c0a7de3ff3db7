"""selftrain init: what it asks, what it writes, and what it refuses."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zoo
from PIL import Image
from zoo_drawn import photo, save, scene, settings_in, valued

from selftrain.errors import ConfigError, DataError
from selftrain.inspection.init import init


def on_a_terminal(answers, *arguments, cwd):
    """Run selftrain on a terminal where these lines are typed; the exit code and everything shown."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "selftrain.cli", *map(str, arguments)]
    child = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=cwd, close_fds=True)
    os.close(theirs)
    os.write(ours, "".join(f"{answer}\n" for answer in answers).encode())
    shown = b""
    while True:
        try:
            read = os.read(ours, 4096)
        except OSError:  # Linux reports the end of a terminal like this
            break
        if not read:
            break
        shown += read
    os.close(ours)
    return child.wait(), shown.decode()


def two_masks(root):
    """Masks in two codings: ids, and objects that are numbered."""
    for i in range(6):
        image, ids = scene(i, 3)
        save(root / f"photos/{i}.jpg", image)
        save(root / f"labels/{i}.png", ids)
        save(root / f"instances/{i}.png", ids * 40)


def test_open_questions_are_printed_with_exit_code_2_and_nothing_is_written(selftrain, tmp_path):
    two_masks(tmp_path / "set")
    code, _, err = selftrain("init", "set", cwd=tmp_path)
    assert code == 2
    assert "1 open question, nothing is written" in err and "--yes" in err
    assert "1  labels/0.png for photos/0.jpg" in err and "2  instances/0.png" in err
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_yes_takes_the_first_choice_and_says_so(selftrain, tmp_path):
    two_masks(tmp_path / "set")
    code, said, err = selftrain("init", "set", "--yes", cwd=tmp_path)
    assert code == 0, err
    assert "(--yes: the first of 2 choices)" in said and "not chosen: instances/0.png" in said
    assert settings_in(tmp_path / "set.yaml")["masks"] == "labels"


def test_answers_are_given_beforehand_and_fit_their_questions(tmp_path, capsys):
    two_masks(tmp_path / "set")
    for answers, said in (([3], "has 2 choices"), ([2, 1], "--answer 1: there are no more questions")):
        with pytest.raises(ConfigError, match=said):
            init(tmp_path / "set", tmp_path / "a.yaml", first=False, answers=answers)
        assert not (tmp_path / "a.yaml").exists()
    init(tmp_path / "set", tmp_path / "a.yaml", first=False, answers=[2])
    assert settings_in(tmp_path / "a.yaml")["masks"] == "instances"
    assert "(--answer 2)" in capsys.readouterr().out


def test_a_terminal_is_asked_for_the_choice_and_the_names(tmp_path):
    two_masks(tmp_path / "set")
    code, shown = on_a_terminal(["7", "2", "floor,floor,tree", "floor,wall,-"], "init", "set", cwd=tmp_path)
    assert code == 0, shown
    found = settings_in(tmp_path / "set.yaml")
    assert found["masks"] == "instances" and found["classes"] == ["floor", "wall"]
    assert found["values"] == [0, 40] and found["ignore"] == [80]
    assert "3 different names are needed" in shown


def test_the_end_of_the_input_writes_nothing(tmp_path):
    two_masks(tmp_path / "set")
    code, shown = on_a_terminal(["\x04"], "init", "set", cwd=tmp_path)
    assert code == 2 and "the input ended" in shown and not (tmp_path / "set.yaml").exists()


def test_the_printed_command_verifies_and_trains(selftrain, tmp_path):
    for i in range(6):
        image, ids = scene(i)
        save(tmp_path / f"my set/photos/{i}.jpg", image)
        save(tmp_path / f"my set/gt/{i}_gt.png", valued(ids, [0, 255]))
    code, said, err = selftrain("init", "my set", cwd=tmp_path)
    assert code == 0, err
    commands = [line.split() for line in said.splitlines() if line.startswith("  selftrain ")]
    assert [words[1] for words in commands] == ["verify", "train", "folds"]
    assert commands[1][2:] == ["my_set.yaml", "recipe=supervised"]  # there is no unlabelled image
    code, said, err = selftrain(*commands[0][1:], cwd=tmp_path)
    assert code == 0 and "0 faults" in said, err
    small = ["model.encoder=tu-resnet10t", "model.decoder_channels=[8,8,8,8,8]", "train.steps=2", "train.crop=[32]",
             "train.labelled_batch=2", "train.eval_every=0", "train.warmup=0", "export.onnx=false"]  # fmt: skip
    code, _, err = selftrain(*commands[1][1:], *small, cwd=tmp_path)
    assert code == 0, err
    assert (tmp_path / "runs/my_set/report.html").is_file()


def test_unlabelled_images_are_found_and_need_no_other_recipe(selftrain, tmp_path):
    for i in range(8):
        image, ids = scene(i, 3)
        save(tmp_path / f"set/labelled/{i}.jpg", image)
        save(tmp_path / f"set/labelled/{i}.png", ids)
        save(tmp_path / f"set/more/cam1/u{i}.jpg", photo(50 + i))
    code, said, err = selftrain("init", "set", "-o", "x.yaml", cwd=tmp_path)
    assert code == 0, err
    assert "  selftrain train x.yaml\n" in said
    assert Path(settings_in(tmp_path / "x.yaml")["unlabelled"]).read_text().count("\n") == 8


def test_the_contact_sheet_shows_masks_in_class_colours_and_needs_no_other_file(tmp_path):
    zoo.voc2012(tmp_path / "voc")
    init(tmp_path / "voc", tmp_path / "sheet" / "voc.yaml", first=True)
    page = (tmp_path / "sheet/voc.html").read_text()
    assert page.count("<figure>") == 6 + 3 + 4  # train, val, unlabelled
    assert "http" not in page and 'src="data:' in page
    assert "class_2" in page and "unlabelled: JPEGImages/2008_000000" in page
    with Image.open(tmp_path / "sheet/voc.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    assert {(86, 180, 233), (213, 94, 0), (0, 158, 115)} <= {tuple(colour) for colour in pixels.tolist()}


def test_an_overlay_keeps_the_image_below_ignored_pixels_between_stripes():
    from selftrain.inspection.sheet import STRIPE, overlay
    from selftrain.report.palette import palette

    image = np.full((STRIPE, STRIPE, 3), 100, np.uint8)
    mask = np.full((STRIPE, STRIPE), 255, np.uint8)
    mask[0] = 1
    drawn = overlay(image, mask, palette(2))
    assert drawn[0, 0].tolist() == [162, 97, 45]  # 45 % of the image, 55 % of the second colour
    assert drawn[1, 0].tolist() == [0, 0, 0] and drawn[1, STRIPE // 2].tolist() == [100, 100, 100]


def test_a_file_that_exists_is_not_overwritten(tmp_path):
    zoo.kaggle_nuclei(tmp_path / "set")
    (tmp_path / "mine.yaml").write_text("data: {}\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml exists; remove it"):
        init(tmp_path / "set", tmp_path / "mine.yaml", first=True)
    assert (tmp_path / "mine.yaml").read_text() == "data: {}\n"


def test_nothing_is_written_into_the_data(tmp_path):
    zoo.kaggle_nuclei(tmp_path / "set")
    with pytest.raises(ConfigError, match="would lie in the data"):
        init(tmp_path / "set", tmp_path / "set" / "mine.yaml", first=True)


def test_a_folder_without_masks_is_named(tmp_path):
    for i in range(4):
        save(tmp_path / f"set/{i}.jpg", photo(i))
    with pytest.raises(
        DataError, match=r"no masks and no annotations were found beside 4 pictures \(4 \.jpg\)"
    ):
        init(tmp_path / "set", tmp_path / "mine.yaml", first=True)


def test_masks_whose_names_lead_to_no_image_are_named(tmp_path):
    for i in range(4):
        image, ids = scene(i)
        save(tmp_path / f"set/a/{'qwxz'[i]}.jpg", image)
        save(tmp_path / f"set/b/{'rtfg'[i]}.png", ids)
    with pytest.raises(DataError, match=r"b/f\.png looks like a mask, but its name leads to no image"):
        init(tmp_path / "set", tmp_path / "mine.yaml", first=True)


def test_masks_of_another_size_are_named(tmp_path):
    for i in range(3):
        image, ids = scene(i, 3)
        save(tmp_path / f"data/images/{i}.jpg", np.kron(image, np.ones((2, 2, 1), np.uint8)))
        save(tmp_path / f"data/masks/{i}.png", ids)
    with pytest.raises(DataError, match=r"images/0.jpg and its mask masks/0.png have different sizes, 80x96"):
        init(tmp_path / "data", tmp_path / "data.yaml", first=True)


def test_volumes_archives_and_empty_folders_are_named(tmp_path):
    (tmp_path / "scans").mkdir()
    (tmp_path / "masks.zip").touch()
    for name, said in (("scans", "contains no files"), ("masks.zip", "unpack archives first")):
        with pytest.raises(DataError, match=said):
            init(tmp_path / name, tmp_path / "data.yaml", first=True)
    (tmp_path / "scans/1.nii.gz").touch()
    with pytest.raises(DataError, match=r"holds 1 .gz, which are not read; images may be .bmp"):
        init(tmp_path / "scans", tmp_path / "data.yaml", first=True)


def test_several_masks_of_an_image_are_no_images_of_each_other(tmp_path):
    for i in range(6):
        image, ids = scene(i, 3)
        save(tmp_path / f"data/photos/{i}.jpg", image)
        for k, part in enumerate(("hair", "skin"), start=1):
            save(tmp_path / f"data/parts/{i:05d}_{part}.png", (ids == k) * np.uint8(255))
    with pytest.raises(DataError, match="several masks of one image are not read"):
        init(tmp_path / "data", tmp_path / "data.yaml", first=True)


def test_files_in_an_unknown_format_are_counted(tmp_path):
    for i in range(3):
        save(tmp_path / f"data/img/{i}.jpg", photo(i))
        (tmp_path / f"data/{i}.json").write_text('{"objects": []}')
    with pytest.raises(DataError, match=r"3 .json files were read as well, .* formats coco, labelme"):
        init(tmp_path / "data", tmp_path / "data.yaml", first=True)


def test_annotation_files_that_name_splits_decide_the_splits(tmp_path):
    box = [[2.0, 2.0, 20.0, 2.0, 20.0, 20.0, 2.0, 20.0]]
    for place, (split, where) in enumerate((("train", "train_val"), ("val", "train_val"), ("test", "test"))):
        images, shapes = [], []
        for i in range(3):
            save(tmp_path / f"data/images/{where}/{split}{i}.jpg", photo(10 * place + i))
            images.append({"id": i, "file_name": f"{split}{i}.jpg", "width": 48, "height": 40})
            shapes.append(
                {"id": i, "image_id": i, "category_id": 1, "segmentation": box, "bbox": [2, 2, 18, 18]}
            )
        file = tmp_path / f"data/annotations/coco_{split}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(
            json.dumps({"images": images, "annotations": shapes, "categories": [{"id": 1, "name": "cell"}]})
        )
    init(tmp_path / "data", tmp_path / "data.yaml", first=True)
    assert settings_in(tmp_path / "data.yaml")["splits"] == {
        split: f"annotations/coco_{split}.json" for split in ("train", "val", "test")
    }
    assert not list(tmp_path.glob("*.txt"))


def test_few_masks_are_said_to_need_no_test_set(tmp_path, capsys):
    for name, count in (("few", 6), ("more", 40)):
        for i in range(count):
            image, ids = scene(i, 3)
            save(tmp_path / f"{name}/images/{i}.jpg", image)
            save(tmp_path / f"{name}/masks/{i}.png", ids)
        init(tmp_path / name, tmp_path / f"{name}.yaml", first=True)
    lines = capsys.readouterr().out.splitlines()
    said = [line for line in lines if "spends none on a test set" in line]
    assert len(said) == 1 and "6 masks" in said[0]
    offered = [line for line in lines if "selftrain folds" in line]
    assert len(offered) == 1 and offered[0].endswith("few.yaml recipe=supervised k=3")
