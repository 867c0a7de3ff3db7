"""`selftrain train --from RUN`: a new run goes on where RUN ended, with more masks."""

import json
import shutil
import signal

import numpy as np
import pytest
import yaml
from PIL import Image
from safetensors.torch import load_file

from runs import SMOKE

TINY = ["labels.crf.enabled=false", "train.eval_every=0"]
SPLITS = ("labelled", "unlabelled", "val", "test")


def draw(root, numbers, *, masked=True):
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for number in numbers:
        rng = np.random.default_rng(number)
        pixels, half = rng.integers(0, 100, (32, 32, 3), np.uint8), int(rng.integers(8, 24))
        pixels[:, half:] += 120
        if not (root / "images" / f"{number:02}.png").exists():
            Image.fromarray(pixels).save(root / "images" / f"{number:02}.png")
        if masked:
            mask = np.zeros((32, 32), np.uint8)
            mask[:, half:] = 1
            Image.fromarray(mask).save(root / "masks" / f"{number:02}.png")


def splits(run):
    """The split of each image by its hash, without those that share a picture."""
    manifest = json.loads((run / "data.json").read_text())
    return {row["image"]: split for split in SPLITS for row in manifest[split]}


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def earlier(run, tmp_path_factory):
    """A folder with 10 masks and 4 images without, and a run on it that used 6 masks."""
    root = tmp_path_factory.mktemp("base")
    draw(root / "data", range(10))
    draw(root / "data", range(10, 14), masked=False)
    data = ["data=folder", f"data.root={root / 'data'}", "data.classes=[left,right]", "data.unlabelled="]
    settings = [
        *SMOKE,
        *TINY,
        *data,
        "data.splits.labels=4",
        "train.steps=4",
        "generations=[{},{init: teacher}]",
    ]
    code, _, err = run(*settings, f"out={root / 'run'}")
    assert code == 0, err
    return root


@pytest.fixture
def more(earlier, tmp_path):
    """The same with two further masks, five new images with masks, one without, and a renamed image."""
    root = shutil.copytree(earlier, tmp_path / "root")
    draw(root / "data", [10, 11])
    draw(root / "data", range(20, 25))
    draw(root / "data", [30], masked=False)
    for folder in ("images", "masks"):
        (root / "data" / folder / "03.png").rename(root / "data" / folder / "zz.png")
    return root


def test_images_keep_their_split_and_the_teacher_begins_as_the_leader(zygote, more):
    run, new = more / "run", more / "new"
    before, known = contents(run), splits(run)
    words = ["train", "--from", str(run), f"data.root={more / 'data'}", f"out={new}"]
    still = ["train.lr=0", "train.steps=2", "generations=[{}]"]
    ended = zygote.run(*words, *still, door="cli")
    assert ended.code == 0, ended.err
    assert contents(run) == before
    now = splits(new)
    moved = {image for image in known if now[image] != known[image]}
    assert {known[image] for image in moved} == {"unlabelled"} and len(moved) == 2  # those that got masks
    assert {now[image] for image in moved} == {"labelled"}
    fresh = [split for image, split in now.items() if image not in known]
    assert sorted(fresh) == ["labelled"] * 3 + ["test", "unlabelled", "val"]
    report = json.loads((run / "report.json").read_text())
    leader = f"generation {report['best']} of run"
    assert "gen0: " in ended.out and f"tensors are taken from {leader}" in ended.out
    assert f"labelled {list(now.values()).count('labelled')} (5 new)" in ended.out
    theirs = load_file(run / f"gen{report['best']}" / "model" / "model.safetensors")
    ours = load_file(new / "gen0" / "model" / "model.safetensors")
    assert theirs.keys() == ours.keys()
    kept = [name for name in ours if "running" not in name and "num_batches" not in name]
    assert all(bool((ours[name] == theirs[name]).all()) for name in kept)  # the rate was 0
    assert json.loads((new / "gen0" / "report.json").read_text())["weights"][0]["source"] == leader


def test_the_new_run_does_not_need_the_earlier_one_to_resume(zygote, more):
    run, new = more / "run", more / "new"
    words = ["train", "--from", str(run), f"data.root={more / 'data'}", f"out={new}", "train.steps=4"]
    kill = {"do": "kill", "at": ["rename", "gen0/checkpoints/.step-000003.tmp"]}
    assert zygote.run(*words, door="cli", fault=kill).code == -signal.SIGKILL
    whole = more / "whole"
    assert zygote.run(*words[:4], f"out={whole}", words[-1], door="cli").code == 0
    shutil.rmtree(run)
    ended = zygote.run("resume", str(new), door="cli")
    assert ended.code == 0, ended.err
    for name in ("gen0", "gen1"):
        weights = "model/model.safetensors"
        assert (new / name / weights).read_bytes() == (whole / name / weights).read_bytes()
    assert splits(new) == splits(whole)
    assert len(yaml.safe_load((new / "config.yaml").read_text())["generations"]) == 2


def test_what_cannot_be_continued_is_refused(zygote, earlier, tmp_path):
    run = earlier / "run"
    ended = zygote.run("train", "--from", str(run), f"out={run}", door="cli")
    assert ended.code == 2 and "is the run to continue, which stays as it is" in ended.last
    ended = zygote.run("train", "--from", str(run), door="cli")
    assert ended.code == 2 and "out is not set" in ended.last
    ended = zygote.run("train", "--from", str(tmp_path), f"out={tmp_path / 'new'}", door="cli")
    assert ended.code == 2 and "is not a run directory" in ended.last
    (tmp_path / "config.yaml").write_text("generations: [{}]\n")
    ended = zygote.run("train", "--from", str(tmp_path), f"out={tmp_path / 'new'}", door="cli")
    assert ended.code == 2 and "has no network yet" in ended.last and not (tmp_path / "new").exists()


def test_train_without_another_run_is_the_command_that_starts_one(zygote, tmp_path):
    out = tmp_path / "run"
    ended = zygote.run("train", *SMOKE, *TINY, "train.steps=2", "generations=[{}]", f"out={out}", door="cli")
    assert ended.code == 0 and (out / "report.json").exists(), ended.err
