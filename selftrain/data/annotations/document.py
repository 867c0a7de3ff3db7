"""Annotation files as text: JSON and its faults."""

import json
from pathlib import Path
from typing import Any

from selftrain.data.faults import Fault
from selftrain.errors import DataError


def json_of(file: Path, raw: bytes) -> Any:
    """The content of a JSON file. Raises DataError."""
    try:
        return json.loads(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        what = f"is not JSON ({' '.join(str(error).split())})"
        raise DataError(
            Fault(str(file), what, "export it again, or name other files by data.annotations")
        ) from None


def lacking(file: Path, what: str) -> Fault:
    """The fault of a file of another format."""
    return Fault(
        str(file), f"is not {what}", "name the annotation files by data.annotations, or change data.format"
    )
