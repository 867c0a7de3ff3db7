"""docs/tutorial.md, command by command, on drawn data in the layout of its images."""

import csv
import json
import re
import shlex

import numpy as np
import pytest
import yaml
from PIL import Image
from zoo_objects import bowl_2018

from runs import ROOT
from selftrain.review.store import Change, Store

PAGE = (ROOT / "docs" / "tutorial.md").read_text()
COMMANDS = [
    shlex.split(line)
    for block in re.findall(r"^```sh\n(.*?)^```", PAGE, flags=re.M | re.S)
    for line in block.replace("\\\n", " ").splitlines()
    if line.startswith("selftrain ")
]
QUICK = [  # a few steps of a small network, instead of minutes
    "budget=quick", "train.steps=4", "model.encoder=tu-test_resnet", "train.crop=[32,32]", "train.threads=1",
    "train.precision=none", "labels.tta.scales=1.0", "export.onnx=false", "model.weights=null",
    "data.splits.labels=2", "model.decoder_channels=[32,16,16,8]", "train.labelled_batch=2", "train.unlabelled_batch=2",
    "train.statistics=1",
]  # fmt: skip


def test_masks_take_three_commands_and_a_reviewed_round_seven_more():
    words = [command[1] for command in COMMANDS]
    assert words[:3] == ["init", "train", "predict"]
    assert words[3:] == ["report", "next", "review", "resume", "train", "compare", "export"]


def accept(run):
    """What a person does on the page of `selftrain review`: accept the label of the first proposed image."""
    with open(run / "next" / "next.csv", newline="") as file:
        rows = list(csv.DictReader(file))[:1]
    store = Store(run / "review", ["background", "foreground"], [row["id"] for row in rows], "teacher")
    for row in rows:
        with Image.open(row["file"]) as image:
            ids = np.zeros(image.size[::-1], np.uint8)
        store.save(Change(row["id"], 0, "accept", row["id"], (ids, ids == 0)))
    return len(rows)


@pytest.mark.parametrize("commands", [COMMANDS])
def test_the_commands_lead_from_raw_images_to_a_reviewed_round(selftrain, commands, tmp_path):
    bowl_2018(tmp_path, cases=8)
    run = tmp_path / "runs/nuclei"
    for command in commands:
        if command[1] == "review":
            count = accept(run)
            continue
        words = [*command[1:], *(QUICK if command[1] == "train" else [])]
        code, said, err = selftrain(*words, cwd=tmp_path)
        assert code == 0, (command, said, err)
        if command[1] == "predict":
            masks = sorted((tmp_path / "masks").rglob("*.png"))
            assert len(masks) == 3 and Image.open(masks[0]).size == (48, 40)
    assert yaml.safe_load((tmp_path / "nuclei.yaml").read_text())["data"]["format"] == "objects"
    assert (tmp_path / "nuclei.html").is_file() and (run / "report.html").is_file()
    last = json.loads((run / "report.json").read_text())["generations"][-1]
    assert count and last["reviewed"]["accept"] == count
    assert (tmp_path / "compare.html").is_file() and (tmp_path / "nuclei-model/card.json").is_file()
