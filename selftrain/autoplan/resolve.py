"""`train.plan=auto` as plain values: derived once, when a run begins, and kept in plan.json."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from selftrain import files, trial
from selftrain.autoplan.division import Row, named_splits
from selftrain.autoplan.facts import facts_of
from selftrain.autoplan.machine import machine_of
from selftrain.autoplan.rules import LEVELS, Known, Level, derive
from selftrain.config import AUTO, Config
from selftrain.data.load import load
from selftrain.datasets import spec_of
from selftrain.errors import DataError
from selftrain.forecast import FEWEST, forecast, steps_in, work_of
from selftrain.networks import Networks
from selftrain.plan import plans
from selftrain.rundir import RunDir
from selftrain.settings.changes import flat
from selftrain.settings.tree import changed

COUNTS = (1000, 2000)  # steps for which a run is forecast
MINUTES = {"quick": 15.0, "normal": 120.0}  # a budget in minutes takes the rules of the first that is as long


def agreed(cfg: Config, run: RunDir, accelerator: Accelerator) -> tuple[Config, list[Row]]:
    """`cfg` with the plan's values, the same on every rank, and the rows of the plan.

    A run that has begun keeps its plan, whatever the data and machine are now. Raises DataError if the data
    cannot be read.
    """
    if cfg.train.plan != AUTO:
        return cfg, []
    rows: list[Any] = []
    if accelerator.is_main_process:
        rows = kept(cfg, run) or planned(cfg, accelerator)
    rows = broadcast_object_list([rows])[0]
    return changed(cfg, {name: value for name, value, _ in rows}), rows


def planned(cfg: Config, accelerator: Accelerator) -> list[Row]:
    """The rows of a plan for a new run."""
    data = load(spec_of(cfg.data), strict=False)
    if not data.labelled:
        raise DataError(f"{cfg.data.root}: no image with a mask, so there is nothing to plan from")
    own = flat(cfg)
    growing = [k for k, generation in enumerate(cfg.generations) if generation.encoder]
    known = Known(
        facts_of(data),
        machine_of(accelerator.device, accelerator.num_processes),
        level_of(cfg.budget),
        growing=tuple(growing),
        named=named_splits(cfg),
        given={name: own[name] for name in cfg.given if name in own},
    )
    rows = derive(known)
    if cfg.budget in LEVELS or "train.steps" in known.given:
        return rows
    steps = _steps_in(float(cfg.budget), changed(cfg, {name: value for name, value, _ in rows}), accelerator)
    why = f"they fill {cfg.budget} minutes at the speed of this machine"
    if steps == FEWEST:
        why = f"the fewest: {cfg.budget} minutes are too short for this data on this machine"
    return [("train.steps", steps, why), *derive(replace(known, given={**known.given, "train.steps": steps}))]


def _steps_in(minutes: float, cfg: Config, accelerator: Accelerator) -> int:
    """The steps of each generation that fill `minutes`, by measured speeds."""
    data = load(spec_of(cfg.data), strict=False)
    each = plans(cfg)
    networks = Networks(each, cfg.model, RunDir(Path(cfg.out)), data.classes, accelerator.device)
    speeds = trial.speeds(cfg, [(one, networks.build(one)) for one in each], len(data.classes), accelerator)
    work = work_of(data, accelerator.num_processes)
    short, long = (
        forecast(cfg, [replace(one, steps=count) for one in each], speeds, work) for count in COUNTS
    )
    return steps_in(minutes, short, long, COUNTS)


def kept(cfg: Config, run: RunDir) -> list[Row]:
    """The rows of the plan of a run that has begun; empty for a new run."""
    if not run.plan.exists():
        return []
    rows = files.read_json(run.plan, "settings")["settings"]
    return [(row["name"], row["value"], row["reason"]) for row in rows if row["name"] not in cfg.given]


def keep(run: RunDir, rows: Sequence[Row]) -> None:
    """Write the plan to the run directory, if it has one and it is not there yet."""
    if rows and not run.plan.exists():
        named = [{"name": name, "value": value, "reason": reason} for name, value, reason in rows]
        files.write_json(run.plan, {"settings": named})


def level_of(budget: str) -> Level:
    """The level of a budget: a name, or minutes."""
    if budget in LEVELS:
        return LEVELS[budget]
    longest = (name for name, minutes in MINUTES.items() if float(budget) <= minutes)
    return LEVELS[next(longest, "long")]


def lines(rows: Sequence[Row]) -> list[str]:
    """The plan as lines to print, aligned."""
    shown = [(name, _typed(value), reason) for name, value, reason in rows]
    widths = [max(len(row[i]) for row in shown) for i in range(2)] if shown else [0, 0]
    return [f"  {name:<{widths[0]}}  {value:<{widths[1]}}  {reason}" for name, value, reason in shown]


def _typed(value: object) -> str:
    """A value as on the command line: [longest,256], null, true."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_typed, value))}]"
    return str(value).lower() if isinstance(value, bool) else "null" if value is None else str(value)
