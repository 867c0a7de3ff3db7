"""Settings derived from the data: the facts, the rules, and a run that uses them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from runs import SMOKE
from selftrain.autoplan.division import named_splits
from selftrain.autoplan.facts import Facts, facts_of
from selftrain.autoplan.machine import Machine, machine_of
from selftrain.autoplan.resolve import level_of, lines
from selftrain.autoplan.rules import LEVELS, Known, derive
from selftrain.data.dataset import DataSet
from selftrain.data.masks import Mask
from selftrain.data.sample import Sample, Source
from selftrain.errors import ConfigError
from selftrain.files import read_yaml
from selftrain.settings import compose
from selftrain.settings.tree import changed

FACTS = Facts(
    masks=60,
    labelled=40,
    external=0,
    unlabelled=500,
    height=200,
    width=300,
    longest=300,
    channels=3,
    classes=3,
    object_side=40.0,
    object_class="disc",
    rarest_share=0.05,
)
CPU, GPU = Machine("cpu", 16 << 30), Machine("cuda", 80 << 30)


def plan(facts=FACTS, machine=CPU, budget="normal", given=None, growing=(3,)) -> dict:
    rows = derive(Known(facts, machine, LEVELS[budget], growing, given=given or {}))
    assert all(reason for _, _, reason in rows) and len({name for name, _, _ in rows}) == len(rows)
    return {name: value for name, value, _ in rows}


class Array(Source):
    def __init__(self, pixels):
        self.pixels = pixels

    name = "array"

    def read(self):
        return self.pixels

    def fingerprint(self):
        return None

    def examine(self, *, alone=False):
        return Mask(self.pixels)


def test_the_facts_are_those_of_the_masks():
    mask = np.zeros((60, 100), np.uint8)
    mask[5:15, 5:15] = 1  # objects of 10 pixels
    mask[30:40, 5:15] = 1
    mask[20:50, 60:90] = 2  # one of 30
    mask[0, 99] = 1  # a speck
    one = Sample("a", Array(np.zeros((60, 100, 3), np.uint8)), Array(mask))
    more = Sample("b", Array(np.zeros((80, 100, 3), np.uint8)), None)
    other = replace(one, id="c", mask=Array(np.ones((60, 100), np.uint8)), extra="elsewhere")
    facts = facts_of(DataSet(["ground", "dot", "disc"], [one, other], [more, more], [one], []))
    assert (facts.masks, facts.labelled, facts.unlabelled, facts.channels) == (2, 1, 2, 3)
    assert facts.external == 1
    assert (facts.height, facts.width, facts.longest) == (80, 100, 100)
    assert (facts.object_side, facts.object_class) == (10.0, "dot")
    assert facts.rarest_share == pytest.approx(201 / 6000)


def test_small_images_stay_as_they_are_and_a_crop_shows_all():
    values = plan()
    assert "data.size" not in values and values["train.crop"] == [224, 256]
    assert plan(replace(FACTS, height=90, width=120))["train.crop"] == [96, 128]


def test_large_images_become_smaller_but_not_their_objects():
    large = replace(FACTS, height=1500, width=2000, object_side=200.0)
    assert plan(large)["data.size"] == ["longest", 384]
    assert plan(large, GPU)["data.size"] == ["longest", 768]
    small = replace(large, object_side=30.0)  # 384/2000 would leave 6 pixels of 30
    assert plan(small)["data.size"] == ["longest", 512]
    assert plan(replace(large, object_side=5.0))["data.size"] == ["longest", 768]  # at most twice


def test_the_steps_grow_with_the_masks_and_the_schedule_with_the_steps():
    assert plan()["train.steps"] == 1000 and plan(budget="quick")["train.steps"] == 300
    assert plan(replace(FACTS, labelled=400))["train.steps"] == 2000
    assert plan(replace(FACTS, external=360))["train.steps"] == 2000  # a step draws from both alike
    values = plan(given={"train.steps": 200})
    assert "train.steps" not in values
    assert (values["train.warmup"], values["train.ema"], values["train.eval_every"]) == (10, 0.975, 50)


def test_a_small_memory_divides_the_batch():
    assert "train.accumulate" not in plan()
    assert plan(machine=Machine("cpu", 4 << 30))["train.accumulate"] == 2
    assert plan(machine=Machine("cpu", 4 << 30, processes=4)).get("train.accumulate", 1) == 1


def test_few_masks_are_not_spent_on_a_test_set():
    few = replace(FACTS, masks=8, labelled=6)
    values = plan(few)
    assert values["data.splits.test_fraction"] == 0.0 and values["data.splits.val_fraction"] == 0.375
    assert "data.splits.test_fraction" not in plan(few, given={"data.splits.test_fraction": 0.2})
    assert "data.splits.test_fraction" not in plan()
    rows = derive(Known(few, CPU, LEVELS["normal"], (), frozenset({"val", "test"})))
    assert not [name for name, _, _ in rows if name.startswith("data.splits")]


def test_students_grow_with_the_budget():
    assert plan()["generations.3.encoder"] == "tu-tf_efficientnet_lite1"
    assert plan(budget="quick")["generations.3.encoder"] is None
    assert plan(machine=GPU)["model.encoder"] == "tu-resnet50d"
    assert not [name for name in plan(given={"model.encoder": "tu-resnet18"}) if "encoder" in name]


def test_the_rate_is_that_of_the_encoder_on_which_it_was_measured():
    assert plan()["train.lr"] == 0.002 and "train.lr" not in plan(machine=GPU)
    assert plan(given={"model.encoder": "tu-tf_efficientnet_lite2"})["train.lr"] == 0.002
    assert "train.lr" not in plan(given={"model.encoder": "tu-resnet18"})
    assert "train.lr" not in plan(given={"train.lr": 0.01}) and "train.lr" not in plan(
        given={"train.optimizer": "sgd"}
    )


@pytest.mark.parametrize(
    ("change", "refiner"),
    [
        ({}, "crf"),
        ({"object_side": 6.0}, "none"),
        ({"height": 90, "width": 120}, "none"),
        ({"channels": 4}, "none"),
    ],
)
def test_the_crf_is_for_large_objects_in_colour(change, refiner):
    assert plan(replace(FACTS, **change))["labels.refiner"] == refiner


def test_folds_need_few_masks_and_much_time():
    few = replace(FACTS, masks=20, labelled=16)
    assert plan(few, budget="long")["generations.0.members"] == {"folds": {"number": 5}}
    assert "generations.0.members" not in plan(few) | plan(budget="long")


def test_every_value_is_one_that_a_run_takes():
    facts = replace(FACTS, masks=20, labelled=16, height=1500, width=2000)
    for machine in (CPU, GPU, Machine("cpu", 1 << 30)):
        for budget in LEVELS:
            values = plan(facts, machine, budget)
            cfg = changed(compose(["recipe=noisy_student"]), values)
            assert cfg.train.steps == values["train.steps"]


@pytest.mark.parametrize(
    ("budget", "level"), [("5", "quick"), ("60", "normal"), ("600", "long"), ("long", "long")]
)
def test_minutes_take_the_rules_of_a_level(budget, level):
    assert level_of(budget) is LEVELS[level]


def test_another_budget_is_refused():
    with pytest.raises(ConfigError, match="budget=soon must be quick, normal, long"):
        compose(["budget=soon"])


def test_the_machine_has_memory():
    machine = machine_of(torch.device("cpu"), 2)
    assert 2**27 < machine.memory < 2**45 and not machine.is_gpu


AUTO = [
    *(word for word in SMOKE if not word.startswith("recipe")),
    "recipe=smoke",
    "train.plan=auto",
    "budget=quick",
    "train.steps=4",
    "model.encoder=tu-resnet10t",
    "train.crop=[32,32]",
]


def test_a_run_derives_its_settings_once_and_keeps_them(run, tmp_path):
    out = tmp_path / "run"
    code, said, err = run(*AUTO, f"out={out}")
    assert code == 0, err
    rows = {row["name"]: row for row in json.loads((out / "plan.json").read_text())["settings"]}
    stored = read_yaml(out / "config.yaml", "train", "given")
    assert stored["train"]["warmup"] == rows["train.warmup"]["value"] == 1
    assert stored["train"]["steps"] == 4 and "train.steps" not in rows  # given
    assert "train.warmup" in said and "5 % of the steps" in said
    rows["train.warmup"]["value"] = 2  # as if another machine had begun it
    (out / "plan.json").write_text(json.dumps({"settings": list(rows.values())}))
    text = (out / "config.yaml").read_text()
    (out / "config.yaml").write_text(text.replace("warmup: 1", "warmup: 2"))
    code, said, err = run(*AUTO, f"out={out}")
    assert code == 0 and "nothing to do" in said, err


def test_without_a_mask_there_is_nothing_to_plan_from(run, tmp_path):
    (tmp_path / "data" / "images").mkdir(parents=True)
    settings = ["data=folder", f"data.root={tmp_path}/data", "data.classes=[a,b]", "train.plan=auto"]
    code, _, err = run(*settings, f"out={tmp_path}/run")
    assert code == 3 and str(tmp_path / "data") in err and not (tmp_path / "run").exists()


def test_the_plan_is_printed_as_it_would_be_typed():
    rows = [
        ("data.size", ["longest", 256], "large"),
        ("model.weights", None, "none"),
        ("train.x", True, "why"),
    ]
    assert [line.split()[1] for line in lines(rows)] == ["[longest,256]", "null", "true"]


def test_voc_brings_its_own_val_list(tmp_path):
    """Its val images are named by a list, so no share of the masks becomes val."""
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for split in ("train", "val"):
        (lists / f"{split}.txt").write_text("a\n")
    voc = ["data=folder", "data.format=voc", f"data.root={tmp_path}", "data.classes=[a,b]"]
    assert named_splits(compose(voc)) == {"val"}
    assert named_splits(compose([*voc[:1], *voc[2:]])) == set()
    assert named_splits(compose([*voc[:1], *voc[2:], "data.splits.fold=[0,5]"])) == {"val"}
    assert named_splits(compose(["data=shapes"])) == {"val", "test"}
