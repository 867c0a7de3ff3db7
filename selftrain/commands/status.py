"""`selftrain status RUN`: the state of a run."""

import argparse
from collections.abc import Iterator

from selftrain import runlog
from selftrain.commands import Commands, begun, command, path
from selftrain.files import read_json, read_yaml
from selftrain.log import say
from selftrain.rundir import Generation, RunDir, steps_in


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    command(commands, status).add_argument("run_directory", type=path)


def status(arguments: argparse.Namespace) -> None:
    """Print whether a run is running, its step, rate, time left, scores and leader; reads only."""
    run = begun(arguments.run_directory)
    count = len(read_yaml(run.config, "generations")["generations"])
    generations, leader = [run.generation(number) for number in range(count)], None
    for number, gen in enumerate(generations):
        for line in _lines(number, gen):
            say(line)
        if gen.report.is_file() and read_json(gen.report, "promoted")["promoted"]:
            leader = number
    if leader is not None:
        say(f"leader: generation {leader}")
    for line in _state(run):
        say(line)


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


def _state(run: RunDir) -> Iterator[str]:
    """Whether the run is running, and its last progress line with stage, step, rate and time left."""
    writer = run.writer()
    if writer is not None:
        if progress := runlog.last_progress(run.log):
            yield f"last line: {progress}"
        yield f"running{f' (process {writer})' if writer else ''}"
    elif run.report.is_file():
        yield "finished"
    else:
        yield f"not running, not finished: selftrain resume {run.path} resumes it"
