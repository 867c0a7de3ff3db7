"""What each part of noisy_student is worth: the study's cell without it, one line each.

    python benchmarks/ablation.py --camvid ROOT --out runs/accuracy [--columns camvid-8] [--variants "without TTA"]

Settings are those of `noisy_student` in benchmarks/accuracy.py, whose finished cells (same --out) are what is compared with.
Where a part acts on the student only, the cell's teacher is taken over: the same settings would train the same bits again.
Resumable. Prints delta ± standard deviation over the seeds and writes OUT/ablation.md.
"""

import argparse
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from accuracy import DATA, STEPS, Cell, Study, flagship, parts, run, shown, spread, take_over
from sides import put


class Variant(NamedTuple):
    """Overrides, a change of the student's settings, and whether the flagship's teacher and its labels stay as they are."""

    overrides: tuple[str, ...] = ()
    student: Callable[[dict], dict] = lambda student: student
    teacher: bool = True
    labels: bool = True


def noise(**changes: object) -> Callable[[dict], dict]:
    return lambda student: {**student, "noise": {**student["noise"], **changes}}


VARIANTS = {
    "without TTA": Variant(("labels.tta.hflip=false", "labels.tta.scales=[1.0]"), labels=False),
    "with CRF": Variant(("labels.crf.enabled=true",), labels=False),
    "a student of hard labels": Variant(("loss.distillation=0",)),
    "one threshold for the student (0.8)": Variant(("select.threshold=global",)),
    "every pixel for the student": Variant(("select.threshold=global", "select.confidence=0")),
    "with weights that balance the classes (0.5)": Variant(("select.balance=0.5",)),
    "without the colours of unlabelled images": Variant(
        ("generations.0.noise.style=0", "generations.1.noise.style=0"), teacher=False
    ),
    "student without CutMix": Variant(student=noise(cutmix=0.0, paste=0.0)),
    "without boxes from labelled images": Variant(student=noise(paste=0.0)),
    "student without RandAugment": Variant(student=noise(rand_n=0)),
    "with dropout and stochastic depth (0.1)": Variant(student=noise(dropout=0.1, drop_path=0.1)),
    "with label smoothing (0.1, threshold 0.8)": Variant(("loss.smoothing=0.1", "loss.threshold=0.8"), teacher=False),
    "a larger student (tu-resnet18d)": Variant(student=lambda student: {**student, "encoder": "tu-resnet18d"}),
    "a student from random weights": Variant(student=lambda student: {**student, "init": "random"}),
    "without average (EMA)": Variant(("train.ema=0",), teacher=False),
    "without fresh batch-norm statistics": Variant(("train.statistics=0",), teacher=False),
    "one threshold in the online phase": Variant(("loss.adaptive=false",), teacher=False),
    "a teacher that knows labels only": Variant(
        ("generations.0.online=''", "generations.0.noise.style=0", "loss.adaptive=false", "loss.smoothing=0.1"), teacher=False
    ),
}


def name_of(variant: str) -> str:
    return "ablation_" + "".join(letter if letter.isalnum() else "_" for letter in variant)


def train(roots: dict[str, Path], out: Path, steps: int, variant: str, cell: Cell) -> None:
    where, whole = out / cell._replace(recipe=name_of(variant)).name, out / cell.name
    chosen = VARIANTS[variant]
    if chosen.teacher:
        take_over(whole, where, labels=chosen.labels)
    overrides, generations = flagship(steps)
    teacher, student = generations
    run(roots, where, cell, [*overrides, f"generations={shown([teacher, chosen.student(student)])}", *chosen.overrides])


def rows(study: Study, columns: list[str], variants: list[str]) -> list[str]:
    """Markdown: variant and, for each column, the change of test mIoU against the whole, seed by seed."""
    table = [f"| noisy_student | {' | '.join(columns)} |", "| --- " * (1 + len(columns)) + "|"]
    pairs = list(map(parts, columns))
    scores = [study.scores(data, labels, "noisy_student") for data, labels in pairs]
    table.append(f"| whole | {' | '.join(spread(list(found.values())) for found in scores)} |")
    unchosen = [study.without_promotion(data, labels) for data, labels in pairs]
    table.append(f"| without promotion (the student, whatever val says) | {' | '.join(map(spread, unchosen))} |")
    for variant in variants:
        changes = []
        for (data, labels), whole in zip(pairs, scores, strict=True):
            found = study.scores(data, labels, name_of(variant))
            changes.append([found[seed] - whole[seed] for seed in found if seed in whole])
        if any(changes):
            table.append(f"| {variant} | {' | '.join(map(spread, changes))} |")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for data in DATA:
        parser.add_argument(f"--{data}", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/accuracy"))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--columns", nargs="+", default=["camvid-8"])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--pages", action="store_true", help="write the table into docs/results.md, too")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time, one thread each")
    arguments = parser.parse_args()
    roots = {data: root for data in DATA if (root := getattr(arguments, data))}
    pairs = list(map(parts, arguments.columns))
    todo = [
        (variant, Cell(data, labels, "noisy_student", seed))
        for seed in range(arguments.seeds)
        for variant in arguments.variants
        for data, labels in pairs
        if data in roots
    ]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(lambda one: train(roots, arguments.out, arguments.steps, *one), todo))
    table = rows(Study(arguments.out, arguments.seeds), arguments.columns, arguments.variants)
    print("\n".join(table))
    (arguments.out / "ablation.md").write_text("\n".join(table) + "\n")
    if arguments.pages:
        put(Path(__file__).resolve().parent.parent / "docs" / "results.md", "table of the ablation", "\n".join(table))


if __name__ == "__main__":
    main()
