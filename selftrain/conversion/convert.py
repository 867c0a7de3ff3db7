"""`selftrain convert`: masks as files of an annotation program, with a data YAML to read them again."""

import os
import shutil
from pathlib import Path
from typing import Any

from selftrain.conversion.originals import Originals, originals
from selftrain.conversion.targets import TARGETS, Output
from selftrain.data.faults import counted
from selftrain.errors import ConfigError
from selftrain.files import TEMPORARY, write_bytes
from selftrain.inspection.data_file import yaml_of
from selftrain.log import say

SETTINGS = "selftrain.yaml"


def convert(source: Path, out: Path, target: str, *, images: Path | None = None) -> None:
    """Write the masks of `source` in the format `target` of TARGETS to the folder `out`.

    The folder appears when it is complete. `images` are the images that were predicted, if `source` contains
    predictions. Raises ConfigError if `out` is not empty or lies among the data, DataError for faults of the
    data.
    """
    with originals(source, images) as found:
        check_place(out, found.root, *([images] if images else []))
        output = Output(out.with_name(f".{out.name}{TEMPORARY}"), found)
        shutil.rmtree(output.folder, ignore_errors=True)
        try:
            settings = TARGETS[target](output)
            if all(one.image for one in found.pictures):
                whole = _settings(out, found, settings)
                write_bytes(output.folder / SETTINGS, yaml_of(source, whole, by="convert").encode())
            if out.exists():
                out.rmdir()
            os.rename(output.folder, out)
        except BaseException:
            shutil.rmtree(output.folder, ignore_errors=True)
            raise
    _print(out, target, output)


def check_place(out: Path, *sources: Path) -> None:
    """Raises ConfigError unless `out` is new or empty, and apart from the sources."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ConfigError(f"-o {out} is a file, or not empty; choose a new folder")
    for source in sources:
        one, other = out.resolve(), source.resolve()
        if one.is_relative_to(other) or other.is_relative_to(one):
            raise ConfigError(
                f"one of -o {out} and {source} lies in the other; choose a folder beside the data"
            )


def _settings(out: Path, found: Originals, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of `data` for the converted pictures."""
    named = {} if settings["format"] == "voc" else {split: split for split in found.splits if split}
    splits = {**found.settings.get("splits", {}), **named}
    images = {} if settings["format"] == "voc" else {"images": "images"}
    fixed = {"name": out.name, "root": str(out.absolute()), "classes": found.classes, "unlabelled": ""}
    whole = {**fixed, **images, **found.settings, **settings, "splits": splits}
    return {name: value for name, value in whole.items() if name != "splits" or value}


def _print(out: Path, target: str, output: Output) -> None:
    say(f"{counted(len(output.originals.pictures), 'mask')} as {target} in {out}")
    for text, count in output.remarks.items():
        say(f"  {count:,} {text}")
    for text in output.originals.remarks:
        say(f"  {text}")
    if (out / SETTINGS).is_file():
        say(f"next: selftrain verify {out / SETTINGS}")
    else:
        say("  the images are not in the folder; --images DIR names the folder that was predicted")
