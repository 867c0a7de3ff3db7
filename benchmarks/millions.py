"""Simulated labelling of 100,000, 1,000,000 and 10,000,000 images in tar shards, without their pixels.

    python benchmarks/millions.py [--out millions.json] [--counts 100000 1000000] [--page]

The indices of shards, the manifest, the index of the label store and the batches are made by the code of a run.
The bytes of images and labels do not exist. Each step is a process of its own:

* index: the indices of shards of 10,000 images are written (without the pass over the tar files);
* begin: a run lists the images, and writes its manifest;
* label: the summary and the index of a store with the labels of all images are written;
* resume: a process lists the images, compares the manifest, and opens the label store;
* draw: a student selects the labels, and draws 1,000 batches of 16 images.

The memory is the peak of the process, with about 280 MB of libraries. --page writes the table to
docs/performance.md.
"""

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image
from sides import Row, below, cpu, finish, parser, put

from selftrain import columns
from selftrain.config import DataConfig, SelectConfig, SplitConfig
from selftrain.data import shards
from selftrain.data.dataset import DataSet
from selftrain.data.load import load, manifest
from selftrain.data.many import ids_of
from selftrain.data.storage import state_of
from selftrain.datasets import spec_of
from selftrain.labels import store
from selftrain.rng import batch_ids
from selftrain.rundir import RunDir
from selftrain.stages.select import select

PAGE = Path(__file__).resolve().parent.parent / "docs" / "performance.md"
COUNTS = [100_000, 1_000_000, 10_000_000]
EACH, SHARD, STEPS, BATCH, CLASSES = 10_000, 32, 1_000, 16, 11
MEMORY, SECONDS, BYTES = 2_000, 120, 250  # goals: MB of a step, seconds of all steps, bytes of an image


@dataclass(frozen=True)
class Size:
    """What was measured for a number of images."""

    count: int
    seconds: dict[str, float]  # of each step
    memory: dict[str, float]  # its peak in MB
    bytes: dict[str, float]  # on the disk for an image

    @property
    def rows(self) -> list[Row]:
        """The rows of make bench."""
        name = f"{self.count:,} images in shards"
        return [
            below(f"{name}: index, begin, label, resume, draw", sum(self.seconds.values()), "s", SECONDS),
            below(f"{name}: peak memory of a step", max(self.memory.values()), "MB", MEMORY),
            below(f"{name}: on the disk", sum(self.bytes.values()), "bytes an image", BYTES),
        ]


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--counts", type=int, nargs="+", default=COUNTS)
    arguments.add_argument("--page", action="store_true")
    arguments.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    arguments = arguments.parse_args()
    if arguments.measure:
        return measure(*arguments.measure)
    passed, sizes = indexing(), [of(count) for count in arguments.counts]
    told = table(sizes)
    print(told, end="\n\n")
    finish([passed, *(row for size in sizes for row in size.rows)], arguments.out)
    if arguments.page:
        machine = f"{len(os.sched_getaffinity(0))} cores of {cpu()}, {time.strftime('%Y-%m-%d')}"
        put(PAGE, "table of millions", f"{machine}\n\n{told}")


def table(sizes: list[Size]) -> str:
    """Seconds and memory of each step, and bytes on the disk, as a Markdown table."""
    lines = [["", *(f"{size.count:,} images" for size in sizes)], ["---"] * (len(sizes) + 1)]
    for step in STEPS_OF_A_RUN:
        lines.append([step, *(f"{size.seconds[step]:.1f} s, {size.memory[step]:.0f} MB" for size in sizes)])
    for name in sizes[0].bytes:
        each = (size.bytes[name] for size in sizes)
        whole = (size.bytes[name] * size.count / 1e6 for size in sizes)
        cells = [f"{one:.0f} MB, {part:.0f} bytes an image" for one, part in zip(whole, each, strict=True)]
        lines.append([name, *cells])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def of(count: int) -> Size:
    """Measure a number of images."""
    seconds, memory = dict[str, float](), dict[str, float]()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        prepare(Path(folder), count)
        for step in STEPS_OF_A_RUN:
            command = [sys.executable, __file__, "--measure", step, folder, str(count)]
            found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
            seconds[step], memory[step] = json.loads(found.splitlines()[-1])
        each = {"indices of shards": "cache", "manifest": "run", "index of labels": "labels"}
        return Size(
            count, seconds, memory, {name: size_of(Path(folder) / each[name]) / count for name in each}
        )


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def measure(step: str, folder: str, count: str) -> None:
    """Run a step; prints its seconds and the peak memory of this process in MB."""
    began = time.perf_counter()
    STEPS_OF_A_RUN[step](Path(folder), int(count))
    seconds = time.perf_counter() - began
    print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))


def prepare(folder: Path, count: int) -> None:
    """Write a few masks, and files in place of the shards."""
    for part, form in (("images", (8, 8, 3)), ("masks", (8, 8))):
        (folder / "data" / part).mkdir(parents=True)
        for name in range(10):
            Image.fromarray(np.full(form, name, np.uint8)).save(folder / "data" / part / f"{name}.png")
    (folder / "data" / "unlabelled").mkdir()
    for number in range(count // EACH):
        shard_of(folder, number).write_bytes(b"-")


def shard_of(folder: Path, number: int) -> Path:
    return (folder / "data" / "unlabelled" / f"shard-{number:06d}.tar").resolve()


def index(folder: Path, count: int) -> None:
    for number in range(count // EACH):
        hashes = np.random.default_rng(number).bytes(32 * EACH)
        rows = [
            (f"{number:06d}-{i:06d}", ".jpg", 65536 * i, 65000, hashes[32 * i : 32 * i + 32])
            for i in range(EACH)
        ]
        path = shard_of(folder, number)
        facts = {"version": shards.VERSION, "shard": str(path), "suffixes": [".jpg"], "faults": []}
        facts["state"] = list(state_of(path))
        columns.write(shards.kept_at(path), shards.columns_of(rows), facts)


def data_of(folder: Path) -> DataSet:
    classes = [str(i) for i in range(CLASSES)]
    root = str(folder / "data")
    splits = SplitConfig(labels=4)  # the masks of two images are not used: these are unlabelled, too
    config = DataConfig("millions", "folder", root, unlabelled="unlabelled", classes=classes, splits=splits)
    return load(spec_of(config))


def settled(folder: Path) -> DataSet:
    data = data_of(folder)
    RunDir(folder / "run").settle({"generations": [{}]}, {**manifest(data), "set_aside": []})
    return data


def begin(folder: Path, count: int) -> None:
    assert len(settled(folder).unlabelled) == count + 2


def label(folder: Path, count: int) -> None:
    data, told = data_of(folder), store.Told(CLASSES)
    for first in range(0, len(data.unlabelled), SHARD):
        images = min(SHARD, len(data.unlabelled) - first)
        histogram = np.ones((CLASSES, 256), np.int64)
        told.add({"histogram": histogram, "confidence": np.full(images, 0.5, np.float32)}, images)
    hashes = [f"{number:064x}" for number in range(len(told.sizes))]
    origin = store.Origin("0" * 64, CLASSES, 3)
    store.write_index(folder / "labels", told, digest_of(data), hashes, origin, SHARD)


def digest_of(data: DataSet) -> str:
    return store.ids_digest(chain.from_iterable(ids_of(data.unlabelled)))


def resume(folder: Path, count: int) -> None:
    data, labels = settled(folder), store.LabelStore(folder / "labels")
    assert labels.index.ids_sha256 == digest_of(data)


def draw(folder: Path, count: int) -> None:
    data, labels = data_of(folder), store.LabelStore(folder / "labels")
    assert len(labels) == len(data.unlabelled) > count
    chosen = select(
        labels,
        data.unlabelled,
        data.classes,
        SelectConfig(image_share=0.9),
        generation=0,
        known=np.ones(CLASSES),
        reliability=labels.confidence(),
    )
    chosen.report()
    for step in range(STEPS):
        for place in batch_ids(len(chosen.samples), BATCH, step, 0, "gen1", "pseudo"):
            assert chosen.samples[place].image.fingerprint()


STEPS_OF_A_RUN = {"index": index, "begin": begin, "label": label, "resume": resume, "draw": draw}


def indexing() -> Row:
    """The pass over a tar file of 10,000 images of 4 kB."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tar"
        with tarfile.open(path, "w") as tar:
            for number in range(EACH):
                info = tarfile.TarInfo(f"{number:06d}.jpg")
                info.size = 4096
                tar.addfile(info, io.BytesIO(bytes(4096)))
        began = time.perf_counter()
        shards.index_of(path, state_of(path))
        each = (time.perf_counter() - began) / EACH * 1e6
        return below("index a tar file of images of 4 kB", each, "microseconds an image", 200)


if __name__ == "__main__":
    main()
