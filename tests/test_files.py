import os

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
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        files.write_bytes(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
