"""Check selftrain on a GPU, in ten minutes at most, and write the results into docs/gpu.md.

    make gpu                                    (scripts/gpu_check.sh: python benchmarks/gpu.py)
    scripts/gpu_check.sh parity training        some parts only, without writing the page

Without a GPU it prints "no GPU: skipped" and ends with 0. Each part is a process with its own time limit, and
a part that fails does not stop the others. The exit code is 1 if a part fails or misses a goal.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sides import Row, cpu, put, table

ROOT = Path(__file__).resolve().parent.parent
PAGE, MARK = ROOT / "docs" / "gpu.md", "results of make gpu"
LIMITS = {  # seconds of each part; together less than ten minutes
    "bf16": 140, "fp16": 140, "parity": 40, "training": 60, "labelling": 60, "vit": 70, "two": 70,
}  # fmt: skip
TITLES = {
    "bf16": "Recipes in bf16, killed and resumed",
    "fp16": "Recipes in fp16, killed and resumed",
    "parity": "Evaluation on both devices",
    "training": "Speed of training",
    "labelling": "Speed of labelling",
    "vit": "A large network",
    "two": "Two GPUs",
}
LIBRARIES = ("torchvision", "timm", "segmentation-models-pytorch", "accelerate")
DEVICES = Path("/dev")


@dataclass
class Outcome:
    """What a part found; `failed` and `skipped` give a reason, or are empty."""

    part: str
    rows: list[Row] = field(default_factory=list)
    failed: str = ""
    skipped: str = ""

    @property
    def good(self) -> bool:
        """Whether the part ended and met its goals."""
        return not self.failed and all(row.met for row in self.rows)

    def text(self) -> str:
        """The part as Markdown."""
        said = [f"Skipped: {self.skipped}."] if self.skipped else []
        said += [f"**Failed:** {self.failed}."] if self.failed else []
        said += [table(self.rows)] if self.rows else []
        return "\n\n".join([f"### {TITLES[self.part]}", *said])


def main(words: Sequence[str] | None = None) -> None:
    arguments = parser().parse_args(words)
    unknown = [name for name in arguments.parts if name not in LIMITS]
    if unknown:
        sys.exit(f"no part {', '.join(unknown)}; the parts are {', '.join(LIMITS)}")
    if arguments.found:
        return work(arguments)
    if arguments.device == "cuda" and not usable():
        return
    with tempfile.TemporaryDirectory() as folder:
        outcomes = [part(name, arguments, Path(folder)) for name in arguments.parts or LIMITS]
    text = "\n\n".join([where(arguments.device), *(outcome.text() for outcome in outcomes)])
    if len(outcomes) == len(LIMITS) and (arguments.device == "cuda" or arguments.page != PAGE):
        put(arguments.page, MARK, text)
    print(f"\n{text}", flush=True)
    bad = [outcome.part for outcome in outcomes if not outcome.good]
    if bad:
        sys.exit(f"these parts failed or missed a goal: {', '.join(bad)}")


def parser() -> argparse.ArgumentParser:
    """The command line; what only tests and the parts' processes give is not shown."""
    parser = argparse.ArgumentParser(
        prog="gpu_check.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(LIMITS)}")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page that is written (docs/gpu.md)")
    hidden = argparse.SUPPRESS
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help=hidden)
    parser.add_argument("--small", action="store_true", help=hidden)  # sizes at which only the code matters
    parser.add_argument("--recipes", type=lambda text: text.split(","), help=hidden)
    parser.add_argument("--found", type=Path, help=hidden)  # a process of one part: the file of its rows
    return parser


def usable() -> bool:
    """Whether torch has a GPU; prints that the check is skipped if the machine has none.

    Raises SystemExit if the machine has a GPU and torch cannot use it: that is no reason to skip.
    """
    import torch

    if torch.cuda.is_available():
        return True
    if any(DEVICES.glob("nvidia[0-9]*")):
        sys.exit(
            f"this machine has a GPU that torch {torch.__version__} cannot use: "
            "install a build of torch for CUDA, as docs/gpu.md says"
        )
    print("no GPU: skipped")
    return False


def part(name: str, arguments: argparse.Namespace, folder: Path) -> Outcome:
    """Run a part in its own process, with the time that it has."""
    found, began = folder / f"{name}.jsonl", time.monotonic()
    print(f"{TITLES[name]} …", flush=True)
    with open(folder / f"{name}.err", "w+") as errors:
        process = subprocess.Popen(
            command(name, arguments, found), cwd=ROOT, env=environment(arguments.device), stderr=errors,
            start_new_session=True,
        )  # fmt: skip
        outcome = Outcome(name)
        try:
            code = process.wait(LIMITS[name])
            errors.seek(0)
            said = errors.read().strip()
            if code:
                outcome.failed = f"exit code {code}: {said.splitlines()[-1] if said else 'it said nothing'}"
                print(said, file=sys.stderr)
        except subprocess.TimeoutExpired:
            outcome.failed = f"stopped at its limit of {LIMITS[name]} s"
        finally:
            end(process)
    for line in found.read_text().splitlines() if found.exists() else ():
        row = json.loads(line)
        if "skipped" in row:
            outcome.skipped = row["skipped"]
        else:
            outcome.rows.append(Row(**row))
    state = "skipped" if outcome.skipped else "good" if outcome.good else "FAILED"
    print(f"  {state} after {time.monotonic() - began:.0f} s", flush=True)
    return outcome


def end(process: subprocess.Popen) -> None:
    """End the process of a part and those that it started."""
    with suppress(ProcessLookupError):  # raised if all have ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def command(name: str, arguments: argparse.Namespace, found: Path) -> list[str]:
    """The command of a part's process; its rows go to the file `found`."""
    words = [name, "--device", arguments.device, "--found", str(found)]
    words += ["--small"] if arguments.small else []
    words += ["--recipes", ",".join(arguments.recipes)] if arguments.recipes else []
    return [sys.executable, __file__, *words]


def environment(device: str) -> dict[str, str]:
    """The environment of a part: on the CPU, even a GPU that is there is not used."""
    found = {
        name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS" or device == "cpu"
    }
    found["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return found | ({"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {})


def work(arguments: argparse.Namespace) -> None:
    """The process of a part: a line of JSON for each row, written as soon as it is found."""
    import gpu_runs

    (name,) = arguments.parts
    with tempfile.TemporaryDirectory() as folder, open(arguments.found, "w", buffering=1) as file:
        check = gpu_runs.Check(
            arguments.device, Path(folder), arguments.small, arguments.recipes or gpu_runs.RECIPES
        )
        try:
            for row in rows_of(name, check):
                file.write(json.dumps(asdict(row)) + "\n")
        except gpu_runs.SkippedError as reason:
            file.write(json.dumps({"skipped": str(reason)}) + "\n")


def rows_of(name: str, check) -> Iterator[Row]:
    """The rows of a part, one after the other."""
    import gpu_runs
    import gpu_speed

    if name in ("bf16", "fp16"):
        return gpu_runs.recipe_rows(check, name)
    parts = {
        "parity": gpu_speed.parity_rows, "training": gpu_speed.training_rows, "labelling": gpu_speed.labelling_rows,
        "vit": gpu_runs.vit_rows, "two": gpu_runs.two_rows,
    }  # fmt: skip
    return parts[name](check)


def where(device: str) -> str:
    """When and on which machine the check ran, and with which versions."""
    import torch

    from selftrain import __version__

    cores = f"{len(os.sched_getaffinity(0))} cores of {cpu()}"
    machine = f"{gpus()}, {cores}" if device == "cuda" else f"{cores}, without a GPU"
    versions = [f"selftrain {__version__}{commit()}", f"torch {torch.__version__}"]
    if device == "cuda":
        versions += [f"CUDA {torch.version.cuda}", f"cuDNN {torch.backends.cudnn.version()}"]
    versions += [f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES]
    return f"{time.strftime('%Y-%m-%d')}, on {machine}.\n\n{', '.join(versions)}, Python {platform.python_version()}."


def gpus() -> str:
    """The GPUs and their driver, such as "2 x NVIDIA A100 (80 GB, driver 550.54)"."""
    import torch

    facts = torch.cuda.get_device_properties(0)
    driver = said_by("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").partition("\n")[0]
    driver = f", driver {driver}" if driver else ""
    return f"{torch.cuda.device_count()} x {facts.name} ({facts.total_memory / 1e9:.0f} GB{driver})"


def commit() -> str:
    """The commit of the checkout, as in " at 1a2b3c4"; empty without git."""
    found = said_by("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD")
    return f" at {found}" if found else ""


def said_by(*words: str) -> str:
    """What a command prints; empty if it fails or is not there."""
    if not shutil.which(words[0]):
        return ""
    ended = subprocess.run(words, capture_output=True, text=True, timeout=20)
    return "" if ended.returncode else ended.stdout.strip()


if __name__ == "__main__":
    main()
