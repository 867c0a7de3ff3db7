"""Simulated labelling of 100,000, 1,000,000 and 10,000,000 images in tar shards, without their pixels.

    python benchmarks/millions.py [--out millions.json] [--counts 100000 1000000]

The indices of shards, the manifest, the label store's index and the batches are made by the code of a run; the
bytes of images and labels do not exist. Each step is a process of its own, whose peak memory is told:

* index: the indices of shards of 10,000 images are written (without the pass over the tar files);
* begin: a run lists the images and writes its manifest;
* label: the summary and the index of the label store of all images are written;
* resume: a new process lists the images, compares the manifest, and opens the label store;
* draw: a student selects the labels, and draws 1,000 batches of 16 images.
"""

import argparse
import hashlib
import io
import json
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image
from sides import Row, below, finish, parser

COUNTS = [100_000, 1_000_000, 10_000_000]
EACH, SHARD, STEPS, BATCH, CLASSES = 10_000, 32, 1_000, 16, 11
STEPS_OF_A_RUN = ("index", "begin", "label", "resume", "draw")
MEMORY, SECONDS = 2_000, 120  # most MB of a step, and most seconds of all of them


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--counts", type=int, nargs="+", default=COUNTS)
    arguments.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    arguments = arguments.parse_args()
    if arguments.measure:
        return measure(*arguments.measure)
    rows = [row for count in arguments.counts for row in of(count)]
    finish([indexing(), *rows], arguments.out)


def of(count: int) -> list[Row]:
    """The rows of a number of images."""
    rows, total = list[Row](), 0.0
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        for step in STEPS_OF_A_RUN:
            command = [sys.executable, __file__, "--measure", step, folder, str(count)]
            found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            seconds, memory = json.loads(found.splitlines()[-1])
            total += seconds
            rows.append(below(f"{count:,} images: {step}, peak memory", memory, "MB", MEMORY))
            rows.append(below(f"{count:,} images: {step}", seconds, "s", SECONDS))
        rows.append(below(f"{count:,} images: all of it", total, "s", SECONDS))
        for name, place in (
            ("indices of shards", "cache"),
            ("manifest", "run/data*"),
            ("index of labels", "labels"),
        ):
            files = [
                path for one in Path(folder).glob(place) for path in (one, *one.rglob("*")) if path.is_file()
            ]
            each = sum(path.stat().st_size for path in files) / count
            rows.append(below(f"{count:,} images: {name}", each, "bytes an image", 150))
    return rows


def measure(step: str, folder: str, count: str) -> None:
    """Run a step; prints its seconds and the peak memory of this process in MB."""
    work = globals()[step]
    prepare(Path(folder), int(count)) if step == "index" else None
    began = time.perf_counter()
    work(Path(folder), int(count))
    seconds = time.perf_counter() - began
    print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))


def prepare(folder: Path, count: int) -> None:
    """A data set with a few masks, and files in place of the shards."""
    for name in range(10):
        for part, form in (("images", (8, 8, 3)), ("masks", (8, 8))):
            (folder / "data" / part).mkdir(parents=True, exist_ok=True)
            picture = np.full(form, name, np.uint8)
            Image.fromarray(picture).save(folder / "data" / part / f"{name}.png")
    (folder / "data" / "unlabelled").mkdir()
    for number in range(count // EACH):
        shard_of(folder, number).write_bytes(b"-")


def shard_of(folder: Path, number: int) -> Path:
    return (folder / "data" / "unlabelled" / f"shard-{number:06d}.tar").resolve()


def index(folder: Path, count: int) -> None:
    from selftrain import columns
    from selftrain.data import shards

    for number in range(count // EACH):
        rows = [
            (
                f"{number:06d}-{i:06d}",
                ".jpg",
                512 + i * 65536,
                65000,
                hashlib.sha256(b"%d %d" % (number, i)).digest(),
            )
            for i in range(EACH)
        ]
        path = shard_of(folder, number)
        status = path.stat()
        facts = {"version": shards.VERSION, "shard": str(path), "suffixes": [".jpg"], "faults": []}
        facts["state"] = [status.st_size, status.st_mtime_ns]
        columns.write(shards.kept_at(path), shards.columns_of(rows), facts)


def data_of(folder: Path):
    from selftrain.config import DataConfig
    from selftrain.data.load import load
    from selftrain.datasets import spec_of

    classes = [str(i) for i in range(CLASSES)]
    return load(
        spec_of(
            DataConfig(
                name="millions",
                format="folder",
                root=str(folder / "data"),
                unlabelled="unlabelled",
                classes=classes,
            )
        )
    )


def settle(folder: Path):
    from selftrain.data.load import manifest
    from selftrain.rundir import RunDir

    data = data_of(folder)
    RunDir(folder / "run").settle({"generations": [{}]}, {**manifest(data), "set_aside": []})
    return data


def begin(folder: Path, count: int) -> None:
    assert len(settle(folder).unlabelled) == count


def label(folder: Path, count: int) -> None:
    from selftrain.data.many import ids_of
    from selftrain.labels import store

    told = store.Told(CLASSES)
    for _ in range(count // SHARD):
        histogram = np.ones((CLASSES, 256), np.int64)
        told.add({"histogram": histogram, "confidence": np.full(SHARD, 0.5, np.float32)}, SHARD)
    hashes = [f"{number:064x}" for number in range(count // SHARD)]
    ids = store.ids_digest(chain.from_iterable(ids_of(data_of(folder).unlabelled)))
    facts = store._facts(count, ids, store.Origin("0" * 64, CLASSES, 3))
    store.write_index(folder / "labels", told, facts, hashes, SHARD)


def resume(folder: Path, count: int) -> None:
    from selftrain.data.many import ids_of
    from selftrain.labels import store

    data, labels = settle(folder), store.LabelStore(folder / "labels")
    assert labels.index.ids_sha256 == store.ids_digest(chain.from_iterable(ids_of(data.unlabelled)))
    assert len(labels.confidence()) == count


def draw(folder: Path, count: int) -> None:
    from selftrain.config import SelectConfig
    from selftrain.labels.store import LabelStore
    from selftrain.rng import batch_ids
    from selftrain.stages.select import select

    data, labels = data_of(folder), LabelStore(folder / "labels")
    rule = SelectConfig(image_share=0.9)
    chosen = select(
        labels,
        data.unlabelled,
        data.classes,
        rule,
        generation=0,
        known=np.ones(CLASSES),
        reliability=labels.confidence(),
    )
    chosen.report()
    for step in range(STEPS):
        for place in batch_ids(len(chosen.samples), BATCH, step, 0, "gen1", "pseudo"):
            assert chosen.samples[place].image.path.length


def indexing() -> Row:
    """The pass over a real shard of 10,000 images of 4 kB."""
    from selftrain.data import shards

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tar"
        with tarfile.open(path, "w") as tar:
            for number in range(EACH):
                info = tarfile.TarInfo(f"{number:06d}.jpg")
                info.size = 4096
                tar.addfile(info, io.BytesIO(bytes(4096)))
        began = time.perf_counter()
        shards.index_of(path, (1, 1))
        return below("index a tar file", (time.perf_counter() - began) / EACH * 1e6, "us an image", 200)


if __name__ == "__main__":
    main()
