"""Several ranks (gloo) of which one dies, stops or fails; no network."""

import json
import os
import shutil
import signal

import pytest

from harness import SETTINGS, mismatches, of_two
from runs import TORCHRUN, fingerprint, run_command

SAME_LABELS = "another number of ranks: the same samples and labels, the run marked as not exact"
ONE = [*SETTINGS, "generations=[{}]"]
LOST = "a rank killed, stopped or raising: all are gone within 60 s, the cause is named, exit 7; then the same bits"


def two_ranks(zygote, out, fault=None, settings=ONE):
    """How the two ranks of a run ended; `fault` comes to the one that it names."""
    ranks = [zygote.start(*settings, f"out={out}", fault=fault, **env) for env in of_two()]
    first = ranks[int(fault["rank"]) - 1 if fault else 0]  # the one that outlives the other, if one is lost
    order = sorted(ranks, key=lambda rank: rank is not first)
    ended = {rank.pid: rank.wait() for rank in order}
    return [ended[rank.pid] for rank in ranks]


@pytest.fixture(scope="module")
def pair(zygote, tmp_path_factory):
    """A run on two ranks that nothing happened to."""
    out = tmp_path_factory.mktemp("pair") / "run"
    finished_by_two(zygote, out)
    return out


def finished_by_two(zygote, out, settings=ONE):
    for rank in two_ranks(zygote, out, settings=settings):
        assert rank.code == 0, rank.err


@pytest.mark.promise(LOST)
@pytest.mark.parametrize(
    ("lost", "number", "said"),
    [
        pytest.param("1", signal.SIGSTOP, "has given no sign of life", marks=pytest.mark.full),
        pytest.param("0", signal.SIGSTOP, "", marks=pytest.mark.full),
        pytest.param("0", signal.SIGKILL, "is lost", marks=pytest.mark.full),
        ("1", signal.SIGKILL, "is lost"),
        pytest.param("1", 0, "is lost", marks=pytest.mark.full),
    ],
    ids=["stopped", "first stopped", "first killed", "killed", "raising"],
)
def test_a_lost_rank(zygote, pair, tmp_path, lost, number, said):
    out = tmp_path / "run"
    ranks = two_ranks(zygote, out, {"do": "at_step", "n": 7, "rank": lost, "number": int(number)})
    other = ranks[1 - int(lost)]
    assert other.code == 7 and said in other.last and "the same command" in other.last, other.err
    assert max(rank.seconds for rank in ranks) < 60 and all(rank.code is not None for rank in ranks)
    finished_by_two(zygote, out)
    assert fingerprint(out) == fingerprint(pair)


@pytest.mark.promise("SIGTERM, SIGINT, SIGUSR1: saved, exit 75 within 20 s, then the same bits")
def test_a_signal_to_one_rank_stops_both_at_one_step(zygote, pair, tmp_path):
    out = tmp_path / "run"
    ranks = two_ranks(zygote, out, {"do": "at_step", "n": 7, "rank": "1", "number": int(signal.SIGTERM)})
    assert [rank.code for rank in ranks] == [75, 75], ranks
    assert (out / "gen0/checkpoints/step-000008").is_dir()
    finished_by_two(zygote, out)
    ours, theirs = (
        {name: bits for name, bits in fingerprint(run).items() if "checkpoints" not in name}
        for run in (out, pair)
    )
    assert ours == theirs


@pytest.mark.promise(SAME_LABELS)
def test_two_ranks_write_the_labels_of_one_and_the_change_is_marked(zygote, reference, tmp_path):
    """The real launcher."""
    out = reference.copy(tmp_path / "run")
    for name in ("gen0/labels", "gen1"):
        shutil.rmtree(out / name)
    (out / "report.json").unlink()
    settings = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    code, said, err = run_command(*SETTINGS, f"out={out}", launcher=TORCHRUN, **settings)
    assert code == 0, err
    assert said.count("test mIoU") == 1  # one process speaks
    assert not [
        name for name in mismatches(out, reference) if name.startswith("gen0/")
    ]  # labels, and what is chosen of them
    shutil.rmtree(out / "gen1" / "model")
    for path in (out / "gen1" / "report.json", out / "report.json"):
        path.unlink()
    ended = zygote.go(out)  # takes up the checkpoint of two ranks
    assert ended.code == 0, ended.err
    assert json.loads((out / "gen1" / "report.json").read_text())["exact"] is False


@pytest.mark.full
@pytest.mark.promise(SAME_LABELS)
def test_one_rank_then_two_then_one(zygote, reference, tmp_path):
    out = tmp_path / "run"
    last = -signal.SIGKILL
    assert (
        zygote.go(out, fault={"do": "kill", "at": ["rename", "gen0/checkpoints/.step-000006.tmp"]}).code
        == last
    )
    two_ranks(zygote, out, {"do": "at_step", "n": 4, "rank": "0", "number": int(signal.SIGTERM)}, SETTINGS)
    assert zygote.go(out).code == 0
    assert json.loads((out / "gen0" / "report.json").read_text())["exact"] is False
    seen, expected = (samples(run / "metrics.jsonl") for run in (out, reference.out))
    assert seen == expected
    again = tmp_path / "labels"  # of one teacher: equal, whoever writes them
    shutil.copytree(out, again)
    for name in ("gen0/labels", "gen1"):
        shutil.rmtree(again / name)
    (again / "report.json").unlink()
    finished_by_two(zygote, again, SETTINGS)
    for path in (out / "gen0" / "labels").iterdir():
        assert path.read_bytes() == (again / "gen0" / "labels" / path.name).read_bytes()


@pytest.mark.promise("another number of threads: the run goes on, and what follows is marked as not exact")
def test_another_number_of_threads_goes_on_and_is_marked(zygote, tmp_path):
    out = tmp_path / "run"
    stop = {"do": "at_step", "n": 7, "rank": "0", "number": int(signal.SIGTERM)}
    assert zygote.go(out, "generations=[{}]", fault=stop).code == 75
    ended = zygote.go(out, "generations=[{}]", "train.threads=2")
    assert ended.code == 0, ended.err
    assert "threads: 1 -> 2" in ended.out
    report = json.loads((out / "gen0" / "report.json").read_text())
    assert report["exact"] is False and report["changed_conditions"] == ["threads: 1 -> 2"]
    assert "threads: 1 -&gt; 2" in (out / "report.html").read_text()


@pytest.mark.full
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
@pytest.mark.promise("another number of threads: the run goes on, and what follows is marked as not exact")
def test_a_resume_takes_the_number_of_threads_that_the_run_began_with(zygote, tmp_path):
    out = tmp_path / "run"
    stop = {"do": "at_step", "n": 7, "rank": "0", "number": int(signal.SIGTERM)}
    assert zygote.go(out, "train.threads=2", fault=stop).code == 75
    free = {"OMP_NUM_THREADS": "", "LOCAL_WORLD_SIZE": "1"}
    ended = zygote.go(out, "train.threads=0", **free)
    assert ended.code == 0, ended.err
    written = json.loads((out / "conditions.json").read_text())
    assert written["now"]["threads"] == 2 and written["changes"] == []
    assert json.loads((out / "gen1" / "report.json").read_text())["exact"] is True


def samples(path):
    """(stage, step) of every row of metrics."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [(row["stage"], row["step"]) for row in rows]


@pytest.mark.promise(
    "no network: a whole run passes; pretrained weights that are not there: exit 2 within 10 s"
)
def test_without_a_network(zygote, reference, tmp_path):
    ended = zygote.go(tmp_path / "run", fault={"do": "offline"}, HF_HOME=str(tmp_path / "cache"))
    if "no network namespace" in ended.err:
        pytest.skip(ended.err)
    assert ended.code == 0, ended.err
    asked = ["model.encoder=tu-resnet18", "model.weights=imagenet"]
    ended = zygote.go(tmp_path / "other", *asked, fault={"do": "offline"}, HF_HOME=str(tmp_path / "cache"))
    assert ended.code == 2 and "model.weights=null" in ended.last, ended
    assert ended.seconds < max(10, 2 * reference.seconds) and not (tmp_path / "other").exists()
