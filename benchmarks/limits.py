"""The machine's limits, for rows whose bound is a simple count: multiplications, or starting Python.

    python benchmarks/limits.py [--bench runs/bench]

A network is never faster than its multiplications at the speed of a large matrix product; passes over memory
come on top. The rows that benchmarks/all.py wrote under --bench are compared with their bound.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import labelling
import torch
from sides import Row
from torch.utils.flop_counter import FlopCounterMode

from selftrain.inference.windows import pad
from selftrain.models.build import multiple_of

SIZE = 4096  # of the matrix product
# plain and both flips
VIEWS = [(round(360 * scale), round(480 * scale)) for scale in labelling.SCALES for _ in range(4)]


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--bench", type=Path, default=Path("runs/bench"))
    print(page(arguments.parse_args().bench))


def page(bench: Path) -> str:
    """Markdown: the machine's speeds, and a line for each row with a bound."""
    half, full = products(torch.bfloat16), products(torch.float32)
    view, crop = operations((360, 480)), operations((192, 256))
    labelled = sum(map(operations, VIEWS))
    bounds = [
        (
            "student step",
            half / (3 * crop),
            "images/s",
            f"{3 * crop / 1e9:.1f} GFLOP an image, forward and backward",
        ),
        (
            "pseudo-labelling (",
            half / labelled,
            "images/s",
            f"{labelled / 1e9:.0f} GFLOP an image of 12 views",
        ),
        ("evaluation, bf16", half / view, "images/s", f"{view / 1e9:.1f} GFLOP an image"),
        ("evaluation, fp32 |", full / view, "images/s", f"{view / 1e9:.1f} GFLOP an image"),
        ("selftrain --help", 1 / starting(), "starts/s", "`python -c pass`"),
    ]
    rows = [Row(**row) for path in sorted(bench.glob("*.json")) for row in json.loads(path.read_text())]
    speeds = f"bf16 products {half / 1e9:,.0f} GFLOP/s, fp32 {full / 1e9:,.0f} GFLOP/s"
    lines = [f"{speeds}, a copy {copying() / 1e9:.1f} GB/s of a core.", ""]
    lines += ["| what | bound | ours | share of it | made of |", "| --- | --- | --- | --- | --- |"]
    for name, bound, unit, why in bounds:
        ours = next((row.ours for row in rows if f"{row.what} |".startswith(name)), None)
        if ours and unit == "starts/s":
            ours = 1 / ours
        reached = f"{ours:.4g} {unit} | {ours / bound:.0%}" if ours else "– | –"
        lines.append(f"| {name.strip(' (|')} | {bound:.4g} {unit} | {reached} | {why} |")
    return "\n".join(lines)


def quickest(function: Callable[[], object], rounds: int = 5) -> float:
    """Seconds of the fastest call."""
    function()
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return min(times)


def products(dtype: torch.dtype) -> float:
    """Operations per second in a product of square matrices."""
    one = torch.randn(SIZE, SIZE).to(dtype)
    return 2 * SIZE**3 / quickest(lambda: one @ one)


def copying() -> float:
    """Bytes per second that one core reads and writes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    one, other = torch.zeros(2**26, dtype=torch.uint8), torch.ones(2**26, dtype=torch.uint8)
    seconds = quickest(lambda: one.copy_(other))
    torch.set_num_threads(threads)
    return 2 * one.numel() / seconds


def operations(size: tuple[int, int]) -> float:
    """Operations of the benchmark's network on one image of (H, W), padded as in labelling."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        labelling.network().eval()(pad(torch.zeros(1, 3, *size), multiple_of("unet")))
    return counter.get_total_flops()


def starting() -> float:
    """Seconds of a Python that does nothing."""
    return quickest(lambda: subprocess.run([sys.executable, "-c", "pass"], check=True))


if __name__ == "__main__":
    main()
