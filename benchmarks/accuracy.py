"""Every recipe against labels alone, with an encoder from ImageNet, at equal optimizer steps.

    PYTHONPATH=WEIGHTS python benchmarks/accuracy.py --camvid ROOT --nuclei ROOT --facade ROOT --out runs/accuracy

A column is a data set with a number of masks. `supervised` trains for STEPS with these masks; recipes with
generations divide the same steps among them. Every step sees 8 labelled images, and 8 unlabelled ones in recipes
that use them. First `supervised` runs with few and with all masks. A column in which all masks are less than
WORTH above few ones on val is left out of the rest. Masks differ between seeds. val selects; test is read once,
at the end of each run, by the selected and by the last generation. Cells (benchmarks/cells.py) are kept in
docs/results.json with the code and the weights that they were made with, and run seed by seed, so an unfinished
study is fair as well. --pages writes the tables, what they say, and the plot into docs/results.md.
"""

import argparse
import hashlib
import importlib.util
import math
import statistics
import subprocess
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from cells import (
    ALL,
    DOCS,
    RATE,
    RECIPE_FILES,
    SETTINGS,
    Cell,
    Record,
    Variant,
    divided,
    markdown,
    parts,
    parts_of_the_recipe,
    places,
    roots_of,
    run_all,
    spread,
)
from sides import put

from selftrain.plan import plans
from selftrain.scores import paired
from selftrain.settings import compose

RECORD = DOCS / "results.json"
STEPS = 1200  # decided on val (docs/tuning.md)
SHARES = {"teacher": 1 / 2, "online": 1 / 4, "stored": 1 / 4}  # of the flagship, decided on val
WORTH = 0.03
COLUMNS = {  # and their seeds
    "camvid-23": 3, "nuclei-16": 3, "camvid-8": 5, "camvid-46": 3, "nuclei-4": 5, "facade-24": 3, "facade-12": 5,
}  # fmt: skip
FULL = ("camvid-23", "nuclei-16")  # the columns of all recipes
ALONE, FLAGSHIP, EVERYTHING = "supervised", "noisy_student", "supervised, all masks"
LENGTHS = ("supervised, half as long", ALONE)  # the best by val counts
REACHED = f"# Test mIoU with an encoder from ImageNet, {STEPS:,} steps in total (docs/results.md):"
AVERAGE = "train.average={ema:{share:0.2}}"
one = partial(Variant, steps=STEPS, test=True)


def in_generations(recipe: str, count: int) -> Variant:
    return one((RATE, AVERAGE, f"train.steps={STEPS // count}"), recipe=recipe)


def online(recipe: str) -> Variant:
    return one((RATE, AVERAGE), recipe=recipe)


RECIPES: dict[str, Variant] = {
    EVERYTHING: one((RATE,), labels=ALL),
    ALONE: one((RATE,)),
    LENGTHS[0]: one((RATE,))._replace(steps=STEPS // 2),
    FLAGSHIP: divided(parts=parts_of_the_recipe(), steps=STEPS, test=True, **SHARES),
    "unimatch_v2": online("unimatch_v2"),
    "fixmatch": online("fixmatch"),
    "supervised, augmented as strongly": one(
        (
            RATE,
            "generations=[{noise:{labelled:true,rand_n:1,rand_m:5,style:0.5,colour:1.0,mix_labelled:{cutmix:1.0}}}]",
        )
    ),
    "pseudo_label": in_generations("pseudo_label", 2),
    "st_plus_plus": in_generations("st_plus_plus", 3),
    "mean_teacher": online("mean_teacher"),
    "cps": online("cps"),
}
EVERYWHERE = tuple(RECIPES)[:6]


def cells(columns: Sequence[str], recipes: Sequence[str]) -> Iterator[Cell]:
    """The cells of `recipes` in `columns`, seed by seed; some recipes run in the columns of FULL only."""
    for seed in range(max(COLUMNS.values())):
        for column in columns:
            for recipe in recipes:
                if seed < COLUMNS[column] and (column in FULL or recipe in EVERYWHERE):
                    yield Cell(column, RECIPES[recipe], seed)


def facts(cell: Cell, report: dict[str, Any]) -> dict[str, Any]:
    """What docs/results.json keeps of a run: scores on val and test, and how it came about.

    "without" lists the test mIoU without each of 20 blocks of neighbouring images. "images" counts those that
    passed through networks in training. "code" is the commit, "weights" the hash of the encoder's weights.
    """
    generations = [row["val"]["miou"] for row in report["generations"]]
    test, last = (report[which] for which in ("test", "exported_test"))
    config = compose([setting for setting in cell.settings() if "package:" not in setting])
    return {
        "val": generations[report["best"]],
        "val_last": generations[-1],
        "test": test["miou"],
        "test_last": last["miou"],
        "without": [round(value, 6) for value in test["miou_without"]],
        "images": sum(plan.steps * plan.images() for plan in plans(config)),
        "code": commit(),
        "weights": fingerprint_of_weights(),
    }


def commit() -> str:
    """The commit of the code, with a mark if there are changes since; docs/ has the record itself."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=DOCS.parent, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--", ".", ":!docs")
    return git("rev-parse", "--short=12", "HEAD") + ("-dirty" if changed else "")


def fingerprint_of_weights() -> str:
    """The first digits of the SHA-256 of the weights in the package that SETTINGS name."""
    (name,) = (setting.partition("package:")[2] for setting in SETTINGS if "package:" in setting)
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise SystemExit(f"the package {name} is not installed; docs/pretrained.md says how to get it")
    (file,) = sorted(Path(next(iter(found.submodule_search_locations))).rglob("*.pth"))
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12]


class Study:
    """The finished cells of a record, by column, recipe and seed."""

    def __init__(self, record: Record):
        self.record = record

    def found(self, column: str, recipe: str) -> dict[int, dict[str, Any]]:
        """What is known of a recipe by seed; of `supervised`, the length that is best on val."""
        lengths = LENGTHS if recipe == ALONE else (recipe,)
        known = [self.record.found(column, RECIPES[one], range(COLUMNS[column])) for one in lengths]
        seeds = set(known[-1]).intersection(*known)
        return {
            seed: max((rows[seed] for rows in known), key=lambda row: row["val"]) for seed in sorted(seeds)
        }

    def gap(self, column: str) -> float | None:
        """How far all masks are above few ones on val, in the mean; None if no seed has both."""
        few, all_ = (
            self.record.found(column, RECIPES[one], range(COLUMNS[column])) for one in (ALONE, EVERYTHING)
        )
        both = [all_[seed]["val"] - few[seed]["val"] for seed in few if seed in all_]
        return statistics.mean(both) if both else None

    def worth(self, column: str) -> bool:
        gap = self.gap(column)
        return gap is None or gap >= WORTH

    def differences(self, column: str, recipe: str, other: str) -> list[float]:
        """Test mIoU of a recipe minus that of another, seed by seed."""
        mine, theirs = self.found(column, recipe), self.found(column, other)
        return [mine[seed]["test"] - theirs[seed]["test"] for seed in mine if seed in theirs]

    def error_over_images(self, column: str, recipe: str, other: str) -> float | None:
        """The standard error of a seed's difference over other test images, in the quadratic mean.

        A paired jackknife over blocks of neighbouring images, as in promotion (`selftrain.scores.paired`).
        """
        mine, theirs = self.found(column, recipe), self.found(column, other)
        errors = [
            paired(
                *({"miou": row["test"], "miou_without": row["without"]} for row in (mine[seed], theirs[seed]))
            )[1]
            for seed in mine
            if seed in theirs
        ]
        return math.sqrt(statistics.mean(error**2 for error in errors)) if errors else None

    def closed(self, column: str, recipe: str) -> float | None:
        """The share of the gap between few and all masks that a recipe closes on test."""
        gap, gain = self.differences(column, EVERYTHING, ALONE), self.differences(column, recipe, ALONE)
        return statistics.mean(gain) / statistics.mean(gap) if gap and gain and statistics.mean(gap) else None

    def row(self, column: str, recipe: str) -> list[str]:
        rows = list(self.found(column, recipe).values())
        against = recipe != ALONE
        error = self.error_over_images(column, recipe, ALONE) if against else None
        closed = self.closed(column, recipe) if against and recipe != EVERYTHING else None
        one_differs = any(row["test"] != row["test_last"] for row in rows)
        return [
            recipe,
            spread([row["test"] for row in rows]),
            spread([row["test_last"] for row in rows]) if one_differs else "",
            standard(self.differences(column, recipe, ALONE)) if against else "",
            "" if error is None else f"{error:.4f}",
            "" if closed is None else f"{closed:.0%}",
            f"{statistics.mean(row['images'] for row in rows):,.0f}",
            f"{statistics.mean(row['minutes'] for row in rows):.0f}",
        ]

    def table(self, column: str) -> list[str]:
        """Markdown: the finished recipes of a column."""
        heads = [
            column, "test mIoU", "last generation", "above `supervised`", "over images", "gap closed", "images", "minutes",
        ]  # fmt: skip
        return markdown(
            heads, [self.row(column, recipe) for recipe in shown_recipes() if self.found(column, recipe)]
        )

    def says(self, column: str) -> str:
        """One sentence on what can be said of the flagship in a column."""
        if not self.worth(column):
            return f"**{column}** is left out: on val, all masks are {self.gap(column):+.4f} above few ones."
        against = self.differences(column, FLAGSHIP, ALONE)
        if len(against) < 2:
            return f"**{column}**: not enough runs have ended."
        rivals = [
            recipe
            for recipe in shown_recipes()
            if recipe not in (EVERYTHING, FLAGSHIP) and len(self.differences(column, FLAGSHIP, recipe)) > 1
        ]
        best = max(
            rivals, key=lambda recipe: statistics.mean(r["test"] for r in self.found(column, recipe).values())
        )
        ahead, closed = self.differences(column, FLAGSHIP, best), self.closed(column, FLAGSHIP)
        share = "" if closed is None else f" and closes {closed:.0%} of the gap to all masks"
        return (
            f"**{column}**: `{FLAGSHIP}` is {verdict(against)} `{ALONE}` ({standard(against)}){share}; it is "
            f"{verdict(ahead)} `{best}`, the best of the others ({standard(ahead)})."
        )

    def header(self, recipe: str) -> list[str]:
        """Lines for the header of a recipe's file: what it reached in the columns of FULL."""
        reached = [
            f"{column}: {spread([row['test'] for row in rows.values()])}"
            for column in FULL
            if (rows := self.found(column, recipe))
        ]
        return [REACHED, f"#   {'; '.join(reached)}"] if reached else []

    def plot(self, path: Path) -> None:
        """A panel per column: a dot per run, lines at the means of labels alone and of all masks."""
        import matplotlib
        from matplotlib.figure import Figure

        matplotlib.rcParams["svg.hashsalt"] = "selftrain"
        columns = [column for column in COLUMNS if self.found(column, ALONE)]
        recipes = [recipe for recipe in shown_recipes() if recipe != EVERYTHING]
        figure = Figure(figsize=(3.4 * len(columns) + 1.5, 0.34 * len(recipes) + 1.3), layout="constrained")
        panels = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
        for panel, column in zip(panels, columns, strict=True):
            tests = {one: [r["test"] for r in self.found(column, one).values()] for one in shown_recipes()}
            for recipe, style in ((ALONE, "--"), (EVERYTHING, "-")):
                if tests[recipe]:
                    panel.axvline(statistics.mean(tests[recipe]), color="0.6", linestyle=style, linewidth=1)
            for place, recipe in enumerate(recipes):
                panel.plot(
                    tests[recipe], [place] * len(tests[recipe]), "o", ms=4, color="tab:blue", alpha=0.5
                )
                if tests[recipe]:
                    panel.plot(statistics.mean(tests[recipe]), place, "|", ms=14, mew=2, color="tab:blue")
            panel.set(title="{}, {} masks".format(*parts(column)), xlabel="test mIoU")
            panel.set_yticks(range(len(recipes)), recipes)
        panels[0].set_ylim(len(recipes) - 0.5, -0.5)
        figure.savefig(path, metadata={"Date": None})


def put_header(file: Path, lines: list[str]) -> None:
    """Write `lines` at the end of the header of a recipe's file, in the place of earlier ones."""
    text = file.read_text().splitlines()
    if REACHED in text:
        begin = text.index(REACHED)
        del text[begin : begin + 2]
    end = next(place for place, line in enumerate(text) if not line.startswith("#"))
    file.write_text("\n".join([*text[:end], *lines, *text[end:]]) + "\n")


def shown_recipes() -> list[str]:
    """The rows of a table; the lengths of `supervised` are one row."""
    return [recipe for recipe in RECIPES if recipe != LENGTHS[0]]


def standard(differences: Sequence[float]) -> str:
    """mean ± standard error (number of seeds)."""
    if len(differences) < 2:
        return spread(differences, sign="+")
    mean, error = statistics.mean(differences), statistics.stdev(differences) / math.sqrt(len(differences))
    return f"{mean:+.4f} ± {error:.4f} ({len(differences)})"


def verdict(differences: Sequence[float]) -> str:
    """Where the first of two recipes stands, if one standard error over the seeds decides."""
    mean, error = statistics.mean(differences), statistics.stdev(differences) / math.sqrt(len(differences))
    return "above" if mean > error else "below" if mean < -error else "within one standard error of"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    places(parser, "accuracy")
    parser.add_argument("--columns", nargs="+", default=list(COLUMNS), choices=COLUMNS)
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), choices=RECIPES)
    parser.add_argument("--pages", action="store_true", help="also write docs/results.md and its plot")
    arguments = parser.parse_args()
    roots, record = roots_of(arguments), Record(RECORD, facts)
    study = Study(record)
    train = partial(run_all, roots=roots, out=arguments.out, record=record, jobs=arguments.jobs)
    train(list(cells(arguments.columns, [EVERYTHING, ALONE])))
    train(list(cells(list(filter(study.worth, arguments.columns)), arguments.recipes)))
    begun = [column for column in COLUMNS if study.found(column, ALONE)]
    tables = "\n\n".join("\n".join(study.table(column)) for column in begun)
    print(tables, *map(study.says, begun), sep="\n\n")
    if arguments.pages and begun:
        put(DOCS / "results.md", "tables of the study", tables)
        put(DOCS / "results.md", "what can be said", "\n".join(f"* {study.says(column)}" for column in begun))
        study.plot(DOCS / "results.svg")
        for file in RECIPE_FILES.glob("*.yaml"):
            put_header(file, study.header(file.stem) if file.stem in RECIPES else [])


if __name__ == "__main__":
    main()
