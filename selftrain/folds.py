"""Cross-validation of a recipe: a run for each fold of the labelled images, and what they say together.

The val of a run is its fold, which nothing in the run has learnt from: its students learn from the labels of
its own teachers. So the folds give an honest prediction of every labelled image, and their leaders together
have learnt from all of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from torch import nn

from selftrain import agreement, files, variants
from selftrain.anatomy import anatomy_of
from selftrain.cards import card_of
from selftrain.config import Config
from selftrain.data.sample import Sample
from selftrain.datasets import check_root
from selftrain.errors import ConfigError
from selftrain.inference.predictor import Predictor
from selftrain.log import say
from selftrain.models import ensemble, saved
from selftrain.run import RESUMABLE
from selftrain.rundir import RunDir
from selftrain.session import Session
from selftrain.settings import compose, read, stored
from selftrain.settings.stored import stored_tree
from selftrain.settings.tree import changed, with_settings
from selftrain.several import Home, train_all
from selftrain.stages import export

FOLDS = 5
FOLD, NUMBER, TEST = "data.splits.fold", "k", "test.read"


@dataclass(frozen=True)
class Fold:
    """A finished run of cross-validation: facts, its leader, and the images that its leader has not seen."""

    facts: dict[str, Any]
    description: dict[str, Any]
    network: nn.Module
    predictor: Predictor
    val: list[Sample]


@dataclass(frozen=True)
class Asked:
    """The settings of the runs without their folds, the number of folds, and the directory."""

    config: Config
    number: int
    home: Home


def asked(overrides: Sequence[str], config_dir: str | None = None) -> Asked:
    """What a command line asks for: settings of a run, and k=NUMBER.

    The directory alone resumes with the settings of its runs. The test set is not read unless test.read=end.
    Raises ConfigError.
    """
    pairs = dict(text.partition("=")[::2] for text in overrides)
    if FOLD in pairs:
        raise ConfigError(
            f"{FOLD}: selftrain folds sets it for each run; give the number of folds by {NUMBER}="
        )
    rest = [text for text in overrides if not text.startswith(f"{NUMBER}=")]
    number = pairs.get(NUMBER, str(FOLDS))
    if not number.isdigit() or int(number) < 2:
        raise ConfigError(f"{NUMBER}={number} must be a number of folds, at least 2")
    home = Home(RunDir(Path(read("out", pairs.get("out", "")))).path)
    first = RunDir(home.run(name_of(0))).config
    if "out" in pairs and pairs.keys() <= RESUMABLE | {NUMBER} and first.is_file():
        own = [text for text in rest if not text.startswith("out=")]
        config = stored(first, own)
        return Asked(config, int(pairs.get(NUMBER, config.data.splits.fold[1])), home)
    config = compose(rest if TEST in pairs else [f"{TEST}=never", *rest], config_dir)
    check_root(config.data)
    if not config.out:
        raise ConfigError("out is not set; say where the runs go, e.g. out=runs/folds")
    return Asked(config, int(number), home if "out" in pairs else Home(Path(f"{config.out}-folds")))


def run(asked: Asked) -> dict:
    """Train all folds; then score, compare and join their leaders. Returns report.json of the directory."""
    found, sessions = list[Fold](), list[Session]()
    reports = list[dict]()

    def then(name: str, session: Session, report: dict) -> None:
        found.append(_fold(name, session, report))
        reports.append(report)
        sessions[:] = [session]

    asked.home.settle({"folds": asked.number})
    train_all(asked.home, _configs(asked), then)
    return _finish(asked.home, sessions[0], found, reports)


def name_of(fold: int) -> str:
    """The name of a fold's run."""
    return f"fold{fold}"


def _configs(asked: Asked) -> Iterator[tuple[str, Config]]:
    """The settings of each run. What is decided when a run begins is decided once, by the first one."""
    yield name_of(0), changed(asked.config, {FOLD: [0, asked.number]})
    tree = stored_tree(RunDir(asked.home.run(name_of(0))).config)
    tree["train"]["plan"] = "none"  # the plan of the first run holds
    for fold in range(1, asked.number):
        yield name_of(fold), with_settings(tree, [(FOLD, [fold, asked.number])])


def _fold(name: str, session: Session, report: dict) -> Fold:
    best = report["best"]
    network, digest = session.networks.load(best)
    leader, test = report["generations"][best], report["test"]
    facts = {
        "run": name,
        "images": len(session.data.val),
        "generation": best,
        "val": leader["val"]["miou"],
        "test": test and test["miou"],
        "model": digest,
    }
    return Fold(facts, leader["model"], network, session.predictor(network), session.data.val)


def _finish(home: Home, session: Session, folds: list[Fold], reports: list[dict]) -> dict:
    """Score, export and report the leaders of all folds.

    No val is left for all of them as one network, so its card has the out-of-fold scores of its members.
    """
    rows = [one.facts for one in folds]
    if home.report.is_file():
        report = files.read_json(home.report, "folds")
        if report["folds"] == rows:  # finished before
            _print(home, report)
            return report
    scores, network = [row["val"] or 0.0 for row in rows], _together(folds)
    tested = session.data.test and session.cfg.test.read == "end"
    report = {
        "folds": rows,
        "mean": mean(scores),
        "spread": stdev(scores),
        "out_of_fold": session.evaluated([(one.predictor, one.val) for one in folds], "out of fold"),
        "val_and_test": agreement.of_val_and_test(reports),
        "ensemble_test": session.evaluate(network, session.data.test, "test") if tested else None,
        **({"debug": reports[0]["debug"]} if "debug" in reports[0] else {}),
    }
    model = saved.describe_joined(network, [one.description for one in folds])
    row = {"model": model, "val": report["out_of_fold"], "generation": None}
    card = card_of(session.cfg, session.data, row, test=report["ensemble_test"]) | {"folds": rows}
    card["input"]["multiple"] = anatomy_of(network).multiple
    say(f"writing the export of {len(ensemble.parts(network))} networks as one")
    asked, val = session.cfg.export, [one.at_own_size() for one in session.data.val]
    images = export.of_val(val) if asked.onnx else []
    export.export(network, home.export, card=card, onnx=asked.onnx, opset=asked.opset, images=images)
    variants.add(home.export, asked, val)
    files.write_json(home.report, report)
    _print(home, report)
    return report


def _together(folds: list[Fold]) -> nn.Module:
    """The leaders of all folds as one network, which has learnt from all labelled images."""
    networks = [part for one in folds for part in ensemble.parts(one.network)]
    shares = [share for one in folds for share in ensemble.shares_of(one.network)]
    weights = [] if max(shares) - min(shares) < 1e-9 else shares  # each leader weighs alike
    zooms = [zoom for one in folds for zoom in ensemble.zooms_of(one.network)]
    return ensemble.joined(networks, zooms, weights)


def _print(home: Home, report: dict) -> None:
    rows = report["folds"]
    say("fold   images  generation  val mIoU" + ("  test mIoU" if rows[0]["test"] is not None else ""))
    for row in rows:
        test = "" if row["test"] is None else f"     {row['test']:.4f}"
        say(f"{row['run']:<6} {row['images']:>6}  {row['generation']:>10}    {row['val'] or 0:.4f}{test}")
    whole = report["out_of_fold"]
    say(f"mean of {len(rows)} folds: {report['mean']:.4f} ± {report['spread']:.4f} (standard deviation)")
    count = sum(row["images"] for row in rows)
    say(f"out of fold, all {count} labelled images in one confusion matrix: {whole['miou'] or 0:.4f}")
    each = ", ".join(
        f"{name} {'–' if iou is None else f'{iou:.3f}'}" for name, iou in whole["per_class"].items()
    )
    say(f"  {each}")
    if report["val_and_test"]:
        found = report["val_and_test"]
        say(f"val and test: correlation {found['correlation']:+.2f} over {found['count']} runs")
    if report["ensemble_test"]:
        say(f"test mIoU of the ensemble: {report['ensemble_test']['miou'] or 0:.4f}")
    if report.get("debug"):
        say(f"warning: {report['debug']}")
    say(f"report: {home.report}")
    say(f"export: {home.export}")
