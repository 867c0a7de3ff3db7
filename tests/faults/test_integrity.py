"""Damaged, swapped and hostile files in a run directory: found by their hashes, never executed, never believed."""

import json
import os
import pickle
import shutil
import subprocess
import sys
import time

import pytest
from test_kills import finished_alike

from harness import SETTINGS, killed_at, mismatches
from runs import ROOT, run_command
from selftrain.errors import IntegrityError
from selftrain.files import read_directory


def newest(out):
    return max((out / "gen0" / "checkpoints").glob("step-*[0-9]"))


def truncate(path):
    path.write_bytes(path.read_bytes()[:-3])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def replace_by_pickle(path):
    path.write_bytes(pickle.dumps(Canary()))


class Canary:
    """Leaves a file behind if it is ever unpickled."""

    place = "/tmp/selftrain-canary"

    def __reduce__(self):
        return os.mkdir, (self.place,)


@pytest.fixture(autouse=True)
def canary(tmp_path, monkeypatch):
    monkeypatch.setattr(Canary, "place", str(tmp_path / "canary"))
    yield
    assert not os.path.exists(Canary.place)


@pytest.mark.promise(
    "newest checkpoint damaged: set aside as *.corrupt, the one before is used, the same bits"
)
@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("optimizer.safetensors", flip),
        *(
            pytest.param(file, damage, marks=pytest.mark.full)
            for file in (
                "model.safetensors",
                "ema.safetensors",
                "optimizer.safetensors",
                "state.json",
                "MANIFEST.json",
            )
            for damage in (truncate, flip, os.unlink)
            if (file, damage) != ("optimizer.safetensors", flip)
        ),
    ],
)
def test_a_damaged_checkpoint(zygote, reference, out, file, damage):
    assert killed_at(zygote, out, [["rename", "gen0/checkpoints/step-000003"]]) == 1  # 6 and 9 are there
    place = newest(out)
    damage(place / file)
    (place.parent / "notes.txt").write_text("somebody else's")
    ended = zygote.go(out)
    assert ended.code == 0, ended.err
    assert place.with_name(place.name + ".corrupt").is_dir() and (place.parent / "notes.txt").exists()
    assert mismatches(out, reference) == []


@pytest.mark.promise("every checkpoint of a stage damaged: exit 6, reasons listed, nothing deleted")
def test_only_damaged_checkpoints(zygote, out):
    assert killed_at(zygote, out, [["rename", "gen0/checkpoints/step-000003"]]) == 1
    folder = out / "gen0" / "checkpoints"
    for place in folder.glob("step-*[0-9]"):
        flip(place / "model.safetensors")
    count = len(list(folder.rglob("*.safetensors")))
    for _ in range(2):
        ended = zygote.go(out)
        assert ended.code == 6 and "no intact checkpoint" in ended.last and "Traceback" not in ended.err
    assert len(list(folder.rglob("*.safetensors"))) == count


@pytest.mark.promise(
    "a label shard deleted, damaged or another image's: found by its hash, made again, the same bits"
)
@pytest.mark.parametrize(
    ("damage", "finished"),
    [
        ("flip", True),
        ("swap", False),
        *(
            pytest.param(damage, finished, marks=pytest.mark.full)
            for damage, finished in (("delete", True), ("delete", False), ("flip", False), ("swap", True))
        ),
    ],
)
def test_a_damaged_label_shard(zygote, reference, out, damage, finished):
    at = ["replace", "gen0/.selection.json.tmp"] if finished else ["replace", "gen0/labels/.index.json.tmp"]
    assert killed_at(zygote, out, [at]) == 1
    shard = out / "gen0" / "labels" / "shard-00001.safetensors"
    if damage == "swap":
        shutil.copyfile(out / "gen0" / "labels" / "shard-00000.safetensors", shard)
    else:
        {"delete": os.unlink, "flip": flip}[damage](shard)
    finished_alike(zygote, out, reference)


@pytest.mark.promise("a teacher's weights swapped under its labels: exit 6")
def test_another_teacher(zygote, out):
    assert killed_at(zygote, out, [["rename", "gen1/checkpoints/.step-000003.tmp"]]) == 1
    weights = out / "gen0" / "model" / "model.safetensors"
    other = newest(out) / "ema.safetensors"
    shutil.copyfile(
        newest(out) / "model.safetensors" if weights.read_bytes() == other.read_bytes() else other, weights
    )
    ended = zygote.go(out)
    assert ended.code == 6 and "model.safetensors" in ended.last
    manifest = weights.parent / "MANIFEST.json"  # even with a manifest that fits them
    content = json.loads(manifest.read_text())
    import hashlib

    content["files"]["model.safetensors"] = hashlib.sha256(weights.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(content))
    ended = zygote.go(out)
    assert ended.code == 6 and "another teacher" in ended.last


SLOTS = [
    "gen0/model/model.safetensors", "gen0/model/MANIFEST.json", "gen0/report.json", "gen0/labels/index.json",
    "gen0/labels/shard-00000.safetensors", "gen0/selection.json", "config.yaml", "data.json",
]  # fmt: skip
BOMB = (2**62).to_bytes(
    8, "little"
) + b"{" * 64  # a safetensors header that claims to be larger than any memory


def write_pickle(path):
    replace_by_pickle(path)


def write_bomb(path):
    path.write_bytes(BOMB)


def write_yaml_object(path):
    path.write_text(f"a: !!python/object/apply:os.mkdir ['{Canary.place}']\n")


def write_list(path):
    path.write_text("[1, 2, 3]")


def write_nested(path):
    path.write_text("[" * 100_000)


@pytest.mark.promise(
    "hostile files in every slot of a run: exit 6 (or made again), nothing executed, no memory spent"
)
@pytest.mark.parametrize(
    "hostile",
    [
        write_pickle,
        *(
            pytest.param(one, marks=pytest.mark.full)
            for one in (write_bomb, write_yaml_object, write_list, write_nested)
        ),
    ],
)
@pytest.mark.parametrize(
    "slot",
    [*SLOTS[::3], *(pytest.param(slot, marks=pytest.mark.full) for slot in SLOTS if slot not in SLOTS[::3])],
)
def test_hostile_files(zygote, reference, tmp_path, slot, hostile):
    out = tmp_path / "run"
    shutil.copytree(reference.out, out)
    for path in (out / "report.json", out / "gen1" / "report.json"):
        path.unlink()
    shutil.rmtree(out / "gen1")
    hostile(out / slot)
    ended = zygote.go(out, fault={"do": "no_training"})
    made_again = slot.startswith("gen0/labels/shard") or slot == "gen0/selection.json"
    assert ended.code == 6 or (made_again and "training was reached" in ended.err), ended.err
    assert "Traceback" not in ended.err or made_again
    assert str(out) in ended.last or made_again
    assert ended.rss_mb < 1000  # torch alone takes about 400


@pytest.mark.promise("paths in a manifest that leave their directory, devices and FIFOs: refused")
@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a\0b", "sub/inside"])
def test_paths_in_a_manifest(tmp_path, name):
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "MANIFEST.json").write_text(json.dumps({"files": {name: "0"}}))
    with pytest.raises(IntegrityError):
        read_directory(tmp_path / "made")


@pytest.mark.promise("paths in a manifest that leave their directory, devices and FIFOs: refused")
def test_a_fifo_in_place_of_a_file(zygote, reference, tmp_path):
    out = reference.copy(tmp_path / "run")
    for path in (out / "gen0/model/model.safetensors", out / "report.json"):
        path.unlink()
    os.mkfifo(out / "gen0/model/model.safetensors")
    ended = zygote.go(out, timeout=60)
    assert ended.code == 6, ended


@pytest.mark.promise("links planted at the names of outputs: nothing outside of the run is written")
def test_planted_links(zygote, reference, tmp_path):
    out, precious = reference.copy(tmp_path / "run"), tmp_path / "precious"
    precious.write_text("mine")
    (out / "report.json").unlink()
    for name in ("report.html", ".report.json.tmp", ".report.html.tmp"):
        (out / name).unlink(missing_ok=True)
        (out / name).symlink_to(precious)
    finished_alike(zygote, out, reference)
    assert precious.read_text() == "mine"


@pytest.mark.promise(
    "secrets of the environment and absolute paths: neither in the export nor in what is printed"
)
def test_an_export_tells_nothing_of_its_machine(zygote, tmp_path):
    out = tmp_path / "run"
    ended = zygote.go(out, SECRET_TOKEN="hunter2-hunter2", HOSTNAME="secret-host")
    assert ended.code == 0, ended.err
    import socket

    signs, host = [b"hunter2-hunter2", str(tmp_path).encode()], f'"{socket.gethostname()}"'.encode()
    for path in (out / "export").rglob("*"):
        content = path.read_bytes()
        assert not any(sign in content for sign in signs), path
        weights = (
            path.suffix == ".safetensors"
        )  # among so many numbers a short name is found by chance; their header is text
        assert host not in (content[: 8 + int.from_bytes(content[:8], "little")] if weights else content), (
            path
        )
    assert "hunter2" not in ended.out + ended.err
    assert b"hunter2" not in b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())


OTHERS = (
    "out= with files of somebody else, a file, or `~`: exit 2 and nothing is touched; `~` is the home folder"
)


@pytest.mark.promise(OTHERS)
@pytest.mark.parametrize("name", ["config.yaml", "data.json", "report.json", "thesis.tex"])
def test_a_folder_of_somebody_else(zygote, out, name):
    out.mkdir()
    (out / name).write_text("mine: yes")
    for arguments in (SETTINGS, []):
        ended = zygote.run(*arguments, f"out={out}")
        assert ended.code == 2 and f"contains files that do not belong to a run ({name})" in ended.last, (
            ended.err
        )
    assert [path.name for path in out.iterdir()] == [name] and (out / name).read_text() == "mine: yes"


@pytest.mark.promise(OTHERS)
def test_a_file_in_place_of_a_folder(zygote, out):
    out.write_text("mine")
    ended = zygote.go(out)
    assert ended.code == 2 and f"out={out} is a file" in ended.last and out.read_text() == "mine"


@pytest.mark.promise(OTHERS)
def test_a_tilde_that_no_shell_expanded(zygote, reference, tmp_path):
    reference.copy(tmp_path / "run")
    ended = zygote.run(*SETTINGS, "out=~/run", HOME=str(tmp_path))
    assert ended.code == 0 and f"{tmp_path}/run is finished" in ended.out, ended.err
    ended = zygote.run("status", "~/run", door="cli", HOME=str(tmp_path))
    assert ended.code == 0 and "finished" in ended.out, ended.err


@pytest.mark.promise("two runs on one directory: one wins, the others exit 73; a dead holder blocks nobody")
def test_a_held_directory_answers_before_anything_is_read(out):
    """The real command, whose imports take longer than the answer."""
    script = "import sys; from pathlib import Path; from selftrain.rundir import RunDir; RunDir(Path(sys.argv[1])).lock()"
    command = [sys.executable, "-c", f"{script}; print('held', flush=True); sys.stdin.read()", str(out)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        began = time.monotonic()
        code, _, err = run_command("data=folder", "data.root=/no/such/place", f"out={out}")
        assert code == 73 and "another run is writing" in err and time.monotonic() - began < 5
        holder.kill()
