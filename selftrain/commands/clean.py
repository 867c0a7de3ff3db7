"""`selftrain clean RUN`: the masks that the networks of the other folds contradict."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from selftrain.commands import Commands, begun, command, path
from selftrain.errors import ConfigError
from selftrain.log import say
from selftrain.rundir import RunDir

if TYPE_CHECKING:
    from selftrain.config import Config
    from selftrain.data.dataset import DataSet
    from selftrain.inference.predictor import Predictor
    from selftrain.plan import Plan
    from selftrain.suspects.search import HeldOut

FOLDER = "suspects"
LEAST = 3.0


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    child = command(commands, clean, "runs/folds --count 20")
    child.add_argument("run_directory", type=path, help="a run with generations.k.members={folds: K}")
    text = f"folder for the list, the page and the masks for relabelling (default: {FOLDER}/ of the run)"
    child.add_argument("-o", "--output", type=path, metavar="DIR", help=text)
    text = f"length of the list (default: all masks with a suspicion of {LEAST:g} or more)"
    child.add_argument("--count", type=int, help=text)
    text = "the generation whose folds judge (default: the last one with folds)"
    child.add_argument("--generation", type=int, help=text)


def clean(arguments: argparse.Namespace) -> None:
    """List suspicious masks, which the networks that did not train on them contradict, with pictures."""
    run = begun(arguments.run_directory)
    from selftrain import preflight  # takes seconds to import; the error above is reported at once
    from selftrain.settings import stored
    from selftrain.suspects import page, search

    cfg = stored(run.config, [])
    cfg.out = str(run.path)  # it may have moved
    plan = _plan(run, cfg, arguments.generation)
    folder = arguments.output or run.path / FOLDER
    _check_output(folder, cfg, arguments.count)
    data = preflight.recorded_data(run, cfg)
    images = _held_out(run, cfg, plan, data)
    folds = _folds(run, cfg, plan)
    doubtful = search.ordered(images, len(data.classes))
    found = [
        page.Listed(one, search.agreed(one, folds))
        for one in search.chosen(doubtful, count=arguments.count, least=LEAST)
    ]
    rows = [
        ("run", str(run.path)),
        ("judges", f"the {len(folds)} folds of generation {plan.number}"),
        ("masks", f"{len(found)} of {len(images)} are listed"),
    ]
    places = page.write(folder, f"Suspicious masks of {cfg.data.name}", rows, found, data.classes)
    say(f"{len(found)} of {len(images)} masks are suspicious: {', '.join(map(str, places))}")
    if found:
        say(f"train without them: data.suspects={places[0]} data.suspicion=drop (or weight, relabel)")


def _check_output(folder: Path, cfg: "Config", count: int | None) -> None:
    """Raises ConfigError for a place among the data, or for a list of no masks."""
    if cfg.data.root and folder.resolve().is_relative_to(Path(cfg.data.root).expanduser().resolve()):
        raise ConfigError(f"-o {folder} lies below data.root; choose a place outside of the data")
    if count is not None and count < 1:
        raise ConfigError(f"--count {count}: the list must have at least one mask")


def _plan(run: RunDir, cfg: "Config", number: int | None) -> "Plan":
    """The generation whose folds judge the masks. Raises ConfigError if none has finished folds."""
    from selftrain.plan import plans

    folded = [plan for plan in plans(cfg) if plan.members.out_of_fold]
    ready = [plan for plan in folded if run.generation(plan.number).report.is_file()]
    chosen = ready[-1:] if number is None else [plan for plan in ready if plan.number == number]
    if chosen:
        return chosen[0]
    if number is not None and number not in {plan.number for plan in folded}:
        raise ConfigError(
            f"--generation {number}: generation {number} of {run.path} has no folds; "
            f"with folds: {', '.join(str(plan.number) for plan in folded) or 'none'}"
        )
    if folded:
        raise ConfigError(f"the folds of {run.path} are not finished (selftrain status {run.path})")
    raise ConfigError(
        f"{run.path} has no out-of-fold predictions; train a run with 'generations.0.members={{folds: 5}}'"
    )


def _held_out(run: RunDir, cfg: "Config", plan: "Plan", data: "DataSet") -> "list[HeldOut]":
    """The labelled images with their out-of-fold predictions, in the order of the data set.

    Raises ConfigError if the data have changed since the run began.
    """
    from selftrain.data.division import contents
    from selftrain.labels.store import LabelStore, ids_digest
    from selftrain.suspects.search import HeldOut

    own = [sample for sample in data.labelled if not sample.extra]
    found = dict[int, HeldOut]()
    for one in plan.each:
        names = [sample.name for sample in own]
        places = one.left_out(names, cfg.seed, lambda: contents(own, len(data.classes)))
        store = LabelStore(one.home(run).out_of_fold)
        if store.index.ids_sha256 != ids_digest([own[i].id for i in places]):
            raise ConfigError(f"the labelled images of {run.path} changed since its folds predicted them")
        found |= {i: HeldOut(own[i], store, place) for place, i in enumerate(places)}
    return [found[i] for i in sorted(found)]


def _folds(run: RunDir, cfg: "Config", plan: "Plan") -> "list[Predictor]":
    """The networks of all folds, in the windows and at the precision of the run."""
    from selftrain import predictors, preflight
    from selftrain.models import ensemble, saved
    from selftrain.plan import window_of

    accelerator = preflight.accelerator_of(cfg)
    networks = [
        ensemble.joined([saved.read(one.home(run).model).network], [one.member.zoom]) for one in plan.each
    ]
    return [
        predictors.plain(cfg, network, accelerator.device, window_of(cfg), precision=accelerator.autocast)
        for network in networks
    ]
