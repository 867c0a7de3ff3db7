"""The settings of a run that has begun, read back from its config.yaml."""

from pathlib import Path
from typing import Any

from selftrain.config import Config
from selftrain.files import read_yaml
from selftrain.settings.changes import filled, renewed
from selftrain.settings.compose import checked, given_of
from selftrain.settings.tree import with_settings
from selftrain.values import fit


def stored(path: Path, overrides: list[str]) -> Config:
    """The Config that a run's config.yaml at `path` contains, with further settings as `name=value`.

    Settings of earlier versions are converted. Raises IntegrityError for a damaged file, ConfigError that
    names a setting.
    """
    return with_settings(stored_tree(path), given_of(overrides))


def stored_tree(path: Path) -> dict[str, Any]:
    """The settings in config.yaml, with today's names and with defaults for what it lacks."""
    tree = filled(Config, renewed(read_yaml(path, "generations")))
    return checked(lambda: fit(Config, tree), f"{path}: ")
