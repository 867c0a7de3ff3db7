"""The state of a run, read from its directory."""

from collections.abc import Iterator
from dataclasses import dataclass

from selftrain import runlog
from selftrain.files import read_json, read_yaml
from selftrain.rundir import Generation, RunDir, steps_in


@dataclass(frozen=True)
class State:
    """What is known of a run: `about` its generations, and the last progress line of its log."""

    run: RunDir
    about: list[str]
    writer: int | None  # the process that works on it, 0 if it is elsewhere
    progress: str

    @property
    def running(self) -> bool:
        """Whether a process works on the run."""
        return self.writer is not None

    @property
    def finished(self) -> bool:
        """Whether the run has come to its end."""
        return not self.running and self.run.report.is_file()

    @property
    def ended(self) -> str:
        """Where the run is, if no process works on it."""
        if self.finished:
            return "finished"
        return f"not running, not finished: selftrain resume {self.run.path} resumes it"

    @property
    def lines(self) -> list[str]:
        """The state in words."""
        if not self.running:
            return [*self.about, self.ended]
        last = [f"last line: {self.progress}"] if self.progress else []
        page = [f"page: {self.run.page}"] if self.run.page.is_file() else []
        return [*self.about, *page, *last, f"running{f' (process {self.writer})' if self.writer else ''}"]


def state_of(run: RunDir) -> State:
    """The state of a run now."""
    count = len(read_yaml(run.config, "generations")["generations"])
    about, leader = list[str](), None
    for number in range(count):
        gen = run.generation(number)
        about += _lines(number, gen)
        if gen.report.is_file() and read_json(gen.report, "promoted")["promoted"]:
            leader = number
    if leader is not None:
        about.append(f"leader: generation {leader}")
    writer = run.writer()
    return State(run, about, writer, "" if writer is None else runlog.last_progress(run.log))


def _lines(number: int, gen: Generation) -> Iterator[str]:
    if not gen.report.is_file():
        steps = steps_in(gen.checkpoints)
        saved = f"saved at step {int(steps[-1].name.removeprefix('step-'))}" if steps else "not started"
        yield f"gen{number}  {saved}"
        return
    report = read_json(gen.report, "val", "promoted")
    labelled = ", labels finished" if (gen.labels / "index.json").is_file() else ""
    promoted = "promoted" if report["promoted"] else "not promoted"
    yield f"gen{number}  val mIoU {report['val']['miou'] or 0:.4f}  {promoted}{labelled}"
    for alarm in report.get("alarms", []):
        yield f"      warning: {alarm}"
