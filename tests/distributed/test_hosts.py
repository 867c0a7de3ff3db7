"""Runs on two hosts, which share a disk or not. Hosts are namespaces of this machine (machines.py)."""

import json
import os
import shutil
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from six_images import six_images

from machines import TINY, accelerate, ended, ranks, torchrun
from runs import fingerprint
from selftrain import hosts
from selftrain.errors import ConfigError
from selftrain.hosts import Copies
from selftrain.rundir import RunDir

SHORT = ["train.steps=2", "data.shapes={labelled: 4, unlabelled: 9, val: 2, test: 2}", "labels.shard=3"]


def on_one_host(zygote, out, count=2):
    """The same number of ranks, on one host."""
    started = [zygote.start(*TINY, f"out={out}", **env) for env in ranks(["127.0.0.1"], count)]
    for rank in [one.wait() for one in started]:
        assert rank.code == 0, rank.err
    return fingerprint(out)


@pytest.fixture(scope="module")
def reference(zygote, tmp_path_factory):
    return on_one_host(zygote, tmp_path_factory.mktemp("reference") / "run")


def finished(together, hosts, *settings, **more):
    for one in together(hosts, *settings, **more):
        assert one.code == 0, one.err


def test_two_hosts_share_a_run(together, sharing, place):
    """They find each other, train, and both label."""
    first, second = together(sharing, *SHORT)
    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert f"2 hosts share {place / 'run'}" in first.out and "test mIoU" not in second.out
    assert len([*(place / "run" / "gen0" / "labels").glob("shard-*")]) == 3
    written = json.loads((place / "run" / "conditions.json").read_text())
    assert written["now"]["ranks"] == 2 and written["changes"] == []
    assert not (place / "run" / ".writer").exists()


def test_logs_and_files_of_trackers_stay_on_their_host(tmp_path):
    for name in ("gen0/report.json", "gen0/.x.tmp", "run.log", "gen0/wandb", "wandb/a", ".writer", "a.out"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to("gen0")
    assert sorted(Copies(tmp_path, owner=True, rank=0)._files()) == ["gen0/report.json", "gen0/wandb"]


@pytest.fixture
def joining(tmp_path, monkeypatch):
    """joining() joins the copies a (of the main process) and b, whose processes are threads; {rank: error}."""
    meeting, own, said, errors = threading.Barrier(2, timeout=20), threading.local(), {}, {}

    def gathered(value):
        said[own.rank] = value
        meeting.wait()
        found = [said[0], said[1]]
        meeting.wait()
        return found

    def joined(rank, name):
        own.rank, run = rank, RunDir(tmp_path / name)
        try:
            Copies(run.path, owner=True, rank=rank).join(run)
        except ConfigError as error:
            errors[rank] = str(error)

    def joining():
        errors.clear()
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(joined, range(2), "ab"))
        return errors

    monkeypatch.setattr(hosts, "_gathered", gathered)
    monkeypatch.setattr(hosts, "_of_main", lambda value: gathered(value)[0])
    monkeypatch.setattr(hosts, "_broadcast", lambda chunk, source: gathered(chunk)[source])
    monkeypatch.setattr(hosts, "wait_for_everyone", lambda: gathered(None))
    return joining


def write(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


def read(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_copies_become_equal_and_the_work_of_people_stays(joining, tmp_path):
    config = "generations: [{}]"
    ours = {"config.yaml": config, "gen0/report.json": "1", "gen0/labels/shard-00000.safetensors": "old"}
    theirs = {
        "gen0/labels/shard-00001.safetensors": "labels",
        "gen0/labels/index.json": "stale",
        "weights.json": "stale",
        "gen0/labels/shard-00000.safetensors": "other",
        "review/journal.jsonl": "a\nb\n",
        "review/masks/a.png": "painted",
        "next/next.txt": "a",
        "notes.md": "mine",
    }
    write(tmp_path / "a", ours)
    write(tmp_path / "b", theirs | {"config.yaml": config})
    assert joining() == {}
    stay = {name: content for name, content in theirs.items() if content not in ("stale", "other")}
    assert read(tmp_path / "a") == read(tmp_path / "b") == ours | stay


def test_a_review_that_the_first_host_does_not_continue_is_never_replaced(joining, tmp_path):
    for folder in "ab":
        write(tmp_path / folder, {"config.yaml": "generations: [{}]"})
    write(tmp_path / "a", {"review/journal.jsonl": "a\nb\n"})
    write(tmp_path / "b", {"review/journal.jsonl": "a\ntorn"})
    assert joining() == {}
    assert read(tmp_path / "b")["review/journal.jsonl"] == "a\nb\n"
    write(tmp_path / "b", {"review/journal.jsonl": "a\nc\n"})
    before, errors = read(tmp_path / "b"), joining()
    assert set(errors) == {0, 1} and errors[0] == errors[1]
    assert f"{tmp_path}/b/review on " in errors[0] and "another review than on the first host" in errors[0]
    assert read(tmp_path / "b") == before


@pytest.mark.slow
def test_two_hosts_compute_the_bits_of_two_processes_on_one(together, sharing, place, reference):
    """Weights, labels and scores."""
    finished(together, sharing)
    assert len([name for name in reference if "labels/shard-" in name]) == 3
    assert fingerprint(place / "run") == reference


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [torchrun, accelerate])
def test_real_launchers_over_two_hosts(launcher, sharing, place, reference):
    processes = [
        host.start(*launcher(sharing, host), "-m", "selftrain.run", *TINY, f"out={place / 'run'}")
        for host in sharing
    ]
    for code, _, err in map(ended, processes):
        assert code == 0, err
    assert fingerprint(place / "run") == reference


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [torchrun, accelerate])
def test_real_launchers_over_two_hosts_with_disks_of_their_own(launcher, apart, place, reference):
    processes = [
        host.start(*launcher(apart, host), "-m", "selftrain.run", *TINY, f"out={place / 'run'}")
        for host in apart
    ]
    (code, out, err), second = map(ended, processes)
    assert (code, second[0]) == (0, 0), err + second[2]
    assert "2 hosts do not share" in out
    assert not (place / "run").exists()  # of neither host
    for host in apart:
        assert fingerprint(host.disk / "run") == reference


@pytest.mark.slow
def test_two_processes_on_each_of_two_hosts_with_disks_of_their_own(zygote, together, apart, tmp_path):
    finished(together, apart, each=2)
    expected = on_one_host(zygote, tmp_path / "run", 4)
    for host in apart:
        assert fingerprint(host.disk / "run") == expected


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_host_ends_the_run_which_then_resumes(together, sharing, place, reference, lost):
    fault = {"do": "at_step", "n": 7, "rank": str(lost), "number": int(signal.SIGKILL)}
    all_ended = together(sharing, faults={lost: fault})
    other = all_ended[1 - lost]
    assert other.code == 7 and "the same command" in other.last, other.err
    finished(together, sharing)
    assert fingerprint(place / "run") == reference


@pytest.mark.slow
def test_a_lost_host_with_a_disk_of_its_own(together, apart, reference):
    fault = {"do": "at_step", "n": 7, "rank": "1", "number": int(signal.SIGKILL)}
    first, _ = together(apart, faults={1: fault})
    assert first.code == 7 and "the same command" in first.last, first.err
    shutil.rmtree(apart[1].disk / "run")  # a new host takes its place
    finished(together, apart)
    for host in apart:
        assert fingerprint(host.disk / "run") == reference


@pytest.mark.slow
def test_a_cut_cable_is_noticed_on_both_sides(apart, together, reference):
    slow = {"do": "slow_steps", "seconds": 1}
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(together, apart, faults={0: slow, 1: slow})
        while not (apart[0].disk / "run/gen0/checkpoints/step-000003").is_dir():
            time.sleep(0.05)
        apart[1].cut()
        cut = time.monotonic()
        first, second = running.result()
    assert (first.code, second.code) == (7, 7), first.err + second.err
    assert time.monotonic() - cut < 60
    assert "rank 1 (host1 " in first.last and "has given no sign of life" in first.last, first.err
    assert "the same command resumes" in second.last, second.err
    apart[1].do("ip", "link", "set", "cable", "up")
    finished(together, apart)
    assert fingerprint(apart[1].disk / "run") == reference


@pytest.mark.slow
@pytest.mark.parametrize("left", [0, 1])
def test_one_of_two_hosts_goes_on_alone_and_the_change_is_marked(zygote, together, apart, left):
    """Each host has a copy that resumes, whichever is lost."""
    fault = {"do": "at_step", "n": 7, "rank": "0", "number": int(signal.SIGTERM)}
    assert [one.code for one in together(apart, faults={0: fault})] == [75, 75]
    out = apart[left].disk / "run"
    assert (out / "gen0/checkpoints/step-000008").is_dir()
    alone = zygote.run(*TINY, f"out={out}")
    assert alone.code == 0, alone.err
    report = json.loads((out / "gen0" / "report.json").read_text())
    assert report["exact"] is False and report["changed_conditions"] == ["ranks: 2 -> 1"]


@pytest.mark.slow
def test_a_copy_with_more_of_the_run_is_never_replaced(together, apart):
    finished(together, apart, *SHORT)
    shutil.rmtree(apart[0].disk / "run")
    before = {path: os.stat(path).st_mtime_ns for path in (apart[1].disk / "run").rglob("*.json")}
    first, second = together(apart, *SHORT)
    assert (first.code, second.code) == (2, 2), first.err
    assert "on host1 has more of the run than the first host: make this host the first" in first.last
    assert all(os.stat(path).st_mtime_ns == time for path, time in before.items()) and before
    assert not (apart[0].disk / "run").exists()


@pytest.mark.slow
def test_hosts_with_other_images_are_refused_before_the_run_begins(together, apart, place):
    for host in apart:
        six_images(host.disk / "data")
    for kind in ("images", "masks"):
        folder = apart[1].disk / "data" / kind / "train"
        (folder / "3.png").rename(folder / "another.png")
    splits = [f"data.splits.{name}={name}" for name in ("train", "val", "test")]
    data = ["data.format=folder", f"data.root={place / 'data'}", "data.classes=[ground,thing]", *splits]
    for one in together(apart, *data):
        assert one.code == 3, one.err
        assert "host0 has 6 images and host1 has 6, or their names differ" in one.last
    assert not any((host.disk / "run").exists() for host in apart)
