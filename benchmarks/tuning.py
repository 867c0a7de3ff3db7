"""Settings decided on val: each question is a base and a few variants of it, over columns and seeds.

    PYTHONPATH=WEIGHTS python benchmarks/tuning.py --camvid ROOT --nuclei ROOT --out runs/tuning [QUESTION ...]

Cells (benchmarks/cells.py) never read test here, so nothing can be chosen on test. They run seed by seed, so an
unfinished question is fair as well. The finished ones are printed as a table of val mIoU, with the difference to
the base of the same seeds. --pages writes the tables into docs/tuning.md.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from cells import (
    ALL,
    DOCS,
    RATE,
    WEIGHTS,
    Cell,
    Parts,
    Record,
    Variant,
    divided,
    markdown,
    places,
    roots_of,
    run_all,
    spread,
)
from sides import put

RECORD = DOCS / "tuning.json"
COLUMNS = ("camvid-23", "nuclei-16")
STEPS = 300

Variants = dict[str, Variant]  # the first one is the base of the others
BASE = Variant(steps=STEPS)
SHORT, LONG = 600, 1200  # steps of all generations together: a short budget, and that of the study
# noisy_student as it was when its questions were asked, and generations that it does not have
PARTS: Parts = {
    "teacher": {"noise": {"style": 0.5}},
    "online": {
        "init": "teacher", "online": "unimatch_v2",
        "noise": {"style": 0.5, "colour": 1.0, "cutmix": 1.0, "paste": 0.5},
    },
    "stored": {
        "init": "teacher",
        "noise": {"rand_n": 1, "rand_m": 5, "style": 0.5, "cutmix": 1.0, "paste": 0.5},
    },
    "masks": {"init": "teacher", "unlabelled_batch": 0},
}  # fmt: skip
PARTS["one view"] = PARTS["online"] | {"online": "fixmatch"}
PARTS["from ImageNet"] = PARTS["online"] | {"init": "random"}
PARTS["seeds"] = PARTS["teacher"] | {"members": {"seeds": 2}}
PARTS["moments"] = PARTS["teacher"] | {"members": {"epochs": {"number": 3, "last": 0.4}}}
SHARP = "loss.labelled.ce.smoothing=0"
short, long = (partial(divided, parts=PARTS, steps=steps) for steps in (SHORT, LONG))
QUARTERS = {"teacher": 1 / 2, "online": 1 / 4, "stored": 1 / 4}
HALVES = {"teacher": 1 / 2, "online": 1 / 2}
STORED = {"teacher": 1 / 2, "stored": 1 / 2}
LITE1 = ("generations.1.encoder=tu-tf_efficientnet_lite1", f"generations.1.weights={WEIGHTS.format('lite1')}")


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
        "supervised, without label smoothing": Variant((RATE, SHARP), steps=SHORT),
        "supervised, as the teacher": Variant((RATE, SHARP, "generations=[{noise:{style:0.5}}]"), steps=SHORT),
        "teacher 1/4, online 1/2, stored 1/4": short(teacher=1 / 4, online=1 / 2, stored=1 / 4),
        "teacher 1/2, online 1/4, stored 1/4": short(teacher=1 / 2, online=1 / 4, stored=1 / 4),
        "teacher 1/2, online 1/2": short(teacher=1 / 2, online=1 / 2),
        "teacher 1/2, stored 1/2": short(teacher=1 / 2, stored=1 / 2),
        "teacher 3/4, stored 1/4": short(teacher=3 / 4, stored=1 / 4),
        "teacher 1/2, online 2/5, masks 1/10": short(**{"teacher": 0.5, "online": 0.4, "masks": 0.1}),
    },
    "budget": {
        "supervised": Variant((RATE,), steps=LONG),
        "teacher 1/2, online 1/4, stored 1/4": long(**QUARTERS),
        "the same, one threshold": long("loss.adaptive=false", **QUARTERS),
        "teacher 1/2, online 1/2": long(**HALVES),
        "teacher 1/2, stored 1/2": long(**STORED),
    },
    "online": {
        "teacher 1/2, online 1/2": short(**HALVES),
        "one strong view": short(**{"teacher": 1 / 2, "one view": 1 / 2}),
        "from ImageNet, not from the teacher": short(**{"teacher": 1 / 2, "from ImageNet": 1 / 2}),
        "one threshold": short("loss.adaptive=false", **HALVES),
        "threshold 0.8": short("loss.threshold=0.8", **HALVES),
        "without CutMix": short("generations.1.noise.cutmix=0", "generations.1.noise.paste=0", **HALVES),
        "without boxes from labelled images": short("generations.1.noise.paste=0", **HALVES),
        "without the colours of other images": short(
            "generations.0.noise.style=0", "generations.1.noise.style=0", **HALVES
        ),
        "EMA over 5 % of the steps": short("train.average={ema:{share:0.05}}", **HALVES),
        "EMA over half of the steps": short("train.average={ema:{share:0.5}}", **HALVES),
        "encoder at 0.3 of the rate": short("train.encoder_lr=0.3", **HALVES),
        "half the rate": short("train.lr=0.001", **HALVES),
        "twice the rate": short("train.lr=0.004", **HALVES),
    },
    "stored": {
        "teacher 1/2, stored 1/2": short(**STORED),
        "two teachers (seeds)": short(**{"seeds": 1 / 2, "stored": 1 / 2}),
        "three moments of the teacher": short(**{"moments": 1 / 2, "stored": 1 / 2}),
        "hard labels": short("loss.pseudo={kl: 0, ce: 1}", **STORED),
        "every pixel": short("select.threshold=global", "select.confidence=0", **STORED),
        "one threshold, 0.95": short("select.threshold=global", "select.confidence=0.95", **STORED),
        "adaptive thresholds": short("select.threshold=adaptive", **STORED),
        "without TTA": short("labels.tta.hflip=false", "labels.tta.scales=[1.0]", **STORED),
        "with the CRF": short("labels.crf.enabled=true", **STORED),
        "without RandAugment": short("generations.1.noise.rand_n=0", **STORED),
        "a larger student (lite1), from its teacher": short(LITE1[0], **STORED),
        "a larger student (lite1), from ImageNet": short(*LITE1, "generations.1.init=random", **STORED),
    },
}  # fmt: skip


def facts(cell: Cell, report: dict[str, Any]) -> dict[str, Any]:
    """val mIoU of the last generation ("val"), of the best one, and of each."""
    generations = [one["val"]["miou"] for one in report["generations"]]
    return {"val": generations[-1], "best": max(generations), "generations": generations}


def table(
    record: Record, question: str, variants: Variants, columns: Sequence[str], seeds: int, score: str = "val"
) -> list[str]:
    """Markdown: a row per variant; mIoU and the paired difference to the base in each column."""
    base = next(iter(variants.values()))
    heads = [question, *(head for column in columns for head in (column, "difference"))]
    rows = []
    for name, variant in variants.items():
        row = [name]
        for column in columns:
            found, alone = (scores(record, column, one, seeds, score) for one in (variant, base))
            changes = [found[seed] - alone[seed] for seed in found if seed in alone]
            row += [spread(list(found.values())), spread(changes, sign="+") if variant != base else ""]
        rows.append(row)
    return markdown(heads, rows)


def scores(record: Record, column: str, variant: Variant, seeds: int, score: str) -> dict[int, float]:
    """mIoU by seed."""
    return {seed: one[score] for seed, one in record.found(column, variant, range(seeds)).items()}


def study(
    questions: dict[str, Variants],
    columns: Sequence[str],
    page: Path,
    about: str | None,
    record: Record | None = None,
    score: str = "val",
) -> None:
    """Run the cells that a command line asks for, and print their tables; `about` is the text of --help.

    `score` is a number of each cell in `record`, docs/tuning.json unless another one is given.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("questions", nargs="*", default=list(questions), metavar="QUESTION")
    places(parser, "tuning")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", metavar="VARIANT", help="run no other variants")
    parser.add_argument("--columns", nargs="+", choices=columns, default=columns, help="run no others")
    parser.add_argument("--pages", action="store_true", help=f"also write the tables into docs/{page.name}")
    arguments = parser.parse_args()
    record = record or Record(RECORD, facts)
    todo = [
        Cell(column, variant, seed)
        for seed in range(arguments.seeds)
        for question in arguments.questions
        for name, variant in questions[question].items()
        if arguments.only is None or name in arguments.only
        for column in arguments.columns
    ]
    run_all(todo, roots_of(arguments), arguments.out, record, arguments.jobs)
    for question in arguments.questions:
        rows = "\n".join(table(record, question, questions[question], columns, arguments.seeds, score))
        print(f"\n{rows}")
        if arguments.pages:
            put(page, f"table of {question}", rows)


if __name__ == "__main__":
    study(QUESTIONS, COLUMNS, DOCS / "tuning.md", __doc__)
