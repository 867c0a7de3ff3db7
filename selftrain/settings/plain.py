"""Settings are data: files and words that would create objects or read the environment are refused."""

import re
from pathlib import Path
from typing import Any

from selftrain.errors import ConfigError
from selftrain.files import plain_yaml
from selftrain.settings.changes import flat

PLAIN_VALUES = "settings are plain values, without _target_, ${…} and the like"


def is_file_of_data(text: str) -> bool:
    """Whether data=TEXT is the path of a YAML file rather than the name of a data set."""
    return text.endswith((".yaml", ".yml"))


def plain_data_file(path: Path) -> dict[str, Any]:
    """The settings of a YAML file that data= names by its path. Raises ConfigError."""
    if not path.is_file():
        raise ConfigError(f"data={path}: there is no such file; selftrain init FOLDER -o {path} writes it")
    refuse_code_in_file(path)
    own = plain_yaml(path.read_text(encoding="utf-8"))
    if "defaults" in own:
        raise ConfigError(f"{path}: `defaults` is refused in a file that data= names by its path; remove it")
    return own


def refuse_code(overrides: list[str]) -> None:
    """Refuse objects to create, environment variables to read, and nodes of Hydra: settings are data."""
    for text in overrides:
        name = text.split("=", 1)[0].lstrip("+~")
        if "_target_" in text or "${" in text or name == "hydra" or name.startswith(("hydra.", "hydra/")):
            raise ConfigError(f"{text!r} is refused: {PLAIN_VALUES}")


def refuse_code_in_files(folder: Path) -> None:
    """`refuse_code` for the user's recipes, since Hydra would obey its own nodes and expand ${…}."""
    for path in sorted(folder.rglob("*.yaml")):
        refuse_code_in_file(path)


def refuse_code_in_file(path: Path) -> None:
    """Raises ConfigError if a file is no plain YAML, or contains nodes of Hydra or ${…}."""
    try:
        text = path.read_text(encoding="utf-8")
        names = flat(plain_yaml(text))
    except (ValueError, OSError) as error:
        raise ConfigError(f"{path} is refused: {error}") from None
    packages = re.findall(r"^#\s*@package.*", text, re.MULTILINE)
    words = [*(f"{name}." for name in names), *map(str, names.values()), *packages]
    for word in words:
        if "_target_" in word or "${" in word or re.search(r"\bhydra\b", word):
            raise ConfigError(f"{path}: {word!r} is refused: {PLAIN_VALUES}")
