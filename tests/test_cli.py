import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from selftrain import __version__, cli


@pytest.fixture(scope="module")
def finished(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("cli") / "run"
    code, _, err = run("recipe=smoke", "train.threads=1", "export.onnx=false", f"out={out}")
    assert code == 0, err
    return out


def test_help_needs_no_torch_and_names_the_commands():
    script = "import sys; sys.argv=['selftrain','--help']\nfrom selftrain import cli\ntry: cli.main()\nexcept SystemExit: pass\n"
    done = subprocess.run(
        [sys.executable, "-c", script + "assert 'torch' not in sys.modules"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert all(
        name in done.stdout
        for name in ("init", "train", "verify", "status", "predict", "export", "report", "import-weights")
    )


def test_the_version_is_printed(selftrain):
    code, said, _ = selftrain("--version")
    assert code == 0 and said == f"selftrain {__version__}\n"


def test_a_folder_alone_is_answered_with_the_command_that_describes_it(selftrain, tmp_path):
    code, _, err = selftrain("verify", tmp_path)
    assert code == 2 and f"run selftrain init {tmp_path}, which writes their data YAML" in err


def two_classes(folder, count):
    """Draw labelled images of two classes; returns the settings of the data set."""
    for part in ("images", "masks"):
        (folder / part).mkdir()
    for i in range(count):
        Image.fromarray(np.full((8, 8, 3), 20 * i, np.uint8)).save(folder / "images" / f"{i}.png")
        Image.fromarray(np.full((8, 8), i % 2, np.uint8)).save(folder / "masks" / f"{i}.png")
    return ["data=folder", f"data.root={folder}", "data.classes=[a,b]", "data.unlabelled=''"]


def test_verify_shows_the_splits_of_a_planned_run(selftrain, tmp_path):
    settings = two_classes(tmp_path, 10)
    code, said, err = selftrain("verify", *settings, "train.plan=auto")
    assert code == 0 and re.search(r"^masks +7 +0 +3 +0$", said, flags=re.MULTILINE), (said, err)


def test_letters_that_a_terminal_lacks_are_printed_as_their_codes(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for i in range(6):
        Image.fromarray(np.full((8, 8, 3), 40 * i, np.uint8)).save(tmp_path / "images" / f"{i}.png")
        Image.fromarray(np.full((8, 8), i % 2, np.uint8)).save(tmp_path / "masks" / f"{i}.png")
    settings = ["data=folder", f"data.root={tmp_path}", "data.classes=[空,地]", "data.unlabelled="]
    done = subprocess.run(
        [sys.executable, "-m", "selftrain.cli", "verify", *settings],
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and r"\u7a7a" in done.stdout, done.stderr


def test_status_and_report_of_a_finished_run(selftrain, finished):
    code, said, err = selftrain("status", finished)
    assert code == 0 and said.splitlines()[-1] == "finished", err
    for number, rest in enumerate([", labels finished", ""]):
        report = json.loads((finished / f"gen{number}" / "report.json").read_text())
        promoted = "promoted" if report["promoted"] else "not promoted"
        assert f"gen{number}  val mIoU {report['val']['miou']:.4f}  {promoted}{rest}\n" in said
    code, said, _ = selftrain("report", finished)
    assert code == 0 and "test mIoU" in said and str(finished / "report.html") in said


def test_the_page_opens_in_a_browser_also_before_the_end(zygote, selftrain, finished, tmp_path):
    assert selftrain("status", finished, "--watch")[0] == 0  # a finished run has nothing to watch
    browser, opened = tmp_path / "browser", tmp_path / "opened"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {opened}\n')
    browser.chmod(0o755)
    out = tmp_path / "run"
    (out / "gen0").mkdir(parents=True)
    shutil.copy(finished / "config.yaml", out)
    code, _, err = selftrain("report", out)
    assert code == 2 and "has no finished generation yet" in err
    shutil.copy(finished / "gen0/report.json", out / "gen0")
    ended = zygote.run("report", str(out), "--open", door="cli", BROWSER=f"{browser} %s")
    assert ended.code == 2 and "is not written yet" in ended.last
    assert "0 teacher" in ended.out and "not finished" in ended.out and "test mIoU" not in ended.out
    shutil.copy(finished / "report.html", out)
    ended = zygote.run("report", str(out), "--open", door="cli", BROWSER=f"{browser} %s")
    assert ended.code == 0 and opened.read_text() == (out / "report.html").as_uri(), ended.err
    ended = zygote.run(
        "report", str(out), "--open", door="cli", BROWSER="/nowhere/at/all %s", PATH="/nowhere"
    )
    assert ended.code == 7 and "no browser was found" in ended.last


def test_a_run_says_what_it_does_between_its_last_step_and_its_end(finished):
    said = [line.split("  ", 1)[1] for line in (finished / "run.log").read_text().splitlines()]
    begun = next(k for k, line in enumerate(said) if line.startswith("writing the export of generation"))
    assert any(line.startswith("gen1 val  ") for line in said[:begun])
    assert any(line.startswith("test mIoU") for line in said[begun:])


def test_a_directory_that_is_no_run_is_a_mistake(selftrain, tmp_path):
    for command in ("status", "report"):
        code, _, err = selftrain(command, tmp_path)
        assert code == 2 and str(tmp_path) in err and "Traceback" not in err


@pytest.mark.parametrize("given", ["", "export"])
def test_predict_labels_images_of_any_size(selftrain, finished, tmp_path, given):
    images, masks = tmp_path / "images", tmp_path / "masks"
    (images / "below").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (50, 41, 3), np.uint8)
    Image.fromarray(pixels).save(images / "a.png")
    Image.fromarray(pixels[:20]).save(images / "below" / "b.jpg")
    code, said, err = selftrain("predict", finished / given, images, "-o", masks)
    assert code == 0 and "2 masks" in said, err
    first, second = Image.open(masks / "a.png"), Image.open(masks / "below" / "b.png")
    classes = json.loads((finished / "export" / "card.json").read_text())["classes"]
    assert first.mode == "P" and first.size == (41, 50) and second.size == (41, 20)
    assert np.asarray(first).max() < len(classes)


def test_predict_writes_the_format_of_another_program(selftrain, finished, tmp_path):
    (tmp_path / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (50, 41, 3), np.uint8)
    for name in ("a.png", "b.jpg"):
        Image.fromarray(pixels).save(tmp_path / "images" / name)
    given = ["predict", finished, tmp_path / "images", "-o", tmp_path / "out", "--format", "coco-rle"]
    code, said, err = selftrain(*given)
    assert code == 0 and "2 masks as coco-rle" in said, err
    tree = json.loads((tmp_path / "out" / "annotations" / "default.json").read_text())
    assert [one["file_name"] for one in tree["images"]] == ["a.png", "b.jpg"]
    assert (tmp_path / "out" / "images" / "b.jpg").is_file() and (
        tmp_path / "out" / "selftrain.yaml"
    ).is_file()
    code, _, err = selftrain(*given)
    assert code == 2 and "not empty" in err.splitlines()[-1]


def test_a_run_without_a_finished_generation_has_no_network_to_predict_with(selftrain, tmp_path):
    (tmp_path / "config.yaml").write_text("generations: [{}]\n")
    code, _, err = selftrain("predict", tmp_path, tmp_path, "-o", tmp_path / "masks")
    assert code == 2 and "has no network yet" in err.splitlines()[-1]


def test_export_writes_any_generation_once_more(selftrain, finished, tmp_path):
    out = tmp_path / "teacher"
    settings = ["export.variants=[complete,int8]", "export.opset=17"]
    code, said, err = selftrain("export", finished, "-o", out, "--generation", 0, *settings)
    assert code == 0 and "complete.onnx: " in said, err
    card = json.loads((out / "card.json").read_text())
    assert card["generation"] == 0 and card["onnx"] and (out / "model.onnx").is_file()
    weights = (finished / "gen0" / "model" / "model.safetensors").read_bytes()
    assert (out / "model.safetensors").read_bytes() == weights
    assert card["onnx"]["opset"] == 17 and card["variants"]["complete"]["same_ids"] > 0.999
    assert (out / "int8.onnx").is_file() and (out / "use.py").is_file() and (out / "README.md").is_file()


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("train.steps=3", "train.steps=3: selftrain export takes settings of export"),
        ("export.size=[32,32]", "acts only with export.variants"),
        ("export.opset=15", "must lie between 16 and 24"),
    ],
)
def test_export_refuses_other_settings(selftrain, finished, tmp_path, setting, said):
    code, _, err = selftrain("export", finished, "-o", tmp_path / "out", setting)
    assert code == 2 and said in err and not (tmp_path / "out").exists()


def test_verify_lists_every_fault_and_exits_3(selftrain, tmp_path):
    settings = two_classes(tmp_path, 6)
    code, _, err = selftrain("verify", *settings)
    assert code == 0, err
    (tmp_path / "images" / "1.png").write_bytes(b"<html>")
    Image.fromarray(np.full((8, 8), 7, np.uint8)).save(tmp_path / "masks" / "2.png")
    code, said, err = selftrain("verify", settings[0], "--workers", 1, *settings[1:])
    assert code == 3 and "1.png" in said + err and "2.png" in said + err and "Traceback" not in err
    assert Path(tmp_path / "images" / "1.png").read_bytes() == b"<html>"


def undeclared(folder: Path) -> list[str]:
    """Settings of a data set of six images whose masks hold 0 and 9."""
    for i in range(6):
        for name, pixels in (
            ("images", np.full((8, 8, 3), 40 * i)),
            ("masks", np.full((8, 8), 9) * np.eye(8)),
        ):
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{i}.png")
    return ["data=folder", f"data.root={folder}", "data.classes=[a,b]", "data.unlabelled=''"]


def test_faults_that_verify_does_not_print_are_in_a_file(selftrain, tmp_path, monkeypatch):
    settings, work = undeclared(tmp_path / "data"), tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    code, said, err = selftrain("verify", *settings)
    assert (
        code == 3
        and said.count("fault: ") == 1
        and "fault: 6 masks hold values that are not declared: 9 (" in said
    )
    assert "data.values=[0,9]" in said and f"listed in {work / 'selftrain-faults.txt'}" in err
    assert len((work / "selftrain-faults.txt").read_text().splitlines()) == 6
    code, _, err = selftrain("verify", *settings, "--faults", tmp_path / "all.txt")
    assert code == 3 and (tmp_path / "all.txt").read_text() == (work / "selftrain-faults.txt").read_text()
    code, _, err = selftrain("verify", *settings, "data.values=[0,9]")
    assert code == 0, err


def test_verify_writes_no_list_near_the_data(selftrain, tmp_path, monkeypatch):
    settings = undeclared(tmp_path)
    monkeypatch.chdir(tmp_path)
    code, _, err = selftrain("verify", *settings)
    assert code == 3 and "--faults FILE writes all of them" in err
    code, _, err = selftrain("verify", *settings, "--faults", "images/0.png")
    assert code == 2 and "below data.root" in err
    assert not list(tmp_path.rglob("*.txt")) and Image.open(tmp_path / "images" / "0.png").size == (8, 8)


def test_verify_lists_what_left_nothing_to_read(selftrain, tmp_path):
    settings = undeclared(tmp_path)
    (tmp_path / "few.txt").write_text("a.png\nb.png\n")
    code, said, err = selftrain("verify", *settings, "data.splits.train=few.txt")
    assert (
        code == 3 and "fault: few.txt:1: names 'a.png', which does not exist" in said and "few.txt:2" in said
    )
    assert "2 faults" in err


def test_a_run_refuses_with_the_first_group(run, tmp_path):
    settings = undeclared(tmp_path / "data")
    code, _, err = run("recipe=smoke", *settings, f"out={tmp_path / 'run'}")
    assert code == 3 and "error: 6 masks hold values that are not declared: 9 (" in err
    assert err.rstrip().endswith("selftrain verify lists all")


def test_foreign_weights_become_safetensors_that_a_run_takes(selftrain, finished, tmp_path):
    """The run's decoder has four depths: its encoder ends one stage before that of the import."""
    state = load_file(finished / "export" / "model.safetensors")
    theirs = {f"module.{name}": value for name, value in state.items() if name.startswith("encoder.")}
    torch.save({"state_dict": theirs}, tmp_path / "theirs.pth")
    ours = tmp_path / "ours.safetensors"
    code, said, err = selftrain(
        "import-weights", tmp_path / "theirs.pth", "-o", ours, "--encoder", "tu-resnet10t"
    )
    assert code == 0, err
    written, counted, missing, partial = said.splitlines()
    assert str(ours) in written and counted == "55 of 70 encoder tensors from theirs.pth"
    assert (
        missing
        == "not in the file: 15 of encoder, 50 of decoder, 2 of segmentation_head; num_batches_tracked are not needed"
    )
    assert "model.partial_weights=true" in partial
    assert set(load_file(ours)) == {name for name in state if name.startswith("encoder.")}
    code, _, err = selftrain(
        "import-weights", tmp_path / "none.pth", "-o", tmp_path / "x.safetensors", "--encoder", "tu-resnet10t"
    )
    assert code == 2 and "none.pth" in err and "Traceback" not in err


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    file = tmp_path_factory.mktemp("image") / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 41, 3), np.uint8)).save(file)
    return file


def test_predict_writes_one_mask_and_nothing_else_to_standard_output(finished, image, capsysbinary):
    arguments = cli._parser().parse_args(["predict", str(finished), str(image), "-o", "-", "--grey"])
    arguments.run(arguments)
    with Image.open(io.BytesIO(capsysbinary.readouterr().out)) as mask:
        assert mask.mode == "L" and mask.size == (41, 50)


@pytest.mark.parametrize(
    ("given", "fix"),
    [
        (["-o", "-", "--csv"], "give a folder for --csv"),
        (["-o", "out", "--format", "coco", "--overlay"], "predict without it, then: selftrain convert"),
        (["-o", "out", "--values", "--threshold", "0.5"], "use --grey"),
        (["-o", "out", "--threshold", "70"], "--threshold 0.7"),
        (["-o", "out", "--size", "large"], "longest=512"),
        (["-o", "out", "--tta", "d5"], "did you mean d4|d4"),
        (["-o", "out", "--tta", "d4", "--flip"], "not allowed with argument"),
        (["-o", "out", "--backend", "onnx"], "selftrain export RUN -o DIR"),
    ],
)
def test_options_of_predict_that_cannot_be_met_exit_2_with_the_fix(
    selftrain, finished, image, tmp_path, given, fix
):
    code, _, err = selftrain("predict", finished, image, *given, cwd=tmp_path)
    assert code == 2 and any(one in err for one in fix.split("|")), err
    assert not list(tmp_path.iterdir())


def test_evaluate_scores_an_export_as_the_run_scored_it(selftrain, finished, tmp_path):
    data = ["recipe=smoke"]
    code, said, err = selftrain("evaluate", finished, *data, "--split", "test", "-o", tmp_path / "scores")
    assert code == 0, err
    scores = json.loads((tmp_path / "scores" / "evaluation.json").read_text())
    report = json.loads((finished / "report.json").read_text())
    assert scores["miou"] == pytest.approx(report["exported_test"]["miou"], abs=1e-3)
    assert scores["details"]["confusion"] and "Where each class fails" in said
    page = (tmp_path / "scores" / "evaluation.html").read_text()
    assert "Confusion" in page and f"{scores['miou']:.4f}" in page and "http:" not in page


def test_evaluate_refuses_data_of_other_classes(selftrain, finished, tmp_path):
    for folder, shape in (("images", (8, 8, 3)), ("masks", (8, 8))):
        (tmp_path / folder).mkdir()
        for i in range(6):
            Image.fromarray(np.full(shape, i % 2, np.uint8)).save(tmp_path / folder / f"{i}.png")
    data = ["data=folder", f"data.root={tmp_path}", "data.classes=[a,b]"]
    code, _, err = selftrain("evaluate", finished, *data)
    assert code == 2 and "data.classes=['a', 'b'], but the export has ['background'," in err, err
