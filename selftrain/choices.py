"""The tables from which settings choose, by the names of the settings.

A setting of a generation is named without the generation's number: "generations.online". To add a table, add one line
to `TABLES`; the check of the settings and docs/settings.md follow from it.
"""

import re
from typing import Any

from selftrain.config import Config
from selftrain.data.sources import SOURCES
from selftrain.errors import ConfigError
from selftrain.labels.crf import BACKENDS
from selftrain.labels.thresholds import THRESHOLDS
from selftrain.settings.check import settings_in
from selftrain.stages.online import METHODS
from selftrain.stages.train import SCHEDULES
from selftrain.tables import Table

TABLES: dict[str, Table[Any]] = {
    "data.source": Table(SOURCES),
    "generations.online": Table(METHODS),
    "labels.crf.backend": Table(BACKENDS),
    "select.threshold": Table(THRESHOLDS),
    "train.schedule": Table(SCHEDULES),
}


def table_of(name: str) -> Table[Any] | None:
    """The table from which the setting `name` chooses; None where it chooses from none."""
    return TABLES.get(re.sub(r"^generations\.\d+\.", "generations.", name))


def check(config: Config) -> None:
    """Raises ConfigError for the first setting that names an entry which its table does not have."""
    for name, value, setting in settings_in(config):
        table = table_of(name)
        if table and value != setting.default and value not in table.entries:
            empty = " or empty" if setting.default == "" else ""
            raise ConfigError(f"{name}={value} must be one of {', '.join(table.entries)}{empty}")
