"""A store of 1,000,000 labels: opening it, and drawing batches of ids from it.

python benchmarks/scale.py [--out scale.json]
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sides import below, finish, parser

COUNT, SHARD, STEPS, BATCH = 1_000_000, 32, 10_000, 16


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = arguments.parse_args()
    if arguments.measure:
        return measure(arguments.measure)
    with tempfile.TemporaryDirectory() as folder:
        shards = [f"{number:064x}" for number in range(COUNT // SHARD)]
        facts = {
            "version": 1,
            "classes": 11,
            "soft_classes": 3,
            "teacher": "0" * 64,
            "count": COUNT,
            "ids_sha256": "0" * 64,
        }
        (Path(folder) / "index.json").write_text(json.dumps(facts | {"shard": SHARD, "shards": shards}))
        found = subprocess.run(
            [sys.executable, __file__, "--measure", folder], capture_output=True, text=True, check=True
        ).stdout
    seconds, memory, first, last = json.loads(found)
    rows = [
        below("open a store of 1,000,000 labels, draw 10,000 batches of 16 ids", seconds, "s", 1),
        below("the same: peak memory", memory, "MB", 300),
        below("a batch of ids out of 1,000,000, against out of 1,000", last / first, "x", 1.5),
    ]
    finish(rows, arguments.out)


def measure(directory: Path) -> None:
    """Measure in a separate process, since its memory includes all imports."""
    from selftrain.labels.store import LabelStore
    from selftrain.rng import batch_ids

    began = time.perf_counter()
    store = LabelStore(directory)
    for step in range(STEPS):
        batch_ids(len(store), BATCH, step, 0, "gen1", "pseudo")
    seconds = time.perf_counter() - began
    each = []
    for count in (1000, COUNT):
        batch_ids(count, BATCH, 0, 0, "gen1", "pseudo")  # the order of an epoch is drawn once
        began = time.perf_counter()
        for step in range(50):
            batch_ids(count, BATCH, step, 0, "gen1", "pseudo")
        each.append(time.perf_counter() - began)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps([seconds, memory, *each]))


if __name__ == "__main__":
    main()
