"""Alignment of names: which part of two paths is common, and which part tells them apart.

Names are not compared with lists of known endings. Two files belong together if their paths are equal except
for one run of folders and one run of letters or digits in the name. The runs that they differ in are a
`Change`, such as masks -> images and _L -> nothing. A change that explains many files is a rule of the data
set.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from selftrain.inspection.pictures import Picture

TOKEN = re.compile(r"[^\W\d_]+|\d+|[\W_]")
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|[^\W\d_]+")
LONGEST_RUN = 8  # tokens of a name
MOST_FOLDERS = 4  # of a run of folders
ENDS = 4  # a run begins or ends this near to an end of the name
Tokens = tuple[str, ...]
Key = tuple[Tokens, Tokens, Tokens, Tokens]  # folders before and after a run, tokens before and after a run
# The names of splits in folders and list files.
SPLIT_WORDS = {
    "train": "train", "training": "train", "tr": "train", "trainval": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val", "vl": "val",
    "test": "test", "testing": "test", "ts": "test", "te": "test",
}  # fmt: skip


def tokens(stem: str) -> Tokens:
    """A name in runs of letters, runs of digits, and single other characters."""
    return tuple(TOKEN.findall(stem))


@dataclass(frozen=True, order=True)
class Change:
    """The difference between two paths: the runs of the first, and what the second has instead.

    `suffixes` are set only if nothing else differs (x.png beside x.jpg).
    """

    folders: tuple[Tokens, Tokens]
    name: tuple[Tokens, Tokens]
    suffixes: tuple[str, str] = ("", "")

    @property
    def kind(self) -> "Change":
        """The change without names of splits, so that trainannot -> train and valannot -> val are one.

        A number of a folder that is on both sides is left out as well: 01_GT -> 01 and 02_GT -> 02 are one.
        """
        return Change(_without_number(_plain(self.folders)), _plain(self.name), self.suffixes)

    @property
    def crosses_splits(self) -> bool:
        """Whether the two paths name different splits, as in val_labels -> test, or series: 01_GT -> 02."""
        numbers = _numbers(self.folders)
        if all(numbers) and not numbers[0] & numbers[1] and _is_number(self.folders):
            return True
        before, after = ({split_word(text) for side in sides for text in side} - {""}
                         for sides in zip(self.folders, self.name, strict=True))  # fmt: skip
        return bool(before and after and before != after)

    def __str__(self) -> str:
        def run(before: Tokens, after: Tokens, between: str) -> str:
            return f"{between.join(after) or 'nothing'} -> {between.join(before) or 'nothing'}"

        parts = [run(*self.folders, "/")] if any(self.folders) else []
        parts += [run(*self.name, "")] if any(self.name) else []
        return ", ".join(parts) or (" -> ".join(self.suffixes[::-1]) if any(self.suffixes) else "same names")


def _plain(sides: tuple[Tokens, Tokens]) -> tuple[Tokens, Tokens]:
    """Both sides in lower case, without words of splits and without digits beside them."""
    before, after = (tuple(without_splits(text) for text in side) for side in sides)
    return tuple(filter(None, before)), tuple(filter(None, after))


def _numbers(folders: tuple[Tokens, Tokens]) -> tuple[set[str], set[str]]:
    """The numbers with which the folders of each side begin."""
    before, after = (
        {found[0] for text in side if (found := re.match(r"\d+(?=_|$)", text))} for side in folders
    )
    return before, after


def _is_number(folders: tuple[Tokens, Tokens]) -> bool:
    """Whether the folders of one side are a number only, as a series of frames in 01."""
    return any(len(side) == 1 and side[0].isdigit() for side in folders)


def _without_number(folders: tuple[Tokens, Tokens]) -> tuple[Tokens, Tokens]:
    """Both sides without a number of a series that they share, 01_GT/SEG -> 01."""
    numbers = _numbers(folders)
    if not _is_number(folders) or not numbers[0] & numbers[1]:
        return folders
    before, after = (tuple(re.sub(r"^\d+(?=_|$)", "#", text) for text in side) for side in folders)
    return before, after


def without_splits(text: str) -> str:
    """A folder or word without the names of splits: trainannot and train_annot become annot."""
    lower = text.lower()
    for word in sorted(SPLIT_WORDS, key=len, reverse=True):
        if len(word) > 2:
            lower = lower.replace(word, "")
        elif text.endswith(word.capitalize()):  # imagesTr, labelsTs
            lower = lower.removesuffix(word)
    return lower.strip("_-. 0123456789") if lower != text.lower() else text


def split_word(text: str) -> str:
    """The split that a folder or file name contains: train, val, test, or "" for none."""
    words = [SPLIT_WORDS.get(word.lower(), "") for word in WORD.findall(text)]
    found = [word for word in words if word]
    return "train" if "train" in found else found[-1] if found else ""


def change(one: Picture, other: Picture) -> Change:
    """The difference between the paths of two pictures."""
    folders = _difference(one.folders, other.folders)
    name = _difference(tokens(one.stem), tokens(other.stem))
    alike = not any(folders) and not any(name)
    return Change(folders, name, (one.suffix, other.suffix) if alike else ("", ""))


def _difference(one: Tokens, other: Tokens) -> tuple[Tokens, Tokens]:
    """What remains of two sequences without their common beginning and their common end."""
    shorter = min(len(one), len(other))
    start = next((k for k in range(shorter) if one[k] != other[k]), shorter)
    left = shorter - start
    end = next((k for k in range(left) if one[-1 - k] != other[-1 - k]), left)
    return one[start : len(one) - end], other[start : len(other) - end]


def keys(picture: Picture) -> Iterator[Key]:
    """What remains of a path without one run of folders and one run of its name.

    Two pictures that differ in such runs only have a key in common. Keys that identify nothing are left out.
    """
    name = tokens(picture.stem)
    folders = list(_rests(picture.folders, MOST_FOLDERS, len(picture.folders) + 1))
    for before, after in _rests(name, LONGEST_RUN, ENDS):
        for outer, inner in folders:
            if before or after or outer or inner:
                yield outer, inner, before, after


def _rests(sequence: Tokens, longest: int, ends: int) -> Iterator[tuple[Tokens, Tokens]]:
    """The sequence before and after each run that may be left out, also after an empty run."""
    count = len(sequence)
    for start in range(count + 1):
        for stop in range(start, min(count, start + longest) + 1):
            if start < ends or count - stop < ends:
                yield sequence[:start], sequence[stop:]


def changed(picture: Picture, by: Change) -> Iterator[tuple[Tokens, str]]:
    """The folders and names that a picture's partner may have if the paths differ by a change."""
    name = tokens(picture.stem)
    for folders in _replaced(picture.folders, *by.folders):
        for partner in _replaced(name, *by.name):
            yield folders, "".join(partner)


def _replaced(sequence: Tokens, old: Tokens, new: Tokens) -> Iterator[Tokens]:
    """The sequence with each occurrence of the run `old` replaced in turn."""
    if not old and not new:
        yield sequence
        return
    for start in range(len(sequence) - len(old) + 1):
        if sequence[start : start + len(old)] == old:
            found = sequence[:start] + new + sequence[start + len(old) :]
            if _difference(sequence, found) == (old, new):
                yield found
