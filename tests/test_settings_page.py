"""docs/settings.md says what the fields and tables say."""

import re
import runpy
from dataclasses import dataclass
from typing import Annotated, Any

import pytest

from runs import ROOT
from selftrain.config import Config, DataConfig, ExtraConfig
from selftrain.settings.check import settings_in
from selftrain.tables import Bounds, Must, OneOf, Place, Table, parameter
from selftrain.values import Choice, Likely

SCRIPT = runpy.run_path(str(ROOT / "scripts" / "settings_page.py"))


def test_the_page_is_what_the_fields_say():
    """If this fails: python scripts/settings_page.py"""
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == SCRIPT["page"]()


def test_the_page_has_every_setting_once():
    names = re.findall(
        r"^\| `([^`]+)` \|", SCRIPT["page"]().partition("## Entries of tables")[0], re.MULTILINE
    )
    whole = Config(data=DataConfig(extra=[ExtraConfig()]))
    known = {re.sub(r"\.0\.", ".N.", name) for name, *_ in settings_in(whole)} - {"generations", "data.extra"}
    assert len(names) == len(set(names)) and set(names) == known


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (int, "whole number"),
        (bool | None, "true or false or null"),
        (Annotated[str, Place()], "path"),
        (list[float], "list of numbers"),
        (list[list[int]], "list of lists of whole numbers"),
        (list[str], "list of texts"),
        (list[Any], "list of values"),
        (dict[str, int], "name: whole number"),
        (dict[str, Likely], "entries: p"),
        (Choice, "an entry"),
    ],
)
def test_types_are_told_in_words(kind, words):
    assert SCRIPT["type_of"](parameter(kind, None)) == words


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (float, ""),
        (Annotated[float, Bounds(0, 1)], "between 0 and 1"),
        (Annotated[int, Bounds(1)], "at least 1"),
        (Annotated[str, OneOf({"a": "first", "b": "second"})], "`a`: first<br>`b`: second"),
        (Annotated[int, Bounds(0), Must("be even", lambda number: number % 2 == 0)], "even<br>at least 0"),
        (Annotated[str, Place(), "where"], ""),
    ],
)
def test_ranges_and_words_are_told(kind, words):
    assert SCRIPT["range_of"](parameter(kind, None)) == words


def test_entries_are_told_with_the_settings_of_their_signatures():
    def bend(x, *, power: Annotated[float, Bounds(0, 3), "how | steep"] = 2.0):
        """Bends.

        More about it.
        """

    @dataclass
    class Row:
        act: Any

    table = Table({"bend": Row(bend)}, main="p", function=lambda row: row.act)
    lines = SCRIPT["entries_of"](["data.bent", "generations.noise.bent"], table).splitlines()
    assert lines[0] == "### data.bent, generations.N.noise.bent" and lines[2] == "Each entry has `p`, too."
    assert lines[-2:] == [
        "| `bend` |  |  |  | Bends. |",
        r"| `bend.power` | number | `2.0` | between 0 and 3 | how \| steep |",
    ]
