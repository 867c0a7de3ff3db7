"""Self-training against labels alone on CamVid, at equal optimizer steps and with the same network, over seeds.

    python benchmarks/accuracy.py DATA_ROOT --out runs/accuracy

`supervised` trains for --steps. `noisy_student` spends the same number on teacher and student together: half of them on the
teacher, the other half on a student that begins as its teacher. Every step sees 16 images: labelled ones, or 8 labelled and
8 pseudo-labelled ones. Every cell is a run of `python -m selftrain.run`, so a study that was stopped
goes on where it was. Masks are spread over the video sequences; val chooses the generation, test is read once, at the end of
each run. Prints the table of what is finished and writes it to OUT/accuracy.json.
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
# One student, with the noise of the recipe's first.
STUDENT = "labelled_batch: 8, init: teacher, noise: {rand_n: 1, rand_m: 5, cutmix: 0.5}"
RECIPES = ("supervised", "noisy_student")
BUDGETS = (8, 23)
ALL = 0  # full supervision: every mask of the training split


def cells(seeds: int) -> list[tuple[str, int, int]]:
    """(recipe, labels, seed), seed by seed, so that a part of the study is a fair one too."""
    columns = [("supervised", labels) for labels in (*BUDGETS, ALL)] + [("noisy_student", labels) for labels in BUDGETS]
    return [(recipe, labels, seed) for seed in range(seeds) for recipe, labels in columns]


def directory(out: Path, cell: tuple[str, int, int]) -> Path:
    recipe, labels, seed = cell
    return out / f"{recipe}-{labels or 'all'}-{seed}"


def train(root: Path, out: Path, steps: int, cell: tuple[str, int, int]) -> None:
    recipe, labels, seed = cell
    where = directory(out, cell)
    if (where / "report.json").is_file():
        return
    where.mkdir(parents=True, exist_ok=True)
    half = steps // 2
    generations = [f"generations=[{{steps: {half}}}, {{steps: {half}, {STUDENT}}}]"] if recipe == "noisy_student" else []
    settings = [f"recipe={recipe}", *generations, *SETTINGS, f"train.steps={steps}", f"data.root={root}"]
    settings += [f"data.splits.labels={labels}", f"seed={seed}", f"out={where}"]
    with open(where / "log.txt", "a") as log:
        code = subprocess.run([sys.executable, "-m", "selftrain.run", *settings], stdout=log, stderr=subprocess.STDOUT).returncode
    print(f"{where.name}: {'done' if code == 0 else f'exit {code}, see its log.txt'}", flush=True)


def scores(out: Path, recipe: str, labels: int, seeds: int) -> dict[int, float]:
    """Test mIoU by seed of the finished runs."""
    paths = {seed: directory(out, (recipe, labels, seed)) / "report.json" for seed in range(seeds)}
    return {seed: json.loads(path.read_text())["test"]["miou"] for seed, path in paths.items() if path.is_file()}


def spread(values: list[float]) -> str:
    """mean ± sample standard deviation (number of runs)."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.4f} ± {deviation:.4f} ({len(values)})" if values else "–"


def table(out: Path, seeds: int) -> list[str]:
    """Markdown rows: budget, supervised, noisy_student, gain by seed, full supervision, share of the gap closed."""
    rows = [
        "| masks | supervised | noisy_student | gain, seed by seed | all 367 masks | gap closed |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    full = scores(out, "supervised", ALL, seeds)
    for labels in BUDGETS:
        alone, taught = (scores(out, recipe, labels, seeds) for recipe in RECIPES)
        gains = [taught[seed] - alone[seed] for seed in alone if seed in taught]
        gaps = [full[seed] - alone[seed] for seed in alone if seed in taught and seed in full]
        closed = f"{sum(gains) / sum(gaps):.0%}" if gaps and len(gaps) == len(gains) else "–"
        cells = [spread(list(alone.values())), spread(list(taught.values())), spread(gains), spread(list(full.values())), closed]
        rows.append(f"| {labels} | {' | '.join(cells)} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="CamVid: images/{train,val,test} and masks/{train,val,test}")
    parser.add_argument("--out", type=Path, default=Path("runs/accuracy"))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time, one thread each")
    parser.add_argument("--table", action="store_true", help="print what is finished, run nothing")
    arguments = parser.parse_args()
    if not arguments.table:
        with ThreadPoolExecutor(arguments.jobs) as pool:
            list(pool.map(lambda cell: train(arguments.root, arguments.out, arguments.steps, cell), cells(arguments.seeds)))
    rows = table(arguments.out, arguments.seeds)
    print("test mIoU, mean ± standard deviation (runs)\n" + "\n".join(rows))
    found = {
        directory(arguments.out, cell).name: json.loads(path.read_text())
        for cell in cells(arguments.seeds)
        if (path := directory(arguments.out, cell) / "report.json").is_file()
    }
    (arguments.out / "accuracy.json").write_text(json.dumps({"rows": rows, "reports": found}, indent=1))


if __name__ == "__main__":
    main()
