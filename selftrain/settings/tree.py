"""Settings as a tree of plain values: how one is changed, printed, and built into a Config."""

import re
from dataclasses import asdict
from typing import Any

from selftrain.config import AUTO, Config, GenerationConfig
from selftrain.errors import ConfigError
from selftrain.settings.check import check, expand_home
from selftrain.settings.names import unknown
from selftrain.values import Choice, Kind, element_of, fields_of, member_of, split_optional

EXTRA = "generations.extra"  # on the command line only: the generations themselves are stored
EXAMPLES = {  # examples for settings with an empty default
    "data.classes": "[road,car]", "data.colours": "[[0,0,0],[255,0,0]]", "data.ignore_colours": "[[0,0,0]]",
    "data.size": "[512,512]", "data.tile": "[512,512]", "data.stride": "[384,384]",
    "data.values": "[0,255]", "model.decoder_channels": "[256,128,64,32,16]",
    "data.extra": "[{root: /path, classes: {car: car, sky: null}}]",
    "generations": "[{},{}]", "generations.N.noise.geometry": "{rotate90: 0.5}",
    "generations.N.noise.colours": "{blur: 0.5}", "generations.N.noise.erase": "{cutout: 0.5}",
    "generations.N.noise.mix": "{classmix: 0.5}", "generations.N.noise.mix_labelled": "{cutmix: 0.5}",
    "generations.N.noise.policy": "{trivial: 0.5}", "loss.online": "{ce: 1}",
    "data.store.options": "{anon: true}",
}  # fmt: skip


def with_settings(tree: dict[str, Any], given: list[tuple[str, Any]]) -> Config:
    """The checked Config of a tree of settings, changed by `given`. Raises ConfigError."""
    for name, value in given:
        if name == EXTRA:
            tree = {**tree, "generations": _extended(tree["generations"], value)}
            continue
        _check_generation(tree, name, value)
        tree = _set(tree, name.split("."), value)
    names = {name for name, _ in given} - {EXTRA}
    config = _finished(_built(Config, {**tree, "given": sorted({*tree["given"], *names})}))
    if config.train.plan != AUTO:
        config.given = []  # only a plan needs them
    check(config)
    expand_home(config)
    return config


def changed(config: Config, values: dict[str, Any]) -> Config:
    """A copy of `config` with other values, by name. Raises ConfigError for values that do not fit."""
    tree = asdict(config)
    for name, value in values.items():
        tree = _set(tree, name.split("."), value)
    new = _finished(_built(Config, tree))
    check(new)
    return new


def _extended(rows: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """The generations, and `count` more with the settings of the last one."""
    if count < 0:
        raise ConfigError(f"{EXTRA}={count} must be at least 0")
    return [*rows, *rows[-1:] * count]


def _set(node: Any, parts: list[str], value: Any, kind: Kind = Config) -> Any:
    """`node` with `value` at the path `parts`; a section keeps the settings that `value` does not name."""
    if not parts:
        return merged(node, value, kind) if isinstance(node, dict) and isinstance(value, dict) else value
    kind, inner = split_optional(kind)[0], member_of(kind, parts[0])
    if isinstance(node, list):
        number = int(parts[0])
        return [*node[:number], _set(node[number], parts[1:], value, inner), *node[number + 1 :]]
    node = node if isinstance(node, dict) else {}
    old = {name: row for name, row in node.items() if name == parts[0] or kind is not Choice}
    return {**old, parts[0]: _set(node.get(parts[0]), parts[1:], value, inner)}


def merged(old: dict[str, Any], new: dict[str, Any], kind: Kind = Config) -> dict[str, Any]:
    """`new` over `old`; dicts are merged, while lists and the choice of one entry are replaced."""
    if split_optional(kind)[0] is Choice:
        return new
    both = [name for name in new if isinstance(old.get(name), dict) and isinstance(new[name], dict)]
    return {**old, **new, **{name: merged(old[name], new[name], member_of(kind, name)) for name in both}}


def _check_generation(tree: dict[str, Any], name: str, value: Any) -> None:
    """Check that the list has an entry. Raises ConfigError that shows how to add one."""
    if name.startswith("data.extra.") and int(name.split(".")[2]) >= len(tree["data"]["extra"]):
        example = f"'data.extra={EXAMPLES['data.extra']}'"
        raise ConfigError(f"{name}: there is no such entry; give all entries, e.g. {example}")
    section, _, rest = name.partition(".")
    number, _, own = rest.partition(".")
    rows = tree["generations"]
    if section != "generations" or not rest or int(number) < len(rows):
        return
    further = _set({}, own.split("."), value, GenerationConfig) if own else value
    entries = flow([*map(_changes, rows), further])
    raise ConfigError(
        f"{name}={flow(value)}: recipe={tree['recipe']} has {len(rows)} generations, counted from 0; "
        f"to add one, give all entries: 'generations={entries}'"
    )


def _changes(row: dict[str, Any], default: dict[str, Any] | None = None) -> dict[str, Any]:
    """The settings of an entry that differ from the default."""
    default = asdict(GenerationConfig()) if default is None else default
    others = {name: value for name, value in row.items() if name not in default or value != default[name]}
    changed = {k: _changes(v, default.get(k, {})) if isinstance(v, dict) else v for k, v in others.items()}
    return {name: value for name, value in changed.items() if value != {} or name not in default}


def _built(kind: Kind, tree: dict[str, Any]) -> Any:
    """Build a dataclass from the settings in `tree`; missing ones get their defaults."""
    return kind(**{name: _built_member(member_of(kind, name), value) for name, value in tree.items()})


def _built_member(kind: Kind, value: Any) -> Any:
    element = element_of(kind)
    if fields_of(kind):
        return _built(kind, value)
    return [_built(element, entry) for entry in value] if fields_of(element) else value


def _finished(config: Config) -> Config:
    """Expand one side to a square, and check the split names of the drawn data set."""
    data, train = config.data, config.train
    for holder, name in ((data, "size"), (data, "tile"), (data, "stride"), (train, "crop")):
        sides = getattr(holder, name)
        setattr(holder, name, sides * 2 if len(sides) == 1 else sides)
    for split in config.data.shapes:
        if split not in Config().data.shapes:
            raise ConfigError(unknown(f"data.shapes.{split}"))
    return config


def flow(value: object) -> str:
    """Format a value as on the command line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {flow(entry)}" for name, entry in value.items()) + "}"
    if isinstance(value, list):
        return "[" + (", " if value and isinstance(value[0], dict) else ",").join(map(flow, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = str(value)
    return in_quotes(text) if isinstance(value, str) and (not text or set(text) & set(",:[]{}'\"")) else text


def in_quotes(text: str) -> str:
    """Quote a text. A backslash stands for itself, except before a quote and at the end."""
    escaped = re.sub(r"(\\*)('|\Z)", lambda match: match[1] * 2 + ("\\'" if match[2] else ""), text)
    return f"'{escaped}'"
