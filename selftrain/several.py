"""Several runs in one directory: each is a run of its own in a folder of it, and resumes like any other.

The file `runs.json` of the directory names what varies, so that the same directory cannot be used for other
runs by mistake. selftrain folds and selftrain sweep use it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selftrain import files, launcher, runlog
from selftrain.config import Config
from selftrain.errors import ConfigError, LearningError, ResourceError, SelftrainError
from selftrain.log import say
from selftrain.run import launch
from selftrain.rundir import LOGS, SEVERAL, RunDir

if TYPE_CHECKING:
    from selftrain.session import Session

Then = Callable[[str, "Session", dict], None]
Failed = Callable[[str, SelftrainError], None]
FAILURES = (ConfigError, LearningError, ResourceError)  # of one configuration; others end all runs


@dataclass(frozen=True)
class Home:
    """The directory of several runs."""

    path: Path

    @property
    def runs(self) -> Path:
        return self.path / SEVERAL

    @property
    def report(self) -> Path:
        """What all runs together say, written last."""
        return self.path / "report.json"

    @property
    def export(self) -> Path:
        return self.path / "export"

    def run(self, name: str) -> Path:
        return self.path / name

    def settle(self, varies: Mapping[str, Any]) -> None:
        """Record what varies between the runs, or compare it with the record.

        Runs that were begun by themselves in folders of the directory are welcome. Raises ConfigError if the
        directory has other files, or was begun for other runs.
        """
        if not self.runs.is_file():
            if self.path.is_file() or any(map(_is_foreign, self.path.glob("[!.]*"))):
                raise ConfigError(
                    f"out={self.path} has files but no {self.runs.name}: it is no directory of several runs; "
                    "choose another folder"
                )
            files.write_json(self.runs, dict(varies))
        begun = files.read_json(self.runs)
        if begun != varies:
            raise ConfigError(
                f"out={self.path} was begun with {begun}, not {dict(varies)}; choose another folder"
            )


def _is_foreign(entry: Path) -> bool:
    """Whether an entry of a directory of runs is neither a run nor a log of a shell."""
    return entry.suffix not in LOGS and not RunDir(entry).config.is_file()


def train_all(
    home: Home, configs: Iterable[tuple[str, Config]], then: Then, failed: Failed | None = None
) -> None:
    """Train each named configuration in its folder of `home`, one after the other.

    A finished run does no work, and a run that was stopped resumes. `then` gets the name, session and
    report.json of each finished run. The next configuration is asked for when a run is finished, so it may
    depend on that. If `failed` is given, it gets the name and the error of a run that its settings made
    impossible, and the other runs go on. Raises ConfigError if several processes were started.
    """
    if launcher.processes() > 1:
        raise ConfigError(
            "several runs in one command work on one process; start each run with accelerate launch, in "
            "its folder, and then give this command without it"
        )
    for name, config in configs:
        config.out = str(home.run(name))
        say(f"{name}: {config.out}")
        try:
            launch(config, lambda session, report, name=name: then(name, session, report))  # type: ignore[misc]
        except FAILURES as error:
            if failed is None:
                raise
            failed(name, error)
        runlog.release()
