"""The only way to open data files: regular files, images in tar shards, and objects of a remote store.

A tree of empty files stands for a remote store (places.py).
"""

import hashlib
import io
import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import Any

from selftrain.data import places, remote
from selftrain.data.faults import Fault
from selftrain.errors import DataError

State = tuple[int, int]  # see state_of


class Member(type(Path())):  # type: ignore[misc] # before Python 3.12, only this class of paths has subclasses
    """An image in a tar shard, by the path that it would have if the shard were a folder.

    Only `open_regular` and the methods of this class read it.
    """

    shard: Path
    offset: int  # in bytes, of the image in the shard
    length: int
    sha256: str  # of the image's bytes
    state: State  # of the shard when it was indexed

    @classmethod
    def of(cls, path: str, shard: Path, offset: int, length: int, sha256: str, state: State) -> "Member":
        found = cls(path)
        found.shard, found.offset, found.length, found.sha256, found.state = (
            shard, offset, length, sha256, state,
        )  # fmt: skip
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        return Member.of, (str(self), self.shard, self.offset, self.length, self.sha256, self.state)

    def read_bytes(self) -> bytes:
        """The bytes of the image. Raises DataError(Fault) if the shard is missing or has changed."""
        stored = places.behind(self.shard)
        with remote.opened(stored, self.offset) if stored else open_regular(self.shard) as file:
            if state_of(self.shard) != self.state:
                what = "has changed since it was indexed"
                raise DataError(
                    Fault(str(self.shard), what, "restore it, or begin again in another out with the new one")
                )
            file.seek(self.offset)
            content = file.read(self.length)
        if len(content) < self.length or not content:
            what = "is empty (0 bytes)" if not self.length else f"is cut off: {self.shard} ends within it"
            raise DataError(Fault(str(self), what, "write the shard again"))
        return content


def state_of(path: Path) -> State:
    """Size in bytes, and time of change in ns or version: a change is noticed without reading the file."""
    stored = places.behind(path)
    if stored:
        return stored.size, int.from_bytes(hashlib.sha256(stored.version.encode()).digest()[:7])
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file that is not empty, or an image in a shard.

    Raises DataError(Fault) for anything else: a FIFO would hang, a device might act. Raises StorageError if a
    remote store does not answer.
    """
    if isinstance(path, Member):
        return BufferedReader(io.BytesIO(path.read_bytes()))  # it reads like a file
    stored = places.behind(path)
    if stored and stored.size:
        return remote.opened(stored)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise DataError(Fault(str(path), "is not a regular file", "remove it"))
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        what = f"cannot be opened ({error.strerror})"
        raise DataError(Fault(str(path), what, "restore it or its permissions")) from error
    file = os.fdopen(descriptor, "rb")
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_size > 0:
        return file
    file.close()
    what = "is empty (0 bytes)" if stat.S_ISREG(status.st_mode) else "is not a regular file"
    raise DataError(Fault(str(path), what, "replace or remove it"))


def content_of(path: Path) -> bytes:
    """The bytes of a file. Raises what `open_regular` raises."""
    with open_regular(path) as file:
        return file.read()


def readable(path: Path) -> Any:
    """What libraries open to read a file: its path, or an open file if the content lies elsewhere."""
    if isinstance(path, Member):
        return io.BytesIO(path.read_bytes())
    return open_regular(path) if places.behind(path) else path


def fingerprint(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal; of a remote object, its ETag and size.

    The index of a shard knows the sha256 of its images. Raises DataError(Fault) like `open_regular`.
    """
    if isinstance(path, Member):
        return path.sha256
    stored = places.behind(path)
    if stored:
        return remote.fingerprint(stored)
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
