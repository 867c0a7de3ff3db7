"""A sweep: several settings of a run compared on val, each as a run of its own in one directory.

A grid takes every combination of the values. With a number of trials, Optuna proposes each one by the val
scores so far (TPE, Bergstra et al. 2011). What was proposed and found is kept in sweep.json, so a killed
sweep goes on where it was. No trial reads the test set: val compares, and the best setting is then trained
anew.
"""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from selftrain import files
from selftrain.config import AUTO, Config
from selftrain.datasets import check_root
from selftrain.errors import ConfigError, SelftrainError
from selftrain.log import say
from selftrain.rundir import SWEEP, RunDir
from selftrain.scores import paired
from selftrain.settings import compose, read
from selftrain.settings.compose import GROUPS, given_of
from selftrain.settings.names import setting_of
from selftrain.settings.tree import changed
from selftrain.several import Home, train_all
from selftrain.values import element_of, split_optional

if TYPE_CHECKING:
    from selftrain.session import Session

TEST, NEVER, OUT = "test.read", "never", "out"
FIXED = (OUT, TEST, "data", "generations.extra")  # settings that do not vary
RANGE = re.compile(r"(log:)?([-+.\de]+?)\.\.([-+.\de]+)")
DIGITS = 4  # of numbers that are proposed
Row = dict[str, Any]  # of sweep.json: a trial's run and settings; then its val score, or why it failed


@dataclass(frozen=True)
class Interval:
    """The numbers between two, drawn uniformly or, with `log`, by their logarithm."""

    least: float
    most: float
    log: bool
    whole: bool


Axis = tuple[str, ...] | Interval  # the values of a setting, as they are written


@dataclass(frozen=True)
class Asked:
    """What a command line asks for: the settings of all trials, what varies, and where the trials go."""

    words: list[str]  # without out
    axes: dict[str, Axis]
    home: Home
    trials: int | None  # proposed by Optuna; None: a grid
    config_dir: str | None = None

    @property
    def count(self) -> int:
        return self.trials or prod(len(axis) for axis in self.axes.values() if isinstance(axis, tuple))

    @property
    def sheet(self) -> Path:
        return self.home.path / SWEEP


def asked(overrides: Sequence[str], config_dir: str | None = None, trials: int | None = None) -> Asked:
    """What a command line asks for. The directory alone resumes; `trials` may be raised then.

    Raises ConfigError.
    """
    pairs = dict(text.partition("=")[::2] for text in overrides)
    home = Home(RunDir(Path(read(OUT, pairs.get(OUT, "")))).path)
    if OUT in pairs and pairs.keys() == {OUT} and home.runs.is_file():
        begun = files.read_json(home.runs, "sweep", "settings", "config_dir")
        words = [*begun["settings"], *(f"{name}={text}" for name, text in begun["sweep"].items())]
        kept = files.read_json(home.path / SWEEP) if (home.path / SWEEP).is_file() else {}
        return asked([*words, f"{OUT}={home.path}"], begun["config_dir"], trials or kept.get("trials"))
    if pairs.get(TEST, NEVER) != NEVER:
        raise ConfigError(f"{TEST}={pairs[TEST]}: a sweep compares on val and never reads the test set")
    axes = {name: axis for name, text in pairs.items() if (axis := _axis(name, text)) is not None}
    words = [text for text in overrides if text.partition("=")[0] not in {*axes, OUT}]
    _check(axes, trials)
    first = compose([*words, *_first(axes)], config_dir)
    check_root(first.data)
    if OUT not in pairs:
        out = first.out
        if not out:
            raise ConfigError("out is not set; say where the trials go, e.g. out=runs/sweep")
        home = Home(Path(f"{out}-sweep"))
    return Asked(words, axes, home, trials, config_dir)


def run(asked: Asked) -> dict:
    """Train all trials; returns report.json of the directory, with the trials ordered by their scores."""
    from selftrain import choices, preflight  # take seconds to import; errors of `asked` are reported at once

    if asked.trials is None:
        for choice in _grid(asked):  # what is impossible is refused before the first trial
            config = _config(asked, choice)
            choices.check(config)
            preflight.check(config)
    varies = {name: _written(axis) for name, axis in asked.axes.items()}
    proposed = "by the grid" if asked.trials is None else "by Optuna"
    begun = {"sweep": varies, "settings": asked.words, "config_dir": asked.config_dir, "proposed": proposed}
    asked.home.settle(begun)
    rows: list[Row] = files.read_json(asked.sheet, "rows")["rows"] if asked.sheet.is_file() else []

    def then(name: str, session: "Session", report: dict) -> None:
        _check_val(asked, name)
        row = next(row for row in rows if row["run"] == name)
        row |= {"val": report["generations"][report["best"]]["val"]["miou"] or 0.0, "best": report["best"]}
        _keep(asked, rows)

    def failed(name: str, error: SelftrainError) -> None:
        say(f"{name}: failed: {error}")
        next(row for row in rows if row["run"] == name)["failed"] = str(error)
        _keep(asked, rows)

    train_all(asked.home, _configs(asked, rows), then, failed)
    return _finish(asked, rows)


def _axis(name: str, text: str) -> Axis | None:
    """The values between commas outside of brackets, or a range; None for a single value.

    A list without its brackets is a single value of a setting that takes a list.
    """
    setting = setting_of(name)
    kind = split_optional(setting.kind)[0] if setting else str
    found = RANGE.fullmatch(text)
    if found and kind in (int, float):
        try:
            return Interval(float(found[2]), float(found[3]), bool(found[1]), kind is int)
        except ValueError:
            raise ConfigError(f"{name}={text}: a range is two numbers, e.g. log:0.0001..0.01") from None
    parts = _parts(text)
    whole = element_of(kind) is not None and not all(part.startswith("[") for part in parts)
    return None if len(parts) < 2 or whole else tuple(parts)


def _parts(text: str) -> list[str]:
    """The parts of a text between commas outside of brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        quote = ("" if letter == quote else quote) if quote else (letter if letter in "'\"" else "")
        depth += 0 if quote else (letter in "[{") - (letter in "]}")
        if letter == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def _check(axes: Mapping[str, Axis], trials: int | None) -> None:
    """Raises ConfigError for axes that cannot be swept."""
    if not axes:
        raise ConfigError("nothing varies; give a setting several values, e.g. train.lr=0.001,0.003")
    if trials is not None and trials < 1:
        raise ConfigError(f"--trials {trials}: try at least one")
    for name, axis in axes.items():
        if name in FIXED:
            raise ConfigError(f"{name} cannot vary: trials are compared on the same val images")
        if isinstance(axis, Interval):
            if trials is None:
                raise ConfigError(f"{name}: a range needs --trials N; a grid takes values, as in {name}=1,2")
            if not axis.least < axis.most or (axis.log and axis.least <= 0):
                above = ", both above 0" if axis.log else ""
                raise ConfigError(f"{name}={_written(axis)}: a range goes from less to more{above}")
        elif len(set(axis)) < len(axis):
            raise ConfigError(f"{name}={_written(axis)} has a value twice")
        elif name not in GROUPS:
            given_of([f"{name}={value}" for value in axis])


def _written(axis: Axis) -> str:
    if isinstance(axis, tuple):
        return ",".join(axis)
    least, most = (_number(value, axis.whole) for value in (axis.least, axis.most))
    return f"{'log:' if axis.log else ''}{least}..{most}"


def _first(axes: Mapping[str, Axis]) -> list[str]:
    return [f"{name}={axis[0]}" for name, axis in axes.items() if isinstance(axis, tuple)]


def _grid(asked: Asked) -> Iterator[dict[str, str]]:
    """All combinations; the last setting varies first."""
    values = [axis for axis in asked.axes.values() if isinstance(axis, tuple)]
    for combination in product(*values):
        yield dict(zip(asked.axes, combination, strict=True))


def _configs(asked: Asked, rows: list[Row]) -> Iterator[tuple[str, Config]]:
    """The settings of each trial that is not finished. A choice is written down before its run begins."""
    grid = list(_grid(asked)) if asked.trials is None else []
    for number in range(asked.count):
        name = f"trial{number}"
        if number == len(rows):
            choice = grid[number] if grid else _proposed(asked, rows)
            rows.append({"run": name, "settings": choice})
            _keep(asked, rows)
        row = rows[number]
        told = " ".join(f"{name}={value}" for name, value in row["settings"].items())
        if "val" in row or ("failed" in row and asked.home.run(name).exists()):
            say(f"{name}: {told}: {'failed' if 'failed' in row else 'finished'} before")
            continue
        row.pop("failed", None)
        say(f"{name}: {told}")
        yield name, _config(asked, row["settings"])


def _config(asked: Asked, choice: Mapping[str, str]) -> Config:
    """The settings of a trial. What train.plan=auto decides is decided once, by the first trial."""
    own = [f"{name}={value}" for name, value in choice.items()]
    config = compose([f"{TEST}={NEVER}", *asked.words, *own], asked.config_dir)
    plan = RunDir(asked.home.run("trial0")).plan
    first = asked.sheet.is_file() and files.read_json(asked.sheet, "rows")["rows"][0]["settings"] == choice
    if config.train.plan == AUTO and plan.is_file() and not first:
        rows = files.read_json(plan, "settings")["settings"]
        values = {row["name"]: row["value"] for row in rows if row["name"] not in config.given}
        config = changed(config, {**values, "train.plan": "none"})
    return config


def _proposed(asked: Asked, rows: Sequence[Row]) -> dict[str, str]:
    """Optuna's next choice, a function of the seed and of the trials so far.

    Raises ConfigError if Optuna is not installed.
    """
    try:
        import optuna
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
        from optuna.trial import TrialState, create_trial
    except ImportError:
        raise ConfigError(
            "--trials needs optuna: pip install 'selftrain[sweep]', or leave it out for a grid"
        ) from None

    def distribution(axis: Axis) -> Any:
        if isinstance(axis, tuple):
            return CategoricalDistribution(axis)
        if axis.whole:
            return IntDistribution(int(axis.least), int(axis.most), log=axis.log)
        return FloatDistribution(axis.least, axis.most, log=axis.log)

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    seed = compose([*asked.words, *_first(asked.axes)], asked.config_dir).seed
    sampler = optuna.samplers.TPESampler(seed=(seed * 1_000_003 + len(rows)) % 2**32)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    drawn = {name: distribution(axis) for name, axis in asked.axes.items()}
    for row in rows:
        known = {name: _value(asked.axes[name], text) for name, text in row["settings"].items()}
        state = TrialState.COMPLETE if "val" in row else TrialState.FAIL
        study.add_trial(create_trial(params=known, distributions=drawn, value=row.get("val"), state=state))
    found = study.ask(drawn).params
    return {name: _text(axis, found[name]) for name, axis in asked.axes.items()}


def _text(axis: Axis, value: Any) -> str:
    return str(value) if isinstance(axis, tuple) else _number(value, axis.whole)


def _value(axis: Axis, text: str) -> Any:
    """A written value as Optuna knows it; rounding may have moved a number out of its range."""
    if isinstance(axis, tuple):
        return text
    number = min(max(float(text), axis.least), axis.most)
    return int(number) if axis.whole else number


def _number(value: float, whole: bool) -> str:
    return str(int(value)) if whole else f"{value:.{DIGITS}g}"


def _keep(asked: Asked, rows: Sequence[Row]) -> None:
    files.write_json(asked.sheet, {"trials": asked.trials, "rows": list(rows)})


def _check_val(asked: Asked, name: str) -> None:
    """Raises ConfigError if a trial has other val images than the first one."""
    first, own = (files.read_json(RunDir(asked.home.run(one)).data).get("val") for one in ("trial0", name))
    if first is not None and own != first:
        raise ConfigError(f"{name} has other val images than trial0, so their scores cannot be compared")


def _finish(asked: Asked, rows: list[Row]) -> dict:
    """Write report.json, and print the trials and the command that trains the best setting.

    Raises ConfigError if every trial failed.
    """
    done = sorted((row for row in rows if "val" in row), key=lambda row: -row["val"])
    if not done:
        raise ConfigError(f"every trial failed; the first one: {rows[0].get('failed')}")
    failures = [row for row in rows if "failed" in row]
    report = {"trials": [*done, *failures], "best": done[0]["run"], "command": _command(asked, done[0])}
    files.write_json(asked.home.report, report)
    _print(asked, done, failures)
    say("the best of several is optimistic on val: the test set, read once, gives its score")
    say(f"the best setting, trained anew: {report['command']}")
    best = asked.home.run(report["best"])
    say(f"or the test score of the network that is there: selftrain resume {best} {TEST}=end")
    return report


def _command(asked: Asked, row: Row) -> str:
    """The command that trains the setting of a trial, and reads the test set at its end."""
    own = ["--config-dir", asked.config_dir] if asked.config_dir else []
    words = [text for text in asked.words if not text.startswith(f"{TEST}=")]
    choice = [f"{name}={value}" for name, value in row["settings"].items()]
    return shlex.join(["selftrain", "train", *own, *words, *choice, f"{OUT}={asked.home.path}-best"])


def _print(asked: Asked, done: Sequence[Row], failures: Sequence[Row]) -> None:
    """Print the trials, the best one first, with their paired differences from it."""
    table, best = Table("trial", *asked.axes, "val mIoU", "minus best"), _val(asked, done[0])
    for row in done:
        value, error = paired(_val(asked, row), best)
        difference = f"{value:+.4f} ± {error:.4f}".replace("-", "−") if row is not done[0] else ""
        table.add_row(row["run"], *row["settings"].values(), f"{row['val']:.4f}", difference)
    for row in failures:
        table.add_row(row["run"], *row["settings"].values(), "failed", "")
    Console(highlight=False, markup=False).print(table)


def _val(asked: Asked, row: Row) -> dict:
    """The val scores of the leader of a trial."""
    report = files.read_json(RunDir(asked.home.run(row["run"])).report, "generations")
    scores: dict = report["generations"][row["best"]]["val"]
    return scores
