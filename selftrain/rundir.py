"""The files of a run: their names, what it was started with, and who may write (docs/design.md, "Files of a run")."""

import fcntl
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from selftrain.config import differences
from selftrain.errors import ConfigError, DataError, IntegrityError, LockedError
from selftrain.files import TEMPORARY, read_json, read_yaml, write_bytes, write_json

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

    def snapshot(self, part: int) -> Path:
        return self.path / "snapshots" / str(part)

    @property
    def reliability(self) -> Path:
        return self.path / "reliability.json"

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
    def conditions(self) -> Path:
        return self.path / "conditions.json"

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
        changed = self._changed(config)
        if self.data.exists():
            other = manifest_differences(read_json(self.data), manifest)
            if other:
                raise DataError(f"the data of {self.path} changed ({other}); restore it or choose another out=")
        if changed:  # from here on nothing is refused
            self.report.unlink(missing_ok=True)  # first: it says that the run is finished
        if any(_chooses(row) for row in changed):
            for number in range(len(config["generations"])):
                self.generation(number).selection.unlink(missing_ok=True)
        if changed or not self.config.exists():
            write_bytes(self.config, yaml.safe_dump(config, sort_keys=False).encode())
        if not self.data.exists():
            write_json(self.data, manifest)

    def _changed(self, config: dict) -> list[str]:
        """What is new in `config`, all of it such that the run can go on. Raises ConfigError for anything else."""
        if not self.config.exists():
            return []
        before = read_yaml(self.config, "generations")
        if not _are_mappings(before["generations"]):
            raise IntegrityError(f"{self.config} is damaged (it holds other things than selftrain writes)")
        begun = _without_new_generations(before, config)
        # Labels are stored unfiltered, so until a student of them has begun another choice costs nothing.
        if begun and (
            self.has_student([row.get("online", "") for row in before["generations"]]) or not all(map(_chooses, begun))
        ):
            rows = "; ".join(begun)
            raise ConfigError(f"{self.path} was started with other settings ({rows}); set them back or choose another out=")
        return differences(before, config)

    def has_student(self, online: Sequence[str]) -> bool:
        """Whether a generation that learns from stored labels has begun; `online`: each one's method, empty for none."""
        return any(self.generation(number).path.exists() for number, method in enumerate(online) if number and not method)

    def sweep(self) -> None:
        """Remove what a killed process had begun to write or to remove. Only the holder of the lock may."""
        for path in [*self.path.glob(f".*{TEMPORARY}"), *self.path.glob(f"gen*/**/.*{TEMPORARY}")]:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)

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


def steps_in(directory: Path) -> list[Path]:
    """The checkpoints under a directory, the oldest first."""
    found = (path for path in directory.glob("step-*") if path.name.removeprefix("step-").isdigit())
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))


def _chooses(row: str) -> bool:
    """Whether a changed setting acts on finished labels; snapshots for the agreement are made while a teacher learns."""
    return row.startswith("select.") and not row.startswith("select.reliability")


def _without_new_generations(before: dict, config: dict) -> list[str]:
    """The differences but for generations that `config` has after those of `before`."""
    known = len(before["generations"])
    return differences(before, {**config, "generations": config["generations"][:known]})


def manifest_differences(old: Mapping, new: Mapping) -> str:
    """What changed between two data manifests, in a few words; empty if nothing did."""
    rows = []
    for split in sorted(set(old) | set(new)):
        before, after = old.get(split), new.get(split)
        if before == after:
            continue
        if not (_are_mappings(before) and _are_mappings(after)):
            rows.append(f"{split}: {before} -> {after}")
            continue
        known, found = ({entry.get("id"): entry for entry in entries or []} for entries in (before, after))
        parts = {
            "missing": [name for name in known if name not in found],
            "new": [name for name in found if name not in known],
            "other content": [name for name in known if name in found and known[name] != found[name]],
        }
        said = [f"{len(names)} {what}, e.g. {names[0]}" for what, names in parts.items() if names]
        rows.append(f"{split}: {', '.join(said) or 'other order'}")
    return "; ".join(rows)


def _are_mappings(entries: object) -> bool:
    return isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)
