"""times.jsonl: how long the stages of a run took, in every process that worked on it."""

import json
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selftrain.files import naming

SHORTEST = 0.05  # seconds; a stage that a resume only looks at takes less, and gets no row
UNIT = 1 if sys.platform == "darwin" else 1024  # bytes of getrusage's ru_maxrss


@dataclass(frozen=True)
class Times:
    """The file of a run; nothing is written if `path` is None, as on all ranks but the first."""

    path: Path | None
    processes: int = 1

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        """Measure a block, also one that ends with an error: the time was spent.

        A row has the stage, its seconds, the number of processes, and the largest memory of this process so
        far. A killed process leaves no row.
        """
        began = time.monotonic()
        try:
            yield
        finally:
            self._write(stage, time.monotonic() - began)

    def _write(self, stage: str, seconds: float) -> None:
        if self.path is None or seconds < SHORTEST:
            return
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT
        row = {"stage": stage, "seconds": round(seconds, 2), "processes": self.processes, "memory": memory}
        with naming(self.path), open(self.path, "a") as file:
            file.write(json.dumps(row) + "\n")


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a run's times.jsonl; [] for runs of older versions. Torn rows are left out."""
    rows = []
    for line in path.read_text(errors="replace").splitlines() if path.is_file() else []:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("seconds"), (int, float)):
            rows.append(row)
    return rows
