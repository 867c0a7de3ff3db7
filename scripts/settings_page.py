"""Writes docs/settings.md from the fields of config.py and the tables of choices.py.

python scripts/settings_page.py
"""

import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

from selftrain.choices import TABLES
from selftrain.config import Config
from selftrain.settings import flow
from selftrain.settings.check import declared
from selftrain.tables import OneOf, Parameter, Place, Table
from selftrain.values import Choice, Plain, element_of, fields_of, is_entry, split_optional

PAGE = Path(__file__).resolve().parent.parent / "docs" / "settings.md"
HEAD = """\
# Settings

<!-- Written by scripts/settings_page.py from config/ and choices.py. Do not edit it by hand. -->

Every setting of a run, by the name that it has on the command line: `train.steps=500`. Generations
are counted from 0: `generations.1.encoder=tu-resnet50`. Lists and sections are quoted, because
shells read brackets: `'train.crop=[256,320]'`. `python -m selftrain.run recipe=NAME --show` prints
the settings of a recipe.
"""
COLUMNS = ("name", "type", "default", "range or choices", "meaning")
WORDS: dict[Any, str] = {
    int: "whole number",
    float: "number",
    bool: "true or false",
    str: "text",
    Any: "value",
    Plain: "value",
}
WIDTH = 100  # columns of prose
NUMBER = "generations.N"  # how a section of a generation is written


def page() -> str:
    """The whole page."""
    sections = [_section(name, kind) for name, kind in sections_of(Config)]
    tables = [entries_of(names, TABLES[names[0]]) for names in shared()]
    return "\n".join([HEAD, *sections, "## Entries of tables\n", *tables])


def sections_of(kind: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The dataclass of each section with its name; "" is the whole run."""
    yield name, kind
    for own, member in fields_of(kind).items():
        inner = element_of(member) if fields_of(element_of(member)) else member
        full = own if inner is member else f"{own}.N"
        if is_dataclass(inner):
            yield from sections_of(inner, f"{name}.{full}".lstrip("."))


def shared() -> list[list[str]]:
    """The names of the settings that choose from each table, those of one table together."""
    groups: dict[int, list[str]] = {}
    for name in sorted(TABLES):
        groups.setdefault(id(TABLES[name].entries), []).append(name)
    return list(groups.values())


def _section(name: str, kind: Any) -> str:
    rows = [
        _row(f"{name}.{one}".lstrip("."), setting)
        for one, setting in declared(kind).items()
        if _is_setting(setting)
    ]
    paragraphs = inspect.cleandoc(kind.__doc__ or "").split("\n\n")
    prose = "\n\n".join(textwrap.fill(text, WIDTH, break_on_hyphens=False) for text in paragraphs)
    return f"## {name or 'The run'}\n\n{prose}\n\n{_table(COLUMNS, rows)}"


def _is_setting(setting: Parameter) -> bool:
    """Whether it is not a section, nor a list of sections."""
    return not fields_of(setting.kind) and not fields_of(element_of(setting.kind))


def _row(name: str, setting: Parameter) -> tuple[str, ...]:
    key = name.replace(NUMBER, "generations")
    allowed = f"[table](#{_anchor(_head(_sharing(key)))})" if key in TABLES else range_of(setting)
    return name, type_of(setting), _code(setting.default), allowed, setting.meaning


def _sharing(name: str) -> list[str]:
    return next(names for names in shared() if name in names)


def _head(names: list[str]) -> str:
    """The heading of a table: the settings that choose from it."""
    return ", ".join(name.replace("generations", NUMBER, 1) for name in names)


def type_of(setting: Parameter) -> str:
    """The type of a setting in words."""
    kind, optional = split_optional(setting.kind)
    if any(isinstance(rule, Place) for rule in setting.rules):
        words = "path"
    elif kind is Choice:
        words = "an entry"
    elif get_origin(kind) is dict:
        member = get_args(kind)[1]
        words = f"entries: {member.main}" if is_entry(member) else f"name: {WORDS[split_optional(member)[0]]}"
    elif element_of(kind) is not None:
        inner = element_of(element_of(kind))
        words = f"list of lists of {WORDS[inner]}s" if inner else f"list of {_many(element_of(kind))}"
    else:
        words = WORDS[kind]
    return f"{words} or null" if optional else words


def _many(kind: Any) -> str:
    return "texts" if kind is str else f"{WORDS[kind]}s"


def range_of(setting: Parameter) -> str:
    """The range of a setting, or its words with what they mean."""
    wanted = [rule.wanted for rule in (*setting.rules, setting.bounds) if not isinstance(rule, OneOf | Place)]
    told = [text.removeprefix("be ").removeprefix("lie ").removeprefix("have ") for text in wanted]
    words = [rule.meanings.items() for rule in setting.rules if isinstance(rule, OneOf)]
    told += [f"`{word}`: {meaning}" for rule in words for word, meaning in rule]
    return "<br>".join(text for text in told if text != "a finite number")


def entries_of(names: list[str], table: Table[Any]) -> str:
    """The entries of a table with their settings; `names` are the settings that choose from it."""
    rows = [row for entry in filter(None, table.entries) for row in _entry(table, entry)]
    columns = ("entry", *COLUMNS[1:])
    if not any(row[1] for row in rows):  # no entry has settings
        columns, rows = ("entry", "meaning"), [(row[0], row[-1]) for row in rows]
    main = f"Each entry has `{table.main}`, too.\n\n" if table.main else ""
    return f"### {_head(names)}\n\n{main}{_table(columns, rows)}"


def _entry(table: Table[Any], entry: str) -> Iterator[tuple[str, ...]]:
    function = table.function(table.entries[entry])
    doc = inspect.cleandoc(function.__doc__ or "").partition("\n")[0]
    yield entry, "", "", "", doc
    for name, one in table.parameters(entry).items():
        yield f"{entry}.{name}", type_of(one), _code(one.default), range_of(one), one.meaning


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table of Markdown; the first cell of a row is code."""
    named = [(f"`{name}`", *rest) for name, *rest in rows]
    return "".join(map(_line, [columns, ("---",) * len(columns), *named]))


def _line(cells: tuple[str, ...]) -> str:
    escaped = [cell.replace("|", r"\|") for cell in cells]
    return f"| {' | '.join(escaped)} |\n"


def _code(value: Any) -> str:
    """A default as it is written on the command line; nothing for an empty text."""
    return f"`{flow(value)}`" if value != "" else ""


def _anchor(name: str) -> str:
    """How GitHub links to a heading."""
    return name.translate({ord("."): None, ord(","): None, ord(" "): "-"}).lower()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
