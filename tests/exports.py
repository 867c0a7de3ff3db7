"""Exports for tests: one with another card."""

import json
from collections.abc import Callable
from pathlib import Path

from selftrain.files import commit_directory, read_directory


def with_card(export: Path, place: Path, change: Callable[[dict], None]) -> Path:
    """Copy an export to `place`, with the card that `change` has changed."""
    files = read_directory(export)
    card = json.loads(files["card.json"])
    change(card)
    commit_directory(place, files | {"card.json": json.dumps(card).encode()})
    return place
