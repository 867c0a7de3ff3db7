"""Disks that are full, broken or too small: exit 5 with path and bytes, no torn file, and the same bits once mended."""

import os
import shutil
import subprocess

import pytest
from test_kills import finished_alike

from harness import mismatches

ROOM_MB = 6  # less than a run of the fixture writes


def torn(out):
    """Files under final names that do not hold what their manifest says, and committed directories without one."""
    from selftrain.errors import IntegrityError
    from selftrain.files import read_directory

    bad = []
    for folder in [*out.glob("gen*/checkpoints/step-*"), *out.glob("gen*/model"), *out.glob("export")]:
        try:
            read_directory(folder)
        except IntegrityError as error:
            bad.append(str(error))
    return bad


@pytest.mark.promise(
    "fsync, rename or open failing (ENOSPC, EIO, EROFS, EDQUOT): exit 5 with the path, then the same bits"
)
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"do": "fail", "at": ["fsync", "gen0/checkpoints/.step-000006.tmp/ema.safetensors"]}, "ENOSPC"),
        ({"do": "fail", "at": ["replace", "gen0/labels/.shard-00001.safetensors.tmp"]}, "EDQUOT"),
        *(
            pytest.param(fault, error, marks=pytest.mark.full)
            for fault, error in (
                ({"do": "fail", "at": ["rename", "gen0/checkpoints/.step-000006.tmp"]}, "EIO"),
                ({"do": "fail", "at": ["fsync", "gen0/labels/.index.json.tmp"]}, "EIO"),
                ({"do": "fail_open", "path": "gen0/.report.json.tmp"}, "EROFS"),
                ({"do": "fail_open", "path": "metrics.jsonl"}, "ENOSPC"),
                ({"do": "fail_open", "path": "..export.new.tmp/card.json"}, "EROFS"),
            )
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else (value.get("path") or "/".join(value["at"])),
)
def test_a_failing_call(zygote, reference, out, fault, error):
    ended = zygote.go(out, fault={**fault, "error": error})
    assert ended.code == 5 and ended.seconds < 30 * max(reference.seconds / 10, 1), ended.err
    assert "bytes free" in ended.last and "the same command" in ended.last and "Traceback" not in ended.err
    assert torn(out) == []
    finished_alike(zygote, out, reference)


@pytest.mark.promise("a file system without locks (Lustre, NFS, CIFS): exit 5 with the path, before any work")
@pytest.mark.parametrize("error", ["ENOSYS", "ENOLCK", "EOPNOTSUPP", "EINVAL"])
def test_a_file_system_without_locks(zygote, out, error):
    ended = zygote.go(out, fault={"do": "no_locks", "error": error})
    assert (
        ended.code == 5
        and f"{out}: this file system has no locks" in ended.last
        and "local disk" in ended.last
    ), ended.err
    assert not out.exists()


@pytest.mark.promise(
    "a file system that syncs files only (old CIFS, FUSE): a whole run passes, the same bits"
)
@pytest.mark.parametrize(
    "error", ["EINVAL", *(pytest.param(name, marks=pytest.mark.full) for name in ("ENOTSUP", "EBADF"))]
)
def test_a_file_system_that_does_not_sync_directories(zygote, reference, out, error):
    ended = zygote.go(out, fault={"do": "no_directory_sync", "error": error})
    assert ended.code == 0, ended.err
    assert mismatches(out, reference) == []


@pytest.mark.promise(
    "a refused start (a network, a disk, data): nothing is left of it; a running run's folder: exit 73 at once"
)
def test_a_refused_start_leaves_nothing(zygote, tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    for out in (tmp_path / "new" / "deep", kept):
        ended = zygote.go(out, "model.encoder=tu-swinv2_tiny_window8_256")  # takes 256x256 only
        assert ended.code == 2 and "cannot take images of 32x32" in ended.last, ended.err
    assert list(tmp_path.iterdir()) == [kept] and list(kept.iterdir()) == []


@pytest.fixture
def tmpfs(tmp_path):
    """Mounts a file system in memory at a folder, with the options given; taken away at the end."""
    mounted = []

    def mount(*options, folder="small"):
        place = tmp_path / folder
        place.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", place], capture_output=True, text=True
        )
        if done.returncode:
            pytest.skip(f"no file system may be mounted here: {done.stderr.strip()}")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", "-l", place], check=False)


@pytest.mark.promise("a full disk: exit 5 with path and bytes, no torn file, then the same bits")
def test_a_disk_that_fills_up(zygote, reference, tmpfs, monkeypatch):
    disk = tmpfs("size=200m")
    out = disk / "run"
    assert (
        zygote.go(out, fault={"do": "kill", "at": ["rename", "gen0/checkpoints/.step-000003.tmp"]}).code == -9
    )
    ballast = disk / "ballast"
    with open(ballast, "wb") as file:
        file.write(bytes(shutil.disk_usage(disk).free - ROOM_MB * 2**20 // 2))
    ended = zygote.go(out, fault={"do": "blind_to_space"})
    assert ended.code == 5 and "No space left" in ended.last and "bytes free" in ended.last, ended.err
    assert str(out) in ended.last and "Traceback" not in ended.err
    assert torn(out) == []
    ballast.unlink()
    finished_alike(zygote, out, reference)


@pytest.mark.promise("too little space for the run: exit 5 before the first step, with the estimate")
def test_a_disk_that_is_too_small(zygote, tmpfs):
    disk = tmpfs(f"size={ROOM_MB}m")
    ended = zygote.go(disk / "run")
    assert ended.code == 5 and "MiB" in ended.last and "this run may need" in ended.last
    assert not list(disk.glob("run/gen*"))


@pytest.mark.promise("no inodes left: exit 5 with the path, then the same bits")
def test_a_disk_without_inodes(zygote, reference, tmpfs):
    disk = tmpfs("size=200m", "nr_inodes=24")
    out = disk / "run"
    ended = zygote.go(out)
    assert ended.code == 5 and "No space left" in ended.last, ended.err
    assert torn(out) == []
    assert subprocess.run(["mount", "-o", "remount,nr_inodes=4000", disk], check=False).returncode == 0
    finished_alike(zygote, out, reference)


@pytest.mark.promise("a read-only disk: exit 5 with the path, then the same bits")
def test_a_disk_that_becomes_read_only(zygote, reference, tmpfs):
    disk = tmpfs("size=200m")
    out = disk / "run"
    assert zygote.go(out, fault={"do": "kill", "at": ["rename", "gen0/.model.tmp"]}).code == -9
    assert subprocess.run(["mount", "-o", "remount,ro", disk], check=False).returncode == 0
    ended = zygote.go(out)
    assert ended.code == 5 and "Read-only" in ended.last, ended.err
    assert subprocess.run(["mount", "-o", "remount,rw", disk], check=False).returncode == 0
    finished_alike(zygote, out, reference)


@pytest.mark.promise("a limit on the size of a file: exit 5 with the path, then the same bits")
def test_a_limit_on_the_size_of_files(zygote, reference, out):
    ended = zygote.go(out, fault={"do": "limit_files", "size": 100_000})
    assert ended.code == 5 and "too large" in ended.last.lower(), ended.err
    assert torn(out) == []
    finished_alike(zygote, out, reference)


@pytest.mark.promise("no right to write: exit 5 with the path")
def test_a_file_where_the_run_should_go(zygote, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    ended = zygote.go(tmp_path / "file" / "run")
    assert ended.code == 5 and str(tmp_path / "file") in ended.last and "Traceback" not in ended.err
    assert (tmp_path / "file").read_text() == "not a folder"


@pytest.fixture
def ext4(tmp_path):
    """An ext4 file system in a file: (its image, where it is mounted, how to mount another image)."""
    image, place = tmp_path / "disk.img", tmp_path / "disk"

    def mount(image, place):
        place.mkdir(exist_ok=True)
        return subprocess.run(["mount", "-o", "loop", image, place], capture_output=True, text=True)

    with open(image, "wb") as file:
        file.truncate(96 * 2**20)
    made = subprocess.run(["mkfs.ext4", "-q", "-F", image], capture_output=True, text=True, check=False)
    mounted = mount(image, place)
    if made.returncode or mounted.returncode:
        pytest.skip(f"no loop device here: {made.stderr}{mounted.stderr}")
    yield image, place, mount
    for folder in (place, tmp_path / "after"):
        subprocess.run(["umount", "-l", folder], capture_output=True, check=False)


@pytest.mark.full
@pytest.mark.promise("the power cut during saves (a copy of the disk under a run): the same bits")
@pytest.mark.parametrize("cut", range(8))
def test_the_power_is_cut(zygote, reference, tmp_path, ext4, cut):
    image, place, mount = ext4
    places = [commit for commit in reference.commits if commit[0] in ("rename", "replace")]
    at = places[cut * len(places) // 8]
    assert zygote.go(place / "run", fault={"do": "kill", "at": at, "when": "after"}).code == -9
    copy = tmp_path / "copy.img"
    shutil.copyfile(image, copy)  # what the disk holds, without what only memory knows
    assert mount(copy, tmp_path / "after").returncode == 0
    finished_alike(zygote, tmp_path / "after" / "run", reference)


def test_the_reference_is_whole(reference):
    assert torn(reference.out) == [] and mismatches(reference.out, reference) == []
    assert os.path.getsize(reference.out / "report.html") > 10_000
