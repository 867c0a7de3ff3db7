"""A remote store as a local tree of empty files, so that the sources of data need not know of it.

The tree is named by the hash of the listing and never changes. Another listing, such as one with another
ETag, is another tree.
"""

import hashlib
import json
import os
import shutil
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit
from uuid import uuid4

from selftrain.data import remote
from selftrain.data.faults import Fault
from selftrain.data.places import ABOUT, FILES, INDEX, TREE, Store, tree_at
from selftrain.data.spec import StoreSpec
from selftrain.errors import ConfigError, DataError, storage_error
from selftrain.files import write_json

UNUSED = 30 * 24 * 3600  # seconds until a tree that no command has used is removed
NAME = 255  # bytes of a file's name


def mirrored(url: str, settings: StoreSpec) -> Path:
    """The tree of the objects below a URL, listed once in each process.

    Raises ConfigError for settings, DataError for objects that cannot be files, StorageError if the store
    does not answer or the cache cannot be written.
    """
    if urlsplit(url).password:
        raise ConfigError("data.root contains a password, which config.yaml would keep: use the environment")
    options = json.dumps(dict(settings.options), sort_keys=True)
    return _tree(Store(url, cache_of(settings), settings.cache_mb, settings.tries, options))


def cache_of(settings: StoreSpec) -> Path:
    """The folder of the cache."""
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "selftrain" / "store"
        return Path(os.path.realpath(Path(settings.cache).expanduser() if settings.cache else home))
    except RuntimeError:
        raise ConfigError("no home folder is known for the cache; name one by data.store.cache=DIR") from None


@lru_cache(maxsize=16)
def _tree(store: Store) -> Path:
    rows = sorted((quote(path), size, version) for path, size, version in remote.listed(store))
    index = "".join(f"{path}\t{size}\t{version}\n" for path, size, version in rows).encode()
    name = hashlib.sha256(f"{store.url}\n".encode() + index).hexdigest()[:24]
    tree = store.trees / f"{name}{TREE}"
    try:
        if not tree.is_dir():
            _build(tree, [(unquote(path), size) for path, size, _ in rows], index, store)
        own = tree / f".{ABOUT}.{uuid4().hex}"  # other processes may write the file at the same time
        write_json(own, store.content())
        own.replace(tree / ABOUT)
        os.utime(tree)
        _remove_unused(store.trees)
    except OSError as error:
        raise storage_error(error, tree) from error
    tree_at.cache_clear()  # it may have been used with other settings
    tree_at(str(tree))
    return tree / FILES


def _build(tree: Path, rows: list[tuple[str, int]], index: bytes, store: Store) -> None:
    """Write a tree under another name, and rename it."""
    new = tree.with_name(f".{tree.name}.{uuid4().hex}")  # ids of processes repeat in containers
    try:
        _fill(new / FILES, rows, store)
        (new / INDEX).write_bytes(index)
        new.rename(tree)
    except BaseException as error:
        shutil.rmtree(new, ignore_errors=True)
        if not (isinstance(error, OSError) and tree.is_dir()):  # another process has built it meanwhile
            raise


def _fill(files: Path, rows: list[tuple[str, int]], store: Store) -> None:
    """Make an empty file for each object."""
    folders = set[str]()
    for path, size in rows:
        folder, _, name = path.rpartition("/")
        if {"", ".", ".."} & set(path.split("/")) or len(os.fsencode(name)) > NAME:
            raise DataError(_no_file(store, path))
        if folder not in folders:
            try:
                (files / folder).mkdir(parents=True, exist_ok=True)
            except (FileExistsError, NotADirectoryError):  # "a" and "a/b" are both objects
                raise DataError(_no_file(store, path)) from None
            folders.add(folder)
        with (files / path).open("wb") as file:
            file.truncate(size)  # takes no space


def _no_file(store: Store, path: str) -> Fault:
    what = "has a name that no file can have, or one that is a folder as well"
    return Fault(store.url_of(path), what, "rename it, or give data.root a narrower prefix")


def _remove_unused(trees: Path) -> None:
    for tree in trees.iterdir():
        with suppress(OSError):
            if time.time() - tree.stat().st_mtime > UNUSED:
                shutil.rmtree(tree)
