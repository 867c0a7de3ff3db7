"""Tables of functions that settings choose from: losses, augmentations, schedules, and so on.

A table is a dict from names to functions. The settings of an entry are the keyword-only parameters of its
function that have a default. Their types come from the annotations. `Annotated[float, Bounds(0, 1)]` adds a
range, and a text in `Annotated` gives the parameter's meaning. Parameters without a default are passed by the
program itself.

    def focal(logits, target, *, gamma: Annotated[float, Bounds(0, inf), "focus on hard pixels"] = 2.0): ...
    LOSSES = {"focal": focal}          # loss.labelled.focal={weight: 0.5, gamma: 1.5}
"""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar, get_args, get_origin, get_type_hints

from selftrain.errors import ConfigError
from selftrain.values import UnfitError, UnknownError, fit

E = TypeVar("E")
LISTED = 16  # entries that a message lists even if some of them have similar names
NEAR = 4  # similar names
INFINITY = float("inf")


@dataclass(frozen=True)
class Bounds:
    """The range of a number, or of each number in a list; includes `least` and `most`, excludes `above`."""

    least: float = -INFINITY
    most: float = INFINITY
    above: float = -INFINITY

    def fault(self, value: object) -> str:
        """The fault of a number, as the end of "x=2 must ..."; empty if there is none."""
        return next(filter(None, map(self._fault, _members(value))), "")

    def _fault(self, value: object) -> str:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return ""
        inside = self.least <= value <= self.most and (value > self.above or self.above == -INFINITY)
        return "" if inside and math.isfinite(value) else self.wanted

    @property
    def wanted(self) -> str:
        """The requirement, such as "lie between 0 and 1"."""
        if self.above > -INFINITY:
            return f"be above {self.above}" + (f" and at most {self.most}" if self.most < INFINITY else "")
        if self.most < INFINITY:
            return f"lie between {self.least} and {self.most}"
        return f"be at least {self.least}" if self.least > -INFINITY else "be a finite number"


@dataclass(frozen=True)
class OneOf:
    """The words that a setting accepts, and their meanings."""

    meanings: Mapping[str, str]

    def fault(self, value: object) -> str:
        return "" if value in self.meanings else self.wanted

    @property
    def wanted(self) -> str:
        return f"be one of {', '.join(self.meanings)}"


@dataclass(frozen=True)
class Must:
    """A rule for a single setting: `Must("be three numbers", lambda mean: len(mean) == 3)`."""

    wanted: str
    holds: Callable[[Any], bool]

    def fault(self, value: object) -> str:
        return "" if self.holds(value) else self.wanted


@dataclass(frozen=True)
class Place:
    """A path. A leading `~` is the home folder, because shells do not expand `name=~/x` and `--name=~/x`."""

    wanted: str = "be a whole path: no home folder is known for its `~`"

    def fault(self, value: object) -> str:
        try:
            self.expanded(value)
        except RuntimeError:  # `~name` of a user that does not exist
            return self.wanted
        return ""

    @staticmethod
    def expanded(value: Any) -> Any:
        """Expand the home folder of a path; other values are returned as they are.

        Raises RuntimeError if no home folder is known.
        """
        return str(Path(value).expanduser()) if isinstance(value, str) and value.startswith("~") else value


Rule = Bounds | OneOf | Must | Place


def _members(value: object) -> Iterable[object]:
    """The values inside lists and dicts, or the value itself."""
    if isinstance(value, dict):
        value = list(value.values())
    return chain.from_iterable(map(_members, value)) if isinstance(value, list) else [value]


Share = Annotated[float, Bounds(0, 1)]
Count = Annotated[int, Bounds(0)]
Size = Annotated[float, Bounds(0)]


@dataclass(frozen=True)
class Parameter:
    """A setting: its type, default, range and meaning, and further rules for its value."""

    kind: Any
    default: Any
    bounds: Bounds
    meaning: str
    rules: tuple[Rule, ...] = ()

    def fault(self, value: object) -> str:
        """The fault of a value of the right type, as the end of "x=2 must ..."; empty if there is none."""
        return next(filter(None, (rule.fault(value) for rule in (*self.rules, self.bounds))), "")


# the number that stands for an entry
MAIN = {
    "weight": Parameter(float, 1.0, Bounds(0), ""),
    "p": Parameter(float, 1.0, Bounds(0, 1), ""),
    "number": Parameter(int, 2, Bounds(0), ""),
}


@dataclass(frozen=True)
class Chosen(Generic[E]):
    """An entry that a setting chose, with its settings and its weight, probability or number."""

    name: str
    entry: E
    amount: float
    settings: dict[str, Any]

    @property
    def written(self) -> str | dict[str, Any]:
        """The value of a setting that chooses this entry: its name, or a dict with its settings."""
        return {self.name: self.settings} if self.settings else self.name


@dataclass(frozen=True)
class Table(Generic[E]):
    """A dict of entries that settings choose from.

    `main` names the number that stands for an entry, as in `ce: 1.0`: one of MAIN. It is empty if a setting
    chooses one entry by name. `function` returns the function whose parameters are an entry's
    settings.
    """

    entries: Mapping[str, E]
    main: str = ""
    function: Callable[[E], Callable[..., Any]] = lambda entry: entry  # type: ignore[assignment,return-value]

    def parameters(self, name: str) -> dict[str, Parameter]:
        """The settings of the entry `name`, without `main`."""
        return parameters_of(self.function(self.entries[name]))

    def chosen(self, given: Mapping[str, Mapping[str, Any]], setting: str) -> list[Chosen[E]]:
        """The entries named in `given`, in the order of the table; an amount of 0 leaves an entry out.

        `setting` is the name of the setting for messages. Raises ConfigError for unknown names and settings,
        and for wrong values.
        """
        rows = {
            name: self.filled(name, row, f"{setting}.{name}")
            for name, row in given.items()
            if self._has(name, setting)
        }
        amounts = {name: row.pop(self.main) for name, row in rows.items()}
        names = [name for name in self.entries if amounts.get(name)]
        return [Chosen(name, self.entries[name], amounts[name], rows[name]) for name in names]

    def one(self, given: str | Mapping[str, Mapping[str, Any]], setting: str) -> Chosen[E]:
        """The entry named in `given`: `poly`, or `{poly: {power: 0.9}}`. Raises ConfigError like `chosen`."""
        rows: Mapping[str, Mapping[str, Any]] = {given: {}} if isinstance(given, str) else given
        if len(rows) != 1:
            raise ConfigError(
                f"{setting} takes one of {', '.join(self.entries)}, not {', '.join(rows) or 'none'}"
            )
        name, row = next(iter(rows.items()))
        name = name.lower() if name not in self.entries and name.lower() in self.entries else name
        self._has(name, setting)
        return Chosen(name, self.entries[name], 1.0, self.filled(name, row, f"{setting}.{name}"))

    def filled(self, name: str, row: Mapping[str, Any], setting: str) -> dict[str, Any]:
        """`row` converted to the types of the entry's settings, with defaults for missing ones."""
        known = self.parameters(name)
        if self.main:
            known = {self.main: MAIN[self.main], **known}
        unknown = next((key for key in row if key not in known), None)
        if unknown is not None:
            raise ConfigError(
                f"{setting}.{unknown}: no such setting; {name} has {', '.join(known) or 'none'}"
            )
        return {
            key: _checked(row.get(key, one.default), one, f"{setting}.{key}") for key, one in known.items()
        }

    def _has(self, name: str, setting: str) -> bool:
        if name not in self.entries:
            raise ConfigError(f"{setting}: there is no {name!r}; {self._instead(name)}")
        return True

    def _instead(self, name: str) -> str:
        """The entries of the table; of a long one those with a name like `name`, if there are any."""
        near = get_close_matches(name.lower(), self.entries, n=NEAR) if len(self.entries) > LISTED else []
        return f"similar names: {', '.join(near)}" if near else f"there are {', '.join(self.entries)}"


def bound(chosen: Chosen[Callable[..., Any]]) -> Callable[..., Any]:
    """The function that a setting chose, with its settings filled in."""
    return partial(chosen.entry, **chosen.settings)


def handed(function: Callable[..., Any], setting: str, **offered: Any) -> dict[str, Any]:
    """The part of `offered` that a function needs: its keyword-only parameters without a default.

    Raises ConfigError, naming `setting`, if the function needs anything else.
    """
    parameters = inspect.signature(function).parameters.values()
    asked = [one.name for one in parameters if one.kind is one.KEYWORD_ONLY and one.default is one.empty]
    unknown = [name for name in asked if name not in offered]
    if unknown:
        there = f"the program passes {', '.join(offered)}" if offered else "the program passes no settings"
        raise ConfigError(f"{setting} asks for {unknown[0]}, which needs a default: {there}")
    return {name: offered[name] for name in asked}


def parameters_of(function: Callable[..., Any]) -> dict[str, Parameter]:
    """The settings of a function: its keyword-only parameters that have a default.

    Raises ConfigError for a parameter without a type.
    """
    kinds = get_type_hints(function, include_extras=True)
    given = {
        name: one.default
        for name, one in inspect.signature(function).parameters.items()
        if one.kind is one.KEYWORD_ONLY and one.default is not one.empty
    }
    untyped = next((name for name in given if name not in kinds), None)
    if untyped is not None:
        default = given[untyped]
        raise ConfigError(
            f"{function.__module__}.{function.__qualname__}: its parameter {untyped} is a setting and "
            f"needs a type, e.g. {untyped}: {type(default).__name__} = {default!r}"
        )
    return {name: parameter(kinds[name], default) for name, default in given.items()}


def parameter(kind: Any, default: Any) -> Parameter:
    """The setting that an annotation declares, such as `Annotated[float, Bounds(0, 1), "how likely"]`."""
    extras = get_args(kind)[1:] if get_origin(kind) is Annotated else ()
    bounds = next((extra for extra in extras if isinstance(extra, Bounds)), Bounds())
    meaning = next((extra for extra in extras if isinstance(extra, str)), "")
    rules = tuple(extra for extra in extras if isinstance(extra, OneOf | Must | Place))
    return Parameter(get_args(kind)[0] if extras else kind, default, bounds, meaning, rules)


def _checked(value: Any, parameter: Parameter, setting: str) -> Any:
    try:
        fitted = fit(parameter.kind, value, setting)
    except (UnfitError, UnknownError):
        kind = getattr(parameter.kind, "__name__", str(parameter.kind))
        raise ConfigError(f"{setting}={value}: expected {kind}, e.g. {parameter.default}") from None
    fault = parameter.fault(fitted)
    if fault:
        raise ConfigError(f"{setting}={value} must {fault}")
    return fitted
