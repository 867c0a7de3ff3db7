"""Checks of single settings: range, choices and rules, as declared by the fields in config/."""

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from typing import Any, get_type_hints

from selftrain.config import Config
from selftrain.errors import ConfigError
from selftrain.tables import Parameter, Place, parameter


def check(config: Config) -> None:
    """Check every setting against its field. Raises ConfigError for the first bad value."""
    for name, value, setting in settings_in(config):
        fault = setting.fault(value)
        if fault:
            raise ConfigError(f"{name}={value} must {fault}")


def expand_home(section: Any) -> None:
    """Replace a leading `~` with the home folder in every path of `section` and of its sections."""
    kind: Any = type(section)
    for name, setting in declared(kind).items():
        if any(isinstance(rule, Place) for rule in setting.rules):
            setattr(section, name, Place.expanded(getattr(section, name)))
        for _, entry in _sections(name, getattr(section, name)):
            expand_home(entry)


def settings_in(section: Any, prefix: str = "") -> Iterator[tuple[str, Any, Parameter]]:
    """The name, value and declaration of every setting, such as "generations.0.noise.cutmix".

    Sections are not settings.
    """
    kind: Any = type(section)
    for name, setting in declared(kind).items():
        value, full = getattr(section, name), f"{prefix}{name}"
        if not is_dataclass(value):
            yield full, value, setting
        for inner, entry in _sections(full, value):
            yield from settings_in(entry, f"{inner}.")


@cache
def declared(section: Any) -> Mapping[str, Parameter]:
    """The settings and sections that a dataclass declares in its annotations."""
    kinds = get_type_hints(section, include_extras=True)
    return {one.name: parameter(kinds[one.name], default_of(one)) for one in fields(section)}


def default_of(field: Field[Any]) -> Any:
    """The default of a dataclass field."""
    return field.default if field.default_factory is MISSING else field.default_factory()


def _sections(name: str, value: Any) -> list[tuple[str, Any]]:
    """The sections in a setting (itself, or its entries), by name."""
    if is_dataclass(value):
        return [(name, value)]
    entries = enumerate(value) if isinstance(value, list) else ()
    return [(f"{name}.{number}", entry) for number, entry in entries if is_dataclass(entry)]
