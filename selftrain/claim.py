"""The writer of a directory, told to other machines: the locks of a file system may end at the machine.

NFS with `local_lock`, Lustre with `localflock` and some FUSE file systems grant the same lock on two
machines. So a writer also keeps a file that it changes every few seconds. On one machine the lock decides.
"""

import atexit
import os
import sys
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from selftrain import process
from selftrain.errors import LockedError
from selftrain.files import naming
from selftrain.log import say

FILE = ".writer"
BEAT = 5.0  # seconds between two changes of the file
STALL = 30.0  # seconds without a change until another machine may take the directory


@dataclass
class Claim:
    """A claim of this process: the directory, and a name that contains the machine."""

    folder: Path
    name: str = field(default_factory=lambda: f"{process.machine()} {uuid.uuid4().hex}")
    process: int = field(default_factory=os.getpid)
    over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self.keep, daemon=True)

    @property
    def path(self) -> Path:
        return self.folder / FILE

    def write(self, beats: int) -> None:
        """Every content has the same length, so that no reader sees an empty file."""
        with naming(self.path):
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                os.pwrite(handle, f"{self.name} {beats:012d}\n".encode(), 0)
            finally:
                os.close(handle)

    def keep(self) -> None:
        """Change the file until the process ends, or end it if another machine has taken the directory."""
        beats = 0
        while not self.over.wait(BEAT):
            beats += 1
            with suppress(OSError):  # such as a full disk, which the run itself meets as well
                found = _read(self.folder)
                if found and _name(found) != self.name:
                    if _machine(found) != process.machine():
                        _overtaken(self.folder)
                    return
                self.write(beats)


HELD: dict[Path, Claim] = {}  # of this process


def hold(folder: Path) -> None:
    """Claim a directory until the process ends. Its lock on this machine must be held.

    If another machine wrote the claim last, this waits until it has not changed for STALL seconds. Raises
    LockedError if it changes.
    """
    if folder in HELD:
        return
    claim = Claim(folder)
    while not _created(claim):
        found = _read(folder)
        if not claim.path.exists():
            continue  # released meanwhile
        if _machine(found) == process.machine():  # whose lock this process has
            claim.write(0)
            break
        _await_silence(folder, found)
        claim.write(0)
        time.sleep(BEAT)  # of several machines that waited, the last one to write stays
        if _name(_read(folder)) != claim.name:
            raise _locked(folder)
        break
    HELD[folder] = claim
    claim.thread.start()
    atexit.register(release, folder)


def release(folder: Path) -> None:
    """Remove the claim of this process, if it has one."""
    claim = HELD.pop(folder, None)
    if claim is not None and claim.process == os.getpid():  # not a copy in a forked process
        claim.over.set()
        claim.thread.join()
        with suppress(OSError):
            if name_of(folder) == claim.name:
                claim.path.unlink()


def name_of(folder: Path) -> str:
    """The name of the claim of a directory; empty without one."""
    return _name(_read(folder))


def _created(claim: Claim) -> bool:
    """Make the file if there is none. Only one machine succeeds, also on NFS."""
    try:
        with naming(claim.path):
            os.close(os.open(claim.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
    except FileExistsError:
        return False
    claim.write(0)
    return True


def _await_silence(folder: Path, found: str) -> None:
    say(f"{folder}: another machine wrote here last; waiting {STALL:.0f} s for a sign of it")
    end = time.monotonic() + STALL
    while time.monotonic() < end:
        time.sleep(BEAT / 10)
        if _read(folder) != found:
            raise _locked(folder)


def _locked(folder: Path) -> LockedError:
    return LockedError(
        f"another run is writing {folder} on another machine; wait for it or choose another out="
    )


def _overtaken(folder: Path) -> NoReturn:
    print(
        f"selftrain: error: a run on another machine has taken {folder}, "
        f"as this one gave no sign of life for {STALL:.0f} s",
        file=sys.stderr,
        flush=True,
    )
    os._exit(LockedError.exit_code)


def _read(folder: Path) -> str:
    """The claim of a directory; empty if there is none, or if it is being made."""
    try:
        return (folder / FILE).read_text(errors="replace")
    except FileNotFoundError:
        return ""


def _name(content: str) -> str:
    return content.rpartition(" ")[0]


def _machine(content: str) -> str:
    return content.partition(" ")[0]
