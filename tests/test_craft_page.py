"""The settings, commands, files and tests that docs/craft.md names exist."""

import argparse
import re

import pytest

from runs import ROOT
from selftrain import choices, cli
from selftrain.config import Config
from selftrain.settings.check import settings_in

NAMED = re.compile(r"`([^`]+)`")
SETTINGS = {re.sub(r"\.0\.", ".N.", name): setting for name, _, setting in settings_in(Config())}
TESTS = {path.name: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
COMMANDS = next(one.choices for one in cli._parser()._actions if isinstance(one, argparse._SubParsersAction))
PAGE = (ROOT / "docs" / "craft.md").read_text()
ROWS = [line.strip("|").split(" | ") for line in PAGE.splitlines() if line.startswith("| ")]
ROWS = [row for row in ROWS if row[1] not in ("---", "setting or command")]
ITEMS = (
    "Augmentation", "Architectures", "Transfer", "Optimisation", "Validation", "Ensembles", "Inference",
    "Label noise and weak labels", "Monitoring",
)  # fmt: skip


def exists(named):
    """Whether a setting exists, such as `train.freeze`, `train.schedule=poly` or `train.schedule.poly.power`."""
    name, _, value = named.partition("=")
    setting = next((one for one in SETTINGS if f"{name}.".startswith(f"{one}.") and one != "generations"), "")
    if not setting:
        return False
    table = choices.table_of(setting.replace(".N.", ".0."))
    entry, *inner = [value] if value else name.removeprefix(setting).removeprefix(".").split(".")
    if table is None:
        return not inner and (not entry or (bool(value) and not SETTINGS[setting].fault(value)))
    return not entry or (
        entry in table.entries and {*inner} <= {table.main, *table.parameters(entry)} and len(inner) < 2
    )


def missing(row):
    """What a row names that does not exist."""
    _, settings, code, tests = row
    for named in NAMED.findall(settings):
        command = named.removeprefix("selftrain ")
        if not (command in COMMANDS if command != named else exists(named)):
            yield named
    yield from (file for file in NAMED.findall(code) if not (ROOT / "selftrain" / file).is_file())
    for named in NAMED.findall(tests):
        file, _, name = named.partition("::")
        if f"def {name or 'test_'}" not in TESTS.get(file, ""):
            yield named


def test_every_row_names_a_setting_a_file_and_a_test_that_exist():
    faults = {row[0]: [*missing(row)] for row in ROWS}
    assert {item: found for item, found in faults.items() if found} == {}
    assert [row[0] for row in ROWS if len(row) != 4 or not all(map(NAMED.search, row[1:]))] == []


def test_every_item_has_its_table():
    assert re.findall(r"^## (.*)$", PAGE, re.MULTILINE)[: len(ITEMS)] == [*ITEMS]
    assert len(ROWS) > 100


@pytest.mark.parametrize(
    ("named", "there"),
    [
        ("train.freeze", True),
        ("train.frost", False),
        ("train.precision=fp16", True),
        ("train.precision=fp17", False),
        ("train.freeze.more", False),
        ("train.schedule=poly", True),
        ("train.schedule=polly", False),
        ("train.schedule.poly.power", True),
        ("train.schedule.poly.strength", False),
        ("generations.N.noise.colours.blur.p", True),
        ("generations.N.noise.colours.blurred", False),
        ("generations", False),
    ],
)
def test_names_that_do_not_exist_are_noticed(named, there):
    assert exists(named) == there


def test_a_row_with_a_wrong_command_file_or_test_is_noticed():
    row = [
        "an item",
        "`selftrain fold`, `train.steps`",
        "`stages/trains.py`",
        "`test_craft_page.py::test_it`",
    ]
    assert [*missing(row)] == ["selftrain fold", "stages/trains.py", "test_craft_page.py::test_it"]
