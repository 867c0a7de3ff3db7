"""A run on several hosts: what each of them sees of the run directory.

Hosts that share the directory see the same files. Otherwise each host has a copy of its own. Whenever all
ranks wait for each other, new, changed and removed files are passed on, so that the copies stay equal.
"""

import hashlib
import os
import socket
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object, wait_for_everyone

from selftrain import claim, verdicts
from selftrain.errors import ConfigError, DataError
from selftrain.files import TEMPORARY, digest_of, naming, read_yaml
from selftrain.log import say
from selftrain.rundir import LOGS, RunDir
from selftrain.settings import changes

T = TypeVar("T")
CHUNK = 2**26  # bytes of a file that are sent at once
VISIBLE = 3.0  # seconds until a file of one host is seen by the others, if they share the directory
SHARDS = ("shard-", "images-")  # files that every host makes; whether they are sound is checked later
TRACKED = {
    "tensorboard",
    "wandb",
    "mlruns",
    "trackers.json",
}  # change at any time, so they stay on their host
REPORT, STEP = "report.json", "step-"


class Ranks(Accelerator):
    """The processes of a run. When they wait for each other, all hosts come to see the same files."""

    files: "Shared | Copies | None" = None  # None: one host

    def wait_for_everyone(self) -> None:
        """Wait for all ranks. Afterwards each rank sees the files that the others wrote before."""
        super().wait_for_everyone()
        if self.files is not None:
            self.files.agree()

    @contextmanager
    def main_process_first(self) -> Iterator[None]:
        """The block runs in the main process first, whose files the others then see."""
        if self.process_index:
            self.wait_for_everyone()
        yield
        if not self.process_index:
            self.wait_for_everyone()


@contextmanager
def writing(run: RunDir, ranks: Ranks) -> Iterator[None]:
    """Hold the run directory: in the main process, and on each host that has a copy of its own.

    Raises LockedError if another run holds it, ConfigError if a copy is not one of this run.
    """
    main = ranks.process_index == 0
    with run.writing() if main else nullcontext():
        heads = [rank for rank, local in enumerate(_gathered(ranks.local_process_index)) if local == 0]
        if len(heads) < 2:
            yield
            return
        name = _of_main(claim.name_of(run.path) if main else "")
        shared = main or ranks.process_index not in heads or _sees(run, name)
        if all(_gathered(shared)):
            ranks.files = Shared(run.path)
            _tell(main, f"{len(heads)} hosts share {run.path}")
            yield
            return
        with nullcontext() if shared else run.writing():
            ranks.files = copies = Copies(run.path, main or not shared, ranks.process_index)
            _tell(main, f"{len(heads)} hosts do not share {run.path}: each has a copy, which is kept equal")
            copies.join(run)
            yield


def check_alike(ranks: Accelerator, precision: str, ids: Iterable[str]) -> None:
    """Raises ConfigError if ranks compute in different precisions, DataError if they have other images.

    `ids` are the names of all images, in order.
    """
    if ranks.num_processes == 1:
        return
    digest, number = hashlib.sha256(), 0
    for number, name in enumerate(ids, start=1):  # noqa: B007 (the number of images, afterwards)
        digest.update(f"{name}\0".encode())
    found = _gathered((socket.gethostname(), precision, number, digest.hexdigest()))
    host, first, count, content = found[0]
    for other, own, images, names in found:
        if own != first:
            raise ConfigError(
                f"{host} computes in {first} and {other} in {own}; set train.precision=none, bf16 or fp16"
            )
        if names != content:
            raise DataError(
                f"{host} has {count} images and {other} has {images}, or their names differ; "
                "data.root must contain the same files on every host"
            )


@dataclass(frozen=True)
class Shared:
    """A directory that all hosts see."""

    root: Path

    def agree(self) -> None:
        """Open every folder: clients of NFS then look up names again that they knew as missing."""
        for _ in os.walk(self.root):
            pass


@dataclass
class Copies:
    """This host's copy of the directory `root`.

    One process of each host is its `owner`. `known` has the files that all copies have, with this copy's size
    and time of change.
    """

    root: Path
    owner: bool
    rank: int
    known: dict[str, tuple[int, int]] = field(default_factory=dict)

    def agree(self) -> None:
        """Pass on what changed since the last time. If two hosts changed a file, the lower rank's counts."""
        now = self._files() if self.owner else {}
        news = [(found[1], name) for name, found in now.items() if self.known.get(name) != found]
        gone = [name for name in self.known if name not in now]
        self.known |= {name: now[name] for _, name in news}
        sources: dict[str, tuple[int, int]] = {}
        every = _gathered((news, gone))
        for rank, (theirs, _) in enumerate(every):
            for changed, name in theirs:
                sources.setdefault(name, (changed, rank))
        self._remove({name for _, names in every for name in names} - sources.keys())
        for name, (_, rank) in sorted(sources.items(), key=lambda row: row[1]):  # in the order of writing
            self._copy(name, rank)
        wait_for_everyone()  # until every copy is written

    def join(self, run: RunDir) -> None:
        """Make the copies equal to the main process's files.

        Label shards of all hosts stay, and so do files that no run writes, such as a review.
        """
        if self.owner and self.rank:
            run.sweep()
        mine = self._files() if self.owner else {}
        ordered = sorted(mine, key=lambda name: mine[name][1])
        theirs = _of_main({name: digest_of(self.root / name) for name in ordered if not self.rank})
        settings = _of_main(_settings(run) if not self.rank else None)
        reviewed = _of_main(_journal(run) if not self.rank else b"")
        wrong = _refusal(run, [*mine], [*theirs], settings, reviewed) if self.owner and self.rank else ""
        for message in filter(None, _gathered(wrong)):
            raise ConfigError(message)
        same = {name for name in mine if theirs.get(name) == digest_of(self.root / name)}
        own = {name for name in mine.keys() - theirs.keys() if _stays(run, name)}
        self.known = {name: mine[name] for name in same}
        self._remove(mine.keys() - theirs.keys() - own)
        lacking = set().union(*_gathered(theirs.keys() - same if self.owner else set()))
        for name in [name for name in theirs if name in lacking]:
            self._copy(name, 0)
        self.agree()

    def _files(self) -> dict[str, tuple[int, int]]:
        """Size and time of change of each file, by its path.

        Hidden files, those of trackers, and logs of schedulers are left out.
        """
        found = {}
        for folder, folders, names in os.walk(self.root):
            top = Path(folder) == self.root
            folders[:] = [name for name in folders if _is_copied(name, top)]
            for path in [Path(folder, name) for name in names if _is_copied(name, top)]:
                with suppress(FileNotFoundError):
                    facts = path.lstat()
                    if stat.S_ISREG(facts.st_mode):
                        found[str(path.relative_to(self.root))] = (facts.st_size, facts.st_mtime_ns)
        return found

    def _copy(self, name: str, source: int) -> None:
        """Send the file `name` from the rank `source` to the owners of the other copies."""
        chunks, path = self._sent(name, source), self.root / name
        if not self.owner or self.rank == source:
            for _ in chunks:
                pass
            return
        temporary = path.with_name(f".{path.name}{TEMPORARY}")
        temporary.parent.mkdir(parents=True, exist_ok=True)
        with naming(temporary), open(temporary, "wb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        facts = path.stat()
        self.known[name] = (facts.st_size, facts.st_mtime_ns)

    def _sent(self, name: str, source: int) -> Iterator[bytes]:
        """The content of a file of the rank `source`, on every rank."""
        with open(self.root / name, "rb") if self.rank == source else nullcontext() as file:
            while chunk := _broadcast(file.read(CHUNK) if file else b"", source):
                yield chunk

    def _remove(self, names: set[str]) -> None:
        """Remove files, and the folders that become empty."""
        for name in names & self.known.keys():
            del self.known[name]
        for path in [path for path in (self.root / name for name in names if self.owner) if path.exists()]:
            path.unlink()
            with suppress(OSError):  # a folder is not empty
                for folder in path.relative_to(self.root).parents:
                    (self.root / folder).rmdir()


def _is_copied(name: str, top: bool) -> bool:
    """Whether a file or folder of this name belongs to the copies; `top`: it is directly in the run's."""
    return not name.startswith(".") and not (top and (name in TRACKED or Path(name).suffix in LOGS))


def _sees(run: RunDir, name: str) -> bool:
    """Whether this host sees the claim of the main process."""
    end = time.monotonic() + VISIBLE
    while claim.name_of(run.path) != name:
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
        for folder in reversed(run.path.absolute().parents):  # see Shared.agree
            with suppress(OSError):
                os.scandir(folder).close()
    return True


def _stays(run: RunDir, name: str) -> bool:
    """Whether a file that the first host lacks is a label shard, or a file that no run writes."""
    first = run.path / Path(name).parts[0]
    folders, files = (run.data.with_suffix(""), run.base, run.export), (
        run.config, run.data, run.weights, run.conditions, run.plan, run.memory, run.forecast, run.metrics,
        run.times, run.report, run.page,
    )  # fmt: skip
    written = first in folders + files or first.name.removeprefix("gen").isdigit()
    return not written or Path(name).name.startswith(SHARDS)


def _refusal(
    run: RunDir, mine: Sequence[str], theirs: Sequence[str], settings: dict | None, reviewed: bytes
) -> str:
    """The reason not to replace this host's files with the main process's files; "" if there is none.

    `reviewed` is the main process's `_journal`.
    """
    own, here = _settings(run), f"{run.path} on {socket.gethostname()}"
    if own and settings and changes.refused(own, settings, labels_are_used=True):
        return f"{here} is another run than on the first host; remove it, or choose another out="
    if own and _progress(mine) > _progress(theirs):
        return f"{here} has more of the run than the first host: make this host the first, or remove it"
    if reviewed and not reviewed.startswith(_journal(run)):
        return f"{run.review} on {socket.gethostname()} is another review than on the first host; remove one"
    return ""


def _journal(run: RunDir) -> bytes:
    """The complete lines of the journal of a review, which only grows; b"" without one."""
    path = run.review / verdicts.JOURNAL
    content = path.read_bytes() if path.is_file() else b""
    return content[: content.rfind(b"\n") + 1]


def _settings(run: RunDir) -> dict | None:
    return read_yaml(run.config, "generations") if run.config.exists() else None


def _progress(names: Sequence[str]) -> tuple[int, int]:
    """How far a run is: its finished parts, and the steps of its newest checkpoint."""
    paths = [Path(name) for name in names]
    steps = [path.parent.name.removeprefix(STEP) for path in paths if path.parent.name.startswith(STEP)]
    return (
        sum(path.name == REPORT for path in paths),
        max((int(step) for step in steps if step.isdigit()), default=0),
    )


def _gathered(value: T) -> list[T]:
    """The value of each rank."""
    return gather_object([value])


def _of_main(value: T) -> T:
    return broadcast_object_list([value])[0]


def _broadcast(chunk: bytes, source: int) -> bytes:
    box = [chunk]
    dist.broadcast_object_list(box, src=source)
    return box[0]


def _tell(main: bool, message: str) -> None:
    if main:
        say(message)
