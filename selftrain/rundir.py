"""The files of a run (docs/files.md): their names, the run's original settings, and its lock."""

import errno
import os
import shutil
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import yaml

from selftrain import claim, manifests
from selftrain.errors import ConfigError, DataError, IntegrityError, LockedError, StorageError
from selftrain.files import (
    TEMPORARY,
    digest_of,
    keep_bytes,
    keep_json,
    read_json,
    read_yaml,
    remove_directory,
)
from selftrain.manifests import are_mappings
from selftrain.settings import changes

WEIGHTS = "model.safetensors"
CORRUPT = ".corrupt"
SEVERAL, SWEEP = "runs.json", "sweep.json"  # of a directory of several runs: what varies, and the trials
LOGS = {".log", ".txt", ".out", ".err"}  # files that shells and schedulers write beside a run
# for Lustre, NFS, CIFS and FUSE, depending on mount options
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL}
FLOCK = "hhqqi"  # struct flock of fcntl(2): type, whence, start, length, process


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
    def export(self) -> Path:
        """The export of a `student`; generations are exported to the run's own."""
        return self.path / "export"

    @property
    def student(self) -> "Generation":
        """The place of the network that is distilled from this generation's networks."""
        return Generation(self.path / "student")

    def member(self, number: int) -> "Generation":
        """The place of one of several networks: its checkpoints, snapshots, model and report."""
        return Generation(self.path / "members" / str(number))

    @property
    def out_of_fold(self) -> Path:
        return self.path / "out_of_fold"

    def drop_checkpoints(self) -> None:
        """Remove the checkpoints, which a finished generation no longer needs.

        Files of others and damaged checkpoints stay. After a kill, the next call removes the rest.
        """
        for folder in (self.checkpoints, *self.path.glob("members/*/checkpoints")):
            for step in steps_in(folder):
                remove_directory(step)
            with suppress(OSError):  # not there, or not empty
                folder.rmdir()

    def snapshot(self, name: str) -> Path:
        return self.path / "snapshots" / name

    @property
    def reliability(self) -> Path:
        return self.path / "reliability.json"

    @property
    def labels(self) -> Path:
        return self.path / "labels"

    @property
    def taught(self) -> Path:
        """The labels of the labelled images, for `loss.distill`."""
        return self.path / "taught"

    @property
    def selection(self) -> Path:
        return self.path / "selection.json"

    @property
    def reviewed(self) -> Path:
        """A copy of the review that this generation trains on (data.reviewed)."""
        return self.path / "reviewed"

    @property
    def begun(self) -> bool:
        """Whether its training has begun."""
        return any((self.path / name).exists() for name in ("checkpoints", "members", "report.json"))


@dataclass(frozen=True)
class RunDir:
    """Paths of one run. A leading `~` is expanded: zsh, dash and schedulers leave `out=~/x` unchanged."""

    path: Path

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "path", self.path.expanduser())
        except RuntimeError:  # `~name` of a user that does not exist
            raise ConfigError(
                f"{self.path}: no home folder is known for this `~`; give the whole path"
            ) from None

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def data(self) -> Path:
        return self.path / "data.json"

    @property
    def base(self) -> Path:
        return self.path / "base"

    @property
    def weights(self) -> Path:
        return self.path / "weights.json"

    @property
    def log(self) -> Path:
        return self.path / "run.log"

    @property
    def conditions(self) -> Path:
        return self.path / "conditions.json"

    @property
    def plan(self) -> Path:
        return self.path / "plan.json"

    @property
    def memory(self) -> Path:
        return self.path / "memory.json"

    @property
    def trackers(self) -> Path:
        return self.path / "trackers.json"

    @property
    def forecast(self) -> Path:
        return self.path / "forecast.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def times(self) -> Path:
        return self.path / "times.jsonl"

    @property
    def report(self) -> Path:
        return self.path / "report.json"

    @property
    def page(self) -> Path:
        return self.path / "report.html"

    @property
    def export(self) -> Path:
        return self.path / "export"

    def student_export(self, report: Mapping) -> Path | None:
        """The export of the student of an exported ensemble; None if `report`, report.json, has none."""
        row = report.get("student")
        return self.generation(row["generation"]).student.export if row else None

    @property
    def review(self) -> Path:
        """The folder of `selftrain review`."""
        return self.path / "review"

    @property
    def lock_file(self) -> Path:
        return self.path / ".lock"

    def generation(self, number: int) -> Generation:
        return Generation(self.path / f"gen{number}")

    def settle(self, config: dict, manifest: dict, complete: changes.Complete = dict) -> None:
        """Write config and data manifest, or compare them with those the run was started with.

        `complete` fills in the settings of table entries (choices.completed). Raises ConfigError or DataError
        with the differences: a run continues only with the settings and data it began with.
        """
        digests = {name: digest_of(path) for name, path in changes.weights_files(config).items()}
        changed = self._changed(config, digests, complete)
        if self.data.exists():
            other = manifests.differences(self.data, manifest)
            if other:
                raise DataError(
                    f"the data of {self.path} changed ({other}); restore it or choose another out="
                )
        if changed:  # nothing is refused after this point
            self.report.unlink(missing_ok=True)  # removed first: it marks the run as finished
        if any(changes.chooses(row) for row in changed):
            for number in range(len(config["generations"])):
                self.generation(number).selection.unlink(missing_ok=True)
        if not self.report.exists():
            if digests:
                keep_json(self.weights, digests)
            keep_bytes(self.config, yaml.safe_dump(config, sort_keys=False).encode())
        if not self.data.exists():
            manifests.keep(self.data, manifest)

    def _changed(self, config: dict, digests: Mapping[str, str], complete: changes.Complete) -> list[str]:
        """The changes in `config`, if the run can continue with all of them. Raises ConfigError otherwise.

        `digests` are the hashes of the weights files: their contents are compared, not their paths.
        """
        if not self.config.exists():
            return []
        before = changes.renewed(read_yaml(self.config, "generations"))
        if not are_mappings(before["generations"]):
            raise IntegrityError(f"{self.config} is damaged (it does not contain what selftrain writes)")
        recorded = read_json(self.weights) if self.weights.exists() else {}
        config = changes.with_old_paths(config, before, digests, recorded)
        used = self.has_student([row.get("online", "") for row in before["generations"]])
        refused = changes.refused(before, config, labels_are_used=used, complete=complete)
        if refused:
            rows = "; ".join(refused)
            raise ConfigError(
                f"{self.path} was started with other settings ({rows}); set them back or choose another out="
            )
        return changes.differences(before, config, complete)

    def generations_begun(self) -> int:
        """The number of generations that the run was started with; 0 for a new run."""
        return len(read_yaml(self.config, "generations")["generations"]) if self.config.exists() else 0

    def has_student(self, online: Sequence[str]) -> bool:
        """Whether a generation that trains on stored labels has begun.

        `online` contains each generation's method, empty for stored labels.
        """
        return any(
            self.generation(number).path.exists()
            for number, method in enumerate(online)
            if number and not method
        )

    @property
    def decoded(self) -> Path:
        """The folder of decoded images that are read tile by tile; it is swept like other leftovers."""
        return self.path / f".decoded{TEMPORARY}"

    def sweep(self) -> None:
        """Remove the leftovers of a killed process. Only the holder of the lock may call it."""
        places = (f".*{TEMPORARY}", f"data/.*{TEMPORARY}", f"gen*/**/.*{TEMPORARY}")
        for path in [path for place in places for path in self.path.glob(place)]:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)

    def refuse_files_of_others(self) -> None:
        """Raises ConfigError if the directory contains files that selftrain did not write.

        No file is changed. Hidden files, and logs of shells and schedulers, are allowed.
        """
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise ConfigError(f"out={self.path} is a file; choose another folder")
        found = sorted(entry.name for entry in self.path.iterdir() if not _may_be_there(entry))
        if found and not self._is_ours():
            some = ", ".join(found[:3]) + (", …" if found[3:] else "")
            raise ConfigError(
                f"out={self.path} contains files that do not belong to a run ({some}); choose another folder"
            )

    def _is_ours(self) -> bool:
        """Whether selftrain wrote this directory. Files may be damaged; each is checked later."""
        own = (self.config, self.data, self.report)
        first = self.generation(0)
        if (first.checkpoints.is_dir() or first.report.is_file()) or (
            self.lock_file.exists() and not any(path.exists() for path in own)
        ):
            return True  # without any of these files, it was killed before it wrote its settings
        with suppress(IntegrityError):
            return bool(read_yaml(self.config, "generations", "train", "data"))
        with suppress(IntegrityError):
            return bool(read_json(self.data, "set_aside", "labelled", "val"))
        return False

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the lock until the process ends.

        If a new run fails in this block before its settings are written, nothing is left behind.
        """
        made = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        begun = self.lock_file.exists()
        try:
            self.lock()
            yield
        except LockedError:
            raise
        except BaseException:
            if not begun and not self.config.exists():
                self._forget(made)
            raise

    def _forget(self, folders: Sequence[Path]) -> None:
        """Remove the lock, and then all empty folders among `folders` (deepest first)."""
        claim.release(self.path)
        with suppress(OSError):
            self.lock_file.unlink(missing_ok=True)
            for folder in folders:
                folder.rmdir()

    def refuse_locked(self) -> None:
        """Raises LockedError if another process holds the directory. An early answer: `lock` decides."""
        if self.writer() is not None:
            raise self._locked()

    def writer(self) -> int | None:
        """The id of the process that holds the directory, 0 if it has none here; None: nobody holds it.

        Takes no lock, so all ranks may call it. The holder must not: it would lose its lock.
        """
        import fcntl

        with suppress(OSError), open(self.lock_file, "rb") as file:
            asked = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            kind, _, _, _, holder = struct.unpack(FLOCK, fcntl.fcntl(file, fcntl.F_GETLK, asked))
            return None if kind == fcntl.F_UNLCK else max(holder, 0)
        return None

    def lock(self) -> int:
        """Hold the directory until the process ends, however it ends.

        Raises LockedError if another run holds it, also on another machine, StorageError without locks.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        while True:
            handle = os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            self._take(handle)
            with ExitStack() as undo, suppress(FileNotFoundError):
                undo.callback(os.close, handle)
                if os.path.samestat(os.fstat(handle), os.stat(self.lock_file)):
                    claim.hold(self.path)
                    undo.pop_all()
                    return handle  # otherwise a failed start has removed this file meanwhile

    def _take(self, handle: int) -> None:
        import fcntl  # missing on Windows, which errors.py refuses first

        try:
            # not flock: forked loader workers would hold that one too
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            os.close(handle)
            raise self._locked() from None
        except OSError as error:
            os.close(handle)
            if error.errno not in NO_LOCKS:
                error.filename = str(self.lock_file)
                raise
            raise StorageError(
                f"{self.path}: this file system has no locks ({error.strerror}); mount it with "
                "locks, or choose out= on a local disk"
            ) from None

    def _locked(self) -> LockedError:
        return LockedError(f"another run is writing {self.path}; wait for it or choose another out=")


def _may_be_there(entry: Path) -> bool:
    """Whether a new run may ignore this entry of its directory: hidden files and logs."""
    return entry.name.startswith(".") or entry.name == "lost+found" or entry.suffix in LOGS


def steps_in(directory: Path) -> list[Path]:
    """The checkpoints in a directory, oldest first."""
    found = (path for path in directory.glob("step-*") if path.name.removeprefix("step-").isdigit())
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))
