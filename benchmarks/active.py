"""Which images to label next: the choice of `selftrain next`, compared with a random one.

    PYTHONPATH=WEIGHTS python benchmarks/active.py --camvid ROOT --nuclei ROOT --out runs/active [--arms next random diversity]

A network is trained on 8 masks. Then each arm adds 8 masks, twice: `next` the images that `selftrain next`
proposes for its latest network, `diversity` those that it proposes with --uncertainty none, `random` images
drawn at random. Each round trains a new network (recipe=supervised) from the same weights, those of ImageNet as
in benchmarks/cells.py, with equal steps. The first network, val and test are the same for all arms of a seed, so differences are paired by seed.
val and test are read at the end of each run. All masks exist from the start; an arm sees the masks of the
images that it has chosen.

Each core trains the runs of one seed, one after the other. A stopped study can be resumed with the same command.
The table is printed, and written to OUT/active.md; --pages also writes it into docs/guide/next.md.
"""

import argparse
import csv
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import sides
from cells import DOCS, RATE, Cell, Variant, spread
from noise import selftrain

from selftrain.data.load import load
from selftrain.data.sample import Sample
from selftrain.datasets import spec_of
from selftrain.files import write_bytes
from selftrain.rng import generator
from selftrain.settings import compose

STEPS = 300
FIRST, MORE, ROUNDS = 8, 8, 2
SEEDS = {"camvid": 5, "nuclei": 3}
BASE = "random"  # the arm that others are compared with
ARMS = {"next": [], BASE: None, "diversity": ["--uncertainty", "none"]}  # options of `selftrain next`
SCORES = ("val", "test")
Scores = dict[str, float]  # by val and test
Arm = list[Scores]  # after each round


def shared(data: str, steps: int) -> list[str]:
    """The settings of all runs on a data set: those of benchmarks/cells.py, apart from splits and seed."""
    own = ("data.splits.", "test.read=", "seed=")
    return [
        one
        for one in Cell(f"{data}-{FIRST}", Variant((RATE,), steps=steps), 0).settings()
        if not one.startswith(own)
    ]


def lists(data: str, root: Path, where: Path, seed: int, first: int) -> list[str]:
    """The images to begin with, by their path below `root`; `where` gets lists of all splits, once."""
    if not (where / "pool.txt").is_file():
        settings = [
            *shared(data, STEPS),
            f"data.root={root}",
            f"data.splits.labels={first}",
            f"data.splits.seed={seed}",
        ]
        found = load(spec_of(compose(settings).data))
        parts = {"val": found.val, "test": found.test, "first": found.labelled}
        for name, samples in (parts | {"pool": [*found.labelled, *found.unlabelled]}).items():
            put(where / f"{name}.txt", names(samples, root))  # the pool last
    return (where / "first.txt").read_text().split("\n")[:-1]


def names(samples: Sequence[Sample], root: Path) -> list[str]:
    """The image files of samples, by their path below `root`."""
    return [str(Path(sample.image.name).relative_to(root)) for sample in samples]


def put(file: Path, lines: Sequence[str]) -> None:
    write_bytes(file, "".join(f"{line}\n" for line in lines).encode())


def train(
    data: str, root: Path, lists: Path, masks: list[str], out: Path, seed: int, steps: int
) -> Scores | None:
    """The scores of a run on these images with masks, which is started, resumed or read; None if it failed."""
    if not (out / "report.json").is_file():
        pool = (lists / "pool.txt").read_text().split("\n")[:-1]
        parts = {"train": masks, "rest": sorted(set(pool) - set(masks))}
        for name, lines in parts.items():
            put(out.parent / f"{out.name}-{name}.txt", lines)
        splits = {
            "train": out.parent / f"{out.name}-train.txt",
            "val": lists / "val.txt",
            "test": lists / "test.txt",
        }
        settings = [
            *shared(data, steps), f"data.root={root}", *(f"data.splits.{name}={file}" for name, file in splits.items()),
            f"data.unlabelled={out.parent / f'{out.name}-rest.txt'}", f"seed={seed}", f"out={out}",
        ]  # fmt: skip
        if not selftrain(out.with_suffix(".log"), "train", *settings):
            return None
        print(f"{out} is finished", flush=True)
    report = json.loads((out / "report.json").read_text())
    return {"val": report["generations"][report["best"]]["val"]["miou"], "test": report["test"]["miou"]}


def proposed(run: Path, root: Path, folder: Path, count: int, options: list[str]) -> list[str] | None:
    """The images that `selftrain next` proposes for a run, asked once; None if it failed."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "next.png").is_file() and not selftrain(
        folder.with_suffix(".log"), "next", run, "-n", count, "-o", folder, *options
    ):
        return None
    with (folder / "next.csv").open(newline="") as lines:
        return [str(Path(row["file"]).relative_to(root)) for row in csv.DictReader(lines)]


def drawn(lists: Path, masks: list[str], count: int, *keys: int) -> list[str]:
    """Random images of the pool that have no mask yet."""
    left = sorted(set((lists / "pool.txt").read_text().split("\n")[:-1]) - set(masks))
    return [left[i] for i in generator("active", *keys).permutation(len(left))[:count]]


def cell(data: str, root: Path, where: Path, arm: str, seed: int, steps: int, sizes: tuple[int, int]) -> Arm:
    """The scores of an arm with its first masks and after each round; a failed run ends the arm.

    `sizes` are the number of masks to begin with, and of those that each round adds.
    """
    masks, run, found = lists(data, root, where, seed, sizes[0]), where / "first", list[Scores]()
    for number in range(ROUNDS + 1):
        scores = train(data, root, where, masks, run, seed, steps)
        if scores is None:
            return found
        found.append(scores)
        if number == ROUNDS:
            return found
        options, asked = ARMS[arm], where / arm / f"asked{number}"
        if options is None:
            new: list[str] | None = drawn(where, masks, sizes[1], seed, number)
        else:
            new = proposed(run, root, asked, sizes[1], options)
        if new is None:
            return found
        masks, run = [*masks, *new], where / arm / f"round{number + 1}"
    return found


def table(cells: dict[str, dict[str, dict[int, Arm]]], sizes: tuple[int, int]) -> list[str]:
    """Markdown: mIoU by data set, number of masks and arm, and the differences to BASE, seed by seed."""
    heads = [
        "data",
        "masks",
        "arm",
        *(f"{score} mIoU" for score in SCORES),
        *(f"{score}: difference to {BASE}" for score in SCORES),
    ]
    lines = [heads, ["---"] * len(heads)]
    for data, arms in cells.items():
        for number in range(ROUNDS + 1):
            for arm, seeds in arms.items():
                if number == 0 and arm != BASE:
                    continue  # the first network is that of all arms
                rows = {seed: rounds[number] for seed, rounds in seeds.items() if len(rounds) > number}
                base = {seed: rounds[number] for seed, rounds in arms[BASE].items() if len(rounds) > number}
                each = [spread([row[score] for row in rows.values()]) for score in SCORES]
                apart = [
                    spread([row[score] - base[seed][score] for seed, row in rows.items() if seed in base])
                    if arm != BASE
                    else ""
                    for score in SCORES
                ]
                lines.append(
                    [data, str(sizes[0] + number * sizes[1]), arm if number else "all", *each, *apart]
                )
    return [f"| {' | '.join(line)} |" for line in lines]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--camvid", type=Path, help="images/{train,val,test} and masks/{train,val,test}")
    parser.add_argument("--nuclei", type=Path, help="images/ and masks/")
    parser.add_argument("--out", type=Path, default=Path("runs/active"))
    parser.add_argument("--arms", nargs="+", default=["next", BASE], choices=list(ARMS))
    parser.add_argument("--seeds", type=int, help=f"of each data set (default: {SEEDS})")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--first", type=int, default=FIRST, help="masks to begin with")
    parser.add_argument("--more", type=int, default=MORE, help="masks that each round adds")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="seeds at a time, one thread each")
    parser.add_argument("--pages", action="store_true", help="also write the table into docs/guide/next.md")
    arguments = parser.parse_args()
    arms = list(dict.fromkeys([BASE, *arguments.arms]))
    roots = {data: root.resolve() for data in SEEDS if (root := getattr(arguments, data))}
    out, sizes = arguments.out.resolve(), (arguments.first, arguments.more)
    cells = {data: {arm: dict[int, Arm]() for arm in arms} for data in roots}
    todo = [  # seed by seed: an unfinished study is fair, too
        (data, seed)
        for seed in range(arguments.seeds or max(SEEDS.values()))
        for data in roots
        if seed < (arguments.seeds or SEEDS[data])
    ]

    def study(data: str, seed: int) -> None:
        for arm in arms:
            where = out / f"{data}-{seed}"
            cells[data][arm][seed] = cell(data, roots[data], where, arm, seed, arguments.steps, sizes)

    for data, seed in todo:  # settings cannot be composed in several threads at once
        lists(data, roots[data], out / f"{data}-{seed}", seed, sizes[0])
    os.environ["OMP_NUM_THREADS"] = "1"
    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(study, *zip(*todo, strict=True)))
    lines = table(cells, sizes)
    print("\n".join(lines))
    (out / "active.md").write_text("\n".join(lines) + "\n")
    if arguments.pages:
        sides.put(DOCS / "guide" / "next.md", "table of the choice", "\n".join(lines))


if __name__ == "__main__":
    main()
