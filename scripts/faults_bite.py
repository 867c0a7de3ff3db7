"""Break a copy of selftrain in ten ways, one at a time, and show that the fault tests fail for each.

    python scripts/faults_bite.py [NAME ...]

A sabotage is a piece of source and its replacement. Exits with 1 if one of them is not noticed or does not
apply.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUITE = ["tests/faults", "tests/test_rng.py", "tests/data/test_batches.py"]
SABOTAGES = {  # name: file, source, replacement
    "no fsync": ("selftrain/files.py", "        os.fsync(file.fileno())\n", ""),
    "written in place": (
        "selftrain/files.py",
        '    temporary = path.with_name(f".{path.name}{TEMPORARY}")\n    try:\n        _write_synced(temporary, content)\n'
        "        os.replace(temporary, path)\n",
        "    temporary = path\n    try:\n        _write_synced(path, content)\n",
    ),
    "hashes not compared": (
        "selftrain/files.py", "        if hashlib.sha256(files[name]).hexdigest() != expected:\n", "        if False:\n"
    ),
    "deleted before written": (
        "selftrain/checkpoint.py",
        "    commit_directory(path, files)\n    prune(directory)\n",
        "    for old in steps_in(directory):\n        remove_directory(old)\n    commit_directory(path, files)\n",
    ),
    "no lock": ("selftrain/rundir.py", "fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)", "pass"),
    "randomness of the process": ("selftrain/rng.py", "    random.seed(seed)\n", "    return\n"),
    "randomness of the worker": (
        "selftrain/rng.py",
        "    return np.random.Generator(np.random.PCG64(seed_of(*keys)))",
        "    import os\n\n    return np.random.Generator(np.random.PCG64(seed_of(*keys, os.getpid())))",
    ),
    "labels without an index": (
        "selftrain/stages/pseudo_label.py",
        "        if not (directory / store.INDEX).exists():\n",
        "        if not store.shard_path(directory, 0).exists():\n",
    ),
    "no checkpoint kept": ("selftrain/checkpoint.py", "steps_in(directory)[:-KEEP]", "steps_in(directory)"),
    "teacher's hash ignored": ("selftrain/stages/pseudo_label.py", "found.index.teacher != teacher or ", ""),
}  # fmt: skip


def main() -> None:
    names = sys.argv[1:] or list(SABOTAGES)
    unnoticed = []
    print(f"{'sabotage':28} the first test that turned red", flush=True)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for name, red in zip(names, pool.map(lambda name: first_red(*SABOTAGES[name]), names), strict=True):
            print(f"{name:28} {red or 'NONE: went unnoticed'}", flush=True)
            unnoticed += [] if red else [name]
    sys.exit(1 if unnoticed else 0)


def first_red(file: str, there: str, instead: str) -> str:
    """The first test that fails in a copy with `there` replaced by `instead`; "" if all pass."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "selftrain"
        shutil.copytree(
            ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv", "runs", ".*_cache", "__pycache__")
        )
        source = (copy / file).read_text()
        if source.count(there) != 1:
            sys.exit(f"{file} has {source.count(there)} places like {there!r}, not one: mend this script")
        (copy / file).write_text(source.replace(there, instead))
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--tb=no", *SUITE]
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True, env=environment(copy))
    if done.returncode not in (0, 1):
        sys.exit(f"pytest could not run: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    lines = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return lines[0].split(" - ")[0].split(" ", 1)[1] if lines else ""


def environment(copy: Path) -> dict[str, str]:
    """The copy's package comes before the installed one, in every process."""
    return {**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}


if __name__ == "__main__":
    main()
