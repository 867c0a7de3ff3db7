"""A cache of byte blocks on the disk, of bounded size, shared by all processes of a machine.

A block is one file: its bytes, then their CRC-32. It appears by one rename. A block that a power cut or a bad
disk has damaged is read as missing. Once the files take more than the budget, the blocks that were not used
for the longest time are removed.
"""

import fcntl
import os
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from selftrain.errors import StorageError, storage_error

KEPT = 0.9  # share of the budget that stays when blocks are removed
BETWEEN = 1 / 64  # share of the budget that a process writes before it measures the folder again
LOCKS = 64  # of the threads of a process
CHECK = 4  # bytes of the CRC-32


class Blocks:
    """The blocks in `folder`. Several threads and processes may use it at the same time."""

    def __init__(self, folder: Path, megabytes: int):
        self.folder, self.budget = folder, megabytes * 2**20
        self.written, self.lock = 0, threading.Lock()
        self.locks = [threading.Lock() for _ in range(LOCKS)]

    def alone(self, key: str) -> threading.Lock:
        """The lock that a thread holds while it fetches a block: others wait rather than fetch it, too."""
        return self.locks[zlib.crc32(key.encode()) % LOCKS]

    def __contains__(self, key: str) -> bool:
        return self._file(key).exists()

    def get(self, key: str) -> bytes | None:
        """The bytes of a block; None if it is not there or damaged."""
        file = self._file(key)
        try:
            content = file.read_bytes()
            os.utime(file)  # the time of its last use
        except OSError:
            return None
        data, check = content[:-CHECK], content[-CHECK:]
        return data if zlib.crc32(data).to_bytes(CHECK, "big") == check else None

    def put(self, key: str, data: bytes) -> None:
        """Store a block. Raises StorageError if the disk refuses it."""
        file = self._file(key)
        new = file.with_name(f".{file.name}.{os.getpid()}.{threading.get_ident()}")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            new.write_bytes(data + zlib.crc32(data).to_bytes(CHECK, "big"))
            new.replace(file)
        except OSError as error:
            new.unlink(missing_ok=True)
            settings = "data.store.cache and data.store.cache_mb say where this cache is and how large"
            raise StorageError(f"{storage_error(error, file)} ({settings})") from error
        with self.lock:
            self.written += len(data)
            due = self.written > self.budget * BETWEEN
            self.written = 0 if due else self.written
        if due:
            self.trim()

    def trim(self) -> None:
        """Remove the blocks unused for the longest time, until the files take KEPT of the budget.

        It removes nothing while the files are within the budget, or while another process does this work.
        """
        with self._alone() as alone:
            if not alone:
                return
            files = sorted(self._files())
            excess = sum(size for _, size, _ in files) - self.budget
            if excess <= 0:
                return
            excess += round(self.budget * (1 - KEPT))
            for _, size, path in files:
                if excess <= 0:
                    return
                with suppress(FileNotFoundError):
                    os.unlink(path)
                excess -= size

    def _files(self) -> Iterator[tuple[float, int, str]]:
        """The last use, the size and the path of each file, also of what a killed process left behind."""
        for folder in self.folder.iterdir():
            if folder.is_dir():
                for entry in os.scandir(folder):
                    with suppress(FileNotFoundError):
                        found = entry.stat()
                        yield found.st_mtime, found.st_size, entry.path

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Whether this process alone trims the folder while the block runs."""
        with (self.folder / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:  # another process trims, or the file system has no locks
                yield False
                return
            yield True

    def _file(self, key: str) -> Path:
        return self.folder / key[:2] / key
