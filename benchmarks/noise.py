"""Masks corrupted on purpose: how many `selftrain clean` finds, and what each remedy is worth.

    PYTHONPATH=WEIGHTS python benchmarks/noise.py --nuclei ROOT --out runs/noise [--masks 16 32 64] [--seeds 3]

A fifth of the training masks is shifted, loses most of its objects, or gets its classes swapped. The folds of
a run find them: recall is the share of the corrupted masks in a list of as many masks as are corrupted. Then
networks are trained on all masks, on the masks after each remedy (drop, weight, relabel), and on the sound
masks, with equal steps and seeds. val and test are sound. The gain of a remedy is the difference of the test
mIoU to the network of all masks, seed by seed. Every part is a run of `selftrain`, so a stopped study can be
resumed. The table is printed, and written to OUT/noise.md.
"""

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path

from cells import DATA, RATE, SETTINGS, UNREAD, length, markdown, spread
from corruption import CORRUPTIONS, write_folder

from selftrain.data.load import load
from selftrain.datasets import spec_of
from selftrain.settings import compose

SHARE, FOLDS = 0.2, 4
SIZE = [f"data.size={DATA['nuclei'][1]}", f"train.crop={DATA['nuclei'][2]}"]
REMEDIES = ("drop", "weight", "relabel")
BASE, SOUND = "all masks", "sound masks"
ROWS = [
    *(f"recall: {kind}" for kind in ("all", *CORRUPTIONS)),
    f"test mIoU: {BASE}",
    *(f"gain: {arm}" for arm in (*REMEDIES, SOUND)),
]
KINDS = "kinds.json"


def folder(nuclei: Path, root: Path, masks: int, share: float, seed: int) -> dict[str, str]:
    """The kind of each corrupted mask, by id, of a folder that is written once; `KINDS` is written last."""
    if not (root / KINDS).is_file():
        settings = ["data=nuclei", f"data.root={nuclei}", SIZE[0], f"data.splits.labels={masks}"]
        cfg = compose([*settings, f"data.splits.seed={seed}"])
        kinds = write_folder(root, load(spec_of(cfg.data)), share, seed)
        (root / KINDS).write_text(json.dumps(kinds))
    return json.loads((root / KINDS).read_text())


def selftrain(log: Path, *arguments: object) -> bool:
    """Whether a command of selftrain ends without an error; its output is added to `log`."""
    with log.open("a") as file:
        command = [sys.executable, "-m", "selftrain.cli", *map(str, arguments)]
        code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT).returncode
    if code:
        print(f"{log}: exit {code}", flush=True)
    return code == 0


def train(root: Path, out: Path, seed: int, steps: int, *further: str) -> float | None:
    """Test mIoU of a run on the folder `root`, which is started, resumed or read; None if it failed."""
    if not (out / "report.json").is_file():
        out.parent.mkdir(parents=True, exist_ok=True)
        settings = [
            "recipe=supervised", "data=folder", f"data.root={root}", "data.unlabelled=''", "data.splits.train=train",
            "data.classes=[background,nucleus]", "data.splits.val=val", "data.splits.test=test", *SIZE,
            *(one for one in SETTINGS if one != UNREAD), RATE, *length(steps), f"seed={seed}", f"out={out}",
            *further,
        ]  # fmt: skip
        if not selftrain(out.with_suffix(".log"), "train", *settings):
            return None
        print(f"{out} is finished", flush=True)
    return json.loads((out / "report.json").read_text())["test"]["miou"]


def found(listed: Path, kinds: dict[str, str]) -> dict[str, float]:
    """Recall of all corrupted masks, and of each kind that there is."""
    with listed.open(newline="") as lines:
        names = {row["image"] for row in csv.DictReader(lines)}
    of = {kind: [name for name, own in kinds.items() if own == kind] for kind in CORRUPTIONS}
    parts = {"all": list(kinds), **{kind: bad for kind, bad in of.items() if bad}}
    return {kind: len(names.intersection(bad)) / len(bad) for kind, bad in parts.items()}


def cell(nuclei: Path, out: Path, masks: int, seed: int, steps: int) -> dict[str, float]:
    """The numbers of one number of masks and one seed, see `numbers`; failed parts are left out."""
    where = out / f"nuclei-{masks}-{seed}"
    kinds = folder(nuclei, where / "noisy", masks, SHARE, seed)
    folder(nuclei, where / "sound", masks, 0, seed)
    folds, scores, recall = where / "folds", dict[str, float | None](), dict[str, float]()
    scores[BASE] = train(where / "noisy", where / "all", seed, steps)
    train(where / "noisy", folds, seed, steps, f"generations.0.members={{folds: {FOLDS}}}")
    listed = folds / "suspects" / "suspects.csv"
    if (folds / "report.json").is_file() and (
        listed.is_file() or selftrain(where / "clean.log", "clean", folds, "--count", len(kinds))
    ):
        recall = found(listed, kinds)
        for remedy in REMEDIES:
            treated = [f"data.suspects={listed}", f"data.suspicion={remedy}"]
            scores[remedy] = train(where / "noisy", where / remedy, seed, steps, *treated)
    scores[SOUND] = train(where / "sound", where / "sound-run", seed, steps)
    return numbers(recall, scores)


def numbers(recall: dict[str, float], scores: dict[str, float | None]) -> dict[str, float]:
    """Recall by kind, the test mIoU of all masks, and the gain of each other arm, by the name of its row."""
    base = scores.get(BASE)
    gains = {
        f"gain: {arm}": score - base
        for arm, score in scores.items()
        if arm != BASE and base is not None and score is not None
    }
    known = {} if base is None else {f"test mIoU: {BASE}": base}
    return {**{f"recall: {kind}": share for kind, share in recall.items()}, **known, **gains}


def table(cells: dict[int, list[dict[str, float]]]) -> list[str]:
    """Markdown: a column for each number of masks, with the mean and the spread over the seeds."""
    rows = [
        [row, *(spread([one[row] for one in seeds if row in one]) for seeds in cells.values())]
        for row in ROWS
    ]
    return markdown(["nuclei", *(f"{masks} masks" for masks in cells)], rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nuclei", type=Path, required=True, help="data.root of the nuclei")
    parser.add_argument("--out", type=Path, default=Path("runs/noise"))
    parser.add_argument("--masks", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    arguments = parser.parse_args()
    cells: dict[int, list[dict[str, float]]] = {masks: [] for masks in arguments.masks}
    for seed in range(arguments.seeds):  # seed by seed, so that an unfinished study is fair as well
        for masks, rows in cells.items():
            rows.append(cell(arguments.nuclei, arguments.out, masks, seed, arguments.steps))
    lines = table(cells)
    print("\n".join(lines))
    (arguments.out / "noise.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
