"""Every recipe against labels alone, at equal optimizer steps and with the same network.

    python benchmarks/accuracy.py --camvid ROOT --nuclei ROOT --out runs/accuracy [--recipes fixmatch]

A column is a data set with a number of masks; cells differ in data, budget, recipe and seed. `supervised`
trains for STEPS. Recipes with generations divide these steps among them. Every step sees 16 labelled images,
and 8 unlabelled ones in recipes that use them (unimatch_v2 sees each twice). Every cell is a run of `python
-m selftrain.run`, so a stopped study can be resumed. Masks are spread over the video sequences and differ
between seeds. val selects the generation. test is read once, at the end of each run, by the selected and by
the last generation. The finished cells are printed as a table, and written to OUT/table.md and, as a plot, to
OUT/accuracy.svg.

Several machines can share the work: --pages keeps the result of each finished cell in docs/results.json, and
a cell in this file is not run again without --again. A run under OUT takes precedence over the record.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import yaml
from sides import cpu, put

STEPS = 2000
SEEDS = 3
# The network is the same everywhere, so no gain comes from a larger student.
SETTINGS = [
    "model.encoder=tu-resnet10t", "model.weights=null", "model.decoder_channels=[64,48,32,16,16]", "train.eval_every=0",
    "train.checkpoint_every=200", "train.labelled_batch=16", "train.unlabelled_batch=8", "train.threads=1",
    "labels.crf.enabled=false", "export.onnx=false", "export.generation=last",
]  # fmt: skip
DATA = {
    "camvid": ["data=camvid", "data.size=[90,120]", "train.crop=[64,96]"],
    "nuclei": ["data=nuclei", "data.size=[96,96]", "train.crop=[64,64]"],
}
ALL = 0  # full supervision: every mask of the training split
MAIN = ["camvid-8", "camvid-23"]
RIVAL = "unimatch_v2"  # beside `noisy_student` in README
COLUMNS = ("camvid-8", "camvid-23", "camvid-46", "nuclei-4", "nuclei-16")
GENERATIONS = {"pseudo_label": 2, "st": 2, "st_plus_plus": 3, "dars": 2}
RECIPES = ("supervised", *GENERATIONS, "mean_teacher", "fixmatch", "unimatch_v2", "cps", "noisy_student")


HERE = Path(__file__).resolve().parent
RECIPE_FILES = HERE.parent / "recipes" / "recipe"
DOCS = HERE.parent / "docs"
RECORD = DOCS / "results.json"
BUDGETS = " and ".join(column.split("-")[1] for column in MAIN)
EXPECTED = (
    f"# Test mIoU on CamVid at 90x120 with {BUDGETS} masks, {STEPS:,} steps in total (docs/results.md):"
)
SELECTED, LAST = "#   selected on val:", "#   last generation:"


class Cell(NamedTuple):
    data: str
    labels: int
    recipe: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.data}-{self.labels or 'all'}-{self.recipe}-{self.seed}"


def parts(column: str) -> tuple[str, int]:
    """Data set and number of masks of a column."""
    data, labels = column.split("-")
    return data, int(labels)


def cells(recipes: list[str], columns: list[str], seeds: int) -> list[Cell]:
    """All cells, seed by seed, so that an unfinished study is fair as well."""
    pairs = list(map(parts, columns))
    wanted = [(data, labels, "supervised") for data, labels in pairs]
    wanted += [(data, ALL, "supervised") for data in dict.fromkeys(data for data, _ in pairs)]
    wanted += [
        (data, labels, recipe) for recipe in recipes for data, labels in pairs if recipe != "supervised"
    ]
    return [Cell(*one, seed) for seed in range(seeds) for one in wanted]


def settings(recipe: str, steps: int) -> list[str]:
    """The settings that divide `steps` among a recipe's generations."""
    if recipe == "noisy_student":
        return [f"generations={shown(flagship(steps))}"]
    return [f"train.steps={steps // GENERATIONS.get(recipe, 1)}"]


def flagship(steps: int) -> list[dict]:
    """noisy_student without its larger student: steps 1/4 supervised, 1/2 online, 1/4 on stored labels."""
    shares = (steps // 4, steps - 2 * (steps // 4), steps // 4)
    generations = parts_of_the_flagship().values()
    return [{**generation, "steps": share} for generation, share in zip(generations, shares, strict=True)]


def parts_of_the_flagship() -> dict[str, dict]:
    """The generations of noisy_student without its larger student, by what they learn from."""
    generations = yaml.safe_load((RECIPE_FILES / "noisy_student.yaml").read_text())["generations"][:-1]
    return dict(zip(("teacher", "online", "stored"), generations, strict=True))


def shown(value: object) -> str:
    """A value as Hydra's command line reads it."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{name}:{shown(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(shown, value)) + "]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def run(roots: dict[str, Path], where: Path, cell: Cell, overrides: list[str]) -> None:
    """Run or resume a cell under `where`. Once finished, remove its checkpoints: 350 MB of 420."""
    if (where / "report.json").is_file():
        return
    where.mkdir(parents=True, exist_ok=True)
    arguments = [
        f"recipe={cell.recipe}",
        *DATA[cell.data],
        *SETTINGS,
        *overrides,
        f"data.root={roots[cell.data]}",
    ]
    arguments += [
        f"data.splits.labels={cell.labels}",
        f"data.splits.seed={cell.seed}",
        f"seed={cell.seed}",
        f"out={where}",
    ]
    with open(where / "log.txt", "a") as log:
        code = subprocess.run(
            [sys.executable, "-m", "selftrain.run", *arguments], stdout=log, stderr=subprocess.STDOUT
        ).returncode
    if code == 0:
        for checkpoints in where.glob("gen*/checkpoints"):
            shutil.rmtree(checkpoints)
    print(f"{where.name}: {'done' if code == 0 else f'exit {code}, see its log.txt'}", flush=True)


class Result(NamedTuple):
    """A finished cell: test mIoU, test mIoU of its last generation, wall time if known."""

    test: float
    last: float
    minutes: float | None = None
    cpu: str | None = None


class Study:
    """The finished cells, under a directory or in a record of earlier runs."""

    def __init__(self, out: Path, seeds: int, record: Path | None = None):
        self.out, self.seeds, self.path = out, seeds, record
        known = json.loads(record.read_text()) if record and record.is_file() else {}
        self.recorded = {name: Result(**result) for name, result in known.items()}

    def result(self, name: str) -> Result | None:
        """The result of the cell `name`, from its run or else from the record."""
        path = self.out / name / "report.json"
        if not path.is_file():
            return self.recorded.get(name)
        report = json.loads(path.read_text())
        tests = (report[which]["miou"] for which in ("test", "exported_test"))
        return Result(*tests, round(report["seconds"] / 60, 2), cpu())

    def keep(self) -> None:
        """Write the finished cells of the whole study into the record."""
        assert self.path
        names = sorted(cell.name for cell in cells(list(RECIPES), list(COLUMNS), self.seeds))
        found = self.recorded | {name: result for name in names if (result := self.result(name))}
        note(self.path, {name: result._asdict() for name, result in sorted(found.items())})

    def results(self, data: str, labels: int, recipe: str) -> dict[int, Result]:
        """The finished results of a recipe, by seed."""
        found = {seed: self.result(Cell(data, labels, recipe, seed).name) for seed in range(self.seeds)}
        return {seed: result for seed, result in found.items() if result}

    def scores(self, data: str, labels: int, recipe: str) -> dict[int, float]:
        """Test mIoU by seed."""
        return {seed: result.test for seed, result in self.results(data, labels, recipe).items()}

    def last(self, data: str, labels: int, recipe: str) -> list[float]:
        """Test mIoU of a recipe's last generation, promoted or not, by seed."""
        return [result.last for result in self.results(data, labels, recipe).values()]

    def begun(self, recipes: list[str], columns: list[str]) -> list[str]:
        """The columns with a finished cell."""
        return [
            column for column in columns if any(self.scores(*parts(column), recipe) for recipe in recipes)
        ]

    def row(self, data: str, labels: int, recipe: str) -> str:
        """Budget, recipe, score, gain over supervised, share of the gap closed, last generation, time."""
        found, alone, full = (
            self.scores(data, labels, recipe),
            self.scores(data, labels, "supervised"),
            self.scores(data, ALL, "supervised"),
        )
        minutes = [result.minutes for result in self.results(data, labels, recipe).values() if result.minutes]
        gains = [found[seed] - alone[seed] for seed in found if seed in alone]
        gaps = [
            full[seed] - alone[seed] for seed in found if seed in alone and seed in full and labels != ALL
        ]
        closed = f"{sum(gains) / sum(gaps):.0%}" if sum(gaps) and len(gaps) == len(gains) else "–"
        gain = f"{spread(gains)} | {closed}" if recipe != "supervised" else " | "
        time = f"{statistics.mean(minutes):.1f}" if minutes else "–"
        last = spread(self.last(data, labels, recipe)) if recipe in (*GENERATIONS, "noisy_student") else ""
        return f"| {data} | {labels or 'all'} | {recipe} | {spread(list(found.values()))} | {gain} | {last} | {time} |"

    def table(self, recipes: list[str], columns: list[str]) -> list[str]:
        """Markdown: the finished cells, one block per column, with full supervision first."""
        heads = "| data | masks | recipe | test mIoU | gain, seed by seed | gap closed | last generation | training minutes |"
        rows = [heads, "| --- " * (heads.count("|") - 1) + "|"]
        pairs = list(map(parts, columns))
        for data in dict.fromkeys(data for data, _ in pairs):
            rows.append(self.row(data, ALL, "supervised"))
            for labels in (labels for other, labels in pairs if other == data):
                done = [recipe for recipe in recipes if self.scores(data, labels, recipe)]
                rows += [self.row(data, labels, recipe) for recipe in done]
        return rows

    def plot(self, recipes: list[str], columns: list[str], path: Path) -> None:
        """A panel per column: a dot per run, lines at the means of labels alone and of all masks."""
        import matplotlib
        from matplotlib.figure import Figure

        matplotlib.rcParams["svg.hashsalt"] = "selftrain"
        figure = Figure(figsize=(3.6 * len(columns), 0.34 * len(recipes) + 1.3), layout="constrained")
        panels = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
        for panel, column in zip(panels, columns, strict=True):
            data, labels = parts(column)
            for labelled, style in ((labels, "--"), (ALL, "-")):
                known = list(self.scores(data, labelled, "supervised").values())
                if known:
                    panel.axvline(statistics.mean(known), color="0.6", linestyle=style, linewidth=1)
            for place, recipe in enumerate(recipes):
                found = list(self.scores(data, labels, recipe).values())
                panel.plot(found, [place] * len(found), "o", markersize=4, color="tab:blue", alpha=0.5)
                if found:
                    panel.plot(
                        statistics.mean(found), place, "|", markersize=14, markeredgewidth=2, color="tab:blue"
                    )
            panel.set(title=f"{data}, {labels} masks", xlabel="test mIoU", yticks=range(len(recipes)))
            panel.set_yticklabels(recipes)
        panels[0].set_ylim(len(recipes) - 0.5, -0.5)
        figure.savefig(path, metadata={"Date": None})


def note(path: Path, facts: dict[str, object]) -> None:
    """JSON with a line per fact, so that diffs show additions."""
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in facts.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def expect(recipe: Path, scores: list[str]) -> None:
    """Write the expected scores into the header of a recipe, replacing earlier ones."""
    lines = [
        line for line in recipe.read_text().splitlines() if not line.startswith((EXPECTED, SELECTED, LAST))
    ]
    end = next(place for place, line in enumerate(lines) if not line.startswith("#"))
    recipe.write_text("\n".join([*lines[:end], EXPECTED, *scores, *lines[end:]]) + "\n")


def expected(chosen: list[list[float]], last: list[list[float]]) -> list[str]:
    """Header lines: test mIoU of the generation selected on val, and of the last one if it differs."""
    lines = [f"{SELECTED} {' and '.join(map(spread, chosen))}"]
    if last != chosen:
        lines.append(f"{LAST} {' and '.join(map(spread, last))}")
    return lines


def spread(values: list[float]) -> str:
    """mean ± sample standard deviation (number of runs)."""
    if len(values) < 2:
        return f"{values[0]:.4f} (1)" if values else "–"
    return f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f} ({len(values)})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--camvid", type=Path, help="images/{train,val,test} and masks/{train,val,test}")
    parser.add_argument("--nuclei", type=Path, help="images/ and masks/")
    parser.add_argument("--out", type=Path, default=Path("runs/accuracy"))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), choices=RECIPES)
    parser.add_argument("--columns", nargs="+", default=list(COLUMNS), choices=COLUMNS)
    parser.add_argument(
        "--pages",
        action="store_true",
        help="also write README's table, docs/results.md, its plot and the recipes' headers",
    )
    parser.add_argument(
        "--again", action="store_true", help="also run cells (and supervised) that docs/results.json contains"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time, one thread each")
    arguments = parser.parse_args()
    if arguments.pages and (arguments.steps, arguments.seeds) != (STEPS, SEEDS):
        parser.error(f"--pages is for the study of {STEPS} steps and {SEEDS} seeds")
    arguments.recipes = list(dict.fromkeys(["supervised", *arguments.recipes]))  # all are compared with it
    again = arguments.recipes if arguments.again else []
    # Without roots, only the finished cells are printed.
    roots = {data: root for data in DATA if (root := getattr(arguments, data))}
    study = Study(arguments.out, arguments.seeds, RECORD if arguments.steps == STEPS else None)
    wanted = cells(arguments.recipes, arguments.columns, arguments.seeds)
    todo = [
        cell
        for cell in wanted
        if cell.data in roots and (cell.recipe in again or not study.result(cell.name))
    ]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(
            pool.map(
                lambda cell: run(
                    roots, arguments.out / cell.name, cell, settings(cell.recipe, arguments.steps)
                ),
                todo,
            )
        )
    columns = study.begun(arguments.recipes, arguments.columns)
    rows = study.table(arguments.recipes, columns)
    print("test mIoU, mean ± standard deviation (runs)\n" + "\n".join(rows))
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "table.md").write_text("\n".join(rows) + "\n")
    study.plot(arguments.recipes, columns, arguments.out / "accuracy.svg")
    if arguments.pages:
        write_pages(study)


def write_pages(study: Study) -> None:
    """Write the record, docs/results.md and its plot, README's table if complete, and recipes' headers."""
    study.keep()
    recipes = list(RECIPES)
    columns = study.begun(recipes, list(COLUMNS))
    put(DOCS / "results.md", "table of the study", "\n".join(study.table(recipes, columns)))
    study.plot(recipes, columns, DOCS / "results.svg")
    both = ["supervised", "noisy_student"]
    if all(len(study.scores(*parts(column), recipe)) == study.seeds for column in MAIN for recipe in both):
        put(
            DOCS.parent / "README.md",
            "table of the study",
            "\n".join(study.table(["supervised", RIVAL, "noisy_student"], MAIN)),
        )
    for recipe in recipes:
        chosen = [list(study.scores(*parts(column), recipe).values()) for column in MAIN]
        last = [study.last(*parts(column), recipe) for column in MAIN]
        if all(chosen):
            expect(RECIPE_FILES / f"{recipe}.yaml", expected(chosen, last))


if __name__ == "__main__":
    main()
