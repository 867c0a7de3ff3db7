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
WRITE = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


@dataclass
class Claim:
    """A claim of this process: the directory, and a name that contains the machine."""

    folder: Path
    name: str = field(default_factory=lambda: f"{process.machine()} {uuid.uuid4().hex}")
    process: int = field(default_factory=os.getpid)
    beats: int = 0

    @property
    def path(self) -> Path:
        return self.folder / FILE

    @property
    def own(self) -> bool:
        """Whether it is of this process, and not inherited by a fork."""
        return self.process == os.getpid()

    def write(self) -> None:
        """Every content has the same length, so that no reader sees an empty file."""
        with naming(self.path):
            handle = os.open(self.path, WRITE, 0o644)
            try:
                os.ftruncate(handle, os.pwrite(handle, f"{self.name} {self.beats:012d}\n".encode(), 0))
            finally:
                os.close(handle)

    def beat(self) -> None:
        """Change the file; end the process if another machine has taken the directory."""
        found = _read(self.folder)
        if found and _name(found) != self.name:
            if _machine(found) != process.machine():
                _overtaken(self.folder)
            HELD.pop(self.folder, None)
            return
        self.beats += 1
        self.write()


HELD: dict[Path, Claim] = {}
_GUARD = threading.Lock()  # of the claims, which a thread keeps
_KEEPERS: list[threading.Thread] = []


def hold(folder: Path) -> None:
    """Claim a directory until the process ends. Its lock on this machine must be held.

    If another machine wrote the claim last, this waits until it has not changed for STALL seconds. Raises
    LockedError if it changes.
    """
    if folder in HELD and HELD[folder].own:
        return
    claim = Claim(folder)
    if claim.path.is_symlink() or (claim.path.exists() and not claim.path.is_file()):
        claim.path.unlink()  # planted: it could lead elsewhere, or block
    while not _created(claim):
        found = _read(folder)
        if not claim.path.exists():
            continue  # released meanwhile
        if _machine(found) == process.machine():  # whose lock this process has
            claim.write()
            break
        _await_silence(folder, found)
        claim.write()
        time.sleep(BEAT)  # of several machines that waited, the last one to write stays
        if name_of(folder) != claim.name:
            raise _locked(folder)
        break
    with _GUARD:
        HELD[folder] = claim
    atexit.register(release, folder)
    if not any(keeper.is_alive() for keeper in _KEEPERS):  # none survives a fork
        _KEEPERS[:] = [threading.Thread(target=_keep, daemon=True)]
        _KEEPERS[0].start()


def release(folder: Path) -> None:
    """Remove the claim of this process, if it has one."""
    if folder not in HELD or not HELD[folder].own:
        return
    with _GUARD, suppress(OSError):
        claim = HELD.pop(folder)
        if name_of(folder) == claim.name:
            claim.path.unlink()


def _keep() -> None:
    while True:
        time.sleep(BEAT)
        with _GUARD:
            for claim in [claim for claim in HELD.values() if claim.own]:
                with suppress(OSError):  # such as a full disk, which the run itself meets as well
                    claim.beat()


def name_of(folder: Path) -> str:
    """The name of the claim of a directory; empty without one."""
    return _name(_read(folder))


def _created(claim: Claim) -> bool:
    """Make the file if there is none. Only one machine succeeds, also on NFS."""
    try:
        with naming(claim.path):
            os.close(os.open(claim.path, WRITE | os.O_EXCL, 0o644))
    except FileExistsError:
        return False
    try:
        claim.write()
    except OSError:  # the next start would take the file for another machine's
        with suppress(OSError):
            claim.path.unlink()
        raise
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
