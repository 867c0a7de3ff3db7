"""Cross-validation of a recipe: a run for each fold of the labelled images, and what they say together.

The val of a run is its fold, which nothing in the run has learnt from: its students learn from the labels of
its own teachers. So the folds give an honest prediction of every labelled image by every generation. These
predictions choose the generation that leads in all folds. Its networks together have learnt from all images.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from torch import nn

from selftrain import agreement, files, variants
from selftrain.anatomy import anatomy_of
from selftrain.cards import card_of
from selftrain.config import Config
from selftrain.data.sample import Sample
from selftrain.fold_settings import FOLD, Asked, name_of
from selftrain.generations import deserves, leader
from selftrain.log import say
from selftrain.models import ensemble, saved
from selftrain.networks import Networks
from selftrain.rundir import RunDir
from selftrain.session import Session
from selftrain.settings.stored import stored_tree
from selftrain.settings.tree import changed, with_settings
from selftrain.several import Home, train_all
from selftrain.stages import export


@dataclass(frozen=True)
class Fold:
    """A finished run of cross-validation, its report.json, and the images that it has not learnt from."""

    name: str
    report: dict[str, Any]
    networks: Networks
    val: list[Sample]

    def facts(self, number: int) -> dict[str, Any]:
        """What report.json of all folds says of a generation of this one, but for its test score."""
        return {
            "run": self.name,
            "images": len(self.val),
            "generation": number,
            "val": self.report["generations"][number]["val"]["miou"],
            "model": self.networks.load(number)[1],
        }

    @property
    def tested(self) -> bool:
        return self.report["test"] is not None


def run(asked: Asked) -> dict:
    """Train all folds; then score, compare and join them. Returns report.json of the directory."""
    found, sessions = list[Fold](), list[Session]()

    def then(name: str, session: Session, report: dict) -> None:
        found.append(Fold(name, report, session.networks, session.data.val))
        sessions[:] = [session]

    asked.home.settle({"folds": asked.number})
    train_all(asked.home, _configs(asked), then)
    finished = _finished(asked.home, found)
    if finished is None:
        finished = _finish(asked.home, sessions[0], found)
    _print(asked.home, finished)
    return finished


def _configs(asked: Asked) -> Iterator[tuple[str, Config]]:
    """The settings of each run. What is decided when a run begins is decided once, by the first one."""
    yield name_of(0), changed(asked.config, {FOLD: [0, asked.number]})
    tree = stored_tree(RunDir(asked.home.run(name_of(0))).config)
    tree["train"]["plan"] = "none"  # the plan of the first run holds
    for fold in range(1, asked.number):
        yield name_of(fold), with_settings(tree, [(FOLD, [fold, asked.number])])


def _finished(home: Home, folds: list[Fold]) -> dict | None:
    """The report of an earlier call, if it is about these generations and about as many test scores."""
    if not home.report.is_file():
        return None
    report = files.read_json(home.report, "folds")
    if "generations" in report and len(report["generations"]) != _shared(folds):
        return None
    for fold, row in zip(folds, report["folds"], strict=True):
        known = {**row, **fold.facts(row["generation"])}
        if row != known or (row["test"] is not None) != fold.tested:
            return None
    return report


def _finish(home: Home, session: Session, folds: list[Fold]) -> dict:
    """Choose the generation that leads in all folds; score, export and report it.

    No val is left for all of its networks as one, so the card has the out-of-fold scores of its members.
    """
    generations = _out_of_fold(session, folds)
    chosen = leader(generations)
    networks = [one.networks.load(chosen)[0] for one in folds]
    rows = [
        {**one.facts(chosen), "test": _test(session, one, chosen, own)}
        for one, own in zip(folds, networks, strict=True)
    ]
    scores, network = [row["val"] or 0.0 for row in rows], _together(networks)
    tested = session.data.test and session.cfg.test.read == "end"
    reports = [one.report for one in folds]
    report = {
        "folds": rows,
        "mean": mean(scores),
        "spread": stdev(scores),
        "generations": [{"miou": one["val"]["miou"], "promoted": one["promoted"]} for one in generations],
        "out_of_fold": generations[chosen]["val"],
        "val_and_test": agreement.of_val_and_test(reports),
        "ensemble_test": session.evaluate(network, session.data.test, "test") if tested else None,
        **({"debug": reports[0]["debug"]} if "debug" in reports[0] else {}),
    }
    model = saved.describe_joined(network, [one.report["generations"][chosen]["model"] for one in folds])
    row = {"model": model, "val": report["out_of_fold"], "generation": None}
    card = card_of(session.cfg, session.data, row, test=report["ensemble_test"]) | {"folds": rows}
    card["input"]["multiple"] = anatomy_of(network).multiple
    say(f"writing the export of {len(ensemble.parts(network))} networks as one")
    asked, val = session.cfg.export, [one.at_own_size() for one in session.data.val]
    images = export.of_val(val) if asked.onnx else []
    export.export(network, home.export, card=card, onnx=asked.onnx, opset=asked.opset, images=images)
    variants.add(home.export, asked, val)
    files.write_json(home.report, report)
    return report


def _out_of_fold(session: Session, folds: list[Fold]) -> list[dict]:
    """A row for each generation that all folds have: scores on all labelled images, and whether it leads.

    Each image is predicted by the fold that has not learnt from it. The rule is that of a run's own val
    (`generations.deserves`), which is a fold only and may be too small to choose by. So several networks of a
    generation have scores of their own as well.
    """

    def scores(networks: Iterable[nn.Module], stage: str = "") -> dict:
        parts = [(session.predictor(own), one.val) for own, one in zip(networks, folds, strict=True)]
        return session.evaluated(parts, stage)

    rows = list[dict]()
    for number in range(_shared(folds)):
        networks = [one.networks.load(number)[0] for one in folds]
        row = {"generation": number, "val": scores(networks, f"gen{number} out of fold")}
        each = [ensemble.singles(one) for one in networks]
        if len(each[0]) > 1:
            row["members"] = [{"val": scores(own)} for own in zip(*each, strict=True)]
        rows.append(row | {"promoted": deserves(row, rows)})
    return rows


def _shared(folds: list[Fold]) -> int:
    """The number of generations that all folds have."""
    return min(len(one.report["generations"]) for one in folds)


def _test(session: Session, fold: Fold, number: int, network: nn.Module) -> float | None:
    """The test mIoU of a fold's generation, if its run read test; that of its own leader is known."""
    if not fold.tested:
        return None
    known: dict = fold.report["test"]
    if number != fold.report["best"]:
        known = session.evaluate(network, session.data.test, f"{fold.name} gen{number} test")
    return known["miou"]


def _together(leaders: list[nn.Module]) -> nn.Module:
    """The leaders of all folds as one network, which has learnt from all labelled images."""
    networks = [part for one in leaders for part in ensemble.parts(one)]
    shares = [share for one in leaders for share in ensemble.shares_of(one)]
    weights = [] if max(shares) - min(shares) < 1e-9 else shares  # each leader weighs alike
    zooms = [zoom for one in leaders for zoom in ensemble.zooms_of(one)]
    return ensemble.joined(networks, zooms, weights)


def _print(home: Home, report: dict) -> None:
    rows = report["folds"]
    say("fold   images  generation  val mIoU" + ("  test mIoU" if rows[0]["test"] is not None else ""))
    for row in rows:
        test = "" if row["test"] is None else f"     {row['test']:.4f}"
        say(f"{row['run']:<6} {row['images']:>6}  {row['generation']:>10}    {row['val'] or 0:.4f}{test}")
    for number, one in enumerate(report.get("generations", [])):
        promoted = "" if one["promoted"] else ", does not lead"
        say(f"generation {number}, out of fold: {one['miou'] or 0:.4f}{promoted}")
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
