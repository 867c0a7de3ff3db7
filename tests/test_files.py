import os
import stat

import pytest

from selftrain import files
from selftrain.errors import IntegrityError


def test_a_committed_directory_shows_damage(tmp_path):
    path = tmp_path / "made"
    files.commit_directory(path, {"a": b"one", "b": b"two"}, classes=3)
    assert files.read_directory(path) == {"a": b"one", "b": b"two"}
    assert files.read_manifest(path)["classes"] == 3
    (path / "b").write_bytes(b"twO")
    with pytest.raises(IntegrityError, match="b is damaged"):
        files.read_directory(path)


def test_a_manifest_cannot_name_files_elsewhere(tmp_path):
    (tmp_path / files.MANIFEST).write_text('{"files": {"../secret": "0"}}')
    with pytest.raises(IntegrityError, match="own directory"):
        files.read_directory(tmp_path)


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "file"
    files.write_bytes(path, b"old")
    monkeypatch.setattr(
        os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with pytest.raises(OSError, match="No space"):
        files.write_bytes(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("number", "counts"), [(22, False), (95, False), (9, False), (5, True), (28, True)])
def test_only_a_disk_that_fails_counts_when_a_directory_is_synced(tmp_path, monkeypatch, number, counts):
    genuine = os.fsync

    def fsync(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(number, os.strerror(number))
        genuine(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    if counts:
        with pytest.raises(OSError, match=os.strerror(number)) as raised:
            files.write_bytes(tmp_path / "file", b"new")
        assert raised.value.filename == str(tmp_path)
    else:
        files.write_bytes(tmp_path / "file", b"new")
        files.commit_directory(tmp_path / "made", {"a": b"one"})
        assert (tmp_path / "file").read_bytes() == b"new" and files.read_directory(tmp_path / "made") == {
            "a": b"one"
        }


def test_a_file_that_is_not_synced_counts_whatever_the_error(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(22, "Invalid argument")))
    with pytest.raises(OSError, match="Invalid argument"):
        files.write_bytes(tmp_path / "file", b"new")
