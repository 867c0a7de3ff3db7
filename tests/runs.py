"""Starting real runs from tests, as a user would."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FINGERPRINTS = ROOT / "tests" / "fingerprints.json"
SMALL = [  # any recipe in seconds: fp32, one thread
    "data.size=[32,32]", "data.shapes.labelled=4", "data.shapes.unlabelled=8", "data.shapes.val=2", "data.shapes.test=2",
    "train.steps=3", "train.crop=[32,32]", "train.labelled_batch=2", "train.unlabelled_batch=2", "train.warmup=1",
    "train.threads=1", "train.precision=none", "export.onnx=false", "select.threshold=quantile", "model.weights=null",
]  # fmt: skip
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
SMOKE = ["recipe=smoke", "model.encoder=tu-test_resnet", "train.threads=1", "export.onnx=false"]


def start(*overrides, launcher=(sys.executable,), **environment):
    command = [*launcher, "-m", "selftrain.run", *overrides]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
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
    chosen = [
        *directory.rglob("*.safetensors"),
        *directory.rglob("selection.json"),
        *directory.rglob("index.json"),
    ]
    files = {
        str(path.relative_to(directory)): path.read_bytes() for path in [*chosen, directory / "metrics.jsonl"]
    }
    for path in directory.rglob("report.json"):
        files[str(path.relative_to(directory))] = json.dumps(_timeless(json.loads(path.read_text()))).encode()
    return {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}


def bits(directory: Path) -> str:
    """One sha256 over what a run computed, whatever else its version writes: weights, labels and metrics."""
    computed = [*directory.glob("gen*/model/model.safetensors"), *directory.glob("gen*/labels/shard-*")]
    digest = hashlib.sha256()
    for path in [*sorted(computed), directory / "metrics.jsonl"]:
        digest.update(
            f"{path.relative_to(directory)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode()
        )
    return digest.hexdigest()


def known_fingerprints() -> dict[str, str]:
    """`bits` of each recipe at the size of SMALL on this kind of machine; empty where it is not known."""
    return json.loads(FINGERPRINTS.read_text()).get(machine(), {})


def machine() -> str:
    """What decides the bits besides the code: the CPU's kind, its caches and the version of torch."""
    facts = dict(
        line.split(":", 1)
        for line in Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
        if ":" in line
    )
    facts = {name.strip(): value.strip() for name, value in facts.items()}
    names = ("vendor_id", "cpu family", "model", "stepping", "cache size")
    wide = [flag for flag in facts.get("flags", "").split() if flag.startswith(("avx", "amx", "fma"))]
    return " ".join(
        [
            *(facts.get(name, "?") for name in names),
            *sorted(wide),
            f"torch {version('torch').partition('+')[0]}",
        ]
    )


def _timeless(tree):
    if isinstance(tree, dict):
        return {name: _timeless(value) for name, value in tree.items() if name != "seconds"}
    return [_timeless(entry) for entry in tree] if isinstance(tree, list) else tree
