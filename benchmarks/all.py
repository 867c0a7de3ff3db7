"""Run every benchmark in turn and write one table.

    python benchmarks/all.py [--camvid ROOT] [--out runs/bench] [NAME ...]

The rows are written to OUT/NAME.json and the table into docs/performance.md.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import limits
from sides import Row, cpu, put, table

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "performance.md"
NAMES = [
    "training",
    "labelling",
    "evaluation",
    "durability",
    "verify",
    "memory",
    "millions",
    "start",
    "ranks",
    "busy",
]
ON_CAMVID = ("labelling", "evaluation")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", default=NAMES, help=f"some of {', '.join(NAMES)}")
    parser.add_argument("--camvid", type=Path, help="data.root of CamVid: its images instead of drawn ones")
    parser.add_argument("--out", type=Path, default=HERE.parent / "runs" / "bench")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    began, failed = time.monotonic(), []
    for name in arguments.names:
        extra = ["--camvid", str(arguments.camvid)] if name in ON_CAMVID and arguments.camvid else []
        print(f"\n{name}", flush=True)
        command = [sys.executable, HERE / f"{name}.py", "--out", arguments.out / f"{name}.json", *extra]
        failed += [name] if subprocess.run(command).returncode else []
    print(f"\nall of it took {(time.monotonic() - began) / 60:.1f} minutes")
    write(arguments.out)
    if failed:
        sys.exit(f"these benchmarks failed: {', '.join(failed)}")


def write(out: Path) -> None:
    """Write the table of all measurements into the page."""
    files = [out / f"{name}.json" for name in NAMES]
    rows = [Row(**row) for path in files if path.exists() for row in json.loads(path.read_text())]
    machine = f"{len(os.sched_getaffinity(0))} cores of {cpu()}, {time.strftime('%Y-%m-%d')}"
    put(PAGE, "table of make bench", f"{machine}\n\n{table(rows)}")
    put(PAGE, "table of limits", limits.page(out))


if __name__ == "__main__":
    main()
