"""The tables from which settings choose, by setting name.

To add a table, add one line to `TABLES`:

    "select.threshold": Table(THRESHOLDS),              # a word, or Choice: one entry
    "loss.labelled": Table(LOSSES, main="weight"),      # dict[str, Weighted]: entries with their weights
    "generations.noise.erase": Table(ERASE, main="p"),  # dict[str, Likely]: entries with their probabilities

A setting of a generation is named without the generation's number. The check of settings, config.yaml and
docs/settings.md (`python scripts/settings_page.py`) follow from the line. If an entry is not the function
itself, `Table(..., function=...)` returns the function whose parameters are the entry's settings.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from selftrain import augmentation, members
from selftrain.config import Config
from selftrain.data import mixing, suspects
from selftrain.data.load import SOURCES
from selftrain.errors import ConfigError
from selftrain.inference.decide import DECISIONS
from selftrain.inference.tta import VIEWS
from selftrain.inference.windows import WINDOWS
from selftrain.labels import refiners, thresholds
from selftrain.labels.crf import BACKENDS
from selftrain.methods.table import METHODS
from selftrain.models import build as models
from selftrain.objectives import losses
from selftrain.optim.averaging import AVERAGES
from selftrain.optim.groups import GROUPS
from selftrain.optim.schedules import SCHEDULES
from selftrain.settings.check import declared, settings_in
from selftrain.stages import reliability
from selftrain.tables import Table
from selftrain.values import Choice, UnfitError, UnknownError, element_of, fields_of, fit, split_optional

TABLES: dict[str, Table[Any]] = {
    **{name.replace("noise.", "generations.noise."): table for name, table in augmentation.TABLES.items()},
    "data.format": Table(SOURCES),
    "data.suspicion": suspects.TABLE,
    "generations.arch": models.TABLE,
    "generations.members": members.TABLE,
    "generations.noise.mix": mixing.TABLE,
    "generations.noise.mix_labelled": mixing.TABLE,
    "generations.online": Table(METHODS),
    "labels.crf.backend": Table(BACKENDS),
    "labels.refiner": refiners.TABLE,
    "labels.views": Table(VIEWS),
    "labels.windows": Table(WINDOWS),
    "loss.distill": losses.TABLE,
    "loss.image": losses.IMAGE_TABLE,
    "loss.labelled": losses.TABLE,
    "loss.online": losses.TABLE,
    "loss.pseudo": losses.TABLE,
    "model.arch": models.TABLE,
    "predict.decision": Table(DECISIONS),
    "predict.views": Table(VIEWS),
    "predict.window": Table(WINDOWS),
    "select.reliability": reliability.TABLE,
    "select.threshold": thresholds.TABLE,
    "train.average": Table(AVERAGES),
    "train.groups": Table(GROUPS),
    "train.schedule": Table(SCHEDULES),
}


def table_of(name: str, tables: Mapping[str, Table[Any]] = TABLES) -> Table[Any] | None:
    """The table of the setting `name`; None if it has no table."""
    return tables.get(re.sub(r"^generations\.\d+\.", "generations.", name))


def check(config: Any, tables: Mapping[str, Table[Any]] = TABLES) -> None:
    """Raises ConfigError for the first setting with an entry, or an entry's setting, that its table lacks."""
    for name, value, setting in settings_in(config):
        table = table_of(name, tables)
        if table and setting.kind is str:
            _check_word(name, value, setting.default, table)
        elif table and value is not None:
            _canonical(table, setting.kind, value, name)


def _check_word(name: str, value: str, default: str, table: Table[Any]) -> None:
    if value != default and value not in table.entries:
        empty = " or empty" if default == "" else ""
        raise ConfigError(f"{name}={value} must be one of {', '.join(filter(None, table.entries))}{empty}")


def completed(
    settings: dict[str, Any], kind: Any = Config, tables: Mapping[str, Table[Any]] = TABLES
) -> dict[str, Any]:
    """`settings` of a run with every setting of the chosen entries, in the order of the tables.

    So config.yaml is complete, and a setting added to an entry later is not a difference to an older run.
    Unknown entries stay as they are, and count as differences.
    """
    return _completed(settings, kind, "", tables)


def _completed(
    tree: dict[str, Any], kind: Any, prefix: str, tables: Mapping[str, Table[Any]]
) -> dict[str, Any]:
    known = declared(kind)
    return {
        name: _completed_member(known[name].kind, value, f"{prefix}{name}", tables)
        if name in known
        else value
        for name, value in tree.items()
    }


def _completed_member(kind: Any, value: Any, name: str, tables: Mapping[str, Table[Any]]) -> Any:
    table, element = table_of(name, tables), element_of(kind)
    if fields_of(kind) and isinstance(value, dict):
        return _completed(value, kind, f"{name}.", tables)
    if fields_of(element) and isinstance(value, list):
        rows = enumerate(value)
        return [
            _completed(row, element, f"{name}.{i}.", tables) if isinstance(row, dict) else row
            for i, row in rows
        ]
    if table and kind is not str and value is not None:
        with suppress(ConfigError, UnfitError, UnknownError):
            return _canonical(table, kind, fit(kind, value, name), name)
    return value


def _canonical(table: Table[Any], kind: Any, value: Any, name: str) -> Any:
    """The choice of a setting, with every setting of the entries. Raises ConfigError."""
    if split_optional(kind)[0] is Choice:
        return table.one(value, name).written
    return {one.name: {table.main: one.amount, **one.settings} for one in table.chosen(value, name)}
