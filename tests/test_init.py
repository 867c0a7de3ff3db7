"""selftrain init: what it asks, what it writes, and what it refuses."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
import zoo
from PIL import Image
from zoo_drawn import coloured, photo, save, scene, valued

from selftrain.errors import ConfigError, DataError
from selftrain.inspection.init import init
from selftrain.settings import compose


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


def settings(file):
    return yaml.safe_load(file.read_text())["data"]


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
    assert settings(tmp_path / "set.yaml")["masks"] == "labels"


def test_answers_are_given_beforehand_and_fit_their_questions(tmp_path, capsys):
    two_masks(tmp_path / "set")
    for answers, said in (([3], "has 2 choices"), ([2, 1], "--answer 1: there are no more questions")):
        with pytest.raises(ConfigError, match=said):
            init(tmp_path / "set", tmp_path / "a.yaml", first=False, answers=answers)
        assert not (tmp_path / "a.yaml").exists()
    init(tmp_path / "set", tmp_path / "a.yaml", first=False, answers=[2])
    assert settings(tmp_path / "a.yaml")["masks"] == "instances"
    assert "(--answer 2)" in capsys.readouterr().out


def test_a_terminal_is_asked_for_the_choice_and_the_names(tmp_path):
    two_masks(tmp_path / "set")
    code, shown = on_a_terminal(["7", "2", "floor,floor,tree", "floor,wall,-"], "init", "set", cwd=tmp_path)
    assert code == 0, shown
    found = settings(tmp_path / "set.yaml")
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
    assert Path(settings(tmp_path / "x.yaml")["unlabelled"]).read_text().count("\n") == 8


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
    assert settings(tmp_path / "data.yaml")["splits"] == {
        split: f"annotations/coco_{split}.json" for split in ("train", "val", "test")
    }
    assert not list(tmp_path.glob("*.txt"))


def test_jpeg_masks_of_three_greys_are_read_by_the_nearest_value_after_a_question(selftrain, tmp_path):
    for i in range(6):
        image, ids = scene(i, 3)
        save(tmp_path / f"set/im/{i}.png", image)
        save(tmp_path / f"set/gt/{i}.jpg", valued(ids, [0, 127, 255]), quality=95)
    code, _, err = selftrain("init", "set", cwd=tmp_path)
    assert code == 2 and "JPEGs, whose compression mixes values" in err
    init(tmp_path / "set", tmp_path / "mine.yaml", first=True)
    found = settings(tmp_path / "mine.yaml")
    assert found["nearest"] is True and len(found["values"]) == 3
    assert np.allclose(found["values"], [0, 127, 255], atol=3)


def test_masks_of_0_1_and_255_are_a_question(selftrain, tmp_path):
    for i in range(6):
        image, ids = scene(i, 2, void=True)
        save(tmp_path / f"set/JPG/{i}.jpg", image)
        save(tmp_path / f"set/PNG/{i}.png", ids)
    code, _, err = selftrain("init", "set", cwd=tmp_path)
    assert code == 2 and "255 is ignored (the usual meaning)" in err and "255 is a class" in err


def numbered(root, values):
    """Ten masks of one 4x4 square for each value; the values are given by mask."""
    for i in range(10):
        image, mask = scene(i, 3)
        mask[:] = 0
        for place, value in enumerate(values(i)):
            row, column = divmod(place, 8)
            mask[5 * row : 5 * row + 4, 5 * column : 5 * column + 4] = value
        save(root / f"images/{i}.jpg", image)
        save(root / f"masks/{i}.png", mask)


def test_numbers_of_objects_are_no_classes_without_a_question(selftrain, tmp_path):
    numbered(tmp_path / "glands", lambda i: range(1, 4 + 2 * i))
    code, _, err = selftrain("init", tmp_path / "glands", cwd=tmp_path)
    assert code == 2 and "Nearly every one marks a single region." in err
    init(tmp_path / "glands", tmp_path / "glands.yaml", first=True)
    data = settings(tmp_path / "glands.yaml")
    assert data["classes"] == ["background", "foreground"] and data["threshold"] == 1


def test_sixty_numbers_in_few_masks_number_objects(tmp_path, capsys):
    dot = np.pad(np.ones((12, 12), np.uint8), 10)
    ids = np.kron(np.arange(64, dtype=np.uint8).reshape(8, 8), dot)  # 63 objects on a background
    rng = np.random.default_rng(0)
    for i in range(5):
        save(tmp_path / f"set/images/{i}.png", rng.integers(0, 256, (256, 256, 3), np.uint8))
        save(tmp_path / f"set/masks/{i}.png", ids)
    init(tmp_path / "set", tmp_path / "a.yaml", first=True)
    assert settings(tmp_path / "a.yaml")["classes"] == ["background", "foreground"]
    assert "not chosen: one class for each value" in capsys.readouterr().out


def test_organs_that_every_mask_contains_are_classes_first(tmp_path):
    numbered(tmp_path / "organs", lambda i: range(1, 9))
    init(tmp_path / "organs", tmp_path / "organs.yaml", first=True)
    assert len(settings(tmp_path / "organs.yaml")["classes"]) == 9


def test_more_numbers_of_objects_than_classes_are_one_class_as_well(tmp_path):
    numbered(tmp_path / "cells", lambda i: range(1 + 25 * i, 26 + 25 * i))
    init(tmp_path / "cells", tmp_path / "cells.yaml", first=True)
    assert settings(tmp_path / "cells.yaml")["threshold"] == 1


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


def test_rows_of_colours_name_numbers_after_a_question(tmp_path, capsys):
    for i in range(4):
        image, ids = scene(i, 3)
        save(tmp_path / f"data/images/{i}.jpg", image)
        save(tmp_path / f"data/masks/{i}.png", ids)
    (tmp_path / "data/class_dict.csv").write_text("name,r,g,b\nsoil,9,0,0\ngrass,0,9,0\nroof,0,0,9\n")
    init(tmp_path / "data", tmp_path / "data.yaml", first=True)
    assert settings(tmp_path / "data.yaml")["classes"] == ["soil", "grass", "roof"]
    assert "names colours, but the masks contain numbers." in capsys.readouterr().out


def test_palettes_that_differ_from_file_to_file_are_read_by_colour(tmp_path):
    table = np.zeros((256, 3), np.uint8)
    table[:3] = [(0, 0, 0), (250, 20, 20), (20, 20, 250)]
    truth = {}
    for i in range(6):
        image, ids = scene(i, 3)
        truth[i] = ids
        turned = i % 2 == 1  # in every second file, the indices 1 and 2 have changed places
        swapped = np.where(ids == 0, 0, 3 - ids).astype(np.uint8) if turned else ids
        save(tmp_path / f"set/im/{i}.png", image)
        save(
            tmp_path / f"set/gt/{i}.png",
            swapped,
            palette=table[[0, 2, 1, *range(3, 256)]] if turned else table,
        )
    init(tmp_path / "set", tmp_path / "mine.yaml", first=True)
    assert settings(tmp_path / "mine.yaml")["colours"] == [[0, 0, 0], [20, 20, 250], [250, 20, 20]]


def test_pictures_with_the_names_of_images_are_a_question(selftrain, tmp_path):
    for i in range(6):
        image, ids = scene(i, 3)
        save(tmp_path / f"set/left/{i}.png", image)
        save(tmp_path / f"set/grey/{i}.png", image.mean(axis=2).astype(np.uint8))
        save(tmp_path / f"set/gt/{i}.png", coloured(ids, [(0, 0, 0), (255, 0, 0), (0, 255, 0)]))
    code, _, err = selftrain("init", "set", cwd=tmp_path)
    assert code == 2
    assert "gt/0.png for grey/0.png" in err and "gt/0.png for left/0.png" in err
    assert "1  leave them out: they show the same" in err


# --- data=FILE.yaml


def test_a_data_file_gives_its_name_and_its_place_for_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(
        "# @package _global_\ndata: {format: folder, root: /data, classes: [a, b]}\n"
    )
    for words in (["data=mine.yaml"], ["mine.yaml"]):
        config = compose(words)
        assert (config.data.name, config.data.root, config.out) == ("mine", "/data", "runs/mine")
        assert config.train.steps == compose(["data=folder"]).train.steps  # nothing of data=shapes remains
    config = compose(["mine.yaml", "out=elsewhere", "data.root=/other"])
    assert (config.out, config.data.root, config.given) == ("elsewhere", "/other", [])
    planned = compose(["mine.yaml", "out=elsewhere", "train.plan=auto"])
    given = ["data.classes", "data.format", "data.root", "out", "train.plan"]
    assert planned.given == given  # the plan leaves them


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("data: {root: ${oc.env:HOME}}\n", "is refused"),
        ("defaults: [x]\n", "`defaults` is refused"),
        ("data: {clases: [a, b]}\n", "data.clases: no such setting; did you mean data.classes"),
        ("data: [\n", "is refused: not YAML"),
    ],
)
def test_a_data_file_is_checked_like_the_command_line(content, message, tmp_path):
    (tmp_path / "mine.yaml").write_text(content)
    with pytest.raises(ConfigError) as caught:
        compose([f"data={tmp_path / 'mine.yaml'}"])
    assert message in str(caught.value) and "mine.yaml" in str(caught.value)


def test_a_data_file_that_is_missing_is_named_with_the_command_that_writes_it():
    with pytest.raises(ConfigError, match=r"no such file; selftrain init FOLDER -o x/mine\.yaml writes it"):
        compose(["data=x/mine.yaml"])
