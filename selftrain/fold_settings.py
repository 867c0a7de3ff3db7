"""What a command line of `selftrain folds` asks for, without the imports of a run, which take seconds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from selftrain.config import Config
from selftrain.datasets import check_root
from selftrain.errors import ConfigError
from selftrain.run import RESUMABLE
from selftrain.rundir import RunDir
from selftrain.settings import compose, read, stored
from selftrain.several import Home

FOLDS = 5
FOLD, NUMBER, TEST = "data.splits.fold", "k", "test.read"


@dataclass(frozen=True)
class Asked:
    """The settings of the runs without their folds, the number of folds, and the directory."""

    config: Config
    number: int
    home: Home


def asked(overrides: Sequence[str], config_dir: str | None = None) -> Asked:
    """What a command line asks for: settings of a run, and k=NUMBER.

    The directory alone resumes with the settings of its runs. The test set is not read unless test.read=end.
    Raises ConfigError.
    """
    pairs = dict(text.partition("=")[::2] for text in overrides)
    if FOLD in pairs:
        raise ConfigError(
            f"{FOLD}: selftrain folds sets it for each run; give the number of folds by {NUMBER}="
        )
    rest = [text for text in overrides if not text.startswith(f"{NUMBER}=")]
    number = pairs.get(NUMBER, str(FOLDS))
    if not number.isdigit() or int(number) < 2:
        raise ConfigError(f"{NUMBER}={number} must be a number of folds, at least 2")
    home = Home(RunDir(Path(read("out", pairs.get("out", "")))).path)
    first = RunDir(home.run(name_of(0))).config
    if "out" in pairs and pairs.keys() <= RESUMABLE | {NUMBER} and first.is_file():
        own = [text for text in rest if not text.startswith("out=")]
        config = stored(first, own)
        return Asked(config, int(pairs.get(NUMBER, config.data.splits.fold[1])), home)
    config = compose(rest if TEST in pairs else [f"{TEST}=never", *rest], config_dir)
    check_root(config.data)
    if not config.out:
        raise ConfigError("out is not set; say where the runs go, e.g. out=runs/folds")
    return Asked(config, int(number), home if "out" in pairs else Home(Path(f"{config.out}-folds")))


def name_of(fold: int) -> str:
    """The name of a fold's run."""
    return f"fold{fold}"
