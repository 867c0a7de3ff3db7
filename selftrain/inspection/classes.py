"""Names of classes: from tables beside the data, from a terminal, or numbers.

A table is any small text, CSV, JSON or YAML file whose rows name values or colours, or a list of names in a
file that is called classes, labels, names, categories or codes. It counts if it explains the values of the
masks.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from selftrain.data.storage import open_regular
from selftrain.errors import DataError
from selftrain.files import plain_yaml
from selftrain.inspection.coding import Coding, Survey, rgb

SUFFIXES = {".txt", ".csv", ".tsv", ".json", ".yaml", ".yml", ".names"}
LARGEST = 200_000  # bytes of a table
HINT = re.compile(r"class|label|name|categor|codes|palette|colou?r|dataset|config|meta|info", re.IGNORECASE)
LISTED = re.compile(r"class|label|name|categor|codes", re.IGNORECASE)
NUMBER = re.compile(r"(?<![\w.])\d+(?![\w.])")
HEX = re.compile(r"#[0-9a-fA-F]{6}")
DECIMAL = re.compile(r"(?<![\w.])\d*\.\d+(?![\w.])")
NO_NAME = re.compile(r"^[\s,;:|=\"'\[\]()#-]+|[\s,;:|=\"'\[\]()-]+$")
VOID = {"void", "ignore", "ignored", "__ignore__", "unlabeled", "unlabelled", "unlabel", "unknown", "nodata",
        "no data", "no-data", "no_data", "none", "undefined"}  # fmt: skip
BACKGROUND = "background"


@dataclass
class Table:
    """Names by value and by colour (0xRRGGBB), or in order."""

    file: Path
    values: dict[int, str] = field(default_factory=dict)
    colours: dict[int, str] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)


def tables(others: Iterable[Path]) -> list[Table]:
    """The tables among the files that are not pictures; those with a telling name first."""
    small = [path for path in others if path.suffix.lower() in SUFFIXES]
    found = filter(None, map(_table, sorted(small, key=lambda path: (not HINT.search(path.stem), path))))
    return list(found)


def _table(path: Path) -> Table | None:
    try:
        with open_regular(path) as file:
            raw = file.read(LARGEST + 1)
        text = raw.decode("utf-8-sig")
    except (DataError, UnicodeDecodeError):
        return None
    table = Table(path)
    if len(raw) > LARGEST:
        return None
    if path.suffix.lower() in (".json", ".yaml", ".yml"):
        with suppress(ValueError, RecursionError):
            _of_tree(table, json.loads(text) if path.suffix.lower() == ".json" else plain_yaml(text))
    else:
        _of_lines(table, text)
    if not LISTED.search(path.stem) and not table.order:
        table.order = []
    return table if table.values or table.colours or table.order else None


def _of_lines(table: Table, text: str) -> None:
    """Rows of a name and one number (a value), three numbers (a colour), or four (both)."""
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith(("#", "//"))]
    rows = [_row(line) for line in lines]
    numbered = [row for row in rows if row[1]]
    if len(numbered) >= max(2, len(rows) - 1):
        for (name, numbers), line in zip(rows, lines, strict=True):
            if name and numbers:  # shares, counts and the like may follow a value
                _add(table, name, numbers[:1] if DECIMAL.search(line) else numbers)
    elif not numbered and LISTED.search(table.file.stem):
        table.order = [name for name, _ in rows if name]


def _row(line: str) -> tuple[str, list[int]]:
    numbers = [int(number) for number in NUMBER.findall(line)]
    rest = NUMBER.sub(" ", DECIMAL.sub(" ", line))
    name = re.split(r"[,;:\t|]", NO_NAME.sub("", rest))[-1 if DECIMAL.search(line) else 0]
    return " ".join(NO_NAME.sub("", name).split()), numbers


def _add(table: Table, name: str, numbers: Sequence[int]) -> None:
    if len(numbers) in (3, 4) and max(numbers[-3:]) <= 255:
        red, green, blue = numbers[-3:]
        table.colours.setdefault(red << 16 | green << 8 | blue, name)
    if len(numbers) != 3:
        table.values.setdefault(numbers[0], name)


def _of_tree(table: Table, tree: Any) -> None:
    """The first part of JSON or YAML that names values, colours, or classes in order."""
    for node in _nodes(tree):
        if isinstance(node, dict) and len(node) > 1:
            _of_mapping(table, node)
        elif isinstance(node, list) and len(node) > 1 and all(isinstance(row, dict) for row in node):
            for place, row in enumerate(node):
                _of_entry(table, row, place)
        elif isinstance(node, list) and len(node) > 1 and all(isinstance(row, str) for row in node):
            table.order = list(node) if LISTED.search(table.file.stem) else []
        if table.values or table.colours or table.order:
            return


def _of_mapping(table: Table, node: dict[Any, Any]) -> None:
    for key, value in node.items():
        if isinstance(value, bool):
            continue
        if isinstance(value, int) and isinstance(key, str) and all(isinstance(v, int) for v in node.values()):
            table.values.setdefault(value, key)
        elif isinstance(value, str) and str(key).isdigit():
            table.values.setdefault(int(key), value)
        elif _is_colour(value) and isinstance(key, str):
            _add(table, key, value)
        elif isinstance(value, str) and HEX.fullmatch(value) and isinstance(key, str):
            table.colours.setdefault(int(value[1:], 16), key)
        elif isinstance(value, str) and isinstance(key, str) and HEX.fullmatch(key):
            table.colours.setdefault(int(key[1:], 16), value)


def _of_entry(table: Table, row: dict[str, Any], place: int) -> None:
    """An entry such as {"name": "road", "id": 7, "color": [128, 64, 128]}."""
    name = next(
        (row[key] for key in ("readable", "name", "title", "label") if isinstance(row.get(key), str)), ""
    )
    colour = next((row[key] for key in ("color", "colour", "color_rgb") if key in row), None)
    value = next((row[key] for key in ("id", "value", "index") if isinstance(row.get(key), int)), None)
    if not name or (colour is None and value is None):
        return
    if _is_colour(colour):
        _add(table, name, colour)
    elif isinstance(colour, str) and HEX.fullmatch(colour):
        table.colours.setdefault(int(colour[1:], 16), name)
    table.values.setdefault(place if value is None else value, name)


def _is_colour(value: object) -> TypeGuard[list[int]]:
    return (
        isinstance(value, list)
        and len(value) == 3
        and all(type(one) is int and 0 <= one <= 255 for one in value)
    )


def _nodes(tree: Any) -> Iterator[Any]:
    """The parts of a tree, outer ones first; of a mapping, parts called classes or labels first."""
    yield tree
    inner: Iterable[Any] = ()
    if isinstance(tree, dict):
        inner = [tree[key] for key in sorted(tree, key=lambda key: (not LISTED.search(str(key)), str(key)))]
    for node in inner:
        if isinstance(node, dict | list):
            yield from _nodes(node)


@dataclass(frozen=True)
class Names:
    """The name of each value, the file that gives them, and values that the file does not name."""

    of: dict[int, str]
    file: Path
    nameless: tuple[int, ...] = ()
    by_row: bool = False  # the file names colours; its first row is taken for value 0


def names_in(found: Sequence[Table], survey: Survey, coding: Coding) -> list[Names]:
    """The names of the coding's values by each table that explains them."""
    named = [names for table in found for names in [_explained(table, survey, coding)] if names]
    return list({tuple(names.of.items()): names for names in reversed(named)}.values())[::-1]


def _explained(table: Table, survey: Survey, coding: Coding) -> Names | None:
    values = set(coding.values)
    if coding.by_colour:
        return (
            Names({v: table.colours[v] for v in coding.values}, table.file)
            if values <= table.colours.keys()
            else None
        )
    if survey.palette and table.colours and values <= survey.palette.keys():
        colours = {value: survey.palette[value] for value in values}
        if set(colours.values()) <= table.colours.keys():
            return Names({value: table.colours[colours[value]] for value in coding.values}, table.file)
    if table.values:
        missing = values - table.values.keys()
        if missing <= {0} and len(values) - len(missing) >= 1 and len(table.values) > 1:
            return Names(_filled(table.values, values), table.file, tuple(missing))
        return None
    if not table.order and table.colours and values <= set(range(len(table.colours))):
        return Names(_filled(dict(enumerate(table.colours.values())), values), table.file, by_row=True)
    if not table.order:
        return None
    if max(values) < len(table.order):
        return Names(_filled(dict(enumerate(table.order)), values), table.file)
    ordered = sorted(values)
    if len(table.order) in (len(ordered), len(ordered) - 1):
        padded = [BACKGROUND] * (len(ordered) - len(table.order)) + table.order
        return Names(dict(zip(ordered, padded, strict=True)), table.file)
    return None


def _filled(named: dict[int, str], values: set[int]) -> dict[int, str]:
    """Names of the values; of all values in the table, if it counts from 0 and most of them occur."""
    whole = sorted(named) == list(range(len(named))) and len(named) <= 2 * len(values)
    return {value: named[value] for value in sorted(named if whole else values & named.keys())}


def is_void(name: str) -> bool:
    """Whether a class of this name usually means that pixels have no class."""
    return name.strip().lower() in VOID


def numbered(coding: Coding, survey: Survey) -> dict[int, str]:
    """Names for values without names: class_<value>, and background for 0 or black if most pixels have it."""
    names = dict[int, str]()
    most = max(coding.values, key=lambda value: survey.counts[value])
    for value in coding.values:
        if value == 0 and (most == 0 or len(coding.values) == 2):
            names[value] = BACKGROUND
        elif coding.by_colour:
            names[value] = "colour_" + "_".join(map(str, rgb(value)))
        else:
            names[value] = "foreground" if len(coding.values) == 2 else f"class_{value}"
    return names


def unique(names: Sequence[str]) -> list[str]:
    """The names, numbered where they repeat."""
    taken = list[str]()
    for name in names:
        number, other = 2, name
        while other in taken:
            other, number = f"{name}_{number}", number + 1
        taken.append(other)
    return taken
