"""Convert values of settings from text or YAML to the types in config/."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin, get_type_hints

import yaml

Kind = Any  # a type hint: int, list[str], str | None, a dataclass, ...
TRUE, FALSE = ("true", "on", "yes", "1"), ("false", "off", "no", "0")
BRACKETS = {"[": 1, "{": 1, "]": -1, "}": -1}


class _Entry:
    """The type of a setting that contains the settings of a table's entry; a number is its `main` setting.

    `ce: 0.5` is read as `ce: {weight: 0.5}`. The table knows the settings (tables.py).
    """

    main = ""
    main_kind: Any = float


class _Weighted(_Entry):
    """An entry with a weight: a term of a loss."""

    main = "weight"


class _Likely(_Entry):
    """An entry with a probability: an augmentation."""

    main = "p"


class _Numbered(_Entry):
    """An entry with a whole number: so many networks."""

    main = "number"
    main_kind = int


class _Choice:
    """The type of a setting that names one entry of a table: `poly`, or `{poly: {power: 0.9}}`."""


class _Plain:
    """The type of anything that YAML can say, for programs that selftrain hands it on to."""


if TYPE_CHECKING:  # the Python type of such a setting
    Entry = dict[str, Any]
    Weighted = dict[str, Any]
    Likely = dict[str, Any]
    Numbered = dict[str, Any]
    Choice = str | dict[str, dict[str, Any]]
    Plain = Any
else:
    Entry, Weighted, Likely, Numbered, Choice = _Entry, _Weighted, _Likely, _Numbered, _Choice
    Plain = _Plain


class UnfitError(Exception):
    """A value whose type does not fit its setting."""

    def __init__(self, name: str, value: object, kind: Kind):
        super().__init__(f"{name}={value}")
        self.name, self.value, self.kind = name, value, kind


class UnknownError(Exception):
    """An unknown setting name."""

    def __init__(self, name: str):
        super().__init__(name)
        self.name = name


@cache
def fields_of(kind: Kind) -> Mapping[str, Kind]:
    """The settings of a dataclass and their types; empty for other types."""
    return get_type_hints(kind) if is_dataclass(kind) else {}


def is_section(kind: Kind) -> bool:
    """Whether settings of this type contain settings."""
    origin: Any = get_origin(kind)
    return origin is dict or bool(fields_of(kind)) or is_entry(kind)


def is_entry(kind: Kind) -> bool:
    return isinstance(kind, type) and issubclass(kind, _Entry)


def worded(choice: Choice) -> str:
    """A choice as a reader sees it: `poly`, or `poly power=0.9`."""
    if isinstance(choice, str):
        return choice
    rows = [
        " ".join([name, *(f"{key}={value}" for key, value in row.items())]) for name, row in choice.items()
    ]
    return ", ".join(rows)


def split_optional(kind: Kind) -> tuple[Kind, bool]:
    """(int, True) for `int | None`, and (int, False) for `int`."""
    origin: Any = get_origin(kind)
    parts = get_args(kind) if origin in (Union, UnionType) else (kind,)
    others = [part for part in parts if part is not NoneType]
    return (others[0] if len(others) == 1 else Any), len(others) < len(parts)


def element_of(kind: Kind) -> Kind | None:
    """The type of a list's entries (str for `list[str]`); None for other types."""
    kind = split_optional(kind)[0]
    origin: Any = get_origin(kind)
    return (get_args(kind) or (Any,))[0] if list in (kind, origin) else None


def member_of(kind: Kind, key: str) -> Kind | None:
    """The type of `key` in a dataclass or dict, or of an entry in a list; None if there is no such member."""
    kind = split_optional(kind)[0]
    if is_entry(kind) or kind is Choice:
        return object if is_entry(kind) else Entry
    if kind is Plain:
        return Plain
    if is_section(kind):
        return fields_of(kind).get(key) if fields_of(kind) else get_args(kind)[1]
    element = element_of(kind)
    return element if element is not None and is_section(element) and key.isdecimal() else None


def parse(text: str, kind: Kind, *, inside: bool = False) -> object:
    """Parse text of the command line into lists, dicts and words, which `fit` converts.

    The brackets of a list may be omitted, unless it is `inside` another list.
    """
    kind, optional = split_optional(kind)
    element = element_of(kind)
    if optional and text == "null":
        return text
    if kind is Plain:
        return _yaml(text)
    if kind in (Any, object) and text[:1] == "[":
        element = kind
    if element is not None:
        listed = _enclosed(text, "[]", nested=element is not str)
        if not listed and (inside or is_section(element) or not text or text[0] in "[{"):
            return text
        parts = _split(text[1:-1] if listed else text, nested=element is not str)
        return [parse(part, element, inside=True) for part in parts]
    if is_section(kind) or kind is Choice:
        return _parse_members(text, kind) if _enclosed(text, "{}", nested=True) else _unquoted(text)
    return _unquoted(text)


def _yaml(text: str) -> object:
    """What YAML reads; other text as it is."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _parse_members(text: str, kind: Kind) -> dict[str, object]:
    pairs = [part.partition(":") for part in _split(text[1:-1], nested=True)]
    members = {_unquoted(key.strip()): value.strip() for key, _, value in pairs}
    return {key: parse(value, member_of(kind, key)) for key, value in members.items()}


def fit(kind: Kind, value: object, name: str = "") -> Any:
    """Convert `value`, from `parse` or YAML, to the type of its setting; dataclasses stay dicts.

    Raises UnfitError or UnknownError with the full name of the setting.
    """
    kind, optional = split_optional(kind)
    if value is None or (optional and value == "null"):
        if optional:
            return None
        raise UnfitError(name, "null", kind)
    if kind is Choice and not isinstance(value, dict):
        return fit(str, value, name)
    if is_entry(kind) and kind.main and not isinstance(value, dict):
        return {kind.main: fit(kind.main_kind, value, name)}
    if is_section(kind) or kind is Choice:
        return _fit_members(kind, value, name)
    element = element_of(kind)
    if element is not None:
        return _fit_list(kind, element, value, name)
    try:
        return LEAVES[kind](value)
    except ValueError:
        raise UnfitError(name, value, kind) from None


def _fit_members(kind: Kind, value: object, name: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise UnfitError(name, value, kind)
    fitted = {}
    for key, entry in value.items():
        full, member = f"{name}.{key}" if name else str(key), member_of(kind, str(key))
        if member is None:
            raise UnknownError(full)
        fitted[str(key)] = fit(member, entry, full)
    return fitted


def _fit_list(kind: Kind, element: Kind, value: object, name: str) -> list[object]:
    """Convert a list. A single value becomes a list of one, unless entries are lists or sections."""
    entries = value if isinstance(value, list) else [value]
    lists = element_of(element) is not None
    torn = isinstance(value, str) and value[:1] in ("", "[", "{")  # an unclosed bracket
    bare = entries is not value and (lists or is_section(element))
    flat = lists and not all(isinstance(entry, list) for entry in entries)
    if torn or bare or flat or isinstance(value, dict) or "" in entries:
        raise UnfitError(name, value, kind)
    if is_section(element):
        return [fit(element, entry, f"{name}.{i}") for i, entry in enumerate(entries)]
    try:
        return [fit(element, entry, name) for entry in entries]
    except UnfitError:
        raise UnfitError(name, value, kind) from None


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError
    return int(value)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError
    return float(value)


def _truth(value: object) -> bool:
    word = str(value).lower()
    if word not in TRUE + FALSE:
        raise ValueError
    return word in TRUE


def _text(value: object) -> str:
    """Convert text. YAML reads off as false and 1.10 as 1.1, so booleans and floats are refused."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError
    return str(value)


def _anything(value: object) -> object:
    """Convert text to a number if possible; lists are converted entry by entry."""
    if isinstance(value, list):
        return [_anything(entry) for entry in value]
    if isinstance(value, bool | dict):
        raise ValueError
    for convert in (_whole, _number):
        try:
            return convert(value)
        except ValueError:
            continue
    return value


def _setting_of_an_entry(value: object) -> object:
    """Like `_anything`, but keeps booleans from YAML: the entry's table knows the type."""
    return value if isinstance(value, bool) else _anything(value)


def _plain(value: object) -> object:
    """Check that JSON and YAML can write a value, and that it is no unclosed list or dict."""
    if isinstance(value, list | dict):
        for entry in value.values() if isinstance(value, dict) else value:
            _plain(entry)
    elif not isinstance(value, str | int | float | None) or str(value)[:1] in ("[", "{"):
        raise ValueError
    return value


LEAVES = {
    int: _whole,
    float: _number,
    bool: _truth,
    str: _text,
    Any: _anything,
    object: _setting_of_an_entry,
    Plain: _plain,
}


def _outside(text: str, *, nested: bool) -> Iterator[tuple[int, str, int]]:
    """(index, character, bracket depth after it) outside of quotes. Quotes open at the start of a word."""
    depth, quote, before = 0, "", ","
    for i, character in enumerate(text):
        if quote:
            backslashes = len(text[:i]) - len(text[:i].rstrip("\\"))
            quote = "" if character == quote and backslashes % 2 == 0 else quote
            continue
        if character in "'\"" and before in (",[{:" if nested else ",["):
            quote = character
        else:
            depth += BRACKETS.get(character, 0) if nested else 0
            yield i, character, depth
        before = before if character.isspace() else character


def _split(text: str, *, nested: bool) -> list[str]:
    """The parts between commas outside of brackets and quotes."""
    ends = [i for i, character, depth in _outside(text, nested=nested) if character == "," and depth == 0]
    starts = [0, *(end + 1 for end in ends)]
    parts = [text[start:end].strip() for start, end in zip(starts, [*ends, len(text)], strict=True)]
    return parts if parts[-1] else parts[:-1]


def _enclosed(text: str, brackets: str, *, nested: bool) -> bool:
    """Whether one pair of brackets spans the text."""
    if len(text) < 2 or text[0] != brackets[0] or text[-1] != brackets[1]:
        return False
    closed = [i for i, _, depth in _outside(text, nested=True) if depth == 0] if nested else []
    return not nested or closed == [len(text) - 1]


def _unquoted(text: str) -> str:
    """Remove quotes. A backslash stands for itself, except before the quote and at the end."""
    if len(text) < 2 or text[0] not in "'\"" or text[-1] != text[0]:
        return text
    return re.sub(rf"(\\+)(?={text[0]}|\Z)", lambda match: match[1][: len(match[1]) // 2], text[1:-1])
