"""Objects of a remote store, read through fsspec in blocks that a cache on the disk keeps.

Each request is repeated after a failure that may pass. A block counts as read only if it has its full length
and the object is still the one that was listed: its MD5 is the listed ETag, or the store still tells the
listed version.
"""

import hashlib
import io
import json
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from selftrain.data.blocks import Blocks
from selftrain.data.faults import Fault
from selftrain.data.places import Store, Stored
from selftrain.errors import ConfigError, DataError, SelftrainError, StorageError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from fsspec import AbstractFileSystem

Result = TypeVar("Result")
BLOCK = 4 * 2**20  # bytes; most images are one block
BUFFER = 1 << 16  # bytes that a decoder takes at once
SHORTEST, LONGEST = 0.5, 30.0  # seconds before the second try, doubled for each later one
# What stores call the version of an object, in the order of preference.
VERSIONS = (
    "ETag",
    "etag",
    "md5Hash",
    "mtime",
    "Last-Modified",
    "LastModified",
    "last_modified",
    "updated",
    "created",
)
CONTENT = re.compile(r"[0-9a-f]{32}(-\d+)?")  # an ETag that S3 computes from the content
# One request for each try: the tries are counted here.
DEFAULTS: dict[str, dict[str, Any]] = {"s3": {"config_kwargs": {"retries": {"total_max_attempts": 1}}}}
CLOUD = "pip install 'selftrain[cloud]'"
CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound"}
CHECK_CREDENTIALS = {
    "s3": "the credentials (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE) and whether they "
    "may list and read the bucket; a public bucket needs 'data.store.options={anon: true}'",
}
CHECK_NETWORK = {
    "s3": "the network, the endpoint (AWS_ENDPOINT_URL), the region (AWS_DEFAULT_REGION) and the store",
}
CHECK_OTHERS = "the credentials, the endpoint, the region and the network of this store"
ANEW = "restore it, or begin a new run in another out="
_jitter = random.SystemRandom()  # other generators are part of the results, or equal in forked processes


def version_of(row: dict[str, Any]) -> str:
    """The version of an object, from what its store tells of it."""
    found = next((row[name] for name in VERSIONS if row.get(name)), "")
    found = found.timestamp() if isinstance(found, datetime) else found  # a listing may tell the number
    return " ".join(str(found).strip('"').split())


def fingerprint(stored: Stored) -> str:
    """The identity of an object's content without reading it: its ETag and size.

    Other versions than ETags of S3 may be equal for two objects, so they are joined with the URL.
    """
    own = f"{stored.version} {stored.size}"
    return f"etag {own}" if CONTENT.fullmatch(stored.version) else f"{stored.url} {own}"


def opened(stored: Stored, place: int = 0) -> io.BufferedReader:
    """The object as a file, which will be read from `place`.

    Raises DataError(Fault) if it has changed, StorageError if it cannot be read.
    """
    reader = _Reader(stored)
    reader.block(place // BLOCK)
    return io.BufferedReader(reader, BUFFER)


def fetch(stored: Stored, part: slice = slice(None)) -> None:
    """Bring an object, or some of its bytes, into the cache, with one try: who needs it tries again."""
    first, last, _ = part.indices(stored.size)
    for number in range(first // BLOCK, -(-last // BLOCK)):
        if _key(stored, number) not in blocks_of(stored.store, os.getpid()):
            _block(stored, number, tries=1)


class _Reader(io.RawIOBase):
    """The bytes of an object; one block is in memory."""

    def __init__(self, stored: Stored):
        self.stored, self.place = stored, 0
        self.held: tuple[int, bytes] = (-1, b"")

    def block(self, number: int) -> bytes:
        if self.held[0] != number:
            self.held = (number, _block(self.stored, number, tries=self.stored.store.tries))
        return self.held[1]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self.place, io.SEEK_END: self.stored.size}[whence]
        if start + offset < 0:
            raise ValueError(f"negative seek position {start + offset}")
        self.place = start + offset
        return self.place

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Read into `buffer`, at most to the end of a block; returns the number of bytes, 0 at the end."""
        if self.place >= self.stored.size:
            return 0
        number, start = divmod(self.place, BLOCK)
        view = memoryview(buffer).cast("B")
        part = self.block(number)[start : start + len(view)]
        view[: len(part)] = part
        self.place += len(part)
        return len(part)


def _key(stored: Stored, number: int) -> str:
    return hashlib.sha256(f"{fingerprint(stored)} {BLOCK} {number}".encode()).hexdigest()


def _block(stored: Stored, number: int, *, tries: int) -> bytes:
    """A block of an object, from the cache or from the store."""
    blocks, key = blocks_of(stored.store, os.getpid()), _key(stored, number)
    found = blocks.get(key)
    if found is None:
        with blocks.alone(key):
            found = blocks.get(key)
            if found is None:
                found = tried(stored.store, stored.url, lambda: _download(stored, number), tries=tries)
                blocks.put(key, found)
    return found


def _download(stored: Stored, number: int) -> bytes:
    """A block from the store. Raises OSError if bytes are missing, DataError if the object has changed."""
    files, base = filesystem(stored.store, os.getpid())
    path = f"{base.rstrip('/')}/{stored.path}"
    start, end = number * BLOCK, min((number + 1) * BLOCK, stored.size)
    try:
        data = bytes(files.cat_file(path, start=start, end=end))
        if len(data) == stored.size and _md5(data) == stored.version:
            return data
        now = files.info(path)
    except FileNotFoundError:
        raise DataError(Fault(stored.url, "is gone since the store was listed", ANEW)) from None
    if (now.get("size"), version_of(now)) != (stored.size, stored.version):
        what = f"has changed since the store was listed (ETag {stored.version} -> {version_of(now)})"
        raise DataError(Fault(stored.url, what, ANEW))
    if len(data) != end - start:
        raise OSError(f"{len(data)} of {end - start} bytes arrived")
    return data


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def listed(store: Store) -> Iterator[tuple[str, int, str]]:
    """The path below the URL, the size and the version of each object.

    Raises DataError if there is none, StorageError if the store does not answer.
    """
    files, base = filesystem(store, os.getpid())
    start = base.rstrip("/") + "/"
    try:
        rows = tried(store, store.url, lambda: files.find(base, detail=True))
    except FileNotFoundError:
        rows = {}
    found = False
    for name, row in rows.items():
        path = str(name).removeprefix(start)
        if not str(name).startswith(start) or path.endswith("/") or row.get("type") == "directory":
            continue
        if row.get("size") is None or not version_of(row):  # such as HTTP: only the file itself tells them
            row = tried(store, store.url_of(path), partial(files.info, name))
        if row.get("size") is None:
            remedy = "take a server that tells Content-Length"
            raise DataError(Fault(store.url_of(path), "has no known size", remedy))
        found = True
        yield path, int(row["size"]), version_of(row)
    if not found:
        raise DataError(f"data.root={store.url}: no object is below it; check the bucket and the prefix")


def tried(store: Store, url: str, act: Callable[[], Result], *, tries: int = 0) -> Result:
    """The result of a request, repeated with exponential backoff and jitter after failures that may pass.

    `tries` defaults to data.store.tries. Raises StorageError that names the URL, the number of tries and what
    to check. Errors of selftrain and FileNotFoundError pass at once.
    """
    tries, began = tries or store.tries, time.monotonic()
    for number in range(1, tries + 1):
        try:
            return act()
        except (SelftrainError, FileNotFoundError, MemoryError):
            raise
        except Exception as error:  # each file system has errors of its own
            if isinstance(error, PermissionError) or type(error).__name__ in CREDENTIALS:
                raise StorageError(_told(store, url, error, "was refused", CHECK_CREDENTIALS)) from error
            if number == tries:
                count = f"{number} tries" if number > 1 else "1 try"
                what = f"cannot be read after {count} in {time.monotonic() - began:.0f} s"
                raise StorageError(_told(store, url, error, what, CHECK_NETWORK)) from error
            time.sleep(min(LONGEST, SHORTEST * 2 ** (number - 1)) * _jitter.uniform(0.5, 1))
    raise AssertionError("data.store.tries is at least 1")


def _told(store: Store, url: str, error: Exception, what: str, checks: dict[str, str]) -> str:
    check = checks.get(urlsplit(store.url).scheme, CHECK_OTHERS)
    said = " ".join(str(error).split()) or type(error).__name__
    return f"{url} {what} ({said}); check {check}, then run the same command"


@lru_cache(maxsize=8)
def blocks_of(store: Store, pid: int) -> Blocks:
    """The cache of a store in this process: after a fork, locks of the parent may be held for ever."""
    return Blocks(store.blocks, store.cache_mb)


@lru_cache(maxsize=8)
def filesystem(store: Store, pid: int) -> "tuple[AbstractFileSystem, str]":
    """The file system of a store in this process, and the path of its URL there. Raises ConfigError."""
    scheme = urlsplit(store.url).scheme
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise ConfigError(f"data.root={store.url} needs fsspec, which is not installed: {CLOUD}") from None
    given, defaults = json.loads(store.options), DEFAULTS.get(scheme, {})
    config = {**defaults.get("config_kwargs", {}), **given.get("config_kwargs", {})}
    options = {**defaults, **given} | ({"config_kwargs": config} if config else {})
    try:
        files, base = url_to_fs(store.url, use_listings_cache=False, **options)
    except ImportError as error:
        package = CLOUD if scheme == "s3" else "install the package that it names"
        raise ConfigError(f"data.root={store.url}: {error}; {package}") from None
    except (TypeError, ValueError) as error:
        raise ConfigError(f"data.root={store.url}, data.store.options={store.options}: {error}") from None
    if hasattr(files, "retries"):
        files.retries = 1
    return files, base
