"""Killed, stopped or moved anywhere, the same command ends in the bits of a run that nothing happened to."""

import json
import os
import shutil
import signal
import time

import pytest

from harness import SETTINGS, killed_at, killed_at_random, leftovers, mismatches
from runs import fingerprint

FAST = 24  # kills; `make test` runs one chain of them
CHAINS = 4


def finished_alike(zygote, out, reference, *overrides):
    ended = zygote.go(out, *overrides)
    assert ended.code == 0, ended.err
    assert mismatches(out, reference) == [] and leftovers(out) == []


@pytest.mark.promise("killed at a commit (fsync, rename): the same bits")
@pytest.mark.parametrize(
    "chain", [0, *(pytest.param(chain, marks=pytest.mark.full) for chain in range(1, CHAINS))]
)
def test_killed_before_commits_all_over_the_run(zygote, reference, out, chain, cases):
    spread = reference.commits[:: len(reference.commits) // FAST][:FAST]
    kills = killed_at(zygote, out, spread[chain::CHAINS])
    finished_alike(zygote, out, reference)
    assert kills >= FAST // CHAINS
    cases(kills)


@pytest.mark.promise("killed at a commit (fsync, rename): the same bits")
@pytest.mark.parametrize(
    "method",
    [
        "unimatch_v2",
        *(pytest.param(name, marks=pytest.mark.full) for name in ("mean_teacher", "fixmatch", "cps")),
    ],
)
def test_an_online_stage_that_was_killed(zygote, tmp_path, method):
    cutmix = 0.0 if method == "mean_teacher" else 0.5
    settings = f"generations=[{{online: {method}, noise: {{colour: 1.0, cutmix: {cutmix}}}}}]"
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert zygote.go(whole, settings).code == 0
    at = ["rename", "gen0/checkpoints/.step-000009.tmp"]
    assert zygote.go(killed, settings, fault={"do": "kill", "at": at}).code == -signal.SIGKILL
    assert zygote.go(killed, settings).code == 0
    assert fingerprint(killed) == fingerprint(whole)


@pytest.mark.promise("killed at a commit (fsync, rename): the same bits")
@pytest.mark.parametrize("steps", [3, pytest.param(9, marks=pytest.mark.full)])
def test_a_stage_whose_encoder_is_frozen_at_first(zygote, tmp_path, steps):
    """Killed with a checkpoint of step 6 there: the encoder learns since step 3, or is frozen until step 9."""
    settings = ["generations=[{}]", f"train.freeze={steps}", "train.encoder_lr=0.5", "train.layer_decay=0.9"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert zygote.go(whole, *settings).code == 0
    at = ["rename", "gen0/checkpoints/.step-000009.tmp"]
    assert zygote.go(killed, *settings, fault={"do": "kill", "at": at}).code == -signal.SIGKILL
    assert zygote.go(killed, *settings).code == 0
    assert fingerprint(killed) == fingerprint(whole)


@pytest.mark.promise("killed at a commit (fsync, rename): the same bits")
@pytest.mark.parametrize(
    "at",
    [
        ["rename", "gen0/snapshots/.2.tmp"],
        pytest.param(["replace", "gen0/.reliability.json.tmp"], marks=pytest.mark.full),
    ],
)
def test_a_teacher_asked_for_its_agreement_with_its_past(zygote, tmp_path, at):
    settings = ["select.reliability=agreement", "generations=[{}, {image_share: 0.5}]"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert zygote.go(whole, *settings).code == 0
    assert zygote.go(killed, *settings, fault={"do": "kill", "at": at}).code == -signal.SIGKILL
    assert zygote.go(killed, *settings).code == 0
    assert fingerprint(killed) == fingerprint(whole) and leftovers(killed) == []
    ranks = [
        json.loads((run / "gen0" / "reliability.json").read_text())["reliability"] for run in (whole, killed)
    ]
    assert ranks[0] == ranks[1]
    selection = json.loads((whole / "gen0" / "selection.json").read_text())
    kept = [rank for rank, weight in zip(ranks[0], selection["image_weights"], strict=True) if weight]
    assert len(kept) == len(ranks[0]) / 2 and sorted(kept) == sorted(ranks[0])[len(kept) :]


@pytest.mark.promise("killed at a commit (fsync, rename): the same bits")
@pytest.mark.parametrize("when", ["before", pytest.param("after", marks=pytest.mark.full)])
def test_killed_while_the_checkpoints_of_a_finished_generation_are_removed(zygote, reference, out, when):
    steps = ["gen0/checkpoints/step-000009", "gen0/checkpoints/step-000012", "gen1/checkpoints/step-000012"]
    commits = [["replace", "gen0/.report.json.tmp"], *(["rename", step] for step in steps)]
    assert killed_at(zygote, out, commits, "keep_checkpoints=false", when=when) == 4
    ended = zygote.go(out, "keep_checkpoints=false")
    assert ended.code == 0 and leftovers(out) == [] and not list(out.glob("gen*/checkpoints")), ended.err
    kept = {name: bits for name, bits in reference.bits.items() if "checkpoints" not in name}
    assert fingerprint(out) == kept
    assert len(kept) < len(reference.bits)


@pytest.mark.promise("what a rename shows is on the disk before it, and the rename itself after it")
def test_every_rename_is_between_syncs(reference):
    """A power cut shows what a kill does not; this needs no disk of its own to show it (test_storage.py has one)."""
    order = reference.commits
    renames = [path for call, path in order if call in ("rename", "replace") and path.endswith(".tmp")]
    assert len(renames) > 20
    for path in renames:
        call = "rename" if ["rename", path] in order else "replace"
        inside = [
            other
            for synced, other in order
            if synced == "fsync" and (other == path or other.startswith(path + "/"))
        ]
        assert inside, path
        assert all(order.index(["fsync", other]) < order.index([call, path]) for other in inside)
        assert ["fsync", os.path.dirname(path) or "."] in order


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.promise("killed at a commit (fsync, rename): the same bits")
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_every_commit(zygote, reference, tmp_path, when, cases):
    out, kills = tmp_path / "run", 0
    while (
        ended := zygote.go(out, fault={"do": "kill_once", "seen": str(tmp_path / "seen"), "when": when})
    ).code:
        assert ended.code == -signal.SIGKILL, ended.err
        kills += 1
    assert mismatches(out, reference) == [] and leftovers(out) == []
    assert kills > 0.75 * len(reference.commits)
    cases(kills)


@pytest.mark.promise("killed at a random time, five times in a row: the same bits")
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.full) for seed in range(1, 50))])
def test_killed_at_random_times(zygote, reference, out, seed, cases):
    killed_at_random(zygote, out, reference, seed)
    assert zygote.go(out).code == 0
    assert mismatches(out, reference) == [] and leftovers(out) == []
    cases(5)


@pytest.mark.promise("a kill costs at most checkpoint_every steps and one label shard")
def test_a_kill_costs_no_more_than_promised(zygote, reference, out):
    ended = zygote.go(out, fault={"do": "kill", "at": ["rename", "gen0/checkpoints/.step-000009.tmp"]})
    assert ended.code == -signal.SIGKILL
    assert (out / "gen0/checkpoints/step-000006").is_dir()
    ended = zygote.go(
        out, fault={"do": "kill", "at": ["replace", "gen0/labels/.shard-00002.safetensors.tmp"]}
    )
    assert ended.code == -signal.SIGKILL
    assert (out / "gen0/labels/shard-00001.safetensors").is_file()


@pytest.mark.promise("SIGTERM, SIGINT, SIGUSR1: saved, exit 75 within 20 s, then the same bits")
@pytest.mark.parametrize(
    ("number", "place"),
    [
        (signal.SIGTERM, "gen0/checkpoints/.step-000006.tmp"),
        pytest.param(signal.SIGUSR1, "gen0/labels/.shard-00000.safetensors.tmp", marks=pytest.mark.full),
        *(
            pytest.param(number, place, marks=pytest.mark.full)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
            for place in ("gen0/checkpoints/.step-000003.tmp", "gen0/labels/.shard-00001.safetensors.tmp")
        ),
    ],
)
def test_signals_save_and_exit_75(zygote, reference, out, number, place):
    call = "rename" if "checkpoints" in place else "replace"
    ended = zygote.go(out, fault={"do": "kill", "at": [call, place], "number": number})
    assert (
        ended.code == 75
        and "the same command resumes" in ended.last
        and ended.seconds < 20 + reference.seconds
    )
    finished_alike(zygote, out, reference)


@pytest.mark.promise("a second SIGINT ends at once: exit 130, then the same bits")
def test_a_second_interrupt_is_forced(zygote, reference, out):
    started = zygote.start(*SETTINGS, f"out={out}", fault={"do": "slow_steps", "seconds": 3})
    while not (out / "gen0/checkpoints/step-000000").is_dir():
        time.sleep(0.01)
    time.sleep(0.5)
    started.send(signal.SIGINT)
    time.sleep(0.3)
    started.send(signal.SIGINT)
    ended = started.wait(20)
    assert ended.code == 130, ended.err
    finished_alike(zygote, out, reference)


@pytest.mark.promise("two runs on one directory: one wins, the others exit 73; a dead holder blocks nobody")
@pytest.mark.parametrize("count", [3, pytest.param(49, marks=pytest.mark.full)])
def test_one_writer(zygote, reference, out, cases, count):
    first = zygote.start(*SETTINGS, f"out={out}", fault={"do": "slow_steps", "seconds": 250})
    while not (out / "gen0/checkpoints/step-000000").is_dir():
        time.sleep(0.01)
    others = [zygote.start(*SETTINGS, f"out={out}") for _ in range(count)]
    ended = [other.wait(200) for other in others]
    assert [one.code for one in ended] == [73] * count and "another run" in ended[0].last
    os.killpg(first.pid, signal.SIGKILL)
    first.wait(10)
    finished_alike(zygote, out, reference)
    cases(count + 1)


@pytest.mark.promise(
    "workers 0, 1, 2, 4, checkpoints less often, a clock that is wrong, a moved directory: the same bits"
)
@pytest.mark.parametrize("workers", [2, *(pytest.param(count, marks=pytest.mark.full) for count in (1, 4))])
def test_harmless_settings(zygote, reference, out, workers):
    ended = zygote.go(
        out, f"train.workers={workers}", "labels.crf.workers=2", fault={"do": "clock", "seconds": 3.2e7}
    )
    assert ended.code == 0, ended.err
    assert mismatches(out, reference) == []


@pytest.mark.promise(
    "workers 0, 1, 2, 4, checkpoints less often, a clock that is wrong, a moved directory: the same bits"
)
def test_a_moved_directory_and_a_clock_that_was_put_back(zygote, reference, tmp_path):
    place = tmp_path / "run"
    assert killed_at(zygote, place, [["rename", "gen0/.model.tmp"]]) == 1
    moved = tmp_path / "with spaces" / "ünïcode"
    moved.parent.mkdir()
    shutil.move(place, moved)
    ended = zygote.go(moved, fault={"do": "clock", "seconds": -3.2e7})
    assert ended.code == 0, ended.err
    assert mismatches(moved, reference) == []


@pytest.mark.promise(
    "the same command after the end: nothing is written; one more generation: as a longer run from the start"
)
def test_one_more_generation_is_a_longer_run(zygote, reference, tmp_path):
    noise = (
        "labelled: true, rand_n: 1, rand_m: 5, style: 0.5, colour: 0.5, cutmix: 0.5, paste: 0.5"  # as smoke's
    )
    longer = f"generations=[{{}}, {{noise: {{{noise}, dropout: 0.1, drop_path: 0.05}}}}, {{steps: 3}}]"
    out, fresh = reference.copy(tmp_path / "run"), tmp_path / "fresh"
    for where in (out, fresh):
        ended = zygote.go(where, longer)
        assert ended.code == 0, ended.err
    assert fingerprint(out) == fingerprint(fresh)


@pytest.mark.promise("a run directory can be read while another process writes it")
def test_status_of_a_run_that_is_being_written(zygote, reference, out):
    started = zygote.start(*SETTINGS, f"out={out}")
    seen = set()
    while not (out / "report.json").exists():
        if (out / "config.yaml").exists():
            ended = zygote.run("status", str(out), door="cli")
            assert ended.code == 0, ended.err
            seen.add(ended.out)
    assert started.wait().code == 0
    assert len(seen) > 1
