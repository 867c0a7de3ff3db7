"""The files of a review: what is on disk after each change, a kill, a full disk, and another reviewer."""

import errno
import itertools
import json
import os
import signal

import numpy as np
import pytest
from reviewing import CLASSES, HEIGHT, IMAGES, WIDTH

import inject
from selftrain import verdicts
from selftrain.errors import ConfigError, IntegrityError
from selftrain.review import store as written
from selftrain.review.store import Change, ConflictError, RefusedError, Store

SHAPE = (HEIGHT, WIDTH)


def opened(folder):
    return Store(folder, CLASSES, IMAGES, "teacher")


def painted(rows, id=1):
    """Planes of which the first rows are painted."""
    ids, known = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, bool)
    ids[:rows], known[:rows] = id, True
    return ids, known


def correct(seen, planes, key=None, image="raw/a"):
    return Change(image, seen, "correct", key or f"{seen}", planes)


def test_a_change_is_there_after_a_restart_with_its_exact_planes(tmp_path):
    store = opened(tmp_path)
    row = store.save(correct(0, painted(3)))
    assert (row.version, row.partial, row.teacher) == (1, True, "teacher")
    assert not store.save(correct(1, painted(HEIGHT, id=255))).partial
    store.save(Change("raw/b", 0, "reject", "r"))
    again = opened(tmp_path)
    assert again.rows == store.rows and len(list((tmp_path / verdicts.MASKS).iterdir())) == 1
    ids, known = again.planes("raw/a")
    assert (ids == 255).all() and known.all() and again.planes("raw/b") is None
    assert verdicts.read(tmp_path).counts == {"accept": 0, "correct": 1, "reject": 1, "partial": 0}


def test_reviewers_cannot_overwrite_each_other_and_a_change_sent_twice_counts_once(tmp_path):
    store = opened(tmp_path)
    first = store.save(correct(0, painted(3), key="mine"))
    with pytest.raises(ConflictError) as told:
        store.save(correct(0, painted(9), key="theirs"))
    assert told.value.row == first and (store.planes("raw/a")[1].sum() == 3 * WIDTH)
    assert store.save(correct(0, painted(3), key="mine")) == first  # the answer was lost, not the change
    assert store.version("raw/a") == 1
    with pytest.raises(ConflictError):
        store.save(Change("raw/b", 4, "reject", "r"))


def test_a_torn_line_and_a_mask_without_its_line_do_not_count(tmp_path):
    store = opened(tmp_path)
    row, journal = store.save(correct(0, painted(3))), tmp_path / verdicts.JOURNAL
    whole = journal.read_bytes()
    journal.write_bytes(whole + whole[: len(whole) // 2])  # killed while it wrote the line
    (tmp_path / verdicts.MASKS / "b.1.png").write_bytes(b"")  # killed before it wrote the line
    assert verdicts.read(tmp_path).rows == {"raw/a": row}
    again = opened(tmp_path)
    assert journal.read_bytes() == whole and [one.name for one in (tmp_path / verdicts.MASKS).iterdir()] == [
        row.mask
    ]
    assert again.save(correct(1, painted(4))).version == 2
    assert len(verdicts.read(tmp_path).rows) == 1


@pytest.mark.parametrize("fails", ["mask", "journal"])
def test_a_full_disk_leaves_the_state_before(tmp_path, monkeypatch, fails):
    store = opened(tmp_path)
    before = store.save(correct(0, painted(3)))
    journal = (tmp_path / verdicts.JOURNAL).read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        if fails == "mask":
            patch.setattr(written, "write_bytes", full)
        else:
            patch.setattr(
                os,
                "fsync",
                lambda handle, real=os.fsync: (
                    full() if "journal" in os.readlink(f"/proc/self/fd/{handle}") else real(handle)
                ),
            )
        with pytest.raises(OSError, match="No space"):
            store.save(correct(1, painted(9), key="again"))
    assert (tmp_path / verdicts.JOURNAL).read_bytes() == journal
    assert verdicts.read(tmp_path).rows == {"raw/a": before} == store.rows
    assert store.save(correct(1, painted(9), key="again")).version == 2


def saved_and_killed(store, change, number):
    """Save a change in this process, and kill it before its commit of this number, if there are so many."""
    commits = itertools.count()
    inject.at_commit(lambda _: os.kill(os.getpid(), signal.SIGKILL) if next(commits) == number else None)
    store.save(change)
    os._exit(0)


def test_a_kill_at_any_commit_leaves_the_state_before_or_after(tmp_path, monkeypatch):
    monkeypatch.setenv("SELFTRAIN_FAULT_ROOT", str(tmp_path))
    survived = []
    for number in itertools.count():
        store = opened(tmp_path / str(number))
        store.save(correct(0, painted(3)))
        pid = os.fork()
        if not pid:
            saved_and_killed(store, correct(1, painted(9), key="killed"), number)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        rows = verdicts.read(tmp_path / str(number)).rows["raw/a"].version
        survived.append(rows)
        again = opened(tmp_path / str(number))
        assert again.planes("raw/a")[1].sum() == {1: 3, 2: 9}[rows] * WIDTH
        assert again.save(correct(1, painted(9), key="killed")).version == 2  # sent again
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert survived == [1, 1, 1, 2, 2]  # the mask, its name, its folder; the journal; not killed


def test_only_unlabelled_images_and_masks_that_fit_the_verdict_are_saved(tmp_path):
    store = opened(tmp_path)
    for change, said in [
        (Change("val/a", 0, "reject", "k"), "not an unlabelled image"),
        (Change("raw/a", 0, "accept", "k", painted(3)), "known as a whole"),
        (Change("raw/a", 0, "correct", "k", painted(0)), "in part at least"),
        (Change("raw/a", 0, "correct", "k", painted(3, id=3)), "names a class"),
        (Change("raw/a", 0, "reject", "k", painted(3)), "reject has no mask"),
        (Change("raw/a", 0, "accept", "k"), "accept lacks a mask"),
        (Change("raw/a", 0, "maybe", "k"), "unknown verdict"),
    ]:
        with pytest.raises(RefusedError, match=said):
            store.save(change)
    assert not (tmp_path / verdicts.JOURNAL).exists()


def test_the_hash_follows_verdicts_and_masks_not_their_order(tmp_path):
    def digest(name, *changes):
        store = opened(tmp_path / name)
        for change in changes:
            store.save(change)
        return verdicts.read(tmp_path / name).sha256

    one, two = correct(0, painted(3)), Change("raw/b", 0, "reject", "r")
    undone = Change("raw/c", 0, "reject", "r"), Change("raw/c", 1, "open", "o")
    assert digest("a", one, two) == digest("b", two, one) == digest("c", two, one, *undone)
    assert digest("d", one) != digest("a", one) != digest("e", correct(0, painted(4)), two)


def test_damage_is_named(tmp_path):
    store = opened(tmp_path)
    mask = tmp_path / verdicts.MASKS / store.save(correct(0, painted(3))).mask
    verdicts.keep(verdicts.read(tmp_path), tmp_path / "kept")
    good = mask.read_bytes()
    for content, said in [(good + b"x", "other content"), (None, "is missing")]:
        mask.write_bytes(content) if content else mask.unlink()
        with pytest.raises(IntegrityError, match=said):
            verdicts.read(tmp_path)
    with pytest.raises(IntegrityError, match="not the mask of a review"):
        verdicts.decoded(verdicts.encoded(*painted(3, id=9)), "mask", len(CLASSES))
    (tmp_path / verdicts.JOURNAL).write_text('{"image": "raw/a"}\n')
    with pytest.raises(IntegrityError, match="line 1 is damaged"):
        opened(tmp_path)
    with pytest.raises(ConfigError, match="reviews the classes"):
        Store(tmp_path, ["a"], IMAGES, "teacher")
    manifest = tmp_path / "kept" / "MANIFEST.json"
    changed = json.loads(manifest.read_text())
    changed["rows"][0]["verdict"] = "accept"
    manifest.write_text(json.dumps(changed))
    with pytest.raises(IntegrityError, match="verdicts differ"):
        verdicts.kept(tmp_path / "kept")
