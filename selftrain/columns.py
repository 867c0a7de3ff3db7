"""Tables of millions of rows in binary files, of which only the used part is read.

A file is a safetensors file of named arrays, the columns. Its metadata contains facts about the table and a
sha256 of the arrays. Files are written atomically. They are mapped into memory, so that processes share them
and the system may drop what is not used. A table that is too large for the memory has several files.
"""

import ctypes
import hashlib
import json
import mmap
import os
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, overload

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from selftrain.errors import IntegrityError
from selftrain.files import write_bytes

# One metadata key only: safetensors writes several in random order, but equal tables must give equal bytes.
FACTS = "selftrain"
TYPES = {"U8": "u1", "I32": "<i4", "I64": "<i8", "F32": "<f4"}
MANY = 20_000  # rows; tables that are not longer stay JSON, which people can read
PART = 1 << 18  # rows of a file, if a table has several
CHUNK = 1 << 24  # bytes that are hashed at once
HASH = 32  # bytes of a sha256
BETWEEN = "\0"  # texts of a column

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Columns:
    """A table that `read` has opened."""

    facts: dict[str, Any]
    arrays: dict[str, NDArray[Any]]

    def texts(self, name: str) -> "Texts":
        """The column of texts that `Texts.columns` gave this name."""
        return Texts(self.arrays[name], self.arrays[f"{name}_ends"])


class Texts(Sequence[str]):
    """A column of texts without NUL. Each is decoded when it is asked for."""

    def __init__(self, content: NDArray[np.uint8], ends: NDArray[np.integer]) -> None:
        self.content, self.ends = content, ends

    @classmethod
    def of(cls, texts: Sequence[str]) -> "Texts":
        """The column of these texts."""
        encoded = os.fsencode(BETWEEN.join(texts))
        content = np.frombuffer(encoded, np.uint8)
        ends = np.append(np.flatnonzero(content == 0), len(content)) if texts else np.zeros(0, np.int64)
        return cls(content, ends.astype(np.int32 if len(content) < 2**31 else np.int64))

    def columns(self, name: str) -> dict[str, NDArray[Any]]:
        """The two arrays that a table keeps."""
        return {name: self.content, f"{name}_ends": self.ends}

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, i: int) -> str: ...
    @overload
    def __getitem__(self, i: slice) -> list[str]: ...
    def __getitem__(self, i: int | slice) -> str | list[str]:
        if isinstance(i, slice):
            return [self[place] for place in range(*i.indices(len(self)))]
        if not 0 <= i < len(self):
            raise IndexError(f"text {i} of {len(self)}")
        start = int(self.ends[i - 1]) + 1 if i else 0
        return os.fsdecode(self.content[start : int(self.ends[i])].tobytes())

    def __iter__(self) -> Iterator[str]:
        return iter(os.fsdecode(self.content.tobytes()).split(BETWEEN) if len(self) else [])


def write(path: Path, arrays: Arrays, facts: Mapping[str, Any]) -> str:
    """Write a table atomically, and return the sha256 of its arrays. Equal arguments give equal bytes."""
    sha256 = digest_of(arrays)
    write_bytes(path, packed(arrays, {**facts, "sha256": sha256}))
    return sha256


def packed(arrays: Arrays, facts: Mapping[str, Any]) -> bytes:
    """The bytes of a safetensors file with `facts` in its metadata."""
    return save(dict(arrays), {FACTS: json.dumps(facts)})


def digest_of(arrays: Arrays) -> str:
    """sha256 over the names, shapes and values of arrays."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}\0".encode())
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()


def read(path: Path, version: int) -> Columns:
    """Open a table whose facts have this "version". Its bytes are read once, to compare their sha256.

    Raises IntegrityError if the file is missing, damaged, or of another version.
    """
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > os.fstat(file.fileno()).st_size:
                raise ValueError("it ends within its header")
            header = json.loads(file.read(length))
            facts = json.loads(header.pop("__metadata__")[FACTS])
            arrays = _arrays(mapped(file), header, 8 + length)
            if facts["version"] != version:
                raise ValueError(f"version {facts['version']}, not {version}")
            digest = hashlib.sha256()
            for name in sorted(arrays):
                digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}\0".encode())
                # not through the map, which would count as memory of this process
                _hash(file, 8 + length + header[name]["data_offsets"][0], arrays[name].nbytes, digest)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise IntegrityError(f"{path} cannot be read ({error})") from None
    if digest.hexdigest() != facts.get("sha256"):
        raise IntegrityError(f"{path} is damaged: its sha256 differs")
    return Columns(facts, arrays)


def mapped(file: IO[bytes]) -> NDArray[np.uint8]:
    """The bytes of a file, mapped into memory as long as an array shows them.

    Python's mmap would keep the file open, as NumPy's memmap does. There are as many tables as shards, and
    often a process may open 1,024 files only.
    """
    size, libc = os.fstat(file.fileno()).st_size, ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
    libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    start = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, file.fileno(), 0)
    if start == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    content = (ctypes.c_ubyte * size).from_address(start)
    weakref.finalize(content, libc.munmap, start, size).atexit = False  # threads may still read it
    found = np.frombuffer(memoryview(content), np.uint8)
    found.flags.writeable = False
    return found


def _arrays(content: NDArray[np.uint8], header: dict[str, Any], start: int) -> dict[str, NDArray[Any]]:
    """The arrays of a safetensors file with these bytes, whose data begin at `start`."""
    found: dict[str, NDArray[Any]] = {}
    for name, told in header.items():
        kind, (first, last) = np.dtype(TYPES[told["dtype"]]), told["data_offsets"]
        shape = tuple(int(side) for side in told["shape"])
        if last - first != kind.itemsize * int(np.prod(shape)):
            raise ValueError(f"{name} has {last - first} bytes")
        found[name] = content[start + first : start + last].view(kind).reshape(shape)
    return found


def _hash(file: Any, start: int, size: int, digest: Any) -> None:
    file.seek(start)
    while size > 0:
        part = file.read(min(size, CHUNK))
        if not part:
            raise ValueError("it ends early")
        digest.update(part)
        size -= len(part)
