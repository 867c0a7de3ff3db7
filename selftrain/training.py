"""Train the network of a generation, or its several networks one after the other."""

import copy
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np
from torch import nn

from selftrain import corrections, files
from selftrain.agreement import HALVES
from selftrain.data import loading
from selftrain.data.labels import Labels, Readable, Soft
from selftrain.data.many import finder
from selftrain.data.reviewed import reviewed_id
from selftrain.data.sample import Sample
from selftrain.labels.store import LabelStore
from selftrain.log import say
from selftrain.models import ensemble
from selftrain.networks import SNAPSHOTS, Begun, moment
from selftrain.plan import Plan
from selftrain.rng import rekey
from selftrain.session import Session
from selftrain.stage import SCORE, Stage
from selftrain.stages import pseudo_label, recalibrate, reliability, select, train

PASSED_ON = ("weights", "empty_batches", "skipped_steps", "average_distance", "seconds")  # to the generation


@dataclass(frozen=True)
class Result:
    """The trained network of a generation, and facts for its report.

    "members" has the report of each of several networks. "out_of_fold" has the scores on the labelled images,
    each predicted by the network that did not train on it. `earlier` are the networks of earlier moments of
    the training, if they are averaged as well.
    """

    network: nn.Module
    facts: dict
    earlier: Sequence[nn.Module] = ()


def trained(
    session: Session, plan: Plan, labels: select.SelectedLabels | None, teacher: int | None
) -> Result:
    """Train the network of a generation on labelled images and on `labels`, or online.

    Of several networks, finished ones are loaded, and all of them become one network.
    """
    if not plan.members.several:
        return _single(session, plan, labels, teacher)
    each = [_member(session, one, labels, teacher) for one in plan.each]
    networks = [one for training in each for one in (*training.earlier, training.network)]
    network = ensemble.joined(networks, plan.zooms, plan.members.weights)
    reports = [one.facts for one in each]
    facts = {
        **{name: sum(one[name] for one in reports) for name in ("empty_batches", "skipped_steps", "seconds")},
        "weights": reports[0]["weights"],
        "average_distance": max(one["average_distance"] for one in reports),
        "steps": max(one.get("steps", plan.steps) for one in reports),
        "members": [
            row
            for one in reports
            for row in (*one.get("earlier", []), {"val": one["val"], "seconds": one["seconds"]})
        ],
    }
    if plan.members.out_of_fold:
        facts["out_of_fold"] = _out_of_fold(session, plan, [one.network for one in each])
    return Result(network, facts)


def _single(
    session: Session, plan: Plan, labels: select.SelectedLabels | None, teacher: int | None
) -> Result:
    begun = _begin(session, plan, teacher)
    done = _train(session, plan, labels, begun.network)
    facts = {
        "weights": [asdict(taken) for taken in begun.weights],
        "empty_batches": done.empty,
        "skipped_steps": done.skipped,
        "average_distance": done.average_distance,
        "steps": done.steps,
        "seconds": round(done.seconds, 1),
    }
    return Result(done.network, facts)


def _member(
    session: Session, plan: Plan, labels: select.SelectedLabels | None, teacher: int | None
) -> Result:
    """Train one of several networks, score it on val, and keep it; or load it if that is done.

    The same for the networks of its earlier moments.
    """
    home = plan.home(session.run)
    if home.report.exists():
        facts = files.read_json(home.report, "val", *PASSED_ON)
        return Result(session.networks.load_from(home)[0], facts, session.networks.moments(plan))
    result = _single(session, plan, labels, teacher)
    val = session.evaluate(_seen(plan, result.network), session.data.val, f"{plan.name} val")
    facts = {"val": val, **result.facts}
    if session.accelerator.is_main_process:
        session.networks.keep(plan, result.network, home)
    session.accelerator.wait_for_everyone()
    earlier = session.networks.moments(plan)
    if earlier:
        scores = [session.evaluate(_seen(plan, one), session.data.val) for one in earlier]
        facts["earlier"] = [
            {"val": one, "seconds": 0.0, "steps": step}
            for one, step in zip(scores, plan.moments, strict=True)
        ]
    if session.accelerator.is_main_process:
        files.write_json(home.report, facts)
        number, of = (plan.member.number + 1) * plan.members.moments, plan.members.count
        say(f"{plan.name}: network {number} of {of}, val mIoU {val['miou'] or 0:.4f}")
    session.accelerator.wait_for_everyone()
    return Result(result.network, facts, earlier)


def _out_of_fold(session: Session, plan: Plan, networks: Sequence[nn.Module]) -> dict:
    """Predict each labelled image with the network that did not train on it; returns the scores.

    The predictions are stored beside each network, in the form of pseudo-labels without TTA and refinement.
    """
    names, parts = [one.name for one in session.data.labelled if not one.extra], []
    for one, network in zip(plan.each, networks, strict=True):
        home = one.home(session.run)
        places = one.left_out(names, session.cfg.seed, lambda: session.material.shares)
        held_out = [session.data.labelled[i] for i in places]
        predictor = session.predictor(_seen(one, network))
        cfg = replace(session.cfg.labels, refiner="none")
        pseudo_label.Labeller(
            predictor, len(session.data.classes), cfg, session.cache, session.accelerator
        ).label(
            held_out,
            home.out_of_fold,
            stage=f"{one.name} out of fold",
            teacher=session.networks.load_from(home)[1],
            check=lambda: session.stop.check(f"{plan.name} out of fold"),
        )
        parts.append((predictor, held_out))
    return session.evaluated(parts)


def _begin(session: Session, plan: Plan, teacher: int | None) -> Begun:
    """The network before its first step, and the sources of its weights."""
    rekey(session.cfg.seed, plan.name, "init")
    begun = session.networks.begin(plan, teacher)
    if session.accelerator.is_main_process:
        for line in begun.lines:
            say(line)
    if plan.method.networks > 1:
        rekey(session.cfg.seed, plan.name, "init of the second")
        # two networks with equal weights would stay equal
        second = session.networks.begin(plan, None, alone=True).network
        begun = replace(begun, network=plan.method.joined([begun.network, second]))
    return begun


def _train(
    session: Session, plan: Plan, labels: select.SelectedLabels | None, network: nn.Module
) -> train.Trained:
    session.track()
    names = [one.name for one in session.data.labelled if not one.extra]
    left_out = plan.left_out(names, session.cfg.seed, lambda: session.material.shares)
    corrected = corrections.of(session, plan)
    material = corrected.material(session.material.without(left_out)).of(plan)
    pseudo: Labels | None = corrected.labels(labels, len(session.data.classes)) if labels else None
    teacher = labels.generation if labels else plan.number if plan.distilled else None
    soft = _taught(session, teacher) if teacher is not None and session.cfg.loss.distill else None
    dataset = material.dataset(plan, pseudo, (session.cfg.seed, plan.name), soft)
    stage = Stage(
        plan.name,
        session.cfg.seed,
        steps=plan.steps,
        images=sum(dataset.sizes),
        directory=plan.home(session.run).checkpoints,
        accelerator=session.accelerator,
        metrics=session.metrics,
        stop=session.stop,
    )
    world = session.accelerator.num_processes
    done = train.train(
        network,
        lambda first: loading.loader(
            dataset,
            first=first,
            steps=stage.steps,
            rank=session.accelerator.process_index,
            world=world,
            workers=session.cfg.train.workers,
            parts=session.cfg.train.accumulate,
            stopped=lambda: session.stop.ends_waiting(world),
        ),
        material.step(plan),
        cfg=session.cfg.train,
        stage=stage,
        evaluate=partial(_scores, session, plan, watched(session, plan)),
        keep=_snapshots(session, plan),
    )
    return replace(done, network=_kept(session, plan, done.network))


def watched(session: Session, plan: Plan) -> list[Sample]:
    """The training images whose scores are watched: `train.watch` of them, spread over all.

    Every process and every resume chooses the same ones.
    """
    names = [one.name for one in session.data.labelled if not one.extra]
    left_out = plan.left_out(names, session.cfg.seed, lambda: session.material.shares)
    own = [one for one in session.material.without(left_out).data.labelled if not one.extra]
    count = min(session.cfg.train.watch, len(own))
    return [own[int(place)] for place in np.linspace(0, len(own) - 1, count)]


def scores_on_train(session: Session, plan: Plan, network: nn.Module) -> dict:
    """{"train": {"images", "miou", "per_class"}} of the watched training images; {} without any.

    Also {} for several networks, which differ in the images that they train on.
    """
    images = [] if plan.members.several else watched(session, plan)
    if not images:
        return {}
    found = session.evaluate(_seen(plan, network), images)
    return {"train": {"images": len(images), "miou": found["miou"], "per_class": found["per_class"]}}


def _scores(session: Session, plan: Plan, train_images: list[Sample], network: nn.Module) -> dict[str, float]:
    """The scores of a network in training on val and on some training images: mIoU, and IoU of each class."""
    seen = _seen(plan, network)
    val = session.evaluate(seen, session.data.val)
    halves = [] if None in val["miou_halves"] else val["miou_halves"]
    row = {SCORE: val["miou"] or 0.0, **dict(zip(HALVES, halves, strict=False)), **_by_class("val", val)}
    if train_images:
        train = session.evaluate(seen, train_images)
        row |= {"train_miou": train["miou"] or 0.0, **_by_class("train", train)}
    return row


def _by_class(split: str, scores: Mapping) -> dict[str, float]:
    """The IoU of each class as it is logged, {"val_iou/road": 0.5}; absent classes are left out."""
    return {f"{split}_iou/{name}": iou for name, iou in scores["per_class"].items() if iou is not None}


def _taught(session: Session, teacher: int) -> Soft:
    """The probabilities that a teacher stored for the labelled images, and for reviewed ones."""
    gen, data = session.run.generation(teacher), session.data
    stores = [(LabelStore(gen.taught), finder(data.labelled))]
    if data.unlabelled:
        stores.append((LabelStore(gen.labels), finder(data.unlabelled)))
    return partial(_soft_of, stores, len(data.classes))


def _soft_of(
    stores: Sequence[tuple[LabelStore, Callable[[str], int | None]]],
    classes: int,
    sample: Readable,
    index: np.ndarray,
) -> np.ndarray:
    name = reviewed_id(sample)
    store, place = next((store, place) for store, find in stores if (place := find(name)) is not None)
    return store.read(place).soft_at(index, classes)


def _seen(plan: Plan, network: nn.Module) -> nn.Module:
    """A network as it sees images of the data's size."""
    return ensemble.joined([network], [plan.member.zoom])


def _kept(session: Session, plan: Plan, network: nn.Module) -> nn.Module:
    """The network that is kept after training.

    Of two networks it is the first. If `train.statistics` is set, batch norm is recalibrated.
    """
    network = plan.method.kept(network)
    if session.cfg.train.statistics:
        material = corrections.of(session, plan).material(session.material)
        seen = material.of(plan).unnoised(plan, (session.cfg.seed, plan.name, "statistics"))
        recalibrate.recalibrate(network, seen, scale=session.scale, precision=session.accelerator.autocast)
    return network


def _snapshots(session: Session, plan: Plan) -> dict[int, Callable[[nn.Module], None]]:
    """The snapshots of a network: its moments, and those by which its agreement with itself is measured.

    Maps a step to a callback that receives the averaged network.
    """
    names: dict[int, list[str]] = defaultdict(list)
    if reliability.chosen(session.cfg.select).entry.snapshots:
        for part in range(1, SNAPSHOTS):
            names[plan.steps * part // SNAPSHOTS].append(str(part))
    for step in plan.moments:
        names[step].append(moment(step))
    return {step: partial(_keep_snapshots, session, plan, found) for step, found in names.items()}


def _keep_snapshots(session: Session, plan: Plan, names: Sequence[str], network: nn.Module) -> None:
    if session.accelerator.is_main_process:
        kept = _kept(session, plan, copy.deepcopy(network))
        for name in names:
            session.networks.keep_snapshot(plan, name, kept)
