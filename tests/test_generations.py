"""Teachers and students: what each learns from, which one teaches, and what is exported."""

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from runs import SMOKE
from selftrain.data.cache import Cache
from selftrain.data.load import load
from selftrain.datasets import spec_of
from selftrain.diagnosis import brief
from selftrain.errors import ConfigError, DataError
from selftrain.generations import _outcome, deserves
from selftrain.inference.pixels import PixelScale
from selftrain.material import Material
from selftrain.plan import plans
from selftrain.preflight import check, check_data, say_untrained_generations
from selftrain.settings import compose


@pytest.mark.slow
def test_statistics_are_measured_anew_over_what_a_generation_has_learnt_from(run, tmp_path):
    weights = []
    for name, settings in {
        "none": ["train.statistics=0"],
        "some": [],
        "others": ["data.shapes.unlabelled=8"],
    }.items():
        code, _, err = run(*SMOKE, "generations=[{}]", *settings, f"out={tmp_path / name}")
        assert code == 0, err
        weights.append(load_file(tmp_path / name / "gen0" / "model" / "model.safetensors"))
    running = {name for name in weights[0] if "running" in name}
    learnt = {name for name in weights[0] if name.endswith(("weight", "bias"))}
    none, same = (
        {name for name in one if torch.equal(one[name], weights[1][name])} for one in (weights[0], weights[2])
    )
    assert learnt <= none and not running & none
    assert learnt | running <= same  # a teacher that learns from labels alone has not met the others

    data = load(spec_of(compose([*SMOKE]).data))
    scale = PixelScale(torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1))
    for online, teacher, student in (("''", False, True), ("fixmatch", True, True)):
        config = compose([*SMOKE, f"generations=[{{online: {online}}}, {{}}]"])
        whole, part = (
            Material(config.train, config.loss, one, None, Cache(64), scale)
            for one in (data, replace(data, unlabelled=[]))
        )
        for plan, differ in zip(plans(config), (teacher, student), strict=True):
            drawn = (torch.cat(list(one.unnoised(plan, (0, "statistics")))) for one in (whole, part))
            assert torch.equal(*drawn) != differ


@pytest.mark.parametrize("online", ["''", "fixmatch"])
def test_the_masks_say_what_pixels_of_a_class_weigh(online):
    config = compose([*SMOKE, f"generations=[{{online: {online}}}]"])
    accelerator = SimpleNamespace(num_processes=1, device="cpu", autocast=None, unwrap_model=None)
    scale = PixelScale(torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1))
    data, (plan,) = load(spec_of(config.data)), plans(config)
    material = Material(config.train, config.loss, data, accelerator, Cache(64), scale)
    pixels, weights = material.class_pixels, material.step(plan).context.class_weights.numpy()
    assert pixels.sum() == sum(sample.read_mask().size for sample in data.labelled)  # smoke has no void
    np.testing.assert_allclose(
        weights**-2 / (weights**-2).sum(), pixels / pixels.sum(), rtol=1e-4
    )  # share^-0.5
    np.testing.assert_allclose((weights * pixels).sum(), pixels.sum(), rtol=1e-4)
    rare = data.classes[-1]
    config.loss.class_weights = {rare: 3.0}
    factors = material.step(plan).context.class_weights.numpy() / weights
    np.testing.assert_allclose(factors, [1.0] * (len(pixels) - 1) + [3.0], rtol=1e-6)
    config.loss.balance = 0.0
    given = material.step(plan).context.class_weights.numpy()
    np.testing.assert_allclose(given, [1.0] * (len(pixels) - 1) + [3.0])
    config.loss.class_weights = {}
    assert material.step(plan).context.class_weights is None


@pytest.mark.slow
def test_another_choice_of_pseudo_labels_is_taken_until_a_student_has_begun(run, tmp_path):
    out = tmp_path / "run"
    small = [*SMOKE, f"out={out}", "labels.crf.enabled=false"]
    refused = ["select.threshold=global", "select.confidence=1.0"]
    assert run(*small, *refused)[0] == 8
    labels = (out / "gen0" / "labels" / "index.json").stat().st_mtime_ns
    code, _, err = run(*small, *refused, "select.on_empty=labelled_only")  # the teacher is the result
    assert code == 0 and (out / "report.json").exists() and not (out / "gen1").exists(), err
    code, _, err = run(*small, "select.reliability=agreement")
    assert code == 2 and "select.reliability" in err  # the teacher's past would have been needed
    code, _, err = run(*small)
    assert code == 0, err
    assert (out / "gen0" / "labels" / "index.json").stat().st_mtime_ns == labels
    assert (out / "gen1" / "report.json").exists()
    code, _, err = run(*small, "select.keep=0.3")
    assert code == 2 and "select.keep" in err


@pytest.mark.slow
def test_a_pair_of_networks_may_be_asked_how_far_it_agrees_with_its_past(run, tmp_path):
    settings = [
        "generations=[{online: cps},{image_share: 0.5}]",
        "select.reliability=agreement",
        "labels.crf.enabled=false",
    ]
    code, _, err = run(*SMOKE, *settings, f"out={tmp_path / 'run'}")
    assert code == 0 and (tmp_path / "run" / "gen0" / "reliability.json").exists(), err


def test_without_unlabelled_images_the_teacher_is_exported(run, tmp_path):
    code, said, err = run(*SMOKE, "data.shapes.unlabelled=0", f"out={tmp_path / 'run'}")
    assert code == 0, err
    assert "no unlabelled images" in said and (tmp_path / "run" / "export" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("student", "promoted", "said"),
    [
        (0.50, True, "leads: 0.0000 above generation 1 "),
        (0.485, True, "leads although it is 0.0150 below generation 1 "),
        (0.479, False, "does not lead: 0.0010 below generation 0, the first teacher"),
        (0.45, False, "does not lead: 0.0500 below generation 1 (standard error of the difference 0.0400)"),
    ],
)
def test_a_student_is_promoted_within_an_error_of_the_best_but_not_below_the_first_teacher(
    student, promoted, said
):
    """The best is at 0.50 with an error of 0.04 between them, the first teacher at 0.48."""
    wide = [0.02, -0.02] * 10  # the blocks whose absence changes a student's score
    error = float(np.sqrt(19 * np.var(wide)))

    def report(number, miou, spread=0.0):
        changes = np.array(wide) * spread * 0.04 / error
        val = {"miou": miou, "miou_without": (miou + changes).tolist()}
        return {"generation": number, "val": val, "promoted": True}

    earlier, mine = [report(0, 0.48), report(1, 0.50)], report(2, student, 1.0)
    mine["promoted"] = deserves(mine, earlier)
    assert mine["promoted"] is promoted
    assert _outcome(mine, earlier).startswith(said)


def test_a_last_generation_may_learn_from_masks_alone(run, tmp_path):
    """A short fine-tune: it starts as its teacher, and no label is stored for it."""
    generations = "generations=[{steps: 3}, {init: teacher, unlabelled_batch: 0, steps: 3}]"
    code, said, err = run(
        *SMOKE, generations, "train.lr=1e-12", "train.statistics=0", f"out={tmp_path / 'run'}"
    )
    assert code == 0 and "generations.1" not in said, err
    assert not (tmp_path / "run" / "gen0" / "labels").exists()
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    mine = [row for row in rows if row["stage"] == "gen1" and "loss" in row]
    assert mine and not any("pseudo_loss" in row for row in mine)
    first, last = (load_file(tmp_path / "run" / f"gen{k}" / "model" / "model.safetensors") for k in (0, 1))
    assert all(torch.allclose(first[name], last[name], atol=1e-6) for name in first if "weight" in name)
    taught = [
        row["teacher"] for row in json.loads((tmp_path / "run" / "report.json").read_text())["generations"]
    ]
    assert taught == [None, None]  # no generation learnt from the labels of another one


def test_what_is_trained_without_unlabelled_images_is_said(capsys):
    """Generations that learn from masks are trained; the first one that needs labels ends the run."""
    masks, students = "{unlabelled_batch: 0}", "{}"
    for later, said in {
        students: "only generation 0 will be trained",
        f"{masks}, {students}": "only generations 0 to 1 will be trained",
        masks: "",
    }.items():
        cfg = compose([*SMOKE, "data.shapes.unlabelled=0", f"generations=[{{}}, {later}]"])
        say_untrained_generations(load(spec_of(cfg.data)), plans(cfg))
        printed = capsys.readouterr().out
        assert said in printed if said else not printed


def test_colours_of_unlabelled_images_need_some_also_in_a_generation_on_masks():
    rows = "generations=[{}, {unlabelled_batch: 0, noise: {style: 0.5}}]"
    cfg = compose([*SMOKE, "data.shapes.unlabelled=0", rows])
    with pytest.raises(DataError, match=r"generations\.1\.noise\.style needs unlabelled images"):
        check_data(load(spec_of(cfg.data)), cfg)


def test_an_online_generation_needs_unlabelled_images_in_its_steps():
    with pytest.raises(ConfigError, match=r"generations\.1\.unlabelled_batch >= 1"):
        check(compose([*SMOKE, "generations=[{}, {online: fixmatch, unlabelled_batch: 0}]"]))
    (_, student) = plans(compose([*SMOKE, "generations=[{}, {unlabelled_batch: 3}]"]))
    assert student.unlabelled_batch == 3 and student.needs_labels


@pytest.mark.slow
def test_the_last_one_teaches_whatever_val_says_where_that_is_asked_for(run, tmp_path):
    """ST++ labels anew with its first student; what leads on val is still what is exported."""
    settings = [
        "generations=[{steps: 30}, {steps: 1}, {steps: 1}]",
        "labels.teacher=last",
        f"out={tmp_path / 'run'}",
    ]
    code, _, err = run(*SMOKE, *settings)
    assert code == 0, err
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert [(g["teacher"], g["promoted"]) for g in report["generations"]] == [
        (None, True),
        (0, False),
        (1, False),
    ]
    assert report["best"] == report["exported"] == 0 and report["generations"][1]["labels"]["generation"] == 1


def test_the_incumbent_goes_on_teaching_and_a_small_last_student_can_be_what_is_exported(run, tmp_path):
    """A student of one step with a rate of nearly nought cannot beat its teacher; the next one learns from generation 0."""
    students = "{steps: 1}, {steps: 1, encoder: tu-mobilenetv3_small_050}"
    settings = [
        "model.encoder=tu-resnet10t",
        f"generations=[{{steps: 30}}, {students}]",
        "export.generation=last",
        f"out={tmp_path / 'run'}",
    ]
    code, said, err = run(*SMOKE, *settings)
    assert code == 0 and "generations.2: its network is smaller than the one before" in said, err
    assert "few images in val (4)" in said
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    teacher, student, last = report["generations"]
    assert [g["promoted"] for g in (teacher, student, last)] == [True, False, False]
    assert student["teacher"] == last["teacher"] == report["best"] == 0 and report["exported"] == 2
    assert last["model"]["params"] < teacher["model"]["params"]
    assert not (tmp_path / "run" / "gen1" / "labels").exists()
    card = json.loads((tmp_path / "run" / "export" / "card.json").read_text())
    assert card["model"]["encoder"] == "tu-mobilenetv3_small_050" and card["metrics"]["val"] == brief(
        last["val"]
    )
    quality = teacher["labels"]["quality"]
    assert set(quality) == {"raw", "tta", "crf", "selected"} and set(teacher["labels"]["kept"]) == set(
        card["classes"]
    )


def test_a_student_begins_as_its_teacher_a_deeper_one_too(run, tmp_path):
    """resnet26t has the blocks of resnet14t and as many more, which begin as the identity."""
    students = "{steps: 1, init: teacher}, {steps: 1, init: teacher, encoder: tu-resnet26t}"
    settings = [
        "model.encoder=tu-resnet14t",
        f"generations=[{{}}, {students}]",
        "train.lr=1e-9",
        f"out={tmp_path / 'run'}",
    ]
    code, said, err = run(*SMOKE, *settings)
    assert code == 0, err
    ((number, fitting, own),) = re.findall(r"gen(\d): (\d+) of its (\d+) tensors are its teacher's", said)
    assert number == "2" and int(fitting) < int(own)
    teacher, *students = (
        load_file(tmp_path / "run" / f"gen{n}" / "model" / "model.safetensors") for n in range(3)
    )
    learnt = [name for name in teacher if name.endswith(("weight", "bias"))]
    for student in students:
        assert not [name for name in learnt if not torch.allclose(student[name], teacher[name], atol=1e-5)]


def test_agreement_needs_three_steps_of_every_generation_that_is_worked():
    few = ["recipe=smoke", "select.reliability=agreement", "generations=[{steps: 3},{steps: 2}]"]
    with pytest.raises(ConfigError, match="needs 3 or more"):
        check(compose(few))
    check(compose([*few[:2], "train.steps=2", "generations=[{steps: 3},{steps: 4}]"]))
