"""What each part of noisy_student contributes: the study's cell without it, one line each.

    python benchmarks/ablation.py --camvid ROOT --out runs/accuracy [--variants "without TTA"]

The complete recipe is `noisy_student` with the settings of benchmarks/accuracy.py. Its cells come from
the same --out, or from docs/results.json. If a part only affects the last student, the teacher of a cell
under --out is copied: the same settings would train the same bits again. The ablation can be resumed. It
prints delta ± standard deviation over the seeds and writes OUT/ablation.md. --pages keeps the changes in
docs/ablation.json; changes that this file contains are not run again.
"""

import argparse
import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from accuracy import (
    DATA,
    DOCS,
    MAIN,
    RECORD,
    SEEDS,
    STEPS,
    Cell,
    Study,
    flagship,
    note,
    parts,
    run,
    shown,
    spread,
)
from sides import put

PAGE = DOCS / "ablation.md"
CHANGES = DOCS / "ablation.json"  # of test mIoU, against the complete recipe


class Variant(NamedTuple):
    """Overrides, a change of the generations, and what stays: the last student's teacher, its labels."""

    overrides: tuple[str, ...] = ()
    generations: Callable[[list[dict]], list[dict]] = lambda generations: generations
    teacher: bool = True
    labels: bool = True


def last(**changes: object) -> Callable[[list[dict]], list[dict]]:
    """Other settings of the last student."""
    return lambda generations: [*generations[:-1], {**generations[-1], **changes}]


def noise(**changes: object) -> Callable[[list[dict]], list[dict]]:
    """Another noise of the last student."""
    return lambda generations: last(noise={**generations[-1]["noise"], **changes})(generations)


def at_once(generations: list[dict]) -> list[dict]:
    """The online generation from random weights, with the steps of the first one added."""
    first, online, student = generations
    return [{**online, "init": "random", "steps": first["steps"] + online["steps"]}, student]


VARIANTS = {
    "without TTA": Variant(("labels.tta.hflip=false", "labels.tta.scales=[1.0]"), labels=False),
    "with CRF": Variant(("labels.crf.enabled=true",), labels=False),
    "hard labels": Variant(("loss.pseudo={kl: 0, ce: 1}",)),
    "one threshold for the last student (0.8)": Variant(("select.threshold=global",)),
    "every pixel for the last student": Variant(("select.threshold=global", "select.confidence=0")),
    "without weights of the classes for stored pseudo-labels": Variant(("select.balance=0",)),
    "without the colours of unlabelled images": Variant(
        tuple(f"generations.{number}.noise.style=0" for number in range(3)), teacher=False
    ),
    "last student without CutMix": Variant(generations=noise(cutmix=0.0, paste=0.0)),
    "last student without boxes from labelled images": Variant(generations=noise(paste=0.0)),
    "last student without RandAugment": Variant(generations=noise(rand_n=0)),
    "with dropout and stochastic depth (0.1)": Variant(generations=noise(dropout=0.1, drop_path=0.1)),
    "with label smoothing (0.1, threshold 0.8)": Variant(
        ("loss.labelled.ce.smoothing=0.1", "loss.threshold=0.8"), teacher=False
    ),
    "a larger last student (tu-resnet18d)": Variant(generations=last(encoder="tu-resnet18d")),
    "a last student from random weights": Variant(generations=last(init="random")),
    "online student without boxes from labelled images": Variant(
        ("generations.1.noise.paste=0",), teacher=False
    ),
    "without weights of the classes for labelled pixels": Variant(("loss.balance=0",), teacher=False),
    "without average (EMA)": Variant(("train.ema=0",), teacher=False),
    "without fresh batch-norm statistics": Variant(("train.statistics=0",), teacher=False),
    "one threshold online": Variant(("loss.adaptive=false",), teacher=False),
    "without a first generation of labels only": Variant(generations=at_once, teacher=False),
    "a first student of stored labels, too": Variant(
        ("generations.1.online=''", "generations.1.noise.colour=0", "loss.adaptive=false"), teacher=False
    ),
}


def name_of(variant: str) -> str:
    return "ablation_" + "".join(letter if letter.isalnum() else "_" for letter in variant)


def take_over(whole: Path, where: Path, *, labels: bool) -> None:
    """Copy a finished run up to the last student's teacher, with or without its `labels`."""
    if where.exists() or not (whole / "report.json").is_file():
        return
    temporary = where.with_name(f".{where.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    left = () if labels else ("labels",)
    for gen in ("gen0", "gen1"):
        shutil.copytree(whole / gen, temporary / gen, ignore=shutil.ignore_patterns("selection.json", *left))
    shutil.copy(whole / "data.json", temporary)
    shutil.copy(whole / "metrics.jsonl", temporary)
    temporary.rename(where)


def train(roots: dict[str, Path], out: Path, steps: int, variant: str, cell: Cell) -> None:
    where, whole = out / cell._replace(recipe=name_of(variant)).name, out / cell.name
    chosen = VARIANTS[variant]
    if chosen.teacher:
        take_over(whole, where, labels=chosen.labels)
    run(roots, where, cell, [f"generations={shown(chosen.generations(flagship(steps)))}", *chosen.overrides])


def change(study: Study, cell: Cell, variant: str) -> float | None:
    """Change of the test mIoU of `cell` in a variant's finished run; None if there is no such run."""
    mine, whole = (study.result(one.name) for one in (cell._replace(recipe=name_of(variant)), cell))
    return mine.test - whole.test if mine and whole else None


def changes(study: Study, columns: list[str], known: dict[str, float]) -> dict[str, float]:
    """The `known` changes and the finished changes of all variants, by cell name."""
    found = dict(known)
    for variant in VARIANTS:
        for data, labels in map(parts, columns):
            for seed in range(study.seeds):
                cell = Cell(data, labels, "noisy_student", seed)
                if (one := change(study, cell, variant)) is not None:
                    found[cell._replace(recipe=name_of(variant)).name] = round(one, 6)
    return found


def rows(study: Study, columns: list[str], variants: list[str], found: dict[str, float]) -> list[str]:
    """Markdown: variant and, for each column, the change of test mIoU, seed by seed."""
    table = [f"| noisy_student | {' | '.join(columns)} |", "| --- " * (1 + len(columns)) + "|"]
    pairs = list(map(parts, columns))
    scores = [study.scores(*pair, "noisy_student").values() for pair in pairs]
    table.append(f"| whole | {' | '.join(spread(list(values)) for values in scores)} |")
    last = [study.last(*pair, "noisy_student") for pair in pairs]
    unchosen = [
        [one - other for one, other in zip(*both, strict=True)] for both in zip(last, scores, strict=True)
    ]
    table.append(
        f"| without promotion (the student, whatever val says) | {' | '.join(map(spread, unchosen))} |"
    )
    for variant in variants:
        names = [[Cell(*pair, name_of(variant), seed).name for seed in range(study.seeds)] for pair in pairs]
        of_columns = [[found[name] for name in column if name in found] for column in names]
        if any(of_columns):
            table.append(f"| {variant} | {' | '.join(map(spread, of_columns))} |")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for data in DATA:
        parser.add_argument(f"--{data}", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/accuracy"))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--columns", nargs="+", default=["camvid-8"])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument(
        "--pages", action="store_true", help="also write docs/ablation.json and the table of docs/ablation.md"
    )
    parser.add_argument(
        "--again", action="store_true", help="also run what docs/ablation.json already contains"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time, one thread each")
    arguments = parser.parse_args()
    if arguments.pages and (arguments.steps, arguments.seeds) != (STEPS, SEEDS):
        parser.error(f"--pages is for the study of {STEPS} steps and {SEEDS} seeds")
    roots = {data: root for data in DATA if (root := getattr(arguments, data))}
    known = json.loads(CHANGES.read_text()) if arguments.steps == STEPS and CHANGES.is_file() else {}
    todo = [
        (variant, cell)
        for seed in range(arguments.seeds)
        for variant in arguments.variants
        for data, labels in map(parts, arguments.columns)
        if (cell := Cell(data, labels, "noisy_student", seed)).data in roots
        and (arguments.again or cell._replace(recipe=name_of(variant)).name not in known)
    ]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(lambda one: train(roots, arguments.out, arguments.steps, *one), todo))
    study = Study(arguments.out, arguments.seeds, RECORD if arguments.steps == STEPS else None)
    found = changes(study, arguments.columns, known)
    table = rows(study, arguments.columns, arguments.variants, found)
    print("\n".join(table))
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "ablation.md").write_text("\n".join(table) + "\n")
    if arguments.pages:
        found = changes(study, MAIN, found)
        note(CHANGES, dict(sorted(found.items())))
        put(PAGE, "table of the ablation", "\n".join(rows(study, MAIN, list(VARIANTS), found)))


if __name__ == "__main__":
    main()
