"""Tables of functions that settings choose from: losses, augmentations, schedules, and so on.

A table is a dict from names to functions. The settings of an entry are the keyword-only parameters of its function
that have a default. Their types come from the annotations; `Annotated[float, Bounds(0, 1)]` adds a range, and a further
text in `Annotated` says what the parameter means. Whatever the program itself hands to an entry has no default.

    def focal(logits, target, *, gamma: Annotated[float, Bounds(0, inf), "focus on hard pixels"] = 2.0): ...
    LOSSES = {"focal": focal}          # loss.labelled.focal={weight: 0.5, gamma: 1.5}
"""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Generic, TypeVar, get_args, get_origin, get_type_hints

from selftrain.errors import ConfigError
from selftrain.values import UnfitError, UnknownError, fit

E = TypeVar("E")
INFINITY = float("inf")


@dataclass(frozen=True)
class Bounds:
    """The range of a number, both ends included."""

    least: float = -INFINITY
    most: float = INFINITY

    def fault(self, value: object) -> str:
        """What is wrong with a number, as the end of "x=2 must ..."; empty if nothing is."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return ""
        if math.isfinite(value) and self.least <= value <= self.most:
            return ""
        if self.most < INFINITY:
            return f"lie between {self.least} and {self.most}"
        return f"be at least {self.least}" if self.least > -INFINITY else "be a finite number"


Share = Annotated[float, Bounds(0, 1)]
Count = Annotated[int, Bounds(0)]
Size = Annotated[float, Bounds(0)]


@dataclass(frozen=True)
class Parameter:
    """A setting of an entry: its type, default, range and meaning."""

    kind: Any
    default: Any
    bounds: Bounds
    meaning: str


@dataclass(frozen=True)
class Chosen(Generic[E]):
    """An entry that a setting chose: its own settings, and how strong or how likely it is."""

    name: str
    entry: E
    amount: float
    settings: dict[str, Any]


@dataclass(frozen=True)
class Table(Generic[E]):
    """A dict of entries as settings see it.

    `main` names the number that stands for an entry, as in `ce: 1.0`: "weight" or "p"; it is empty where a setting
    chooses one entry by its name. `function` gives the function of an entry whose parameters are its settings.
    """

    entries: Mapping[str, E]
    main: str = ""
    function: Callable[[E], Callable[..., Any]] = lambda entry: entry  # type: ignore[assignment,return-value]

    def parameters(self, name: str) -> dict[str, Parameter]:
        """The settings of the entry `name`, without `main`."""
        return parameters_of(self.function(self.entries[name]))

    def chosen(self, given: Mapping[str, Mapping[str, Any]], setting: str) -> list[Chosen[E]]:
        """The entries that `given` names, in the order of the table; an amount of 0 leaves an entry out.

        `setting` is the name of the setting for messages. Raises ConfigError for names, settings and values that no
        entry has.
        """
        rows = {name: self.filled(name, row, f"{setting}.{name}") for name, row in given.items() if self._has(name, setting)}
        amounts = {name: row.pop(self.main) for name, row in rows.items()}
        names = [name for name in self.entries if amounts.get(name)]
        return [Chosen(name, self.entries[name], amounts[name], rows[name]) for name in names]

    def one(self, given: str | Mapping[str, Mapping[str, Any]], setting: str) -> Chosen[E]:
        """The entry that `given` names: `poly`, or `{poly: {power: 0.9}}`. Raises ConfigError like `chosen`."""
        rows: Mapping[str, Mapping[str, Any]] = {given: {}} if isinstance(given, str) else given
        if len(rows) != 1:
            raise ConfigError(f"{setting} takes one of {', '.join(self.entries)}, not {', '.join(rows) or 'none'}")
        name, row = next(iter(rows.items()))
        self._has(name, setting)
        return Chosen(name, self.entries[name], 1.0, self.filled(name, row, f"{setting}.{name}"))

    def filled(self, name: str, row: Mapping[str, Any], setting: str) -> dict[str, Any]:
        """`row` in the types of the entry's settings, with the defaults of those that it lacks."""
        known = self.parameters(name)
        if self.main:
            bounds = Bounds(0, 1) if self.main == "p" else Bounds(0)
            known = {self.main: Parameter(float, 1.0, bounds, ""), **known}
        unknown = next((key for key in row if key not in known), None)
        if unknown is not None:
            raise ConfigError(f"{setting}.{unknown}: no such setting; {name} has {', '.join(known) or 'none'}")
        return {key: _checked(row.get(key, one.default), one, f"{setting}.{key}") for key, one in known.items()}

    def _has(self, name: str, setting: str) -> bool:
        if name not in self.entries:
            raise ConfigError(f"{setting}: there is no {name!r}; there are {', '.join(self.entries)}")
        return True


def bound(chosen: Chosen[Callable[..., Any]]) -> Callable[..., Any]:
    """The function that a setting chose, with its settings filled in."""
    return partial(chosen.entry, **chosen.settings)


def parameters_of(function: Callable[..., Any]) -> dict[str, Parameter]:
    """The settings of a function: its keyword-only parameters that have a default."""
    kinds = get_type_hints(function, include_extras=True)
    return {
        name: _parameter(kinds[name], one.default)
        for name, one in inspect.signature(function).parameters.items()
        if one.kind is one.KEYWORD_ONLY and one.default is not one.empty
    }


def _parameter(kind: Any, default: Any) -> Parameter:
    extras = get_args(kind)[1:] if get_origin(kind) is Annotated else ()
    bounds = next((extra for extra in extras if isinstance(extra, Bounds)), Bounds())
    meaning = next((extra for extra in extras if isinstance(extra, str)), "")
    return Parameter(get_args(kind)[0] if extras else kind, default, bounds, meaning)


def _checked(value: Any, parameter: Parameter, setting: str) -> Any:
    try:
        fitted = fit(parameter.kind, value, setting)
    except (UnfitError, UnknownError):
        kind = getattr(parameter.kind, "__name__", str(parameter.kind))
        raise ConfigError(f"{setting}={value}: expected {kind}, e.g. {parameter.default}") from None
    for number in fitted if isinstance(fitted, list) else [fitted]:
        fault = parameter.bounds.fault(number)
        if fault:
            raise ConfigError(f"{setting}={value} must {fault}")
    return fitted
