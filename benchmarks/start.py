"""How long a user waits for `selftrain --help` and `selftrain status RUN`.

python benchmarks/start.py [--out start.json]
"""

import statistics
import subprocess
import sys
import tempfile
import time

from sides import below, finish, parser


def main() -> None:
    arguments = parser(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/run"
        run = [sys.executable, "-m", "selftrain.run", "recipe=smoke", f"out={out}", "export.onnx=false"]
        subprocess.run(run, check=True, stdout=subprocess.DEVNULL)
        rows = [
            below("selftrain --help", seconds("--help"), "s", 0.5),
            below("selftrain status RUN", seconds("status", out), "s", 1.0),
        ]
    finish(rows, arguments.out)


def seconds(*arguments: str, rounds: int = 7) -> float:
    """Median wall time of the command."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "selftrain.cli", *arguments], check=True, stdout=subprocess.DEVNULL
        )
        times.append(time.perf_counter() - began)
    return statistics.median(times)


if __name__ == "__main__":
    main()
