"""Starting real runs from tests, as a user would."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SMOKE = ["recipe=smoke", "train.threads=1", "export.onnx=false"]


def start(*overrides, launcher=(sys.executable,), **environment):
    command = [*launcher, "-m", "selftrain.run", *overrides]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )


def run_command(*overrides, **settings):
    """(exit code, stdout, stderr) of a whole run by the real command; the fixture `run` forks one and is quicker."""
    process = start(*overrides, **settings)
    out, err = process.communicate(timeout=240)
    return process.returncode, out, err


def kill_when(path: Path, *overrides, number=signal.SIGKILL):
    """Start a run and signal it as soon as `path` exists; returns the exit code."""
    process = start(*overrides)
    deadline = time.monotonic() + 200
    while process.poll() is None and not path.exists():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.002)
    assert process.poll() is None, f"the run ended before {path} came: {process.communicate()}"
    process.send_signal(number)
    process.communicate(timeout=60)
    return process.returncode


def fingerprint(directory: Path) -> dict[str, str]:
    """sha256 of everything that a run's seeds decide: weights, optimizer, labels, choices, metrics, scores."""
    chosen = [*directory.rglob("*.safetensors"), *directory.rglob("selection.json"), *directory.rglob("index.json")]
    files = {str(path.relative_to(directory)): path.read_bytes() for path in [*chosen, directory / "metrics.jsonl"]}
    for path in directory.rglob("report.json"):
        files[str(path.relative_to(directory))] = json.dumps(_timeless(json.loads(path.read_text()))).encode()
    return {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}


def _timeless(tree):
    if isinstance(tree, dict):
        return {name: _timeless(value) for name, value in tree.items() if name != "seconds"}
    return [_timeless(entry) for entry in tree] if isinstance(tree, list) else tree
