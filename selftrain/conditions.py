"""The conditions that affect the bits of a run but not its method: ranks, threads, precision.

Recorded once, compared on resume.
"""

import json
from contextlib import suppress

from selftrain import files
from selftrain.rundir import RunDir, steps_in

NOW, CHANGES = "now", "changes"


def recorded(run: RunDir) -> dict:
    """The conditions of `run` when it last worked, by name; empty before its first step."""
    return _read(run)[NOW]


def settle(run: RunDir, now: dict[str, object]) -> list[str]:
    """Record the conditions of this process. Returns each change since the run began, as "threads: 2 -> 1".

    A run with changes continues, but is no longer exact: an undisturbed run would have other bits.
    """
    before, changes = (_read(run)[name] for name in (NOW, CHANGES))
    new = [
        f"{name}: {before[name]} -> {value}"
        for name, value in now.items()
        if before.get(name, value) != value
    ]
    files.keep_json(run.conditions, {NOW: now, CHANGES: [*changes, *new]})
    return [*changes, *new]


def _read(run: RunDir) -> dict:
    if run.conditions.exists():
        return files.read_json(run.conditions, NOW, CHANGES)
    return _of_older_run(run)


def _of_older_run(run: RunDir) -> dict:
    """Conditions from a checkpoint of an earlier version: the number of ranks, and whether it had changed."""
    for path in sorted(run.path.glob("gen*/checkpoints"), reverse=True):
        for step in reversed(steps_in(path)):
            with suppress(OSError, ValueError, KeyError):
                state = json.loads((step / "state.json").read_text())
                return {
                    NOW: {"ranks": state["ranks"]},
                    CHANGES: [] if state["exact"] else ["ranks: changed earlier"],
                }
    return {NOW: {}, CHANGES: []}
