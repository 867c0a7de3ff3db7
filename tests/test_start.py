"""docs/start.md, command by command, with fewer steps of a smaller network."""

import re
import shlex

import pytest

from runs import ROOT

PAGE = (ROOT / "docs" / "start.md").read_text()
COMMANDS = [
    shlex.split(line)
    for block in re.findall(r"<!-- run -->\n```sh\n(.*?)^```", PAGE, flags=re.M | re.S)
    for line in block.splitlines()
]
QUICK = [
    "train.steps=3", "model.encoder=tu-test_resnet", "train.crop=[32,32]", "data.size=[32,32]", "train.threads=1",
    "train.precision=none", "labels.tta.scales=1.0", "labels.refiner=none", "export.onnx=false",
    "model.decoder_channels=[32,16,16,8,8]", "train.labelled_batch=2", "train.unlabelled_batch=2", "train.statistics=1",
    "data.shapes={labelled: 4, unlabelled: 4, val: 4, test: 4}",
]  # fmt: skip


@pytest.mark.parametrize("commands", [COMMANDS])
def test_the_commands_train_report_and_compare(selftrain, commands, tmp_path):
    assert [command[1] for command in commands] == ["train", "report", "status", "train", "compare"]
    for command in commands:
        more = QUICK if command[1] == "train" else []
        code, said, err = selftrain(*command[1:], *more, cwd=tmp_path)
        assert code == 0, (command, said, err)
    assert "start" in said and "alone" in said  # the table of the comparison
    assert (tmp_path / "runs/start/export/card.json").is_file()
