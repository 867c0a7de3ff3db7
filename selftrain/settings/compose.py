"""Compose a Config from a recipe, a data set and `name=value` words, with errors that give the fix."""

import re
import shlex
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from threading import Lock
from typing import Any

from selftrain.config import Config, GenerationConfig
from selftrain.errors import ConfigError
from selftrain.files import plain_yaml
from selftrain.settings.changes import flat
from selftrain.settings.names import did_you_mean, unknown
from selftrain.settings.plain import is_file_of_data, plain_data_file, refuse_code, refuse_code_in_files
from selftrain.settings.tree import EXAMPLES, EXTRA, flow, in_quotes, merged, with_settings
from selftrain.tables import Place
from selftrain.values import (
    Entry,
    Kind,
    Likely,
    Plain,
    UnfitError,
    UnknownError,
    element_of,
    fields_of,
    fit,
    is_section,
    member_of,
    parse,
    split_optional,
)

GROUPS = ("recipe", "data")  # groups of YAML files to choose from
KINDS = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("true or false", ""),
    str: ("text", "names"),
    Entry: ("settings in braces", ""),
    object: ("a number, a word or a list", ""),
    Any: ("a number, a word or a list", "numbers or words"),
    Likely: ("a probability, or its settings in braces", ""),
    Plain: ("a value as YAML writes it", ""),
    dict[str, Plain]: ("names with their values in braces", ""),
}
ONE_AT_A_TIME = Lock()  # Hydra keeps its state in the process
SAMPLES = {
    int: "4",
    float: "0.5",
    bool: "true",
    str: "text",
    Entry: "{}",
    object: "0.5",
    Likely: "0.5",
    Plain: "60",
}


def compose(overrides: list[str], config_dir: str | None = None) -> Config:
    """The Config of a recipe, a data set and settings given as `name=value`.

    Raises ConfigError that names the setting and its possible values.
    """
    refuse_code(overrides)
    folders = [recipes(), *_own_folder(config_dir)]
    pairs = [_pair(text) for text in overrides]
    chosen = {group: _chosen(group, pairs, folders) for group in GROUPS}
    given = given_of([text for text in overrides if _pair(text)[0] not in GROUPS])
    for group, name in chosen.items():
        _check_file(folders[-1] / group / f"{name}.yaml", group)
    tree, in_file = _with_data_file(asdict(Config()), chosen["data"])
    tree = merged(tree, _composed(chosen, folders))
    _let_hold(tree, [name for name, _ in given])
    return with_settings({**tree, "given": sorted(in_file)}, given)


def given_of(overrides: list[str]) -> list[tuple[str, Any]]:
    """The names and values of settings given as `name=value`, in the order in which they apply."""
    refuse_code(overrides)
    given = [(name, read(name, text)) for name, text in map(_pair, overrides)]
    if EXTRA not in [name for name, _ in given]:
        return given
    first = ("generations", EXTRA)  # so that further settings may belong to the extra generation
    return sorted(given, key=lambda pair: first.index(pair[0]) if pair[0] in first else len(first))


def _let_hold(tree: dict[str, Any], given: list[str]) -> None:
    """Remove a recipe's own encoders, or weights, of generations if the command line names one for all."""
    for name in ("encoder", "weights"):
        for row in tree["generations"] if f"model.{name}" in given else ():
            row[name] = None


def recipes() -> Path:
    """The folder of recipes: beside the package in a checkout, inside it in a wheel."""
    here = Path(__file__).resolve().parent.parent
    for folder in (here / "recipes", here.parent / "recipes"):
        if (folder / "config.yaml").is_file():
            return folder
    raise ConfigError(f"no recipes beside {here}: the installation is incomplete, install selftrain again")


def _own_folder(config_dir: str | None) -> list[Path]:
    """The user's folder of recipes and data sets, if given."""
    if not config_dir:
        return []
    fault = Place().fault(config_dir)
    if fault:
        raise ConfigError(f"--config-dir {config_dir} must {fault}")
    folder = Path(Place.expanded(config_dir))
    if not folder.is_dir():
        raise ConfigError(f"--config-dir {config_dir}: no such folder")
    refuse_code_in_files(folder)
    return [folder]


def _pair(text: str) -> tuple[str, str]:
    """Split into name and value. Hydra's `+name` is taken as `name`, and a lone YAML file as data=FILE."""
    if is_file_of_data(text) and "=" not in text:
        return "data", text
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ConfigError(_no_pair(text))
    if name.startswith("~"):
        raise ConfigError(f"{text!r} is refused: no setting can be removed; give it another value")
    return name.lstrip("+"), value


def _no_pair(text: str) -> str:
    """Advice for a word that is not NAME=VALUE."""
    path, groups = shlex.quote(text), [group for group in GROUPS if text in names_in_group(group)]
    advice = "see python -m selftrain.run --help"
    if (Path(text) / "config.yaml").is_file():
        advice = f"for a run in that directory write out={path}"
    elif Path(f"{text}.yaml").is_file():
        advice = f"for the data of that file write {shlex.quote(f'{text}.yaml')}"
    elif "/" in text or Path(text).exists():
        advice = f"for images there run selftrain init {path}, which writes their data YAML"
    elif groups:
        advice = f"write {groups[0]}={text}"
    return f"{text!r} is not NAME=VALUE; {advice}"


def _chosen(group: str, pairs: list[tuple[str, str]], folders: list[Path]) -> str:
    """The name given for a recipe or a data set, or "". Raises ConfigError that lists the names."""
    values = [value for name, value in pairs if name == group]
    if len(set(values)) > 1:
        raise ConfigError(f"{group}={values[-1]}: {group} is given twice, as {values[0]} too; keep one")
    known = _names_in([folder / group for folder in folders])
    if values and group == "data" and is_file_of_data(values[0]):
        return values[0]
    if not values or values[0] in known:
        return values[0] if values else ""
    name, noun = values[0], "recipe" if group == "recipe" else "data set"
    advice = did_you_mean(name, known, before=f"{group}=")
    if group == "data" and "/" in name:
        advice = f"; for images there run selftrain init {shlex.quote(name)}"
    raise ConfigError(f"{group}={name}: no such {noun}{advice} (there are {', '.join(known)})")


def names_in_group(group: str) -> list[str]:
    """The names of selftrain's own recipes (`recipe`) or data sets (`data`)."""
    return _names_in([recipes() / group])


def _names_in(folders: list[Path]) -> list[str]:
    """The names that can be chosen: the YAML files of these folders."""
    paths = [path.relative_to(folder) for folder in folders for path in folder.rglob("*.yaml")]
    return sorted({path.with_suffix("").as_posix() for path in paths})


def _composed(chosen: dict[str, str], folders: list[Path]) -> dict[str, Any]:
    """Read the YAML files of a recipe and a data set into one tree of settings."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    named = {group: name for group, name in chosen.items() if name and not is_file_of_data(name)}
    overrides = [f"{group}={in_quotes(name)}" for group, name in named.items()]
    overrides += ["~data"] if is_file_of_data(chosen["data"]) else []
    overrides += [f"hydra.searchpath=[{in_quotes(f'file://{folder.resolve()}')}]" for folder in folders[1:]]
    try:
        with ONE_AT_A_TIME, initialize_config_dir(str(folders[0]), version_base="1.3"):
            raw = OmegaConf.to_container(hydra_compose("config", overrides=overrides), resolve=False)
    except (HydraException, OmegaConfBaseException, YAMLError, ValueError) as error:
        raise ConfigError(_not_composed(error, chosen, folders[-1])) from None
    assert isinstance(raw, dict)
    for name, value in flat(raw).items():
        if "${" in str(value):
            raise ConfigError(f"{name}={value!r} is refused: settings are plain values")
    return checked(lambda: fit(Config, raw), f"{folders[-1]}: ")


def _with_data_file(tree: dict[str, Any], file: str) -> tuple[dict[str, Any], set[str]]:
    """The settings with the settings of data=FILE, and their names; `out` becomes runs/<name>."""
    if not is_file_of_data(file):
        return tree, set()
    path = Path(Place.expanded(file))
    own = plain_data_file(path)
    whole = merged(tree, checked(lambda: fit(Config, own), f"{path}: "))
    whole["data"]["name"] = (own.get("data") or {}).get("name", path.stem)
    return {**whole, "out": whole["out"] or f"runs/{whole['data']['name']}"}, set(flat(own))


def _not_composed(error: Exception, chosen: dict[str, str], folder: Path) -> str:
    """The reason why files cannot be composed, in our own words."""
    words = " ".join(f"{group}={name}" for group, name in chosen.items() if name)
    missing = getattr(error, "missing_cfg_file", None)
    if missing:
        return f"{words}: a file in {folder} has {missing} among its `defaults`, and there is no such file"
    suspects = "`defaults`, @package lines and names that occur twice"
    return f"{words}: the files in {folder} cannot be put together; look at their {suspects}"


def _check_file(path: Path, group: str) -> None:
    """Check a file as the composed settings are checked. Here the message can name the file.

    Raises ConfigError.
    """
    if not path.is_file():
        return
    text = path.read_text(encoding="utf-8")
    tree = {name: value for name, value in plain_yaml(text).items() if name != "defaults"}
    package = re.search(r"^#\s*@package\s+(\S+)", text, re.MULTILINE)
    where = package[1] if package else "_group_"
    if where in ("_global_", "_group_"):
        checked(lambda: fit(Config, tree if where == "_global_" else {group: tree}), f"{path}: ")


def read(name: str, text: str) -> Any:
    """Convert a value of the command line to the type of its setting. Raises ConfigError that names it."""
    try:
        kind = _kind_of(name)
        if kind is str and text == "null":
            raise UnfitError(name, text, kind)
        return fit(kind, parse(text, kind), name)
    except UnfitError as error:
        raise ConfigError(_unfit(error, text if error.name == name else error.value)) from None
    except UnknownError as error:
        raise ConfigError(unknown(error.name)) from None


def checked(reading: Callable[[], Any], where: str) -> Any:
    """The result of `reading`; its errors become ConfigErrors that begin with `where`."""
    try:
        return reading()
    except UnfitError as error:
        raise ConfigError(where + _unfit(error, error.value)) from None
    except UnknownError as error:
        raise ConfigError(where + unknown(error.name)) from None


def _kind_of(name: str) -> Kind:
    """The type of a setting. Raises UnknownError."""
    if name == EXTRA:
        return int
    kind: Kind = Config
    for part in name.split("."):
        found = member_of(kind, part)
        if found is None:
            raise UnknownError(name)
        kind = found
    return kind


def _unfit(error: UnfitError, shown: object) -> str:
    """A message about a value of the wrong type, with an example to paste."""
    given = f"{error.name}={flow(shown) if not isinstance(shown, str) else shown}"
    if (element_of(error.kind) or error.kind) is str and _is_lost(error.value):
        return f"{given}: YAML does not read on, off, yes, no, null and 1.0 as text; quote them, e.g. 'off'"
    if error.kind is str and error.value == "null":
        return f"{given}: expected text; for none write {error.name}= and nothing after it"
    own = [(name, kind) for name, kind in fields_of(error.kind).items() if not is_section(kind)]
    if own:
        first, kind = own[0]
        return f"{given}: it has settings of its own, e.g. {_example(f'{error.name}.{first}', kind)}"
    if error.name == "generations" and isinstance(error.value, str) and error.value in map(str, range(1, 10)):
        empty = ",".join(["{}"] * int(error.value))
        return f"{given}: expected a list with one entry for each generation, e.g. 'generations=[{empty}]'"
    return f"{given}: expected {_expected(error.kind)}, e.g. {_example(error.name, error.kind)}"


def _is_lost(value: object) -> bool:
    """Whether YAML has converted text to something else."""
    entries = value if isinstance(value, list) else [value]
    return any(entry is None or isinstance(entry, bool | float) for entry in entries)


def _expected(kind: Kind) -> str:
    element = element_of(kind)
    if element is None:
        return KINDS.get(kind, ("names with their numbers in braces", ""))[0]
    if is_section(element):
        return f"a list with one entry for each {'generation' if element is GenerationConfig else 'data set'}"
    inner = element_of(element)
    entries = f"lists of {KINDS[inner][1]}" if inner else KINDS.get(element, KINDS[int])[1]
    return f"a list of {entries}"


def _example(name: str, kind: Kind) -> str:
    """`name=value`, quoted if a shell would interpret its brackets."""
    default: Any = asdict(Config())
    for part in name.split("."):
        default = asdict(GenerationConfig()) if isinstance(default, list) else _member(default, part)
    shown = EXAMPLES.get(re.sub(r"^generations\.\d+\.", "generations.N.", name)) or (
        flow(default) if default not in (None, "", []) else ""
    )
    text = f"{name}={shown or SAMPLES.get(split_optional(kind)[0], '[4]')}"
    return f"'{text}'" if set(text) & set("[]{}") else text


def _member(default: Any, part: str) -> Any:
    """The default of a setting; None for settings of a table's entry that the default does not choose."""
    return default.get(part) if isinstance(default, dict) else None
