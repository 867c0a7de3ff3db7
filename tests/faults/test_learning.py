"""Losses that are no numbers, pseudo-labels that nobody accepts, and workers that die."""

import json
from pathlib import Path

import pytest
from test_kills import finished_alike

from harness import mismatches


def report(out, generation=0):
    return json.loads((out / f"gen{generation}" / "report.json").read_text())


@pytest.mark.promise(
    "NaN in a step: skipped and counted; many in a row: back to the checkpoint; always: exit 8, never saved"
)
def test_a_step_without_finite_gradients_is_skipped(zygote, out):
    ended = zygote.go(out, fault={"do": "not_a_number", "first": 4, "last": 5})
    assert ended.code == 0, ended.err
    assert report(out)["skipped_steps"] == 2 and report(out, 1)["skipped_steps"] == 0


@pytest.mark.promise(
    "NaN in a step: skipped and counted; many in a row: back to the checkpoint; always: exit 8, never saved"
)
def test_many_in_a_row_lead_back(zygote, out):
    ended = zygote.go(out, fault={"do": "not_a_number", "first": 4, "last": 11})
    assert ended.code == 0, ended.err
    assert "back to step 3 at half the rate" in ended.out and report(out)["skipped_steps"] == 8


@pytest.mark.promise(
    "NaN in a step: skipped and counted; many in a row: back to the checkpoint; always: exit 8, never saved"
)
def test_always_is_the_end(zygote, reference, out):
    ended = zygote.go(out, fault={"do": "not_a_number", "first": 4, "last": 10**6})
    assert ended.code == 8 and "train.lr" in ended.last and "Traceback" not in ended.err
    assert sorted(path.name for path in (out / "gen0" / "checkpoints").iterdir()) == [
        "step-000000",
        "step-000003",
    ]
    finished_alike(zygote, out, reference)  # the fault was not in the run: without it, the same bits


@pytest.mark.promise("no pseudo-label accepted: exit 8, or the teacher is the result, as set")
@pytest.mark.parametrize(("on_empty", "code"), [("fail", 8), ("labelled_only", 0)])
def test_no_pseudo_label_is_accepted(zygote, out, on_empty, code):
    ended = zygote.go(out, "select.threshold=global", "select.confidence=1.0", f"select.on_empty={on_empty}")
    assert ended.code == code, ended.err
    assert code == 0 or "select." in ended.last


@pytest.mark.full
@pytest.mark.promise("a teacher that predicts few classes or one: warned, the best generation is exported")
def test_a_teacher_that_knows_one_class(zygote, out):
    long_enough = [
        "generations=[{steps: 200}, {steps: 3}]",
        "train.eval_every=0",
        "train.checkpoint_every=200",
    ]
    ended = zygote.go(out, *long_enough, fault={"do": "one_class"})
    assert ended.code == 0, ended.err
    assert (
        "gen0: warning: its labels contain no pixel of" in ended.out
        and (out / "export" / "card.json").exists()
    )


@pytest.mark.promise("a data worker killed: exit 7 naming it, no hang, then the same bits")
def test_a_loader_that_dies(zygote, reference, out):
    ended = zygote.go(out, "train.workers=2", fault={"do": "kill_worker", "n": 4}, timeout=60)
    assert ended.code == 7 and "worker" in ended.last, (
        ended.err
    )  # threads of multiprocessing may complain before that
    finished_alike(zygote, out, reference)


@pytest.fixture
def small_memory():
    """A control group whose processes may have nothing beyond what they have."""
    group = Path("/sys/fs/cgroup/memory/selftrain-tests")
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text("4096")
    except OSError as error:
        pytest.skip(f"no control group may be made here: {error}")
    yield group
    group.rmdir()


@pytest.mark.full
@pytest.mark.promise("a data worker out of memory: exit 7 naming it, no hang, then the same bits")
def test_a_loader_without_memory(zygote, reference, out, small_memory):
    ended = zygote.go(
        out, "train.workers=2", fault={"do": "starve_worker", "n": 4, "group": str(small_memory)}, timeout=60
    )
    assert ended.code == 7 and "worker" in ended.last and "memory" in ended.last, ended.err
    finished_alike(zygote, out, reference)


@pytest.mark.full
@pytest.mark.promise("a CRF out of memory: exit 7 with the way out, no hang, then the same bits")
def test_a_crf_without_memory(zygote, reference, out):
    ended = zygote.go(out, fault={"do": "crf_without_memory"}, timeout=60)
    assert ended.code == 7 and "labels.crf.workers" in ended.last and "Traceback" not in ended.err, ended.err
    finished_alike(zygote, out, reference)


@pytest.mark.promise(
    "splits: no unlabelled image: the teacher is the result; fewer images than a batch: they repeat"
)
@pytest.mark.parametrize(
    "shapes",
    ["{labelled: 8, unlabelled: 0, val: 4, test: 4}", "{labelled: 2, unlabelled: 3, val: 1, test: 0}"],
)
def test_small_splits(zygote, out, shapes):
    ended = zygote.go(out, f"data.shapes={shapes}")
    assert ended.code == 0, ended.err
    assert ended.out.count("only generation 0 will be trained") == ("unlabelled: 0" in shapes)
    assert (out / "export" / "model.safetensors").exists()


@pytest.mark.promise("splits: no unlabelled image for what cannot do without: exit 3")
@pytest.mark.parametrize("need", ["online=fixmatch", "noise.style=0.5"])
def test_a_first_generation_that_needs_unlabelled_images(zygote, out, need):
    ended = zygote.go(out, "data.shapes.unlabelled=0", f"generations.0.{need}")
    assert ended.code == 3 and "Traceback" not in ended.err, ended.err
    assert f"generations.0.{need.removesuffix('=0.5')} needs unlabelled images" in ended.last
    assert "data.splits.labels=20" in ended.last and "recipe=supervised" in ended.last


@pytest.mark.promise(
    "splits: no labelled or no val image: refused (of drawn data, whose sizes are settings, with exit 2)"
)
@pytest.mark.parametrize("empty", ["labelled", "val"])
def test_empty_splits(zygote, out, empty):
    ended = zygote.go(out, f"data.shapes.{empty}=0")
    assert ended.code == 2 and empty in ended.last and "Traceback" not in ended.err


@pytest.mark.promise("a changed setting that changes results: exit 2 with the difference; the data: exit 3")
def test_changes_before_a_resume(zygote, reference, tmp_path):
    out = reference.copy(tmp_path / "run")
    (out / "report.json").unlink()
    ended = zygote.go(out, "train.lr=0.5")
    assert ended.code == 2 and "train.lr" in ended.last
    ended = zygote.go(out, "data.shapes.unlabelled=23")
    assert ended.code == 2 and "23" in ended.last
    finished_alike(zygote, out, reference)


@pytest.mark.promise(
    "hostile settings (_target_, hydra, Python objects, alias bombs, ${…}): exit 2, nothing executed or leaked"
)
@pytest.mark.parametrize(
    "setting",
    [
        "+model._target_=os.system", "hydra.run.dir=/tmp/x", "+hydra.job.chdir=true", "recipe=${oc.env:SECRET}",
        "out=${oc.env:SECRET}", "+evil={_target_: os.mkdir}", "data=../../etc/passwd", "~hydra", "seed=__import__('os')",
    ],
)  # fmt: skip
def test_hostile_settings(zygote, out, setting):
    ended = zygote.go(out, setting, SECRET="hunter2-hunter2")
    assert ended.code == 2 and "hunter2" not in ended.out + ended.err and "Traceback" not in ended.err
    assert not out.exists()


@pytest.mark.promise(
    "hostile settings (_target_, hydra, Python objects, alias bombs, ${…}): exit 2, nothing executed or leaked"
)
@pytest.mark.parametrize(
    "content",
    [
        "# @package _global_\nmodel: {_target_: os.mkdir}\n",
        "# @package _global_\nrecipe: !!python/object/apply:os.mkdir [CANARY]\n",
        "# @package _global_\nrecipe: ${oc.env:SECRET}\n",
        "# @package _global_\nhydra: {run: {dir: /tmp/x}}\n",
        "# @package _global_\na: &a [x, x, x, x, x, x, x, x]\n"
        + "".join(f"{new}: &{new} [*{old}, *{old}, *{old}, *{old}, *{old}, *{old}, *{old}, *{old}]\n"
                  for old, new in zip("abcdefgh", "bcdefghi", strict=True)),
    ],
    ids=["target", "object", "interpolation", "hydra", "aliases"],
)  # fmt: skip
def test_hostile_recipes(zygote, tmp_path, content):
    (tmp_path / "recipe").mkdir()
    (tmp_path / "recipe" / "evil.yaml").write_text(content.replace("CANARY", str(tmp_path / "canary")))
    ended = zygote.run(
        "recipe=evil",
        f"out={tmp_path / 'run'}",
        "--config-dir",
        str(tmp_path),
        SECRET="hunter2-hunter2",
        timeout=20,
    )
    assert ended.code == 2 and "hunter2" not in ended.out + ended.err and "Traceback" not in ended.err, ended
    assert not (tmp_path / "canary").exists() and not (tmp_path / "run").exists()
    assert ended.rss_mb < 1000


def test_mismatches_are_found(reference, tmp_path):
    """The comparison itself bites: another weight, a missing label, another row."""
    out = reference.copy(tmp_path / "run")
    with open(out / "metrics.jsonl", "a") as file:
        file.write("{}\n")
    (out / "gen0" / "labels" / "shard-00000.safetensors").unlink()
    assert mismatches(out, reference) == ["gen0/labels/shard-00000.safetensors", "metrics.jsonl"]
