"""Runs that faults happen to, and the question whether they ended in the bits of one that nothing happened to."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from runs import ROOT, SMOKE, fingerprint

HERE = Path(__file__).resolve().parent
SETTINGS = [
    *SMOKE,
    "labels.crf.workers=1",
    "keep_checkpoints=true",  # so that their bits are compared as well
]  # 2 generations, 12 steps, 3 shards


@dataclass(frozen=True)
class Ended:
    """A process that ended: its exit code (None: it hung and was killed), output, seconds and peak memory."""

    code: int | None
    out: str
    err: str
    seconds: float
    rss_mb: float

    @property
    def last(self) -> str:
        """The last line of stderr."""
        return self.err.strip().splitlines()[-1] if self.err.strip() else ""


@dataclass
class Started:
    pid: int
    folder: Path
    zygote: "Zygote"

    def wait(self, timeout: float = 120) -> Ended:
        answer = self.zygote.ask({"wait": self.pid, "timeout": timeout})
        out, err = ((self.folder / name).read_text(errors="replace") for name in ("stdout", "stderr"))
        return Ended(answer["code"], out, err, answer["seconds"], answer["rss_mb"])

    def send(self, number: int) -> None:
        os.kill(self.pid, number)


@dataclass
class Zygote:
    """The process that forks runs (zygote.py). `folder` takes their output."""

    folder: Path
    process: subprocess.Popen = field(init=False)
    count: int = 0

    def __post_init__(self) -> None:
        command = [sys.executable, str(HERE / "zygote.py")]
        pipe = subprocess.PIPE
        alone = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True, env=alone)

    def ask(self, request: dict) -> dict:
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(self, *argv, door="run", fault=None, cwd=ROOT, **env) -> Started:
        """Start selftrain.run (or door="cli", or a script) with `argv` in the folder `cwd`, and a fault of inject.py."""
        self.count += 1
        folder = self.folder / f"process-{self.count}"
        folder.mkdir(parents=True)
        paths = {name: str(folder / name) for name in ("stdout", "stderr")}
        out = next((text.removeprefix("out=") for text in argv if text.startswith("out=")), "")
        env = {"SELFTRAIN_FAULT_ROOT": out, **env}
        begin = {"argv": [door, *argv], "cwd": str(cwd), "env": env, "fault": fault, **paths}
        answer = self.ask({"start": begin})
        return Started(answer["pid"], folder, self)

    def run(self, *argv, timeout: float = 120, **more) -> Ended:
        return self.start(*argv, **more).wait(timeout)

    def go(self, out: Path, *overrides, **more) -> Ended:
        """The fixture's run into `out`, to its end or that of its fault."""
        return self.run(*SETTINGS, f"out={out}", *overrides, **more)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=30)


def of_two() -> list[dict[str, str]]:
    """The environments of the two ranks of a run, as torchrun sets them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    both = {"WORLD_SIZE": "2", "ACCELERATE_USE_CPU": "true", **place}
    return [{"RANK": rank, "LOCAL_RANK": rank, **both} for rank in "01"]


class RefusedError(Exception):
    """Settings that a run refuses, with exit code 2; the message is the reason."""


@dataclass(frozen=True)
class Reference:
    """The run that nothing happened to, and its commits in their order."""

    out: Path
    bits: dict[str, str]
    commits: list[list[str]]
    seconds: float

    @classmethod
    def make(cls, zygote: Zygote, folder: Path, *overrides: str) -> "Reference":
        """Raises RefusedError if the settings are refused."""
        out, notes = folder / "run", folder / "commits"
        ended = zygote.go(out, *overrides, fault={"do": "trace", "to": str(notes)})
        if ended.code == 2:
            assert not out.exists()
            raise RefusedError(ended.last)
        assert ended.code == 0, ended.err
        commits = [json.loads(line) for line in notes.read_text().splitlines()]
        unique = [list(commit) for commit in dict.fromkeys(map(tuple, commits))]
        return cls(out, fingerprint(out), unique, ended.seconds)

    def copy(self, to: Path) -> Path:
        """The finished run, to be damaged."""
        return shutil.copytree(self.out, to)


def mismatches(out: Path, reference: Reference) -> list[str]:
    """Files whose bits are not those of the reference; what was set aside as *.corrupt does not count."""
    found = {name: bits for name, bits in fingerprint(out).items() if ".corrupt" not in name}
    return sorted(name for name in found | reference.bits if found.get(name) != reference.bits.get(name))


def leftovers(out: Path) -> list[str]:
    """Temporary files that a finished run left."""
    return [str(path.relative_to(out)) for path in out.rglob("*.tmp")]


def killed_at(zygote: Zygote, out: Path, commits: list[list[str]], *overrides, when: str = "before") -> int:
    """Kill the run into `out` at each of these commits in turn, each time started again; returns the kills."""
    kills = 0
    for commit in commits:
        ended = zygote.go(out, *overrides, fault={"do": "kill", "at": commit, "when": when})
        assert ended.code in (0, -signal.SIGKILL), ended.err
        kills += ended.code == -signal.SIGKILL
    return kills


def killed_at_random(zygote: Zygote, out: Path, reference: Reference, seed: int, times: int = 5) -> None:
    """Kill the run into `out` after random times, `times` in a row. One that ends before begins anew, to be killed earlier."""
    rng, kills, longest = random.Random(seed), 0, 0.6 * reference.seconds
    while kills < times:
        ended = zygote.start(*SETTINGS, f"out={out}").wait(timeout=rng.uniform(0.1, 1) * longest)
        kills += 1
        if ended.code is not None:
            assert ended.code == 0, ended.err
            shutil.rmtree(out)
            kills, longest = 0, longest / 2
