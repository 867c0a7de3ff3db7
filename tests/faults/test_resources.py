"""Limits of the system: memory, shared memory, file handles. Exit 7 with the way out, which a resume then takes."""

import html
import json
import signal
import time

import pytest
import yaml
from test_kills import finished_alike

from harness import SETTINGS
from runs import fingerprint

SHARED = "shared memory that does not suffice for loader processes: exit 7 with the way out, no hang, then the same bits"
HANDLES = "no file handles left: exit 7 with the way out, no hang, then the same bits"
STUCK = "loader processes that do nothing: exit 7, no hang; a signal meanwhile: saved, exit 75; then the same bits"
MEMORY = "memory that suffices to train and not to label: exit 7; a smaller labels.batch goes on, marked as not exact"
STEPS = "memory that does not suffice for a training step: smaller micro-batches, said and written; a resume keeps them"
BATCHES = "another labels.batch or train.eval_batch: the run goes on, finished label shards stay, marked as not exact"


def report(out, generation):
    return json.loads((out / f"gen{generation}" / "report.json").read_text())


def skip_without_namespaces(ended):
    if "no mount namespace" in ended.err:
        pytest.skip(ended.err.strip().splitlines()[-1])


@pytest.mark.promise(SHARED)
def test_batches_that_do_not_fit_into_shared_memory_are_refused_before_the_first_step(zygote, out):
    fault = {"do": "small_shared_memory", "kilobytes": 256, "look": True}
    ended = zygote.go(out, "train.workers=2", fault=fault, timeout=60)
    skip_without_namespaces(ended)
    assert ended.code == 7 and "Traceback" not in ended.err, ended.err
    assert all(
        word in ended.last for word in ("0.2 MiB free", "df /dev/shm", "--shm-size", "train.workers=0")
    ), ended.last
    assert not out.exists()


@pytest.mark.promise(SHARED)
def test_shared_memory_that_runs_out(zygote, reference, out):
    """The batches of the teacher fit, those of its student with soft labels do not."""
    fault = {"do": "small_shared_memory", "kilobytes": 256, "look": False}
    ended = zygote.go(out, "train.workers=2", fault=fault, timeout=60)
    skip_without_namespaces(ended)
    assert ended.code == 7 and "Traceback" not in ended.err, ended.err
    assert all(word in ended.last for word in ("df /dev/shm", "--shm-size", "train.workers=0")), ended.last
    assert report(out, 0)["exact"] and not (out / "gen1" / "report.json").exists()
    finished_alike(zygote, out, reference, "train.workers=0")


@pytest.mark.promise(HANDLES)
@pytest.mark.parametrize(
    "workers",
    [
        pytest.param(True, id="of the workers"),
        pytest.param(False, id="of the main process", marks=pytest.mark.full),
    ],
)
def test_too_many_open_files(zygote, reference, out, workers):
    ended = zygote.go(
        out, "train.workers=2", fault={"do": "open_files", "limit": 14, "workers": workers}, timeout=60
    )
    assert ended.code == 7 and "ulimit -n" in ended.last and "Traceback" not in ended.last, ended.err
    finished_alike(zygote, out, reference)


@pytest.mark.promise(HANDLES)
@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("ENOSPC", "--shm-size"),
        *(
            pytest.param(error, said, marks=pytest.mark.full)
            for error, said in (("EMFILE", "ulimit -n"), ("ENOMEM", "out of memory"))
        ),
    ],
)
def test_a_worker_that_cannot_send_its_batch(zygote, out, error, said):
    ended = zygote.go(out, "train.workers=1", fault={"do": "deaf_feeders", "error": error}, timeout=60)
    assert ended.code == 7 and said in ended.last and "the same command" in ended.last, ended.err


@pytest.mark.full
@pytest.mark.promise(STUCK)
def test_workers_that_do_nothing(zygote, reference, out):
    ended = zygote.go(out, "train.workers=2", fault={"do": "stop_workers", "n": 4, "idle": 2.5}, timeout=60)
    assert ended.code == 7 and "the loader processes do nothing" in ended.last, ended.err
    finished_alike(zygote, out, reference)


@pytest.mark.promise(STUCK)
def test_a_signal_ends_the_wait_for_a_batch(zygote, reference, out):
    started = zygote.start(*SETTINGS, f"out={out}", "train.workers=2", fault={"do": "stop_workers", "n": 4})
    while not (out / "gen0/checkpoints/step-000003").is_dir():
        time.sleep(0.01)
    time.sleep(2)  # beyond the batches that were made before
    started.send(signal.SIGTERM)
    began = time.monotonic()
    ended = started.wait(60)
    assert ended.code == 75 and "waiting for a batch" in ended.last and time.monotonic() - began < 10, (
        ended.err
    )
    steps = [path.name for path in (out / "gen0/checkpoints").iterdir()]
    assert "step-000005" in steps or len(steps) == 2  # what was learnt is saved, wherever it stopped
    finished_alike(zygote, out, reference)


@pytest.mark.full
@pytest.mark.promise(MEMORY)
def test_less_memory_than_labelling_takes(zygote, out):
    large = [
        "data.size=[192,192]",
        "data.shapes={labelled: 4, unlabelled: 32, val: 2, test: 0}",
        "data.cache_mb=0",
    ]
    large += ["labels.shard=32", "labels.crf.enabled=false", "train.steps=3", "train.eval_every=0"]
    fault = {"do": "memory_for_labels", "megabytes": 176}  # a batch of 2 takes 96, one of 32 more than 256
    ended = zygote.go(out, *large, "labels.batch=32", fault=fault)
    assert ended.code == 7 and "lower labels.batch" in ended.last and "Traceback" not in ended.err, ended.err
    ended = zygote.go(out, *large, "labels.batch=2", fault=fault)
    assert ended.code == 0, ended.err
    assert "labels.batch: 32 -> 2" in ended.out
    assert [report(out, number)["exact"] for number in (0, 1)] == [True, False]
    assert report(out, 1)["changed_conditions"] == ["labels.batch: 32 -> 2"]


LARGE = [
    "data.size=[160,160]", "train.crop=[160,160]", "train.labelled_batch=8", "train.steps=2", "train.eval_every=0",
    "data.shapes={labelled: 8, unlabelled: 0, val: 1, test: 0}", "generations=[{}]", "train.statistics=0",
]  # fmt: skip


@pytest.mark.promise(STEPS)
def test_less_memory_than_a_step_takes(zygote, out):
    ended = zygote.go(out, *LARGE, fault={"do": "memory_for_trial", "megabytes": 140})
    assert ended.code == 0, ended.err
    taken = yaml.safe_load((out / "config.yaml").read_text())["train"]["accumulate"]
    assert taken in (2, 4) and f"train.accumulate={taken}" in ended.out
    note = json.loads((out / "report.json").read_text())["memory"]
    assert "batch norm sees smaller batches" in note and f"warning: {note}" in ended.out
    assert note in html.unescape((out / "report.html").read_text())


@pytest.mark.promise(STEPS)
def test_less_memory_than_an_image_takes(zygote, out):
    ended = zygote.go(out, *LARGE, fault={"do": "memory_for_trial", "megabytes": 4})
    assert ended.code == 7 and "no memory for images of 160x160 (train.crop)" in ended.last, ended.err
    assert not out.exists()


@pytest.mark.full
@pytest.mark.promise(STEPS)
def test_smaller_micro_batches_have_the_bits_of_those_that_are_asked_for(zygote, out):
    """Also after a kill, by the command that asked for larger ones."""
    kill = {"do": "kill", "at": ["rename", "gen0/checkpoints/.step-000002.tmp"]}
    assert zygote.go(out, *LARGE, fault={"do": "memory_for_trial", "megabytes": 140}).code == 0
    taken, asked = json.loads((out / "memory.json").read_text()), out.with_name("asked")
    assert zygote.go(asked, *LARGE, f"train.accumulate={taken['taken']}").code == 0
    assert (
        fingerprint(asked)["gen0/model/model.safetensors"] == fingerprint(out)["gen0/model/model.safetensors"]
    )
    killed = out.with_name("killed")
    killed.mkdir()
    (killed / "memory.json").write_text(json.dumps(taken))  # as after a kill of a run that found no memory
    (killed / ".lock").touch()
    assert zygote.go(killed, *LARGE, fault=kill).code == -signal.SIGKILL
    assert zygote.go(killed, *LARGE).code == 0
    assert (
        fingerprint(killed)["gen0/model/model.safetensors"]
        == fingerprint(out)["gen0/model/model.safetensors"]
    )


@pytest.mark.promise(BATCHES)
def test_other_batches_on_a_resume(zygote, reference, out):
    at = ["replace", "gen0/labels/.shard-00001.safetensors.tmp"]
    assert zygote.go(out, fault={"do": "kill", "at": at}).code == -signal.SIGKILL
    shard = "gen0/labels/shard-00000.safetensors"
    before = (out / shard).stat().st_mtime_ns
    ended = zygote.go(out, "labels.batch=3", "train.eval_batch=2")
    assert ended.code == 0, ended.err
    assert (out / shard).stat().st_mtime_ns == before
    assert report(out, 1)["changed_conditions"] == ["train.eval_batch: 16 -> 2", "labels.batch: 8 -> 3"]
    assert report(out, 0)["exact"] and not report(out, 1)["exact"]


def test_batches_of_learning_are_still_refused(zygote, reference, tmp_path):
    out = reference.copy(tmp_path / "run")
    (out / "report.json").unlink()
    ended = zygote.go(out, "train.labelled_batch=2")
    assert ended.code == 2 and "train.labelled_batch: 4 -> 2" in ended.last
