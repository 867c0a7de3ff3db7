"""The files of a run: their names, and writing that a kill cannot tear (docs/design.md, "Files of a run")."""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from selftrain.config import differences
from selftrain.errors import ConfigError, DataError, IntegrityError, LockedError

MANIFEST = "MANIFEST.json"
WEIGHTS = "model.safetensors"
CORRUPT = ".corrupt"


@dataclass(frozen=True)
class Generation:
    """Paths of one generation."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def report(self) -> Path:
        return self.path / "report.json"

    @property
    def labels(self) -> Path:
        return self.path / "labels"

    @property
    def selection(self) -> Path:
        return self.path / "selection.json"


@dataclass(frozen=True)
class RunDir:
    """Paths of one run."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def data(self) -> Path:
        return self.path / "data.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def report(self) -> Path:
        return self.path / "report.json"

    @property
    def page(self) -> Path:
        return self.path / "report.html"

    @property
    def export(self) -> Path:
        return self.path / "export"

    @property
    def lock_file(self) -> Path:
        return self.path / ".lock"

    def generation(self, number: int) -> Generation:
        return Generation(self.path / f"gen{number}")

    def settle(self, config: dict, manifest: dict) -> None:
        """Write config and data manifest, or compare them with those the run was started with.

        Raises ConfigError or DataError with the differences: a run goes on only with what it began with.
        """
        if self.config.exists():
            changed = differences(read_yaml(self.config), config)
            if changed and not self.generation(1).path.exists() and all(row.startswith("select.") for row in changed):
                # Labels are stored unfiltered, so until a student has begun another choice costs nothing.
                self.generation(0).selection.unlink(missing_ok=True)
                write_bytes(self.config, yaml.safe_dump(config, sort_keys=False).encode())
            elif changed:
                rows = "; ".join(changed)
                raise ConfigError(f"{self.path} was started with other settings ({rows}); set them back or choose another out=")
        else:
            write_bytes(self.config, yaml.safe_dump(config, sort_keys=False).encode())
        if self.data.exists():
            other = manifest_differences(read_json(self.data), manifest)
            if other:
                raise DataError(f"the data of {self.path} changed ({other}); restore it or choose another out=")
        else:
            write_json(self.data, manifest)

    def lock(self) -> int:
        """Hold the directory until the process ends, however it ends. Raises LockedError where another run holds it."""
        self.path.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not flock: forked loader workers would hold that one too
        except (BlockingIOError, PermissionError):
            os.close(handle)
            raise LockedError(f"another run is writing {self.path}; wait for it or choose another out=") from None
        return handle


def manifest_differences(old: Mapping, new: Mapping) -> str:
    """What changed between two data manifests, in a few words; empty if nothing did."""
    rows = []
    for split in sorted(set(old) | set(new)):
        before, after = old.get(split), new.get(split)
        if before == after:
            continue
        if not (_are_samples(before) and _are_samples(after)):
            rows.append(f"{split}: {before} -> {after}")
            continue
        known, found = ({entry["id"]: entry for entry in entries or []} for entries in (before, after))
        parts = {
            "missing": [name for name in known if name not in found],
            "new": [name for name in found if name not in known],
            "other content": [name for name in known if name in found and known[name] != found[name]],
        }
        said = [f"{len(names)} {what}, e.g. {names[0]}" for what, names in parts.items() if names]
        rows.append(f"{split}: {', '.join(said) or 'other order'}")
    return "; ".join(rows)


def _are_samples(entries: object) -> bool:
    return isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)


def read_json(path: Path) -> dict:
    """Raises IntegrityError for a file that is no JSON."""
    try:
        return json.loads(path.read_bytes())
    except (ValueError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{path} is damaged ({error}); remove it to make it again") from None


def read_yaml(path: Path) -> dict:
    try:
        return yaml.safe_load(path.read_bytes()) or {}
    except yaml.YAMLError as error:
        raise IntegrityError(f"{path} is damaged ({error})") from None


def write_json(path: Path, content: object) -> None:
    write_bytes(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file that is there whole or not at all: temporary name, fsync, rename, fsync of the directory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        _write_synced(temporary, content)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def commit_directory(path: Path, files: Mapping[str, bytes], **facts: object) -> None:
    """Write a directory that is there whole or not at all, with a MANIFEST.json of sha256s (and `facts`) as its last file."""
    temporary = path.with_name(f".{path.name}.tmp")
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


def read_manifest(path: Path) -> dict:
    """MANIFEST.json of a committed directory. Raises IntegrityError where there is none."""
    if not (path / MANIFEST).is_file():
        raise IntegrityError(f"{path} has no {MANIFEST}")
    manifest = read_json(path / MANIFEST)
    if not isinstance(manifest.get("files"), dict) or any(Path(name).name != name for name in manifest["files"]):
        raise IntegrityError(f"{path / MANIFEST} is no manifest of files in its own directory")
    return manifest


def read_directory(path: Path) -> dict[str, bytes]:
    """The files of a committed directory. Raises IntegrityError for one that is missing or whose hash does not hold."""
    files = {}
    for name, expected in read_manifest(path)["files"].items():
        try:
            files[name] = (path / name).read_bytes()
        except OSError as error:
            raise IntegrityError(f"{path / name}: {error.strerror}") from None
        if hashlib.sha256(files[name]).hexdigest() != expected:
            raise IntegrityError(f"{path / name} is damaged: its sha256 is not that of {MANIFEST}")
    return files


def _write_synced(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
