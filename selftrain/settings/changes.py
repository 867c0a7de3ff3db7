"""Which settings may change between two commands of a run, and how to read older versions' settings."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from selftrain.config import AUTO, RUN, Config
from selftrain.settings.check import default_of
from selftrain.values import element_of, fields_of

Tree = dict[str, Any]
Complete = Callable[[Tree], Tree]

# Defaults for runs that began before a setting existed, if they differ from today's.
EARLIER = {"loss.balance": 0.0, "model.weights": None}

# Settings that a resume may change: they affect how a run works, not its result. Another number of threads
# changes rounding; conditions.json records that. A generation keeps the review that it began with.
HARMLESS = {
    "out", "given", "budget", "trackers", "keep_checkpoints", "data.remember", "data.root", "data.extra.root",
    "data.store.cache", "data.store.cache_mb", "data.store.tries", "data.store.options",
    "data.suspects", "data.reviewed", "data.cache_mb", "train.feature_mb", "train.workers", "train.threads",
    "train.checkpoint_every", "train.watch",
    "labels.crf.workers", "export.onnx", "export.variants", "export.opset", "export.size",
    "model.partial_weights",
}  # fmt: skip

# Settings that a resume may change although they change rounding and the crops for batch-norm statistics. A
# lack of memory must not cost a trained teacher. conditions.json records the change.
ROUNDING = {"train.eval_batch", "labels.batch"}

# Settings that a resume may change because they act at the end of a run only.
AT_THE_END = {"test.read", "export.distill"}


def same(value: Any, section: Mapping[str, Any]) -> Any:
    """The value of a setting that was only renamed."""
    return value


# Settings whose `auto` becomes a plain value when a run begins; a resume with `auto` keeps that value.
DECIDED = {"model.weights", "data.mean", "data.std"}


@dataclass(frozen=True)
class Renamed:
    """The current name of a renamed setting, and its value there.

    `value` receives the old value and the old section, because some settings depend on each other. A dict
    that it returns is merged into the current value of the setting `name`.
    """

    name: str
    value: Callable[[Any, Mapping[str, Any]], Any] = same


# Renamed settings by their old names. A setting of a generation is named without the generation's number:
# "generations.noise.mix". The old name must not be in use. The rows apply one after the other.
RENAMED = {
    "data.source": Renamed("data.format"),
    "loss.smoothing": Renamed("loss.labelled.ce.smoothing"),
    "loss.temperature": Renamed("loss.pseudo.kl.temperature"),
    "loss.distillation": Renamed(
        "loss.pseudo", lambda share, _: {"kl": {"weight": share}, "ce": {"weight": 1 - share}}
    ),
}


def flat(config: Config | dict, prefix: str = "") -> dict[str, object]:
    """Settings as {"train.lr": 0.001, "generations.0.steps": 500, ...}.

    Lists of plain values and empty dicts stay as they are.
    """
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
    """Convert settings of an earlier version to today's names and forms."""
    table = RENAMED if table is None else table
    tree = {name: _copied(value) for name, value in settings.items()}
    _regrouped(tree.get("train"))
    generations = tree.get("generations")
    for old, new in table.items():
        section, _, name = old.partition(".")
        if section != "generations":
            _move(tree, old, new.name, new.value)
        for row in generations if section == "generations" and isinstance(generations, list) else ():
            _move(row, name, new.name.removeprefix("generations."), new.value)
    return tree


def _regrouped(train: Any) -> None:
    """Replace entries of `train.groups` that are settings of their own now."""
    chosen = train.get("groups") if isinstance(train, dict) else None
    row: dict[str, Any] = {}
    if isinstance(chosen, dict):
        chosen, row = next(iter(chosen.items()), ("", {}))
    now = {
        "encoder": {"encoder_lr": row.get("lr_scale", 0.1)},
        "layers": {"layer_decay": row.get("decay", 0.75)},
        "frozen": {"freeze": "always"},
    }.get(str(chosen))
    if now:
        train |= {**now, "groups": "one"}


def _copied(value: Any) -> Any:
    """Copy dicts and lists, so that the caller's settings stay unchanged."""
    if isinstance(value, dict):
        return {name: _copied(entry) for name, entry in value.items()}
    return [_copied(entry) for entry in value] if isinstance(value, list) else value


def _move(tree: Any, old: str, new: str, convert: Callable[[Any, Mapping[str, Any]], Any]) -> None:
    """Move the setting `old` of `tree` to `new`; does nothing if `old` is not there."""
    section, last = _section(tree, old)
    if not isinstance(section, dict) or last not in section:
        return
    value = convert(section[last], dict(section))
    del section[last]
    where, last = _section(tree, new, make=True)
    where[last] = _merged(where.get(last), value)


def _merged(old: Any, new: Any) -> Any:
    """`new` over `old`; dicts are merged."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    return {**old, **{name: _merged(old.get(name), value) for name, value in new.items()}}


def _section(tree: Any, name: str, *, make: bool = False) -> tuple[Any, str]:
    """The dict that contains the setting `name`, and the last part of the name."""
    *parts, last = name.split(".")
    for part in parts:
        if make and isinstance(tree, dict):
            tree.setdefault(part, {})
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree, last


def differences(old: Tree, new: Tree, complete: Complete = dict) -> list[str]:
    """Settings that change results and differ, as "name: old -> new".

    A setting that one side lacks was added later. It had today's default, or its value in EARLIER. A new
    `auto` of a setting in DECIDED is no difference. `complete` adds the settings of table entries that both
    sides choose (choices.completed).
    """
    before, after = (flat(complete(filled(Config, tree))) for tree in (renewed(old), new))
    decided = {name for name in DECIDED if after.get(name) in (AUTO, [AUTO])}
    names = [name for name in before | after if name not in decided and not is_harmless(name)]
    return [
        f"{name}: {before.get(name, 'absent')} -> {after.get(name, 'absent')}"
        for name in names
        if before.get(name, "absent") != after.get(name, "absent")
    ]


def is_harmless(name: str) -> bool:
    """Whether a resume may change a setting; entries of a list are named without their number."""
    return re.sub(r"\.\d+\.", ".", name) in HARMLESS | ROUNDING or name.startswith("data.store.options.")


def refused(old: Tree, new: Tree, *, labels_are_used: bool, complete: Complete = dict) -> list[str]:
    """The differences that keep a run from continuing. Adding generations is allowed.

    Labels are stored unfiltered, so `select` may change freely until a student trains on them.
    """
    known = len(old["generations"])
    rows = differences(old, {**new, "generations": new["generations"][:known]}, complete)
    rows = [row for row in rows if row.partition(":")[0] not in AT_THE_END]
    return rows if labels_are_used or not all(map(chooses, rows)) else []


def chooses(row: str) -> bool:
    """Whether a changed setting only affects finished labels.

    `select.reliability` does not: its snapshots are made while a teacher is trained.
    """
    return row.startswith("select.") and not row.startswith("select.reliability")


def weights_files(tree: Tree) -> dict[str, Path]:
    """The weights files that the settings name, by the name of the setting."""
    named = {name: value for name, value in flat(tree).items() if name.rpartition(".")[2] == "weights"}
    values = {name: value.removeprefix(RUN) for name, value in named.items() if isinstance(value, str)}
    paths = {name: Path(value).expanduser() for name, value in values.items()}
    return {name: path for name, path in paths.items() if path.is_file()}


def with_old_paths(new: Tree, old: Tree, digests: Mapping[str, str], recorded: Mapping[str, str]) -> Tree:
    """`new` with the old path of every weights file whose content is the recorded one.

    `digests` and `recorded` are the hashes of the files now and when the run began, by setting. So a file
    that was moved is no difference, and one with other content is.
    """
    before, now, values = flat(renewed(old)), flat(new), dict[str, Any]()
    for name in digests.keys() & recorded.keys():
        if digests[name] == recorded[name]:
            values[name] = before.get(name)
        elif before.get(name) == now[name]:
            values[name] = f"{now[name]} with other content"
    return _replaced(new, values)


def _replaced(tree: Any, values: Mapping[str, Any], prefix: str = "") -> Any:
    """`tree` with other values for some settings, which `values` names as `flat` does."""
    if isinstance(tree, dict):
        return {
            name: values.get(f"{prefix}{name}", _replaced(value, values, f"{prefix}{name}."))
            for name, value in tree.items()
        }
    if isinstance(tree, list):
        return [_replaced(entry, values, f"{prefix}{number}.") for number, entry in enumerate(tree)]
    return tree


def filled(kind: Any, tree: Tree, prefix: str = "") -> Tree:
    """`tree` with defaults for missing settings, at any depth.

    A setting that is a dict counts as one setting.
    """
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
        return filled(member, value, f"{prefix}{name}.")
    if fields_of(element) and isinstance(value, list):
        return [
            filled(element, entry, f"{prefix}{name}.") if isinstance(entry, dict) else entry
            for entry in value
        ]
    return value
