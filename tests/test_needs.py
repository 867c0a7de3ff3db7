"""`selftrain plan`: what a run will need, by a few of its own steps and labels."""

import re

import pytest

from runs import SMALL, SMOKE

MEMORY = r"([\d.]+) [MG]B"


def test_a_run_is_measured_and_nothing_is_left(zygote, tmp_path):
    ended = zygote.run(
        "plan",
        *SMOKE,
        "train.accumulate=2",
        "labels.crf.enabled=false",
        f"out={tmp_path / 'run'}",
        door="cli",
    )
    assert ended.code == 0, ended.err
    generations = re.findall(r"^generation \d: unet tu-test_resnet, .* in 2 micro-batches$", ended.out, re.M)
    assert (
        len(generations) == 2 and "4 images a step" in generations[0] and "8 images a step" in generations[1]
    )
    steps = re.findall(rf"^  training   ([\d.e-]+) s for a step, {MEMORY} of memory$", ended.out, re.M)
    labels = re.findall(rf"^  labelling  ([\d.e-]+) s for an image, {MEMORY} of memory$", ended.out, re.M)
    assert len(steps) == 2 and len(labels) == 1  # the last generation labels nothing
    assert all(float(seconds) > 0 and float(memory) > 0 for seconds, memory in [*steps, *labels])
    assert re.search(rf"^memory: {MEMORY} of the process at most, .*; {MEMORY} are free$", ended.out, re.M)
    assert re.search(r"^time: about .*gen0", ended.out, re.M) and ended.out.count("about") == 1
    assert re.search(rf"^disk: {MEMORY} at most in {tmp_path / 'run'} \(.*labels {MEMORY}\)", ended.out, re.M)
    assert list(tmp_path.iterdir()) == []


def test_generations_that_nothing_teaches_are_left_out(zygote, tmp_path):
    words = [
        *SMOKE,
        "data.shapes.unlabelled=0",
        "labels.refiner=none",
        "train.statistics=0",
        f"out={tmp_path / 'run'}",
    ]
    ended = zygote.run("plan", *words, door="cli")
    assert ended.code == 0 and "only generation 0 will be trained" in ended.out, ended.err
    assert re.findall(r"^generation (\d)", ended.out, re.M) == ["0"] and "gen1" not in ended.out


def test_a_plan_that_cannot_be_is_refused_like_its_run(zygote, tmp_path):
    ended = zygote.run("plan", *SMOKE, "train.accumulate=9", f"out={tmp_path / 'run'}", door="cli")
    assert ended.code == 2 and "leaves a micro-batch without an image" in ended.last
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["cps", "unimatch_v2", "st_plus_plus", "noisy_student"])
def test_every_kind_of_step_is_measured(zygote, tmp_path, recipe):
    ended = zygote.run("plan", f"recipe={recipe}", *SMALL, f"out={tmp_path / 'run'}", door="cli")
    assert ended.code == 0 and "s for a step" in ended.out, ended.err
