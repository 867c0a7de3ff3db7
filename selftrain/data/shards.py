"""Tar shards of images, such as webdataset writes them, and the index by which single images are read.

The index of a shard lists its images in the order of their names, with offset, size and sha256. It is made
once, by one pass over the shard, and kept in the user's cache (data.remember). It holds as long as size and
time of change of the shard stay the same. So a later command reads neither headers nor images of the shard.
"""

import hashlib
import os
import posixpath
import tarfile
import unicodedata
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache, partial
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from selftrain.columns import Columns, Texts, read, write
from selftrain.data import headers, places, strays
from selftrain.data.faults import Fault
from selftrain.data.images import IMAGE_SUFFIXES
from selftrain.data.sample import Sample
from selftrain.data.sources.files import ImageFile
from selftrain.data.storage import Member, State, open_regular, state_of
from selftrain.errors import DataError, IntegrityError

SUFFIX = ".tar"
VERSION = 2  # of an index
READERS = 4  # threads
BLOCK = 512  # bytes of a header, and of the mark at the end of a tar file
CHUNK = 1 << 20  # bytes that are read at once
MAGIC = 257  # the place of "ustar" in a header
FETCH = "fetch or write it again"
Images = list[tuple[str, str, int, int, bytes]]  # name without suffix, suffix, offset, length, sha256
Faults = list[tuple[str, str, str]]  # of members: name, what is wrong, remedy


@dataclass(frozen=True, eq=False)
class Shard:
    """The images of a shard, in the order of their ids. See `many.Part`."""

    path: Path
    prefix: str  # of ids: the path of the shard below data.root, with a slash
    index: Columns
    target: tuple[Any, int] | None = None  # see Sample.size
    stems: Texts = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "stems", self.index.texts("stems"))

    def __len__(self) -> int:
        return len(self.stems)

    def sample(self, i: int) -> Sample:
        """The sample of image `i`, in the order of ids."""
        stem, arrays, facts = self.stems[i], self.index.arrays, self.index.facts
        path = Member.of(
            f"{self.path}/{stem}{facts['suffixes'][arrays['suffix'][i]]}",
            self.path,
            int(arrays["offset"][i]),
            int(arrays["length"][i]),
            arrays["sha256"][i].tobytes().hex(),
            tuple(facts["state"]),
        )
        name = f"{self.prefix}{stem}"
        return Sample(name, ImageFile(path), None, self.target, name)

    def id(self, i: int) -> str:
        return f"{self.prefix}{self.stems[i]}"

    def ids(self) -> Sequence[str]:
        return [f"{self.prefix}{stem}" for stem in self.stems]

    def below(self, name: str) -> int:
        if not name.startswith(self.prefix):
            return len(self) if name > self.prefix else 0
        return bisect_left(self.stems, name.removeprefix(self.prefix))

    @property
    def hashes(self) -> np.ndarray:
        return self.index.arrays["sha256"]

    @property
    def faults(self) -> list[Fault]:
        """The faults of members that are left out, by their path below data.root."""
        return [Fault(f"{self.prefix}{name}", what, how) for name, what, how in self.index.facts["faults"]]


def opened(paths: Sequence[Path], prefixes: Sequence[str], *, remember: bool) -> list[Shard | DataError]:
    """The shards at `paths`, or why one cannot be used. Indices that are missing or old are made."""

    def one(path: Path, prefix: str) -> Shard | DataError:
        """The shard at `path`, or what is wrong with it."""
        try:
            if not places.behind(path):  # a remote one has just been listed; opening it would fetch a block
                open_regular(path).close()  # raises DataError
            return Shard(path, prefix, _index(path, state_of(path), remember))
        except DataError as error:
            return error

    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(one, paths, prefixes))


@lru_cache(maxsize=1 << 16)
def _index(path: Path, state: State, remember: bool) -> Columns:
    kept = kept_at(path) if remember else None
    if kept is not None:
        with suppress(IntegrityError):
            found = read(kept, VERSION)
            if found.facts["shard"] == str(path) and tuple(found.facts["state"]) == state:
                return found
    arrays, facts = index_of(path, state)
    if kept is not None:
        with suppress(OSError, IntegrityError):  # without a cache, the index stays in memory
            own = kept.with_suffix(f".{os.getpid()}")  # other ranks may write it, too
            write(own, arrays, facts)
            own.replace(kept)
            return read(kept, VERSION)
    return Columns(facts, arrays)


def kept_at(shard: Path) -> Path | None:
    """The place of a shard's index in the user's cache; None for a user without a home."""
    with suppress(RuntimeError):
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "selftrain" / "shards"
        return folder / f"{hashlib.sha256(os.fsencode(shard)).hexdigest()[:32]}.safetensors"
    return None


def index_of(shard: Path, state: State) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The columns and the facts of a shard's index. Reads the whole shard.

    Raises DataError(Fault) if it is no tar file, is cut off, or contains no image.
    """
    images, others, bad = Images(), Counter[str](), Faults()
    with open_regular(shard) as file:
        for name, offset, length in _members(shard, file, state[0]):
            stem, suffix = os.path.splitext(unicodedata.normalize("NFC", name))
            if suffix.lower() not in IMAGE_SUFFIXES:
                others[suffix.lower() or "without suffix"] += 1
            elif length < 0:
                others["links or sparse files"] += 1
                bad.append(
                    (stem + suffix, "is a link or a sparse file in the shard", "write the file itself")
                )
            else:
                file.seek(offset)
                images.append((stem, suffix, offset, length, hashlib.sha256(file.read(length)).digest()))
    images, faults = _sound(sorted(images))
    if not images:
        held = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(3))
        what = f"contains no image{f' but {held}' if held else ''}"
        raise DataError(Fault(str(shard), what, f"known suffixes are {', '.join(sorted(IMAGE_SUFFIXES))}"))
    return columns_of(images), {
        "version": VERSION,
        "shard": str(shard),
        "state": list(state),
        "suffixes": sorted({one[1] for one in images}),
        "faults": bad + faults,
    }


def columns_of(images: Images) -> dict[str, np.ndarray]:
    """The columns of an index."""
    stems, suffixes, offsets, lengths, hashes = zip(*images, strict=True)
    known = {suffix: code for code, suffix in enumerate(sorted(set(suffixes)))}
    return {
        **Texts.of(stems).columns("stems"),
        "suffix": np.array([known[suffix] for suffix in suffixes], np.uint8),
        "offset": np.array(offsets, np.int64),
        "length": np.array(lengths, np.int64),
        "sha256": np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 32),
    }


def _members(shard: Path, file: BufferedReader, size: int) -> Iterator[tuple[str, int, int]]:
    """Name, offset and size of each file that is not hidden, in a shard of `size` bytes.

    The size of links and sparse files, whose bytes are not in one place, is -1.
    """
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while (one := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined] # it would keep all of them
                name = posixpath.normpath(one.name)
                if not 0 <= one.size <= size - one.offset_data:
                    raise DataError(Fault(str(shard), f"is cut off: {name} ends after its end", FETCH))
                if (one.isreg() or one.islnk() or one.issym()) and not _is_left_out(name):
                    plain = one.isreg() and not one.issparse()
                    yield name, one.offset_data, one.size if plain else -1
            end = tar.offset
    except (tarfile.TarError, ValueError, OverflowError, KeyError) as error:  # of damaged headers
        raise DataError(_unreadable(shard, file, error)) from error
    file.seek(end)
    mark = file.read(BLOCK)
    if mark != bytes(BLOCK):  # tarfile takes whatever comes instead of a header as the end
        damaged = f"has a damaged header at byte {end:,}" if len(mark) == BLOCK else "is cut off"
        raise DataError(Fault(str(shard), f"{damaged}: it lacks the mark at the end of a tar file", FETCH))
    if any(part.strip(b"\0") for part in iter(partial(file.read, CHUNK), b"")):  # as cat a.tar b.tar writes
        what = f"has more after the mark of its end at byte {end:,}, which tar would not read"
        raise DataError(Fault(str(shard), what, "unpack its parts, and write one tar file"))


def _is_left_out(name: str) -> bool:
    """Whether a file is hidden, or in a folder that is hidden or that a system has created."""
    *folders, base = name.split("/")
    hidden = (part.startswith(".") and part != ".." for part in (*folders, base))
    return any(hidden) or any(map(strays.is_system_folder, folders))


def _unreadable(shard: Path, file: BufferedReader, error: Exception) -> Fault:
    kind = headers.kind_of(file)
    file.seek(0)
    if file.read(BLOCK)[MAGIC:].startswith(b"ustar"):
        return Fault(str(shard), f"is cut off ({error})", FETCH)
    if kind == "gzip":
        remedy = "unpack it with gunzip, and name the .tar file"
        return Fault(str(shard), "is compressed, so single images cannot be read", remedy)
    return Fault(str(shard), f"is not a tar file{f' but {kind}' if kind else ''} ({error})", FETCH)


def _sound(images: Images) -> tuple[Images, Faults]:
    """The images that can be used, and the faults of others."""
    faults, kept, first = Faults(), Images(), dict[str, str]()
    stems = {one[0] for one in images}
    for one in images:
        stem, name = one[0], one[0] + one[1]
        other = first.setdefault(stem.casefold(), name)
        folder, base = posixpath.split(stem)
        key = posixpath.join(folder, base.partition(".")[0])
        if ".." in PurePosixPath(name).parts or name.startswith("/") or not name.isprintable():
            faults.append((name, "has a name that leaves the shard or is not printable", "rename it"))
        elif other is not name:
            what = f"shares its name with {other} (suffix, case and Unicode form do not count)"
            faults.append((name, what, "rename one of them"))
        elif key != stem and key in stems:
            what = f"lies in the shard beside the image {key} and belongs to it, like a mask"
            faults.append((name, what, "write shards without it"))
        else:
            kept.append(one)
    return kept, faults
