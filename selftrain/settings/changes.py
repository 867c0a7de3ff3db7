"""What may change between a run's first command and the next, and how the settings of earlier versions are read."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any

from selftrain.config import Config
from selftrain.settings.check import default_of
from selftrain.values import element_of, fields_of

Tree = dict[str, Any]
Complete = Callable[[Tree], Tree]

# What runs had that began before these settings were there, where that is not the default of today.
EARLIER = {"loss.balance": 0.0}

# Settings that a resume may change: they decide how a run works, not what it does. Another number of threads rounds
# otherwise; conditions.json records that.
HARMLESS = {
    "out", "data.root", "data.cache_mb", "train.workers", "train.threads", "train.checkpoint_every", "labels.crf.workers",
    "export.onnx", "model.partial_weights",
}  # fmt: skip

# Settings that a resume may change, though sums are then rounded differently and batch norm is measured over other crops:
# memory that is short must not cost a trained teacher. conditions.json records the change.
ROUNDING = {"train.eval_batch", "labels.batch"}


def same(value: Any, section: Mapping[str, Any]) -> Any:
    """The value of a setting that has only another name now."""
    return value


@dataclass(frozen=True)
class Renamed:
    """The name that a setting has now, and its value there.

    `value` gets the old value, and the old section for settings that are understood together. A dict that it gives is
    merged into what the setting `name` has by then.
    """

    name: str
    value: Callable[[Any, Mapping[str, Any]], Any] = same


# Settings that have another name now, by the name that they had. A setting of a generation is named without the
# generation's number: "generations.noise.mix". The old name must be free. The rows act one after the other.
RENAMED = {
    "loss.smoothing": Renamed("loss.labelled.ce.smoothing"),
    "loss.temperature": Renamed("loss.pseudo.kl.temperature"),
    "loss.distillation": Renamed(
        "loss.pseudo", lambda share, _: {"kl": {"weight": share}, "ce": {"weight": 1 - share}}
    ),
}


def flat(config: Config | dict, prefix: str = "") -> dict[str, object]:
    """Settings as {"train.lr": 0.001, "generations.0.steps": 500, ...}; lists of plain values and empty dicts stay."""
    tree = config if isinstance(config, dict) else asdict(config)
    rows: dict[str, object] = {}
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            rows |= flat(value, f"{prefix}{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            rows |= flat({str(i): entry for i, entry in enumerate(value)}, f"{prefix}{name}.")
        else:
            rows[f"{prefix}{name}"] = value
    return rows


def renewed(settings: Tree, table: Mapping[str, Renamed] | None = None) -> Tree:
    """Settings that an earlier version wrote, under the names and in the forms of today."""
    table = RENAMED if table is None else table
    tree = {name: _copied(value) for name, value in settings.items()}
    generations = tree.get("generations")
    for old, new in table.items():
        section, _, name = old.partition(".")
        if section != "generations":
            _move(tree, old, new.name, new.value)
        for row in generations if section == "generations" and isinstance(generations, list) else ():
            _move(row, name, new.name.removeprefix("generations."), new.value)
    return tree


def _copied(value: Any) -> Any:
    """Dicts and lists are new ones, so that what was given stays as it is."""
    if isinstance(value, dict):
        return {name: _copied(entry) for name, entry in value.items()}
    return [_copied(entry) for entry in value] if isinstance(value, list) else value


def _move(tree: Any, old: str, new: str, convert: Callable[[Any, Mapping[str, Any]], Any]) -> None:
    """Take the setting `old` out of `tree`, and put it in as `new`; nothing where it is not there."""
    section, last = _section(tree, old)
    if not isinstance(section, dict) or last not in section:
        return
    value = convert(section[last], dict(section))
    del section[last]
    where, last = _section(tree, new, make=True)
    where[last] = _merged(where.get(last), value)


def _merged(old: Any, new: Any) -> Any:
    """`new` over `old`, with all entries of both where they are dicts."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    return {**old, **{name: _merged(old.get(name), value) for name, value in new.items()}}


def _section(tree: Any, name: str, *, make: bool = False) -> tuple[Any, str]:
    """The dict that holds the setting `name`, and the last part of the name."""
    *parts, last = name.split(".")
    for part in parts:
        if make and isinstance(tree, dict):
            tree.setdefault(part, {})
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree, last


def differences(old: Tree, new: Tree, complete: Complete = dict) -> list[str]:
    """Settings that change results and differ, as "name: old -> new".

    What a side does not have is from before that setting was there: it had what is the default now, or what EARLIER says.
    `complete` fills in the settings of the entries that both choose from tables (choices.completed).
    """
    before, after = (flat(complete(_filled(Config, tree))) for tree in (renewed(old), new))
    return [
        f"{name}: {before.get(name, 'absent')} -> {after.get(name, 'absent')}"
        for name in before | after
        if name not in HARMLESS | ROUNDING and before.get(name, "absent") != after.get(name, "absent")
    ]


def refused(old: Tree, new: Tree, *, labels_are_used: bool, complete: Complete = dict) -> list[str]:
    """The differences with which a run cannot go on; none for more generations after those of `old`.

    Labels are stored unfiltered, so until a student of them has begun another choice costs nothing.
    """
    known = len(old["generations"])
    rows = differences(old, {**new, "generations": new["generations"][:known]}, complete)
    return rows if labels_are_used or not all(map(chooses, rows)) else []


def chooses(row: str) -> bool:
    """Whether a changed setting acts on finished labels; snapshots for the agreement are made while a teacher learns."""
    return row.startswith("select.") and not row.startswith("select.reliability")


def _filled(kind: Any, tree: Tree, prefix: str = "") -> Tree:
    """`tree` with the defaults of the settings that it lacks, at any depth; a setting that is a dict is one setting."""
    return {
        **dict(_lacking(kind, tree, prefix)),
        **{name: _filled_member(kind, name, value, prefix) for name, value in tree.items()},
    }


def _lacking(kind: Any, tree: Tree, prefix: str) -> Iterator[tuple[str, Any]]:
    for one in fields(kind):
        if one.name not in tree:
            default = default_of(one)
            value = asdict(default) if is_dataclass(default) and not isinstance(default, type) else default
            yield one.name, EARLIER.get(f"{prefix}{one.name}", value)


def _filled_member(kind: Any, name: str, value: Any, prefix: str) -> Any:
    member = fields_of(kind).get(name)
    element = element_of(member) if member is not None else None
    if fields_of(member) and isinstance(value, dict):
        return _filled(member, value, f"{prefix}{name}.")
    if fields_of(element) and isinstance(value, list):
        return [
            _filled(element, entry, f"{prefix}{name}.") if isinstance(entry, dict) else entry
            for entry in value
        ]
    return value
