"""Local trees that stand for a remote store (mirror.py), and the objects behind their files.

A tree has a file for each object, of its size but without content, so the sources of data list it like any
other folder. What is known of the objects lies beside the files:

    ID.objects/files/…   an empty file for each object
    ID.objects/store.json   the URL and how it is read (Store)
    ID.objects/index        a line for each object, sorted: quoted path, tab, size, tab, version
"""

import json
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from selftrain.errors import ConfigError, DataError

TREE, FILES, ABOUT, INDEX = ".objects", "files", "store.json", "index"
MARK = f"{TREE}/{FILES}"
_URLS: dict[str, str] = {}  # the trees that this process has used, and their URLs


def is_url(root: str) -> bool:
    """Whether data.root names a remote store, and not a folder."""
    return "://" in root


@dataclass(frozen=True)
class Store:
    """A remote store and how it is read; the fields below `url` are the settings of data.store."""

    url: str
    cache: Path
    cache_mb: int
    tries: int
    options: str  # JSON

    @property
    def blocks(self) -> Path:
        return self.cache / "blocks"

    @property
    def trees(self) -> Path:
        return self.cache / "trees"

    def url_of(self, path: str) -> str:
        return f"{self.url.rstrip('/')}/{path}"

    def content(self) -> dict[str, Any]:
        return {**asdict(self), "cache": str(self.cache)}


@dataclass(frozen=True)
class Stored:
    """An object as it was listed: its path below the URL, its size in bytes and its version.

    `version` is the ETag, or whatever else the store changes with the content; "" if it tells nothing.
    """

    store: Store
    path: str
    size: int
    version: str

    @property
    def url(self) -> str:
        return self.store.url_of(self.path)


def behind(path: Path) -> Stored | None:
    """The object that a file of a tree stands for; None for a file of this machine."""
    before, mark, inside = str(path).partition(MARK)
    tree = tree_at(f"{before}{TREE}") if mark else None
    name = inside.removeprefix("/")
    line = _line(tree[1], quote(name).encode()) if tree else b""
    if not tree or not line:
        return None
    _, size, version = line.decode().split("\t")
    return Stored(tree[0], name, int(size), version)


def named(text: str) -> str:
    """A message with the URL of a store in place of its tree, as far as this process has used it."""
    for files, url in _URLS.items():
        text = text.replace(files, url)
    return text


@contextmanager
def naming_urls() -> Iterator[None]:
    """Messages of errors raised within the block name URLs rather than trees."""
    try:
        yield
    except (ConfigError, DataError) as error:
        if isinstance(error.args[0], str) and named(error.args[0]) != error.args[0]:
            raise type(error)(named(error.args[0])) from error
        raise


def is_any_used() -> bool:
    """Whether this process has used a tree."""
    return bool(_URLS)


@lru_cache(maxsize=16)
def tree_at(folder: str) -> tuple[Store, mmap.mmap] | None:
    """The store that a tree stands for, and its index; None if the folder is no tree."""
    tree = Path(folder)
    if not (tree / ABOUT).is_file():
        return None
    content = json.loads((tree / ABOUT).read_text())
    _URLS[str(tree / FILES)] = content["url"].rstrip("/")
    with (tree / INDEX).open("rb") as file:
        index = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return Store(**{**content, "cache": Path(content["cache"])}), index


def _line(lines: mmap.mmap, name: bytes) -> bytes:
    """The line that begins with `name`, among sorted lines; b"" if there is none."""
    low, high = 0, len(lines)
    while low < high:
        middle = (low + high) // 2
        start, end = lines.rfind(b"\n", 0, middle) + 1, lines.find(b"\n", middle)
        line = lines[start:end]
        found = line.partition(b"\t")[0]
        if found == name:
            return line
        low, high = (end + 1, high) if found < name else (low, start)
    return b""
