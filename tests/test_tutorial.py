"""docs/tutorial.md, command by command, on drawn data in the layout of its images."""

import re
import shlex

import pytest
import yaml
from PIL import Image
from zoo_objects import bowl_2018

from runs import ROOT

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


def test_the_tutorial_takes_at_most_four_commands():
    assert 3 <= len(COMMANDS) <= 4
    assert [command[1] for command in COMMANDS] == ["init", "train", "predict"]


@pytest.mark.parametrize("commands", [COMMANDS])
def test_the_commands_lead_from_raw_images_to_predictions(selftrain, commands, tmp_path):
    bowl_2018(tmp_path)
    for command in commands:
        more = QUICK if command[1] == "train" else []
        code, said, err = selftrain(*command[1:], *more, cwd=tmp_path)
        assert code == 0, (command, said, err)
    assert yaml.safe_load((tmp_path / "nuclei.yaml").read_text())["data"]["format"] == "objects"
    assert (tmp_path / "nuclei.html").is_file() and (tmp_path / "runs/nuclei/report.html").is_file()
    masks = sorted((tmp_path / "masks").rglob("*.png"))
    assert len(masks) == 3 and Image.open(masks[0]).size == (48, 40)
