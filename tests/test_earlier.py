"""Runs and exports of an earlier version go on.

`earlier/15730e6.tar.xz` holds what that commit wrote. `run/` was killed after step 2 of 4 of its second generation, with
the first one's labels stored; `export/` is of the same run at its end. The network is the smallest of timm. To be small
when packed, its weights began with one magnitude in each tensor, and a rate of 0 with nearly no gradient kept them so.
"""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runs import ROOT
from selftrain.files import read_yaml

STORED = ROOT / "tests" / "earlier" / "15730e6.tar.xz"
COMMAND = [
    "recipe=smoke", "model.encoder=tu-test_efficientnet", "model.decoder_channels=[8,4,4,4,4]",
    "data.shapes={labelled: 4, unlabelled: 4, val: 2, test: 2}", "train.steps=4", "train.labelled_batch=2",
    "train.unlabelled_batch=2", "train.checkpoint_every=2", "train.eval_every=0", "train.lr=0", "train.clip=1e-44",
    "train.warmup=1", "train.precision=none", "train.threads=1", "labels.crf.enabled=false", "labels.shard=4",
    "export.onnx=false", "generations=[{}, {init: teacher, noise: {cutmix: 0.5, labelled: true}}]",
]  # fmt: skip


@pytest.fixture
def earlier(tmp_path):
    with tarfile.open(STORED) as file:
        file.extractall(tmp_path, filter="data")
    return tmp_path


def contents(folder: Path):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_of_an_earlier_version_goes_on_to_its_end(earlier, run):
    out = earlier / "run"
    before, begun = contents(out / "gen0"), read_yaml(out / "config.yaml")
    code, _, err = run(*COMMAND, f"out={out}")
    assert code == 0, err
    kept = {name: content for name, content in before.items() if not name.startswith("checkpoints/")}
    after = {name: content for name, content in contents(out / "gen0").items() if name in before}
    chosen = [json.loads(files.pop("selection.json")) for files in (kept, after)]
    assert chosen[0].pop("alarms") and chosen[1].pop("alarms") == []  # a short training has none today
    assert chosen[0] == chosen[1] and after == kept
    report = json.loads((out / "report.json").read_text())
    assert report and json.loads((out / "gen1" / "report.json").read_text())["steps"] == 4
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["stage"] == "gen1"] == [4] and (
        out / "export" / "card.json"
    ).is_file()
    assert read_yaml(out / "config.yaml")["data"]["shapes"] == begun["data"]["shapes"]
    again = contents(out)
    assert run(*COMMAND, f"out={out}")[0] == 0 and contents(out) == again  # a finished run has nothing to do


@pytest.mark.parametrize("changed", ["train.steps=5", "loss.balance=0.25", "generations.1.noise.cutmix=0.25"])
def test_a_run_of_an_earlier_version_does_not_go_on_with_other_settings(earlier, run, changed):
    code, _, err = run(*COMMAND, f"out={earlier / 'run'}", changed)
    name = changed.partition("=")[0]
    assert code == 2 and f"{name}: " in err.splitlines()[-1] and "other settings" in err, err


def test_an_export_of_an_earlier_version_predicts(earlier, selftrain):
    image = earlier / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 32, 3), np.uint8)).save(image)
    code, _, err = selftrain("predict", earlier / "export", image, "-o", earlier / "masks")
    assert code == 0, err
    mask = np.array(Image.open(next((earlier / "masks").glob("*.png"))))
    assert mask.shape == (40, 32) and mask.max() < 6
