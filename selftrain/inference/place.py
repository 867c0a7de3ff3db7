"""Whether a folder is an export: checked in no time, before torch is imported."""

from pathlib import Path

from selftrain.errors import ConfigError
from selftrain.files import MANIFEST

CARD = "card.json"
FIX = "give a run or an export"


def check_export(directory: Path) -> None:
    """Raise ConfigError for a path that is not an export."""
    if not directory.is_dir():
        raise ConfigError(f"{directory} is not a directory; {FIX}")
    if not (directory / MANIFEST).exists() and not (directory / CARD).exists():
        raise ConfigError(f"{directory} is not an export: it has no {CARD}; {FIX}")
