"""Training beside other work: its speed beside neighbours, against its speed alone.

    python benchmarks/busy.py [--out busy.json]

A neighbour is a Python loop that never rests, or a second training. Both sides train the same small network
(U-Net with tu-resnet10t, 8 crops of 64x64, where threads synchronise most often) with a thread per core. Ours
starts as a run does (selftrain/process.py); the reference is torch with its defaults. The fair share of n
cores beside k loops is n / (n + k).
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from sides import Row, finish, parser

from selftrain import process

BATCH, SIDE, SECONDS = 8, 64, 3.0
SIDES = ("ours", "reference")
GOALS = {"one Python loop": 0.4, "two Python loops": 0.27, "a second training (both together)": 0.8}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--serve", choices=SIDES)
    arguments = arguments.parse_args()
    if arguments.serve:
        return serve(arguments.serve)
    with ExitStack() as stack:
        pairs = {side: [stack.enter_context(training(side)) for _ in range(2)] for side in SIDES}
        speeds = [measure(pairs) for _ in range(arguments.rounds + 1)][1:]
    finish(rows(speeds), arguments.out)


def measure(pairs: dict[str, list[subprocess.Popen]]) -> dict[tuple[str, str], float]:
    """Images per second by situation and side, each measured once."""
    speeds = {("idle", side): together(pair[:1]) for side, pair in pairs.items()}
    for count, name in ((1, "one Python loop"), (2, "two Python loops")):
        with loops(count):
            speeds |= {(name, side): together(pair[:1]) for side, pair in pairs.items()}
    return speeds | {
        ("a second training (both together)", side): together(pair) for side, pair in pairs.items()
    }


def rows(speeds: list[dict[tuple[str, str], float]]) -> list[Row]:
    """Medians over the rounds. Beside neighbours: the share of the same side's speed alone."""
    median = {key: statistics.median(one[key] for one in speeds) for key in speeds[0]}
    ours, plain = (median["idle", side] for side in SIDES)
    table = [
        Row("training, idle machine", ours, plain, "images/s", ours / plain, ">= 0.97x", ours / plain >= 0.97)
    ]
    for name, goal in GOALS.items():
        ours, plain = (median[name, side] / median["idle", side] for side in SIDES)
        table.append(
            Row(
                f"training beside {name}",
                ours,
                plain,
                "of its speed alone",
                ours / plain,
                f">= {goal:g}",
                ours >= goal,
            )
        )
    return table


@contextmanager
def training(side: str) -> Iterator[subprocess.Popen]:
    """A process that trains for the seconds given by each input line and prints images per second."""
    chosen = {
        name: value for name, value in os.environ.items() if name not in (*process.WAITING, "OMP_NUM_THREADS")
    }
    pipe, command = subprocess.PIPE, [sys.executable, __file__, "--serve", side]
    child = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1, env=chosen)
    try:
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        yield child
    finally:
        child.kill()


@contextmanager
def loops(count: int) -> Iterator[None]:
    """Processes that use one core each."""
    children = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for child in children:
            child.kill()


def together(children: list[subprocess.Popen]) -> float:
    """Images per second of all children, which train at the same time."""
    for child in children:
        assert child.stdin is not None
        child.stdin.write(f"{SECONDS}\n")
    return sum(float(child.stdout.readline()) for child in children if child.stdout)


def serve(side: str) -> None:
    """Train on request. torch is imported here, since OpenMP must be configured before."""
    if side == "ours":
        process.prepare()
    import torch
    from torch.nn.functional import cross_entropy

    from selftrain.models.build import build, to_layout

    process.keep_freed()
    team = process.Team.of(process.cores())
    network = to_layout(build("unet", "tu-resnet10t", classes=6)).train()
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    images = torch.randn(BATCH, 3, SIDE, SIDE).to(memory_format=torch.channels_last)
    masks = torch.randint(0, 6, (BATCH, SIDE, SIDE))

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = cross_entropy(network(images), masks)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    with team.pinned() if side == "ours" else ExitStack():
        step()
        print("ready", flush=True)
        for line in sys.stdin:
            began, count = time.perf_counter(), 0
            while (passed := time.perf_counter() - began) < float(line):
                step()
                count += 1
            print(BATCH * count / passed, flush=True)


if __name__ == "__main__":
    main()
