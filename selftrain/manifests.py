"""Data manifests of runs, which data.json contains, and their changes.

A manifest has a list of entries for each split: id, sha256 of image and mask, and a few facts. A list that is
longer than `columns.MANY` is written as binary parts, data/unlabelled-00000.safetensors and so on, and
data.json has their sha256. So ten million entries are compared part by part, with one part in memory.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selftrain import columns
from selftrain.columns import HASH, PART, Texts
from selftrain.errors import IntegrityError
from selftrain.files import read_json, write_json

VERSION = 1  # of parts
SHA256 = re.compile(r"[0-9a-f]{64}")
PLAIN = ("id", "image", "mask")  # the columns; further facts of an entry are JSON
RESTORE = "restore it, or begin a new run in another out"
Entry = Mapping[str, Any]
Hashes = NDArray[np.uint8]


@dataclass(frozen=True)
class Rows:
    """Some entries as columns: `hashes` (N, 32) of images, and entries of which more is known, by place."""

    ids: Sequence[str]
    hashes: Hashes
    more: Mapping[int, Entry]

    @classmethod
    def of(cls, entries: Sequence[Entry]) -> "Rows":
        """The columns of entries."""
        more = {place: one for place, one in enumerate(entries) if not _is_plain(one)}
        hashes = (
            bytes(HASH) if at in more else bytes.fromhex(one["image"]) for at, one in enumerate(entries)
        )
        table = np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, HASH)
        return cls([one["id"] for one in entries], table, more)

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays of a part."""
        texts = [json.dumps(self.more[place]) for place in sorted(self.more)]
        places = {"places": np.array(sorted(self.more), np.int32)} if texts else {}
        more = Texts.of(texts).columns("more") if texts else {}
        return {**Texts.of(self.ids).columns("ids"), "image": self.hashes, **places, **more}

    def entries(self) -> Iterator[Entry]:
        """The entries as data.json would contain them."""
        for place, name in enumerate(self.ids):
            image = self.hashes[place].tobytes().hex()
            yield self.more.get(place) or {"id": name, "image": image, "mask": None}


def _is_plain(entry: Entry) -> bool:
    """Whether an entry tells no more than its id and the sha256 of its image."""
    return set(entry) == set(PLAIN) and entry["mask"] is None and bool(SHA256.fullmatch(entry["image"] or ""))


@dataclass(frozen=True)
class Long:
    """A long list of entries that is made when it is needed, a few rows at a time, in the order of ids."""

    count: int
    rows: Callable[[], Iterator[Rows]]

    def __len__(self) -> int:
        return self.count

    def parts(self) -> Iterator[Rows]:
        """The rows, PART in each but the last."""
        ids, hashes, more = list[str](), list[Hashes](), dict[int, Entry]()
        for some in self.rows():
            more |= {len(ids) + place: one for place, one in some.more.items()}
            ids += some.ids
            hashes.append(some.hashes)
            while len(ids) >= PART:
                whole = np.concatenate(hashes)
                yield Rows(ids[:PART], whole[:PART], {at: one for at, one in more.items() if at < PART})
                ids, hashes = ids[PART:], [whole[PART:]]
                more = {at - PART: one for at, one in more.items() if at >= PART}
        if ids:
            yield Rows(ids, np.concatenate(hashes), more)

    def written(self, folder: Path, split: str) -> list[str]:
        """Write the parts; returns their sha256."""
        return [
            columns.write(_part(folder, split, number), rows.arrays, {"version": VERSION})
            for number, rows in enumerate(self.parts())
        ]

    def hashes(self) -> list[str]:
        """What `written` returns, without writing."""
        return [columns.digest_of(rows.arrays) for rows in self.parts()]


def _part(folder: Path, split: str, number: int) -> Path:
    return folder / f"{split}-{number:05d}.safetensors"


def folder_of(path: Path) -> Path:
    """The folder of the parts of a run's data.json."""
    return path.with_suffix("")


def keep(path: Path, manifest: Mapping[str, Any]) -> None:
    """Write data.json, after the parts of long lists."""
    content = dict(manifest)
    for name, value in manifest.items():
        if isinstance(value, Long):
            content[name] = {"count": len(value), "parts": value.written(folder_of(path), name)}
    write_json(path, content)


def opened(content: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The manifest whose data.json has this content; long lists are read when they are needed.

    Raises IntegrityError, also later, if parts are missing or damaged.
    """
    return {
        name: _long(value, folder, name) if isinstance(value, dict) and "parts" in value else value
        for name, value in content.items()
    }


def _long(told: Mapping[str, Any], folder: Path, split: str) -> Long:
    def rows() -> Iterator[Rows]:
        """The rows, part by part. Raises IntegrityError for a part of another data.json."""
        for number, sha256 in enumerate(told["parts"]):
            path = _part(folder, split, number)
            try:
                found = columns.read(path, VERSION)
            except IntegrityError as error:
                raise IntegrityError(f"{error}; {RESTORE}") from None
            if found.facts["sha256"] != sha256:
                raise IntegrityError(f"{path} belongs to another data.json; {RESTORE}")
            places = found.arrays.get("places", np.zeros(0, np.int32)).tolist()
            texts = found.texts("more") if places else ()
            more = {at: json.loads(text) for at, text in zip(places, texts, strict=True)}
            yield Rows(list(found.texts("ids")), found.arrays["image"], more)

    return Long(told["count"], rows)


def differences(path: Path, new: Mapping[str, Any]) -> str:
    """`manifest_differences` of data.json and a new manifest. Parts that are the same are not read."""
    old = read_json(path)
    long = {name: value for name, value in new.items() if isinstance(value, Long)}
    told = {name: old[name].get("parts") for name in long if isinstance(old.get(name), dict)}
    same = dict.fromkeys(name for name in told if told[name] == long[name].hashes())
    return manifest_differences(opened({**old, **same}, folder_of(path)), {**new, **same})


def manifest_differences(old: Mapping, new: Mapping) -> str:
    """A short description of the changes between two data manifests; empty if there are none."""
    rows = []
    for split in sorted(set(old) | set(new)):
        before, after = old.get(split), new.get(split)
        if isinstance(before, Long) or isinstance(after, Long):
            told = _long_differences(entries_of(before), entries_of(after))
            rows += [f"{split}: {told}"] if told else []
            continue
        if before == after:
            continue
        if not (are_mappings(before) and are_mappings(after)):
            rows.append(f"{split}: {before} -> {after}")
            continue
        known, found = ({entry.get("id"): entry for entry in entries or []} for entries in (before, after))
        parts = {
            "missing": [name for name in known if name not in found],
            "new": [name for name in found if name not in known],
            "other content": [name for name in known if name in found and known[name] != found[name]],
        }
        said = [f"{len(names)} {what}, e.g. {names[0]}" for what, names in parts.items() if names]
        rows.append(f"{split}: {', '.join(said) or 'other order'}")
    return "; ".join(rows)


def entries_of(value: Any) -> Iterator[Entry]:
    """The entries of a list, a long list, or None."""
    if isinstance(value, Long):
        return (entry for rows in value.rows() for entry in rows.entries())
    return iter(value or ())


def _long_differences(old: Iterator[Entry], new: Iterator[Entry]) -> str:
    """The changes between two lists in the order of ids; "" if there are none. Neither is in memory."""
    first, counts = dict[str, str](), {"missing": 0, "new": 0, "other content": 0}

    def note(what: str, entry: Entry) -> None:
        first.setdefault(what, entry["id"])
        counts[what] += 1

    before, after = next(old, None), next(new, None)
    while before is not None or after is not None:
        if after is None or (before is not None and before["id"] < after["id"]):
            assert before is not None
            note("missing", before)
            before = next(old, None)
        elif before is None or after["id"] < before["id"]:
            note("new", after)
            after = next(new, None)
        else:
            if before != after:
                note("other content", after)
            before, after = next(old, None), next(new, None)
    return ", ".join(f"{counts[what]} {what}, e.g. {first[what]}" for what in counts if counts[what])


def are_mappings(entries: object) -> bool:
    return isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)
