"""The door of a run: `accelerate launch -m selftrain.run recipe=noisy_student data=camvid data.root=… out=…`."""

import argparse
import os
import re
import sys
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from selftrain import process
from selftrain.config import Config, flat
from selftrain.errors import ConfigError, ResourceError, exit_code_of
from selftrain.files import plain_yaml
from selftrain.rundir import RunDir

USAGE = """\
  recipe=NAME          noisy_student (the default) | supervised | any other of recipes/recipe
  data=NAME            shapes (drawn, the default) | folder | camvid | nuclei
  data.root=DIR        where the images are
  out=DIR              the run directory; the same command again resumes
  SETTING=VALUE        any setting of selftrain/config.py, e.g. train.steps=2000 generations.1.encoder=tu-resnet50"""


PLACES = ("data.root", "data.images", "data.masks", "data.unlabelled", "data.splits.train", "data.splits.val", "data.splits.test")
ONE_WORD = ("data.range", "data.ignore")  # lists that may be given as a word or a number
TEXTS = ("out", *PLACES, "data.splits.group", "model.weights")


def main() -> None:
    """Compose the settings of the command line and run them, or print them."""
    process.prepare()
    arguments = _parser().parse_intermixed_args()
    config = compose(arguments.overrides, arguments.config_dir)
    if arguments.show:
        print(OmegaConf.to_yaml(OmegaConf.structured(config)), end="")
        return
    if not config.out:
        raise ConfigError("out is not set; say where the run goes, e.g. out=runs/first")
    launch(config)


def launch(config: Config) -> None:
    """Run `config` on the processes and devices that `accelerate launch` or torchrun started."""
    _check_world()
    run = RunDir(Path(config.out))
    run.refuse_files_of_others()
    run.refuse_locked()
    from selftrain import generations  # seconds of imports: what is refused above is refused at once

    generations.run(config)


def recipes() -> Path:
    """The recipes, beside the package in a checkout and inside of it in a wheel."""
    here = Path(__file__).resolve().parent
    for folder in (here / "recipes", here.parent / "recipes"):
        if (folder / "config.yaml").is_file():
            return folder
    raise ConfigError(f"no recipes beside {here}: the installation is incomplete, install selftrain again")


def compose(overrides: list[str], config_dir: str | None = None) -> Config:
    """The Config of a recipe, a data set and settings given as `name=value`. Raises ConfigError that names the key."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.config_store import ConfigStore
    from hydra.errors import HydraException

    _refuse_code(overrides)
    if config_dir and not Path(config_dir).is_dir():
        raise ConfigError(f"--config-dir {config_dir}: no such folder")
    if config_dir:
        _refuse_code_in_files(Path(config_dir))
    ConfigStore.instance().store(name="schema", node=Config)
    extra = [f"hydra.searchpath=[{_in_quotes(f'file://{Path(config_dir).resolve()}')}]"] if config_dir else []
    try:
        with initialize_config_dir(str(recipes()), version_base="1.3"):
            composed = hydra_compose("config", overrides=[*map(_quoted, overrides), *extra])
        return to_config(composed)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_plain(error)) from None


def _quoted(override: str) -> str:
    """A path, pattern or name of a class may hold any character; Hydra's grammar takes most in quotes only."""
    name, _, value = override.partition("=")
    if name == "data.classes" and value[:1] == "[" and value[-1:] == "]" and not set(value) & set("'\""):
        return f"{name}=[{','.join(_in_quotes(one.strip()) for one in value[1:-1].split(',') if one.strip())}]"
    if name in ONE_WORD and value and value[0] not in "[{":
        return f"{name}=[{value}]"
    if name not in TEXTS or value in ("", "null") or value[0] in "'\"":
        return override
    return f"{name}={_in_quotes(value)}"


def _in_quotes(text: str) -> str:
    """As Hydra reads it back: a backslash stands for itself but before a quote and at the end."""
    escaped = re.sub(r"(\\*)('|\Z)", lambda match: match[1] * 2 + ("\\'" if match[2] else ""), text)
    return f"'{escaped}'"


def to_config(composed: DictConfig) -> Config:
    """Plain dataclasses, from here on down. Raises ConfigError for an interpolation: it could read the environment."""
    raw = OmegaConf.to_container(composed, resolve=False)
    assert isinstance(raw, dict)
    for name, value in flat(raw).items():
        if "${" in str(value):
            raise ConfigError(f"{name}={value!r} is refused: settings are plain values")
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), raw))  # refuses what `+name=` has added
    assert isinstance(config, Config)
    return config


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="selftrain.run",
        description="Semi-supervised self-training for semantic segmentation.",
        epilog=USAGE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", metavar="NAME=VALUE")
    parser.add_argument("--config-dir", help="a folder with your own recipe/*.yaml and data/*.yaml")
    parser.add_argument("--show", action="store_true", help="print the settings of the run and end")
    return parser


def _refuse_code(overrides: list[str]) -> None:
    """Config is data: no objects to make, no environment to read, no Hydra internals."""
    for text in overrides:
        name = text.split("=", 1)[0].lstrip("+~")
        if "_target_" in text or "${" in text or name == "hydra" or name.startswith(("hydra.", "hydra/")):
            raise ConfigError(f"{text!r} is refused: settings are plain values; no _target_, ${{…}} or hydra.*")
        if "=" not in text:
            raise ConfigError(f"{text!r} is no NAME=VALUE; see python -m selftrain.run --help")


def _refuse_code_in_files(folder: Path) -> None:
    """As `_refuse_code`, in the user's own recipes: Hydra would obey its own nodes, and expand what it should not."""
    for path in sorted(folder.rglob("*.yaml")):
        try:
            text = path.read_text()
            names = flat(plain_yaml(text))
        except (ValueError, OSError) as error:
            raise ConfigError(f"{path} is refused: {error}") from None
        words = [*(f"{name}." for name in names), *map(str, names.values()), *re.findall(r"^#\s*@package.*", text, re.MULTILINE)]
        for word in words:
            if "_target_" in word or "${" in word or re.search(r"\bhydra\b", word):
                raise ConfigError(f"{path}: {word!r} is refused: settings are plain values; no _target_, ${{…}} or hydra")


def _plain(error: Exception) -> str:
    """Hydra's message without its decoration, in one line."""
    if "GenerationConfig" in f"{error}{error.__cause__}":
        return f"no such generation in this recipe, or it is not one ({str(error).splitlines()[0]}); see --show"
    lines = [
        line.strip() for line in str(error).splitlines() if line.strip() and "provider=" not in line and "To append" not in line
    ]
    chosen = [line for line in lines if not line.startswith(("full_key", "object_type", "reference_type"))]
    cause = error.__cause__
    if cause and str(cause).splitlines()[0] not in " ".join(chosen):
        chosen.append(str(cause).splitlines()[0])
    key = getattr(error, "full_key", None) or getattr(cause, "full_key", None)
    return "; ".join(chosen) + (f" (setting {key})" if key and key not in " ".join(chosen) else "")


def _check_world() -> None:
    """`accelerate launch --num_processes 2` on CPUs starts one process without a word: refuse what was not asked for."""
    asked, got = _asked_processes(), int(os.environ.get("WORLD_SIZE", 1))
    if asked and asked > got:
        raise ResourceError(
            f"{asked} processes were asked for and {got} runs; on CPUs use: "
            f"ACCELERATE_USE_CPU=true torchrun --nproc_per_node {asked} -m selftrain.run …"
        )


def _asked_processes() -> int | None:
    """The --num_processes of the `accelerate launch` that is our parent, where Linux shows it."""
    try:
        words = Path(f"/proc/{os.getppid()}/cmdline").read_text().split("\0")
    except OSError:
        return None
    if not any(Path(word).name in ("accelerate", "accelerate-launch") for word in words[:2]):
        return None
    for word, following in zip(words, [*words[1:], ""], strict=True):
        name, _, value = word.partition("=")
        if name in ("--num_processes", "--num-processes"):
            return int(value or following) if (value or following).isdigit() else None
    return None


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
