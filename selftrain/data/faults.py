"""Faults and their reports: grouped by cause, with a count, a few examples and one remedy."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from selftrain.data.places import named
from selftrain.errors import ConfigError, DataError
from selftrain.files import write_bytes

EXAMPLES = 3  # files that a group names
# The parts of a text that differ between faults of one cause: file names and paths, remarks in brackets,
# numbers.
PARTICULAR = re.compile(r"'[^']*'|\([^)]*\)|\S*[/.]\w\S*|\d+")


@dataclass(frozen=True)
class Fault:
    """The problem of one file and its remedy; the argument of the DataErrors raised here.

    `cause` describes what the files of equal faults have in common, as text to follow their number ("masks
    have no image"). `values` are the grey values of a mask with undeclared values, or its colours as
    0xRRGGBB; at most MOST_VALUES.
    """

    file: str
    what: str
    remedy: str
    cause: str = ""
    values: tuple[int, ...] = ()

    def __str__(self) -> str:
        return named(f"{self.file}: {self.what}; {self.remedy}")


@dataclass(frozen=True)
class Group:
    """One or more faults that have one cause."""

    faults: list[Fault]

    def __str__(self) -> str:
        first, files = self.faults[0], [fault.file for fault in self.faults]
        if len(files) == 1:
            return str(first)
        if first.cause:
            return f"{len(files):,} {first.cause} ({some(files)}); {first.remedy}"
        more = f"and {len(files) - 1:,} more fault{'s' if len(files) > 2 else ''} alike"
        return f"{first} ({more}: {some(files[1:], EXAMPLES - 1)})"

    @property
    def hides_files(self) -> bool:
        """Whether the text does not list all files."""
        return len(self.faults) > EXAMPLES


class FaultsError(DataError):
    """Faults that stop the work. `faults` contains all of them; the message contains the first group."""

    def __init__(self, faults: Sequence[Fault]):
        self.faults = list(faults)
        first, *others = grouped(faults)
        rest = sum(len(group.faults) for group in others)
        more = f" (and {rest:,} more fault{'s' if rest > 1 else ''} of other kinds)" if rest else ""
        hint = ": selftrain verify lists all" if more or first.hides_files else ""
        super().__init__(f"{first}{more}{hint}")


def grouped(faults: Sequence[Fault]) -> list[Group]:
    """The faults grouped by cause, in the order in which the causes first appear."""
    groups: dict[str, list[Fault]] = {}
    for fault in faults:
        kind = fault.cause or " ".join(PARTICULAR.sub("", fault.what).split())
        groups.setdefault(kind, []).append(fault)
    return [Group(members) for members in groups.values()]


def refuse(faults: Sequence[Fault]) -> None:
    """Raises FaultsError if there are any faults."""
    if faults:
        raise FaultsError(faults)


@contextmanager
def none_hidden(noted: list[Fault], where: str) -> Iterator[None]:
    """Report errors raised within the block after the faults `noted` so far, which may have caused them."""
    try:
        yield
    except FaultsError:
        raise
    except ConfigError as error:
        if not noted:
            raise
        first, more = noted[0], len(noted) - 1
        others = f", and {more:,} more" if more else ""
        raise ConfigError(f"{error} (the files have faults, too: {first}{others})") from error
    except DataError as error:
        if not noted:
            raise
        raise FaultsError([*noted, _last(error, where)]) from error


def _last(error: DataError, where: str) -> Fault:
    """The error itself as a fault."""
    if error.args and isinstance(error.args[0], Fault):
        return error.args[0]
    return Fault(where, str(error), "the faults before this one may be the reason")


def some(names: Sequence[str], most: int = EXAMPLES) -> str:
    """A list of names as text, shortened: "a, b, c and 9 more"."""
    more = [f"{len(names) - most:,} more"] if len(names) > most else []
    shown = ", ".join(names[:most])
    return " and ".join([shown, *more])


def counted(number: int, noun: str) -> str:
    """A number with its noun: "1 mask", "1,200 masks"."""
    return f"{number:,} {noun}{'s' if number != 1 else ''}"


def write_list(faults: Sequence[Fault], file: Path) -> None:
    """Write every fault to a file, one per line."""
    write_bytes(file, "".join(f"{fault}\n" for fault in faults).encode())
