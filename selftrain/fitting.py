"""Micro-batches that fit the memory: halved before the first step as long as a step does not fit.

The decision is kept in memory.json, so that the command which started the run also resumes it.
"""

from collections.abc import Callable
from typing import Any

from accelerate.utils import broadcast_object_list

from selftrain import files
from selftrain.config import Config
from selftrain.errors import ConfigError
from selftrain.log import say
from selftrain.rundir import RunDir
from selftrain.settings.tree import changed
from selftrain.trial import TooLargeError

ACCUMULATE = "train.accumulate"
KEYS = ("asked", "taken", "note")  # of memory.json


def kept(cfg: Config, run: RunDir) -> Config:
    """`cfg` with the number of micro-batches that a run has taken instead of the number in `cfg`."""
    found = _read(run)
    if found and cfg.train.accumulate == found["asked"]:
        return changed(cfg, {ACCUMULATE: found["taken"]})
    return cfg


def agreed(cfg: Config, run: RunDir, *, decides: bool) -> Config:
    """`kept` by the process that `decides`, the same on every rank."""
    accumulate = broadcast_object_list([kept(cfg, run).train.accumulate if decides else 0])[0]
    return cfg if accumulate == cfg.train.accumulate else changed(cfg, {ACCUMULATE: accumulate})


def note(run: RunDir) -> str:
    """What a reader of the run's report needs to know about its micro-batches; empty if they fitted."""
    return str(_read(run).get("note", ""))


def fit(cfg: Config, run: RunDir, tried: Callable[[Config], None], allowed: Callable[[Config], None]) -> None:
    """Try the networks of a run; if a training step does not fit the memory, decide on smaller micro-batches.

    They are halved and their number, train.accumulate, is doubled; the batch of a step stays as it is.
    `tried` is `trial.check`. `allowed` raises ConfigError for a `cfg` whose micro-batches are too small.
    Raises the errors of `tried`, also of a run that has begun, which keeps its micro-batches.
    """
    finer, refused = cfg, list[TooLargeError]()
    while True:
        try:
            tried(finer)
            break
        except TooLargeError as error:
            refused.append(error)
            if run.config.exists():
                raise
        except ConfigError:
            if refused:  # it cannot train with so few images
                raise refused[0] from None
            raise
        finer = changed(finer, {ACCUMULATE: 2 * finer.train.accumulate})
        try:
            allowed(finer)
        except ConfigError:
            raise refused[0] from None
    if refused:
        _keep(run, cfg, finer)


def _keep(run: RunDir, cfg: Config, finer: Config) -> None:
    asked, taken = (one.train.accumulate for one in (cfg, finer))
    said = (
        f"a training step does not fit the memory in {_parts(asked)}, so it is taken in {_parts(taken)} "
        f"({ACCUMULATE}={taken}): batch norm sees smaller batches"
    )
    say(f"warning: {said}")
    files.write_json(run.memory, {"asked": asked, "taken": taken, "note": said})


def _parts(count: int) -> str:
    return "one piece" if count == 1 else f"{count} micro-batches"


def _read(run: RunDir) -> dict[str, Any]:
    return files.read_json(run.memory, *KEYS) if run.memory.exists() else {}
