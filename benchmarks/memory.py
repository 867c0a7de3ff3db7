"""Peak memory of labelling and of training at 500 and at 5,000 unlabelled images: it should not grow.

    python benchmarks/memory.py [--out memory.json]

Runs of teacher, labels and student on drawn images of 96x96; the budget for decoded images is 8 MB, which
both sets exceed. The peak of a stage is the kernel's count, reset when the stage begins.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sides import below, finish, parser

SETTINGS = [
    "recipe=smoke", "data.size=[96,96]", "train.crop=[96,96]", "data.cache_mb=8", "train.steps=20", "export.onnx=false",
    "labels.crf.enabled=false",
]  # fmt: skip
ENDS = {
    "training": "gen0/model/MANIFEST.json",
    "labelling": "gen0/labels/index.json",
    "training on labels": "report.json",
}


def main() -> None:
    arguments = parser(__doc__).parse_args()
    few, many = peaks(500), peaks(5000)
    rows = []
    for stage in ENDS:
        print(
            f"peak memory of {stage}: {few[stage]:.0f} MB at 500 unlabelled images, {many[stage]:.0f} MB at 5,000"
        )
        growth = 100 * (many[stage] / few[stage] - 1)
        rows.append(
            below(f"peak memory of {stage}, 5,000 against 500 unlabelled images", growth, "% more", 5)
        )
    finish(rows, arguments.out)


def peaks(unlabelled: int) -> dict[str, float]:
    """Peak resident memory of a run in MB, stage by stage."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [
            sys.executable,
            "-m",
            "selftrain.run",
            *SETTINGS,
            f"data.shapes.unlabelled={unlabelled}",
            f"out={run}",
        ]
        log = Path(folder) / "log.txt"
        with open(log, "w") as said:
            process = subprocess.Popen(command, stdout=said, stderr=said, cwd=Path(__file__).parent.parent)
            found = {stage: until(run / end, process) for stage, end in ENDS.items()}
        if process.wait():
            sys.exit(f"the run failed: {log.read_text()}")
    return found


def until(end: Path, process: subprocess.Popen) -> float:
    """Peak resident memory in MB of a process from now to the appearance of a file."""
    kernel = Path(f"/proc/{process.pid}")
    peak = 0
    if process.poll() is None:
        (kernel / "clear_refs").write_text("5")  # proc(5): resets the peak to the resident memory
    while process.poll() is None and not end.exists():
        status = dict(line.split(":", 1) for line in (kernel / "status").read_text().splitlines())
        peak = int(status.get("VmHWM", "0 kB").split()[0]) or peak  # missing once the process has ended
        time.sleep(0.05)
    return peak / 1024


if __name__ == "__main__":
    main()
