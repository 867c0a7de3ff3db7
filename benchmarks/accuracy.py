"""Every recipe against labels alone on CamVid, at equal optimizer steps and with the same network, over budgets and seeds.

    python benchmarks/accuracy.py DATA_ROOT --out runs/accuracy [--recipes noisy_student fixmatch] [--labels 8 23]

`supervised` trains for --steps. Recipes with generations spend half of them on the teacher and the other half on one student.
Every step sees 16 images: labelled ones, or 8 labelled and 8 others. Every cell is a run of `python -m selftrain.run`, so a study
that was stopped goes on where it was. Masks are spread over the video sequences; val chooses the generation, test is read once,
at the end of each run. Prints the table of what is finished and writes it to OUT/accuracy.json.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

STEPS = 2000
# The network is the same everywhere, so a gain is one of the unlabelled images and not of a larger student.
SETTINGS = [
    "data=camvid", "data.size=[90,120]", "train.crop=[64,96]", "model.encoder=tu-resnet10t",
    "model.decoder_channels=[64,48,32,16,16]", "train.ema=0.995", "train.eval_every=0", "train.checkpoint_every=200",
    "train.labelled_batch=16", "train.unlabelled_batch=8", "train.threads=1", "labels.crf.enabled=false", "export.onnx=false",
]  # fmt: skip
ALL = 0  # full supervision: every mask of the training split
BUDGETS = (8, 23, 46)
ONLINE = ("mean_teacher", "fixmatch", "unimatch_v2", "cps")
RECIPES = ("supervised", "pseudo_label", "st", "dars", "noisy_student", *ONLINE)
# One student, with the noise of the recipe's first.
STUDENT = "labelled_batch: 8, init: teacher, noise: {rand_n: 1, rand_m: 5, cutmix: 0.5}"

Cell = tuple[str, int, int]  # recipe, labels, seed


def cells(recipes: list[str], budgets: list[int], seeds: int) -> list[Cell]:
    """Seed by seed, so that a part of the study is a fair one too."""
    columns = [("supervised", labels) for labels in (*budgets, ALL)]
    columns += [(recipe, labels) for recipe in recipes if recipe != "supervised" for labels in budgets]
    return [(recipe, labels, seed) for seed in range(seeds) for recipe, labels in columns]


def settings(recipe: str, steps: int) -> list[str]:
    """How a recipe spends its steps."""
    half = steps // 2
    if recipe == "supervised":
        return [f"train.steps={steps}"]
    if recipe in ONLINE:
        return [f"train.steps={steps}", "train.labelled_batch=8"]
    if recipe == "noisy_student":
        return [f"train.steps={half}", f"generations=[{{}}, {{{STUDENT}}}]"]
    return [f"train.steps={half}", "generations.1.labelled_batch=8"]


def directory(out: Path, cell: Cell) -> Path:
    recipe, labels, seed = cell
    return out / f"{recipe}-{labels or 'all'}-{seed}"


def train(root: Path, out: Path, steps: int, cell: Cell) -> None:
    recipe, labels, seed = cell
    where = directory(out, cell)
    if (where / "report.json").is_file():
        return
    where.mkdir(parents=True, exist_ok=True)
    arguments = [f"recipe={recipe}", *SETTINGS, *settings(recipe, steps), f"data.root={root}"]
    arguments += [f"data.splits.labels={labels}", f"seed={seed}", f"out={where}"]
    with open(where / "log.txt", "a") as log:
        code = subprocess.run(
            [sys.executable, "-m", "selftrain.run", *arguments], stdout=log, stderr=subprocess.STDOUT
        ).returncode
    print(f"{where.name}: {'done' if code == 0 else f'exit {code}, see its log.txt'}", flush=True)


def scores(out: Path, recipe: str, labels: int, seeds: int) -> dict[int, float]:
    """Test mIoU by seed of the finished runs."""
    paths = {seed: directory(out, (recipe, labels, seed)) / "report.json" for seed in range(seeds)}
    return {seed: json.loads(path.read_text())["test"]["miou"] for seed, path in paths.items() if path.is_file()}


def spread(values: list[float]) -> str:
    """mean ± sample standard deviation (number of runs)."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.4f} ± {deviation:.4f} ({len(values)})" if values else "–"


def table(out: Path, recipes: list[str], budgets: list[int], seeds: int) -> list[str]:
    """Markdown rows: budget, recipe, its score, gain over supervised seed by seed, share of the gap to all masks closed."""
    rows = ["| masks | recipe | test mIoU | gain, seed by seed | gap closed |", "| --- | --- | --- | --- | --- |"]
    full = scores(out, "supervised", ALL, seeds)
    rows += [f"| all | supervised | {spread(list(full.values()))} | | |"]
    for labels in budgets:
        alone = scores(out, "supervised", labels, seeds)
        for recipe in recipes:
            found = scores(out, recipe, labels, seeds)
            gains = [found[seed] - alone[seed] for seed in alone if seed in found]
            gaps = [full[seed] - alone[seed] for seed in alone if seed in found and seed in full]
            closed = f"{sum(gains) / sum(gaps):.0%}" if gaps and len(gaps) == len(gains) else "–"
            gain = "| |" if recipe == "supervised" else f"{spread(gains)} | {closed} |"
            rows.append(f"| {labels} | {recipe} | {spread(list(found.values()))} | {gain}")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="CamVid: images/{train,val,test} and masks/{train,val,test}")
    parser.add_argument("--out", type=Path, default=Path("runs/accuracy"))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), choices=RECIPES)
    parser.add_argument("--labels", nargs="+", type=int, default=list(BUDGETS))
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time, one thread each")
    parser.add_argument("--table", action="store_true", help="print what is finished, run nothing")
    arguments = parser.parse_args()
    study = cells(arguments.recipes, arguments.labels, arguments.seeds)
    if not arguments.table:
        with ThreadPoolExecutor(arguments.jobs) as pool:
            list(pool.map(lambda cell: train(arguments.root, arguments.out, arguments.steps, cell), study))
    rows = table(arguments.out, arguments.recipes, arguments.labels, arguments.seeds)
    print("test mIoU, mean ± standard deviation (runs)\n" + "\n".join(rows))
    found = {
        directory(arguments.out, cell).name: json.loads(path.read_text())
        for cell in study
        if (path := directory(arguments.out, cell) / "report.json").is_file()
    }
    (arguments.out / "accuracy.json").write_text(json.dumps({"rows": rows, "reports": found}, indent=1))


if __name__ == "__main__":
    main()
