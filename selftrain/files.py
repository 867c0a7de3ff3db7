"""Atomic writes that survive a kill, and reads that compare hashes and execute nothing."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import yaml

from selftrain.errors import IntegrityError

MANIFEST = "MANIFEST.json"
TEMPORARY = ".tmp"
NOT_FOR_DIRECTORIES = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}


def read_json(path: Path, *keys: str) -> dict:
    """Read a JSON object. Raises IntegrityError if the file is not a JSON object or lacks one of `keys`."""
    try:
        content = json.loads(read_regular(path))
    except (ValueError, RecursionError, OSError) as error:
        raise IntegrityError(f"{path} is damaged ({error}); remove it to make it again") from None
    if not isinstance(content, dict) or any(key not in content for key in keys):
        raise IntegrityError(
            f"{path} is damaged (it does not contain what selftrain writes); remove it to make it again"
        )
    return content


def read_yaml(path: Path, *keys: str) -> dict:
    """Read settings. Raises IntegrityError if the file contains no settings or lacks one of `keys`."""
    try:
        content = plain_yaml(read_regular(path).decode())
    except (ValueError, OSError) as error:
        raise IntegrityError(f"{path} is damaged ({error})") from None
    if any(key not in content for key in keys):
        raise IntegrityError(f"{path} is damaged (it does not contain what selftrain writes)")
    return content


def read_regular(path: Path) -> bytes:
    """Read a regular file.

    Raises OSError for anything else: a FIFO could block, a device could be endless.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "is not a regular file", str(path))
    return path.read_bytes()


def plain_yaml(text: str) -> dict:
    """Parse a mapping of plain values.

    Raises ValueError otherwise: tags create objects, aliases can grow exponentially.
    """
    try:
        for token in yaml.scan(text):
            if isinstance(token, yaml.TagToken | yaml.AnchorToken | yaml.AliasToken):
                raise ValueError(f"line {token.start_mark.line + 1}: tags, anchors and aliases are not taken")
        content = yaml.safe_load(text) or {}
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"not YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(content, dict):
        raise ValueError("not a mapping of names to values")
    return content


def digest_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, content: object) -> None:
    write_bytes(path, _json(content))


def keep_json(path: Path, content: object) -> None:
    """`write_json`, unless the file already contains this value."""
    keep_bytes(path, _json(content))


def keep_bytes(path: Path, content: bytes) -> None:
    """`write_bytes`, unless the file already contains these bytes."""
    if not path.is_file() or path.read_bytes() != content:
        write_bytes(path, content)


def _json(content: object) -> bytes:
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically: temporary name, fsync, rename, fsync of the directory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}{TEMPORARY}")
    try:
        _write_synced(temporary, content)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def commit_directory(path: Path, files: Mapping[str, bytes], **facts: object) -> None:
    """Write a directory atomically. Its last file is MANIFEST.json with sha256s and `facts`."""
    temporary = path.with_name(f".{path.name}{TEMPORARY}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        for name, content in files.items():
            _write_synced(temporary / name, content)
        hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        _write_synced(temporary / MANIFEST, json.dumps({"files": hashes, **facts}, indent=1).encode())
        _sync_directory(temporary)
        os.rename(temporary, path)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync_directory(path.parent)


def remove_directory(path: Path) -> None:
    """Remove a directory. A kill leaves it complete, or leaves remains that `RunDir.sweep` removes."""
    temporary = path.with_name(f".{path.name}{TEMPORARY}")
    shutil.rmtree(temporary, ignore_errors=True)
    os.rename(path, temporary)
    shutil.rmtree(temporary)


def read_manifest(path: Path) -> dict:
    """Read MANIFEST.json of a committed directory. Raises IntegrityError if it is missing."""
    if not (path / MANIFEST).is_file():
        raise IntegrityError(f"{path} has no {MANIFEST}")
    manifest = read_json(path / MANIFEST, "files")
    if not isinstance(manifest["files"], dict) or any(
        Path(name).name != name or "\0" in name for name in manifest["files"]
    ):
        raise IntegrityError(f"{path / MANIFEST} is not a manifest of files in its own directory")
    return manifest


def read_directory(path: Path) -> dict[str, bytes]:
    """Read the files of a committed directory.

    Raises IntegrityError if one is missing or has another hash.
    """
    files = {}
    for name, expected in read_manifest(path)["files"].items():
        try:
            files[name] = read_regular(path / name)
        except OSError as error:
            raise IntegrityError(f"{path / name}: {error.strerror}") from None
        if hashlib.sha256(files[name]).hexdigest() != expected:
            raise IntegrityError(f"{path / name} is damaged: its sha256 differs from {MANIFEST}")
    return files


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add the file name to write errors, which the system reports without one."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def _write_synced(path: Path, content: bytes) -> None:
    with naming(path), open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    """Fsync a directory. Ignored, as in git and borg, if the file system can only sync files."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with naming(path):
            os.fsync(handle)
    except OSError as error:  # CIFS before Linux 4.17 and some FUSE
        if error.errno not in NOT_FOR_DIRECTORIES:
            raise
    finally:
        os.close(handle)
